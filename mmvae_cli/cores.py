"""How many processor cores torch may use, and how its threads wait for one another. Runs before torch is imported."""

import os
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
SPIN = "1000"
"""Turns that a thread waits awake before it sleeps. GNU OpenMP's own number, some milliseconds' worth, makes a step
many times slower as soon as another process wants one of the cores."""


def limit(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set what GNU OpenMP reads when it is loaded, unless the user has said otherwise: the threads that a container's
    processor quota allows, where it has one (OpenMP sees the allowed cores, not the quota), and short waits."""
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPIN)
    quota = allowed()
    if quota is not None and quota < len(os.sched_getaffinity(0)):
        environment.setdefault("OMP_NUM_THREADS", str(max(1, int(quota))))


def allowed() -> float | None:
    """Cores' worth of time per second that the control group grants (version 2, else 1); None for no limit."""
    with suppress(OSError, ValueError):
        quota, period = (CGROUPS / "cpu.max").read_text().split()
        return float(quota) / float(period)  # "max" is no number: no limit
    with suppress(OSError, ValueError, ZeroDivisionError):
        share, whole = (float((CGROUPS / "cpu" / f"cpu.cfs_{part}_us").read_text()) for part in ("quota", "period"))
        return share / whole if share > 0 else None
    return None
