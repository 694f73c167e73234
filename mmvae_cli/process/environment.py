"""Numbers from environment variables. A malformed one is refused before any work."""

import math
import os

from mmvae_cli.process.errors import UsageProblem

_USUAL = {"MMVAE_PATIENCE": 600.0, "MMVAE_PROGRESS_SECONDS": 30.0}
_MOST = 1e8
"""Three years: more than this overflows in torch or the system."""


def debug() -> bool:
    """Whether MMVAE_DEBUG asks for tracebacks."""
    return os.environ.get("MMVAE_DEBUG", "").strip().lower() not in ("", "0", "false", "no", "off")


def check(*, several: bool) -> None:
    """Raise UsageProblem for a number that is none; ``several``: also where torchrun's would be followed."""
    for name in _USUAL:
        seconds(name)
    if several:
        rank_and_size()


def seconds(name: str, usual: float = 0.0) -> float:
    """What the variable says; ``usual``, else its own usual value, where it is not set. Raises UsageProblem."""
    usual = usual or _USUAL[name]
    text = os.environ.get(name, "").strip()
    try:
        given = float(text or usual)
    except ValueError:
        given = math.nan
    if not 0 <= given <= _MOST:
        raise UsageProblem(f"{name}={text[:40]!r} is no number of seconds", f"such as {usual:.0f}; or unset it")
    return given


def rank_and_size() -> tuple[int, int]:
    """This process's number in a job of several, and how many they are, as torchrun says in RANK and WORLD_SIZE; (0, 1)
    without it. Raises UsageProblem."""
    rank, size = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "") or "1"
    if size == "1":
        return 0, 1
    if not (rank.isdecimal() and size.isdecimal() and int(rank) < int(size)):
        raise UsageProblem(
            f"WORLD_SIZE={size[:40]!r} with RANK={rank[:40]!r} is no process of several",
            "start it with torchrun, or unset WORLD_SIZE",
        )
    return int(rank), int(size)
