"""Signals ask for an orderly end: they set a flag that every long loop reads. A second signal ends the process at once.
One that comes within ``SAME_SECONDS`` is the same request again, passed on by Slurm, a terminal or a launcher.

Ctrl-C (SIGINT) is such a request where there is work to save (:func:`interrupts_wait`); elsewhere it ends the command
at once. Signals that the caller ignores (SIGINT in a shell's background jobs, SIGHUP under nohup) stay ignored.
"""

import atexit
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mmvae_cli.process.errors import EXIT_INTERRUPTED, EXIT_STOPPED, Interrupted, Stopped

REQUESTS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
ALL = (*REQUESTS, signal.SIGINT)
SAME_SECONDS = 1.0
_received: str | None = None
_received_at = 0.0
_interrupts_wait = False


def install() -> None:
    """Called once by the command line, before any work."""
    for number in ALL:
        if number not in (signal.SIGINT, signal.SIGHUP) or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _remember)
    atexit.register(_ignore_more)


def _remember(number: int, frame: FrameType | None) -> None:
    global _received, _received_at
    first, now = _received is None, time.monotonic()
    if not first and now - _received_at <= SAME_SECONDS:
        return
    if first:
        _received, _received_at = signal.Signals(number).name, now
    if number == signal.SIGINT and not (first and _interrupts_wait):
        raise KeyboardInterrupt
    if not first:
        os._exit(EXIT_STOPPED)


def _ignore_more() -> None:
    """Ignore further signals while the interpreter shuts down: the exit code is settled."""
    for number in ALL:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Inside, the first SIGINT is remembered as other signals are; the block asks :func:`leave_if_requested`."""
    global _interrupts_wait
    _interrupts_wait = True
    try:
        yield
    finally:
        _interrupts_wait = False


def requested() -> bool:
    return _received is not None


def exit_code() -> int | None:
    """With which code the signal that came asks us to leave; None where none came."""
    codes = {None: None, "SIGINT": EXIT_INTERRUPTED}
    return codes.get(_received, EXIT_STOPPED)


def leave_if_requested(state: str) -> None:
    """Raise Stopped (exit 75; Interrupted, 130, for SIGINT) if a signal came; ``state`` says what is on disk, such as
    "nothing was written"."""
    if _received == "SIGINT":
        raise Interrupted(f"interrupted: {state}", "run the same command again to go on")
    if _received is not None:
        raise Stopped(f"stopped by {_received}: {state}", "run the same command again to go on")
