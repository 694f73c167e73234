"""One row for each run: where it is, what it was trained with, how it scored. No torch."""

from pathlib import Path
from typing import Any

from mmvae_cli.comparison.collect import find_runs
from mmvae_cli.comparison.formats import as_csv
from mmvae_cli.comparison.groups import IGNORED
from mmvae_cli.process import console
from mmvae_cli.process.errors import DataProblem, Failure
from mmvae_cli.recipe import flatten
from mmvae_cli.run import metrics, result
from mmvae_cli.run.layout import Run
from mmvae_cli.run.result import EvaluationResult

Row = dict[str, Any]


def table(paths: list[Path]) -> str:
    """Runs, and the runs in folders, as CSV: unfinished ones and those without an evaluation have empty cells. Of the
    recipe's settings those have a column in which the runs differ. Raises DataProblem where none can be read."""
    rows, settings = [], []
    for folder in find_runs(paths):
        try:
            row, setting = _row(folder), _settings(Run(folder))
        except Failure as failure:
            console.warn(f"left out: {folder}: {failure}")
            continue
        rows.append(setting | row)
        settings.append(setting)
    if not rows:
        raise DataProblem("no run can be read", "give run folders, or folders of runs")
    known = dict.fromkeys(key for setting in settings for key in setting)
    differing = [key for key in known if len({repr(setting.get(key)) for setting in settings}) > 1]
    every = dict.fromkeys(key for row in rows for key in row if key not in known)
    first = [key for key in every if "." not in key]  # what identifies a run, then its settings, then the numbers
    return as_csv(rows, list(dict.fromkeys([*first, *differing, *every])))


def _row(folder: Path) -> Row:
    run = Run(folder)
    recipe, status = run.recipe(), run.status()
    row: Row = {"run": str(folder), "recipe": recipe.name, "method": recipe.model.method,
                "dataset": recipe.dataset.name, "seed": recipe.training.seed}  # fmt: skip
    row |= {key: status.get(key) for key in ("state", "epoch", "step", "seconds")}
    if records := metrics.read(run.metrics_path).records:
        row |= {f"training.last.{name}": value for name, value in metrics.numbers(records[-1]).items()}
    for way, path in run.evaluations().items():
        row |= {f"{way}.{name}": value for name, value in scores(result.load(path)).items()}
    return row


def scores(outcome: EvaluationResult) -> dict[str, float]:
    """Every number that was measured, by its dotted path: ``latent.values.m0+m1``."""
    measured = outcome.model_dump(mode="json", include={"chance", "base_rates", *result.PARTS})
    return {name: value for name, value in flatten(measured).items() if type(value) in (int, float)}


def _settings(run: Run) -> Row:
    return {key: value for key, value in run.recipe().flat.items() if key not in (*IGNORED, "model.method")}
