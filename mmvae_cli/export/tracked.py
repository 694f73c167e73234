"""What a tracker gets of a run: who it is, its settings, its records as they come, its scores and figures. No torch."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from mmvae_cli.disk import lock
from mmvae_cli.export.table import scores
from mmvae_cli.process import console, signals
from mmvae_cli.process.paths import shown
from mmvae_cli.recipe import Recipe
from mmvae_cli.run import metrics, result
from mmvae_cli.run.layout import Run
from mmvae_cli.run.metrics import Record

POLL = 1.0
"""Seconds between two looks at a run that is followed."""
PATIENCE = lock.SILENCE
"""Seconds without a touched lock or a new record, after which a run that calls itself running is no longer followed."""


@dataclass(frozen=True)
class Source:
    """One run. ``identity``: the same for the same recipe and data, so that a tracker knows it again."""

    run: Run

    @cached_property
    def recipe(self) -> Recipe:
        return self.run.recipe()

    @property
    def name(self) -> str:
        return str(shown(self.run.folder.resolve().name))

    @property
    def identity(self) -> str:
        content = f"{self.recipe.with_epochs(1).fingerprint} {self.run.trained_on()} {self.name}"
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def settings(self) -> dict[str, Any]:
        """The recipe, flat; settings that say nothing are left out."""
        return {k: v for k, v in self.recipe.flat.items() if v is not None}

    def scores(self) -> dict[str, float]:
        """Every number that was measured: ``evaluation.default.latent.values.m0``."""
        return {f"evaluation.{way}.{name}": value for way, path in self.run.evaluations().items()
                for name, value in scores(result.load(path)).items()}  # fmt: skip


class Tracker(Protocol):
    """Another program's record of one run. ``last``: the step up to which it has the run's numbers; 0: none."""

    last: int

    def add(self, records: list[Record]) -> None:
        """Take records of steps after ``last``, in their order."""

    def finish(self, source: Source) -> None:
        """Take scores and figures, and close."""


@dataclass
class Signs:
    """What was last seen of whoever trains a run, and when."""

    last: tuple[Any, ...] = ()
    at: float = 0.0

    def ended(self, source: Source, place: int, state: Any) -> bool:
        """Whether nothing has changed for ``PATIENCE`` seconds: the run was killed, or never began. It is said then."""
        seen = (lock.touched(source.run.folder), place, state)
        if seen != self.last:
            self.last, self.at = seen, time.monotonic()
        if time.monotonic() - self.at < PATIENCE:
            return False
        console.warn(f"{source.name}: no sign of a process that trains it for {PATIENCE:.0f} s; followed no longer")
        return True


def export(sources: list[Source], opened: Callable[[Source], Tracker], *, follow: bool) -> None:
    """Bring every run's records to its tracker; with ``follow`` until none of the runs is running any more,
    or gives a sign of life."""
    trackers, places = {source: opened(source) for source in sources}, dict.fromkeys(sources, 0)
    signs = {source: Signs() for source in sources}
    try:
        while trackers:
            for source in list(trackers):
                state = source.run.status().get("state")  # before its last records are read
                places[source] = add_records(source, trackers[source], places[source])
                waiting = follow and state in (None, "running")
                if not waiting or signs[source].ended(source, places[source], state):
                    trackers.pop(source).finish(source)
            if trackers:
                signals.leave_if_requested("what was exported until now is kept; the same command goes on")
                time.sleep(POLL)
    finally:
        for source, tracker in trackers.items():  # a signal came
            tracker.finish(source)


def add_records(source: Source, tracker: Tracker, start: int) -> int:
    part = metrics.read(source.run.metrics_path, start)
    if fresh := [record for record in part.records if record["step"] > tracker.last]:
        tracker.add(fresh)
        tracker.last = fresh[-1]["step"]
        console.say(f"{source.name}: up to step {tracker.last:,}")
    return part.end
