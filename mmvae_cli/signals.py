"""SIGTERM and SIGUSR1 ask for an orderly end: a flag that every long loop reads. A second signal leaves at once; one
within ``SAME_SECONDS`` is the same request, which Slurm and a launcher (torchrun, a study) both pass on."""

import atexit
import os
import signal
import time
from types import FrameType

from mmvae_cli.errors import EXIT_STOPPED, Stopped

SAME_SECONDS = 1.0
_received: str | None = None
_received_at = 0.0


def install() -> None:
    """Called once by the command line, before any work."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _remember)
    atexit.register(_ignore_more)


def _remember(number: int, frame: FrameType | None) -> None:
    global _received, _received_at
    if _received is None:
        _received, _received_at = signal.Signals(number).name, time.monotonic()
    elif time.monotonic() - _received_at > SAME_SECONDS:
        os._exit(EXIT_STOPPED)


def _ignore_more() -> None:
    """The exit code is known: a signal while the interpreter shuts down, its handlers gone, shall not change it."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def requested() -> bool:
    return _received is not None


def leave_if_requested(state: str) -> None:
    """Raise Stopped (exit 75) if a signal came; ``state`` says what is on disk, such as "nothing was written"."""
    if _received is not None:
        raise Stopped(f"stopped by {_received}: {state}", "run the same command again to go on")
