"""Runs that are not finished: how far they are. They are in no average."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmvae_cli.process.console import duration
from mmvae_cli.process.errors import Failure
from mmvae_cli.recipe import Recipe
from mmvae_cli.run import metrics
from mmvae_cli.run.layout import Run
from mmvae_cli.run.metrics import Record

HEADER = ["run", "state", "epoch", "step", "loss", "ELBO", "items/s", "time left"]


@dataclass(frozen=True)
class Unfinished:
    """``last``: the last record of its metrics.jsonl."""

    folder: Path
    recipe: Recipe
    status: dict[str, Any]
    last: Record

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def seconds_left(self) -> float | None:
        """At the speed since the run began; None where that is not known."""
        done, total = self.last["step"], self.status.get("total_steps")
        seconds = self.last.get("seconds")
        if not isinstance(total, int) or not isinstance(seconds, int | float) or not 0 < done <= total:
            return None
        return float(seconds) / done * (total - done)

    def cells(self) -> list[str]:
        """Under HEADER."""
        total, left = self.status.get("total_steps"), self.seconds_left
        step = f"{self.last['step']:,}" + (f" of {total:,}" if isinstance(total, int) else "")
        return [str(self.folder), str(self.status.get("state", "not known")),
                f"{self.last.get('epoch', '?')} of {self.recipe.training.epochs}", step,
                *(_number(self.last.get(name)) for name in ("loss", "elbo", "items_per_second")),
                "-" if left is None else duration(left)]  # fmt: skip


def _number(value: Any) -> str:
    return f"{value:,.1f}" if isinstance(value, int | float) else "-"


def unfinished(folder: Path) -> Unfinished | None:
    """The run in ``folder``, if it was begun, has logged something and is not finished; None for any other."""
    run = Run(folder)
    try:
        status = run.status()
        if status.get("state") in (None, "finished"):
            return None
        records = metrics.read(run.metrics_path).records
        return Unfinished(folder, run.recipe(), status, records[-1]) if records else None
    except (Failure, OSError):
        return None
