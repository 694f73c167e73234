"""SIGTERM and SIGUSR1 ask for an orderly end: a flag that every long loop reads. A second signal leaves at once."""

import os
import signal
from types import FrameType

from mmvae_cli.errors import EXIT_STOPPED, Stopped

_received: str | None = None


def install() -> None:
    """Called once by the command line, before any work."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _remember)


def _remember(number: int, frame: FrameType | None) -> None:
    global _received
    if _received is not None:
        os._exit(EXIT_STOPPED)
    _received = signal.Signals(number).name


def requested() -> bool:
    return _received is not None


def leave_if_requested(state: str) -> None:
    """Raise Stopped (exit 75) if a signal came; ``state`` says what is on disk, such as "nothing was written"."""
    if _received is not None:
        raise Stopped(f"stopped by {_received}: {state}", "run the same command again to go on")
