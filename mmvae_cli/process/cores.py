"""How many cores torch may use, how its threads wait, and whether freed memory is kept. Most of it has to be set before
torch is imported."""

import ctypes
import os
import time
from collections.abc import MutableMapping
from contextlib import suppress
from functools import cache
from pathlib import Path

CGROUPS, STAT = Path("/sys/fs/cgroup"), Path("/proc/stat")
SPIN = "10000"
"""Turns that a thread waits awake before it sleeps: some tenths of a millisecond, longer than what lies between two
operations of a step. With a tenth of it, a step on two quiet cores takes a sixth (bf16: a third) longer. GNU OpenMP's
own number gains nothing more, and can make a step several times slower when another process wants one of the cores."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_SHORTEST = 0.5  # seconds; /proc/stat counts hundredths
_NEARLY = 0.25
"""A core counts as free with so much of it in use: there is always something."""
_told = False
_began: tuple[float, float] | None = None

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_KEPT, _LARGEST_KEPT = 1 << 30, 32 << 20  # bytes; glibc allows no more than 32 MiB for the second


def keep_memory(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let glibc keep up to a gigabyte of freed memory, unless the user has set that. Every step asks for the same large
    tensors again, and fetching their pages anew can take half of its time."""
    if any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in environment):
        return
    with suppress(AttributeError, OSError):  # another C library has no mallopt, and other habits
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT)


def limit(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set what GNU OpenMP reads when it is loaded, unless the user has said otherwise: the threads that a container's
    processor quota allows, where it has one (OpenMP sees the allowed cores, not the quota), and short waits.
    :func:`free` counts from here."""
    global _told, _began
    _told, _began = any(environment.get(name) for name in THREADS), _clocks()
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPIN)
    quota = allowed()
    if quota is not None and quota < usable():
        environment["OMP_NUM_THREADS"] = environment.get("OMP_NUM_THREADS") or str(max(1, int(quota)))


@cache
def limit_once() -> None:
    """:func:`limit` for a notebook, which may call us many times. Where torch is loaded already, threads wait as they
    did; how many there shall be is known all the same."""
    limit()


def usable() -> int:
    """Cores that this process may run on; macOS does not tell, so there it is all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def allowed() -> float | None:
    """Cores' worth of time per second that the control group grants (version 2, else 1); None for no limit."""
    with suppress(OSError, ValueError):
        quota, period = (CGROUPS / "cpu.max").read_text().split()
        return float(quota) / float(period)  # "max" is no number: no limit
    with suppress(OSError, ValueError, ZeroDivisionError):
        share, whole = (float((CGROUPS / "cpu" / f"cpu.cfs_{part}_us").read_text()) for part in ("quota", "period"))
        return share / whole if share > 0 else None
    return None


def share(processes: int) -> int:
    """Threads for each of several processes at a time."""
    return max(1, int(min(usable(), allowed() or float("inf")) // processes))


def told() -> bool:
    """Whether the user has said how many threads there shall be."""
    return _told


def free() -> float | None:
    """How many cores nobody else has used since the command began; None where that is not known, or not yet."""
    now = _clocks()
    if not (_began and now) or (seconds := now[0] - _began[0]) < _SHORTEST:
        return None
    return (now[1] - _began[1]) / seconds


def fitting(most: int) -> int:
    """How many of ``most`` threads would have a free core now. Threads wait for each other hundreds of times a step, so
    two that share a core with other work can be fifty times slower than one."""
    available = free()
    return most if available is None else max(1, min(most, int(available + _NEARLY)))


def _clocks() -> tuple[float, float] | None:
    """The time, and how many seconds of the cores that we may use went to nobody or to us; None on other systems."""
    try:
        ours, idle = os.sched_getaffinity(0), 0.0
        for line in STAT.read_text().splitlines():
            name, *ticks = line.split()
            if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in ours:
                idle += (int(ticks[3]) + int(ticks[4])) / os.sysconf("SC_CLK_TCK")  # idle, and waiting for a disk
    except (AttributeError, OSError, ValueError, IndexError):
        return None
    return time.monotonic(), idle + time.process_time()
