"""Running the command in a forked child: as fast as a function call, as alone as a process. Limits of memory, time,
file size and privileges hold for the child only."""

import ctypes
import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# loaded once: the children have what trains and what evaluates
import sklearn.cluster
import sklearn.linear_model
import sklearn.mixture  # noqa: F401
import torch._dynamo  # noqa: F401

MIB = 1 << 20


@dataclass(frozen=True)
class Ended:
    """How a command ended. ``grown``: MiB of memory that it took beyond what it began with; ``code``: its exit code,
    negative for the signal that killed it."""

    code: int
    out: str
    err: str
    grown: float
    seconds: float

    @property
    def complaint(self) -> str:
        """The one error line; asserts that it is one, with nothing ugly around it."""
        told = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(told) == 1, f"exit {self.code}, {len(told)} error lines:\n{self.err}"
        assert "Traceback" not in self.err, self.err
        assert "this is a bug" not in self.err, self.err
        assert "Warning" not in self.err, self.err
        assert "\x1b" not in self.err, self.err
        return told[0]


def mmvae(
    *arguments: object, cwd: Path | None = None, memory: int = 1500, largest_file: int | None = None,
    seconds: int = 90, privileged: bool = True, first: Callable[[], None] | None = None,
) -> Ended:  # fmt: skip
    """Run ``mmvae ARGUMENTS``. ``memory``: MiB of address space that it may add; ``largest_file``: bytes;
    ``privileged`` False: root may no longer read and write what permissions forbid; ``first``: called in the child."""
    pipes = [_pipe(), _pipe()]  # not files: a limit of file size would hold for them, too
    before, started = _resident(), time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of newer Pythons about forking with threads
        child = os.fork()
    if child == 0:
        try:
            limits = memory, largest_file, seconds, privileged
            _be_the_command(arguments, cwd, pipes[0][1], pipes[1][1], *limits, first)
        finally:
            os._exit(98)
    _, status, used = os.wait4(child, 0)
    took = time.monotonic() - started
    out, err = (_all_of(*pipe) for pipe in pipes)
    return Ended(os.waitstatus_to_exitcode(status), out, err, max(0.0, used.ru_maxrss / 1024 - before), took)


def completed(
    *arguments: object, cwd: Path | None = None, without: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """``mmvae ARGUMENTS`` as :func:`subprocess.run` would give it, in the current folder, for tests of what the command
    does; how a process starts and ends is for real ones. ``without``: the beginning of variables that it does not
    get."""

    def changed() -> None:
        for name in [name for name in os.environ if without and name.startswith(without)]:
            del os.environ[name]
        os.environ.update(environment)

    done = mmvae(*arguments, cwd=cwd or Path.cwd(), memory=8000, seconds=300, first=changed)
    return subprocess.CompletedProcess(arguments, done.code, done.out, done.err)


def _pipe() -> tuple[int, int]:
    """A pipe that takes 1 MiB before anybody reads."""
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, MIB)
    return ends


def _all_of(reading: int, writing: int) -> str:
    os.close(writing)
    with open(reading, "rb") as file:
        return file.read().decode("utf-8", "replace")


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MIB


def _be_the_command(arguments, cwd, out, err, memory, largest_file, seconds, privileged, first) -> None:
    code = 99
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        sys.argv = ["mmvae", *map(str, arguments)]
        os.chdir(cwd or "/")
        warnings.resetwarnings()
        warnings.simplefilter("always")
        signal.alarm(seconds)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + memory * MIB
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        if largest_file is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as a quota: an error, no signal
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
        if not privileged:
            drop_privileges()
        if first is not None:
            first()
        from mmvae_cli import cli

        cli.main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def drop_privileges() -> None:
    """Give up every capability, so that permissions hold for root, too (who still owns the test's files)."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.capset(ctypes.byref(_CapabilityHeader(0x20080522, 0)), (ctypes.c_uint32 * 6)()):
            raise OSError(ctypes.get_errno(), "capset")


def listing(folder: Path) -> dict[str, bytes | str]:
    """Everything below ``folder`` with its content: what must not have changed."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        elif path.is_file():
            found[name] = f"{path.stat().st_size} bytes" if path.stat().st_size > MIB else path.read_bytes()
        else:
            found[name] = "folder"
    return found


def few_steps(set_to: Callable[[Any, str, Any], None] = setattr) -> None:
    """Classifiers that are trained in no time; what they say is of no interest here."""
    from mmvae_cli.evaluation import classifier_training

    set_to(classifier_training, "MOST", 5)
