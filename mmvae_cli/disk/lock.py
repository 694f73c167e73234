"""Who works in a folder: a lock file made with O_EXCL, which works on NFS, too, unlike fcntl.

The file names the process (host, container, number, start) and the Slurm job. While the process lives, it touches the
file every ``BEAT`` seconds. A lock is free again when its process has ended: on this host that is known at once, and so
it is where an earlier start of the same Slurm job held it. Elsewhere it counts as ended when the touches stop.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmvae_cli.disk.files import own_mark
from mmvae_cli.process import console, processes, signals
from mmvae_cli.process.errors import Failure, UsageProblem, cannot_write

BEAT, SILENCE = 15.0, 90.0
"""Seconds between two touches, and after how many without one a process elsewhere counts as ended."""


class Lock:
    """Held by :func:`hold`."""

    def __init__(self, path: Path, mine: bytes) -> None:
        self.path, self._mine = path, mine

    def check(self) -> None:
        """Raise Failure where another process has taken the lock over, because this one did not touch it for too
        long."""
        if not self.path.parent.is_dir():
            raise Failure(f"cannot write {self.path.parent}: it was removed", "restore it, or start over")
        if not self._still_mine():
            raise Failure(
                f"{self.path.parent} was taken over by {_words(_read(self.path))} while this process was suspended",
                "nothing more is written here; let the other one finish",
            )

    def _still_mine(self) -> bool:
        return _content(self.path) == self._mine

    def beat(self, stop: threading.Event) -> None:
        """Touch the file until ``stop``; a lock that is no longer ours is left alone."""
        while not stop.wait(BEAT):
            if self._still_mine():
                with suppress(OSError):
                    os.utime(self.path)

    def release(self) -> None:
        if self._still_mine():
            self.path.unlink(missing_ok=True)


@contextmanager
def hold(folder: Path) -> Iterator[Lock]:
    """Keep a second process out of ``folder``. Raises UsageProblem while another one works there, Failure where
    nothing can be written, Stopped when a signal comes while it is unclear whether the other one lives."""
    path, mine = folder / "lock", json.dumps(_myself()).encode()
    while not _made(path, mine):
        seen = _content(path)
        if not _is_dead(path, seen):
            raise UsageProblem(
                f"{folder} is in use by {_words(_read(path))}", f"wait for it; if it is gone, remove {path}"
            )
        _remove_stale(path, seen)
    lock, stop = Lock(path, mine), threading.Event()
    beating = threading.Thread(target=lock.beat, args=(stop,), daemon=True)
    beating.start()
    try:
        yield lock
    finally:
        stop.set()
        beating.join()
        lock.release()


def touched(folder: Path) -> float | None:
    """When the process that works in ``folder`` last said so; None where there is none."""
    try:
        return (folder / "lock").stat().st_mtime
    except OSError:
        return None


def _myself() -> dict[str, Any]:
    job, again = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_RESTART_COUNT", "0")
    return {"host": socket.gethostname(), "place": processes.host_id(), "pid": os.getpid(),
            "started": processes.started(os.getpid()),
            "job": job, "restart": int(again) if job and again.isdigit() else None}  # fmt: skip


def _made(path: Path, content: bytes) -> bool:
    """Make the lock, whole: written beside it and linked, which fails where one is there."""
    own = path.with_name(f".lock.{own_mark()}")
    try:
        own.write_bytes(content)
        try:
            os.link(own, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            with open(path, "xb") as file:
                file.write(content)
    except FileExistsError:
        return False
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            own.unlink(missing_ok=True)
    return True


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_content(path))
    except ValueError:
        content = None
    return content if isinstance(content, dict) else {}


def _words(holder: dict[str, Any]) -> str:
    return f"process {holder['pid']} on {holder['host']}" if {"pid", "host"} <= set(holder) else "another process"


def _is_dead(path: Path, seen: bytes) -> bool:
    holder, me = _read(path), _myself()
    if not path.exists():
        return True
    if holder.get("place") == me["place"] and isinstance(pid := holder.get("pid"), int) and pid > 0:
        if not processes.exists(pid):
            return True
        began, now = holder.get("started"), processes.started(pid)
        if began is not None and now is not None:
            return bool(began != now)
    restart = holder.get("restart")
    if me["job"] and holder.get("job") == me["job"] and isinstance(restart, int) and restart < (me["restart"] or 0):
        return True  # Slurm starts a job again only when nothing of it is left
    return _is_silent(path, seen)


def _is_silent(path: Path, seen: bytes) -> bool:
    """Watch a lock held elsewhere: False when its holder touches it, True after SILENCE seconds without. Changes of the
    file are counted, not compared with our clock: clocks of hosts and file servers differ."""
    first, started = touched(path.parent), time.monotonic()
    said = False
    while time.monotonic() - started < SILENCE:
        signals.leave_if_requested("nothing was changed")
        if _content(path) != seen or touched(path.parent) != first:
            return not path.exists()
        if not said and time.monotonic() - started >= min(1.0, SILENCE / 2):
            console.say(f"{path} is held by {_words(_read(path))}: watching for {SILENCE:.0f} s whether it lives")
            said = True
        time.sleep(min(0.5, SILENCE / 10))
    return True


def _remove_stale(path: Path, seen: bytes) -> None:
    """Remove the lock of a process that has ended. If a third process was quicker and the lock is its new one, put it
    back."""
    aside = path.with_name(f".lock.stale.{own_mark()}")
    with suppress(OSError):
        os.replace(path, aside)
        if aside.read_bytes() != seen:
            os.link(aside, path)
    with suppress(OSError):
        aside.unlink(missing_ok=True)
