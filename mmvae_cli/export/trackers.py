"""TensorBoard, W&B and MLflow. Each is imported in one function, and none while a model is trained.

Exporting a run again leaves one record of it: an earlier one is written anew, or goes on where it ended.
"""

import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmvae_cli.disk.files import reading
from mmvae_cli.export.tracked import Source
from mmvae_cli.process.errors import DataProblem, cannot_write, needing
from mmvae_cli.run.metrics import Record, numbers

_OURS = ".mmvae"
"""Ends the names of the event files that are ours."""


class TensorBoard:
    """One event file in the folder ``out``, written anew: scalars by step, with the seconds of training as their time;
    the recipe as text; scores and figures."""

    def __init__(self, source: Source, out: Path) -> None:
        with needing("--to tensorboard", "tensorboard", "tensorboard"):
            import tensorboard  # noqa: F401 - torch says in many lines that it is not there
            from torch.utils.tensorboard import SummaryWriter
        _remove_events(out)
        self.last, self._out = 0, out
        with self._writing():
            self._writer = SummaryWriter(str(out), filename_suffix=_OURS)
            self._writer.add_text("recipe", f"```yaml\n{source.recipe.dump()}```")

    def add(self, records: list[Record]) -> None:
        with self._writing():
            for record in records:
                for name, value in numbers(record).items():
                    self._writer.add_scalar(name.replace(".", "/"), value, record["step"], _seconds(record))
            self._writer.flush()

    def finish(self, source: Source) -> None:
        found, pictures = source.scores(), {path.stem: _pixels(path) for path in source.run.pictures()}
        with self._writing():
            for name, value in found.items():
                self._writer.add_scalar(name.replace(".", "/"), value, self.last)
            for stem, pixels in pictures.items():
                self._writer.add_image(f"figures/{stem}", pixels, self.last, dataformats="HWC")
            self._writer.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A disk that is full is one line and leaves no half of a file; TensorBoard's own thread is silent about it."""
        told, threading.excepthook = threading.excepthook, lambda _: None
        try:
            yield
        except OSError as error:
            _remove_events(self._out)
            raise cannot_write(self._out, error) from error
        finally:
            threading.excepthook = told


def _remove_events(out: Path) -> None:
    for earlier in out.glob(f"events.out.tfevents.*{_OURS}"):
        earlier.unlink()


def _seconds(record: Record) -> float:
    return numbers(record).get("seconds", 0.0)


def _pixels(path: Path) -> Any:
    import numpy as np
    from PIL import Image

    try:
        with reading(path), Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:  # Pillow's words for a damaged file
        raise DataProblem(
            f"{path} is no picture, or a damaged one", "remove it, or draw it again: mmvae sample"
        ) from error


class WandB:
    """A run below the folder ``out``/wandb, offline unless WANDB_MODE says otherwise: `wandb sync` brings it to the
    server later. Its id is the source's identity, so that the server, too, knows it again."""

    def __init__(self, source: Source, out: Path) -> None:
        with needing("--to wandb", "wandb", "wandb"):
            import wandb
        mode: Any = os.environ.get("WANDB_MODE", "offline")
        if mode == "offline":
            for earlier in (out / "wandb").glob(f"offline-run-*-{source.identity}"):
                shutil.rmtree(earlier)
        self._wandb = wandb
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "mmvae"), id=source.identity, name=source.name, resume="allow",
            group=source.recipe.name, config=source.settings, dir=str(out), mode=mode, reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        )  # fmt: skip
        self.last = int(self._run.step) - 1 if self._run.resumed else 0

    def add(self, records: list[Record]) -> None:
        for record in records:
            self._run.log(numbers(record), step=record["step"])

    def finish(self, source: Source) -> None:
        self._run.summary.update(source.scores())
        if figures := source.run.pictures():
            pictures = {f"figures/{path.stem}": self._wandb.Image(_pixels(path)) for path in figures}
            self._run.log(pictures, step=self.last + 1)
        self._run.finish()


_AT_ONCE = 1000


class MLflow:
    """A run of the experiment ``mmvae`` at MLFLOW_TRACKING_URI, else in ``out``/mlflow.db. It is found again by its tag
    ``mmvae.id``; numbers of steps that it has are not added twice."""

    def __init__(self, source: Source, out: Path) -> None:
        with needing("--to mlflow", "mlflow", "mlflow"):
            from mlflow.entities import Metric, Param
            from mlflow.tracking import MlflowClient
        self._metric = Metric
        place = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(out / 'mlflow.db').resolve()}"
        self._client = MlflowClient(place)
        known = self._client.get_experiment_by_name("mmvae")
        artifacts = None if os.environ.get("MLFLOW_TRACKING_URI") else (out / "mlartifacts").resolve().as_uri()
        experiment = known.experiment_id if known else self._client.create_experiment("mmvae", artifacts)
        earlier = self._client.search_runs([experiment], f"tags.`mmvae.id` = '{source.identity}'")
        tags = {"mmvae.id": source.identity, "mlflow.runName": source.name}
        self._id = (earlier[0] if earlier else self._client.create_run(experiment, tags=tags)).info.run_id
        history = self._client.get_metric_history(self._id, "loss") if earlier else []
        self.last = max((known.step for known in history), default=0)
        if not earlier:
            params = [Param(_plain(name), str(value)[:500]) for name, value in source.settings.items()]
            self._client.log_batch(self._id, params=params)

    def add(self, records: list[Record]) -> None:
        values = [self._metric(_plain(name), value, int(1000 * _seconds(record)), record["step"])
                 for record in records for name, value in numbers(record).items()]  # fmt: skip
        self._log(values)

    def _log(self, values: list[Any]) -> None:
        for start in range(0, len(values), _AT_ONCE):
            self._client.log_batch(self._id, metrics=values[start : start + _AT_ONCE])

    def finish(self, source: Source) -> None:
        self._log([self._metric(_plain(name), value, 0, self.last) for name, value in source.scores().items()])
        for path in [source.run.recipe_path, *source.run.pictures()]:
            self._client.log_artifact(self._id, str(path))
        states = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED", "diverged": "FAILED"}
        if state := states.get(str(source.run.status().get("state"))):
            self._client.set_terminated(self._id, state)


def _plain(name: str) -> str:
    """A name that MLflow takes: subsets are joined by a colon there."""
    return re.sub(r"[^\w./ :-]", ":", name)[:250]


TRACKERS: dict[str, Any] = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}
