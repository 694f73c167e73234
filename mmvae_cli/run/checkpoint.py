"""Checkpoints: model, optimiser state and progress in ONE safetensors file, written atomically and checked on reading.

Nothing is pickled. The metadata carry a digest over names, types, shapes, bytes and progress, so that any changed bit
is seen; a damaged checkpoint is skipped with a warning and the newest valid one is used.
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmvae_cli.disk import sealed
from mmvae_cli.disk.sealed import Tensors
from mmvae_cli.process import console
from mmvae_cli.process.errors import DataProblem, Unreadable
from mmvae_cli.process.words import first
from mmvae_cli.run.layout import Run


@dataclass(frozen=True)
class Position:
    """How far training is: ``step`` steps done in all, ``epoch`` epochs completed, seconds spent so far."""

    step: int
    epoch: int
    seconds: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """``began_as``: the fingerprint of the recipe by which its run was begun; None where the file does not say it."""

    path: Path
    position: Position
    tensors: Tensors
    began_as: str | None = None

    @property
    def weights(self) -> Tensors:
        """The model's, by their names in it."""
        return {k.removeprefix("model."): v for k, v in self.tensors.items() if k.startswith("model.")}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weights: what was computed with them belongs to no others, whatever the file is called."""
        return sealed.digest(self.weights, "")

    def load_model(self, model: nn.Module) -> None:
        """Copy the weights into ``model``; raises DataProblem where names or shapes are not the model's."""
        weights = self.weights
        _check_fit(self.path, weights, dict(model.state_dict()))
        model.load_state_dict(weights)

    def load_optimizer(self, optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
        """Give every parameter its optimiser state back. A parameter without any has never been trained: its modality
        was in no row so far. Raises DataProblem where no parameter has any."""
        if not any(key.startswith("optimizer.") for key in self.tensors):
            raise DataProblem(
                f"{self.path} has weights without the optimiser's state, as runs are shared: it cannot be trained on",
                "train its recipe.yaml into another folder with --run",
            )
        for name, parameter in model.named_parameters():
            keys = [key for key in self.tensors if key.startswith("optimizer.") and key.endswith(f"/{name}")]
            if not keys:
                continue
            state = {key.partition("/")[0].removeprefix("optimizer."): self.tensors[key] for key in keys}
            moments = dict.fromkeys(("exp_avg", "exp_avg_sq"), parameter) | {"step": torch.zeros(())}
            _check_fit(self.path, {f"{key} of {name}": value for key, value in state.items()},
                       {f"{key} of {name}": value for key, value in moments.items()})  # fmt: skip
            # in the parameter's own memory format: the fused kernel walks through both alike
            like = {"step": torch.zeros((), device=parameter.device)}
            optimizer.state[parameter] = {key: torch.empty_like(like.get(key, parameter.detach())).copy_(value)
                                          for key, value in state.items()}  # fmt: skip


def _check_fit(path: Path, given: Tensors, wanted: Tensors) -> None:
    """Raise DataProblem unless names, shapes and types of ``given`` are those ``wanted``."""
    theirs, ours = ({name: (own.shape, own.dtype) for name, own in some.items()} for some in (given, wanted))
    odd = sorted(given.keys() ^ wanted.keys()) or sorted(name for name in ours if theirs[name] != ours[name])
    if odd:
        names = first([name[:80] for name in odd], 1)
        raise DataProblem(
            f"{path} does not fit the run's recipe.yaml ({names})", "one of the two files is from another run"
        )


def save(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, position: Position, began_as: str | None = None
) -> None:
    """Write one checkpoint: temp file, fsync, rename. Raises Failure where the disk is full or the folder gone."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{key}/{name}"] = value
    _write(path, {name: value.detach().to("cpu").contiguous() for name, value in tensors.items()}, position, began_as)


def save_weights(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint again without the optimiser's state: to be evaluated and sampled from, not trained on."""
    weights = {name: value for name, value in checkpoint.tensors.items() if name.startswith("model.")}
    _write(path, weights, checkpoint.position, checkpoint.began_as)


def _write(path: Path, ready: Tensors, position: Position, began_as: str | None) -> None:
    facts: dict[str, Any] = vars(position) | ({"began_as": began_as} if began_as else {})
    progress = json.dumps(facts)
    metadata = {"format": "mmvae-checkpoint", "progress": progress, "digest": sealed.digest(ready, progress)}
    sealed.write_tensors(path, ready, metadata, "the previous checkpoint is untouched")


def load(path: Path) -> Checkpoint:
    """Read and check one checkpoint. Raises DataProblem in one line, Unreadable where it may not be read."""
    with sealed.reading_tensors(path, hint="remove it; the one before is used") as (tensors, metadata):
        progress = metadata["progress"]
        if metadata.get("format") != "mmvae-checkpoint" or metadata["digest"] != sealed.digest(tensors, progress):
            raise ValueError("the content does not match its digest")
        facts = json.loads(progress)
        began_as = facts.pop("began_as", None)
        return Checkpoint(path, _position(facts), tensors, began_as)


def _of_run(path: Path, began_as: str | None) -> Checkpoint:
    """:func:`load`, and DataProblem for a checkpoint of another run: its numbers would bear the wrong name."""
    loaded = load(path)
    if began_as and loaded.began_as not in (None, began_as):
        raise DataProblem(f"{path} is of a run with another recipe or seed", "remove it")
    return loaded


def _position(progress: dict[str, Any]) -> Position:
    """Raises ValueError or TypeError for numbers that no training leaves."""
    position = Position(**progress)
    if not (type(position.step) is type(position.epoch) is int and 0 <= position.epoch <= position.step < 2**48):
        raise ValueError("no step and epoch that training could have reached")
    if not 0 <= float(position.seconds) < 1e12:
        raise ValueError("no time that training could have taken")
    return position


def newest(run: Run) -> Checkpoint | None:
    """The newest valid checkpoint; damaged and unreadable ones are skipped with a warning. None where there is no file.

    Raises DataProblem where there are files and none is valid: starting over would lose the run without a word.
    """
    problems: list[DataProblem] = []
    paths = run.checkpoint_paths()
    began_as = run.began_as() if paths else None
    for path in paths:
        try:
            return _of_run(path, began_as)
        except DataProblem as problem:
            console.warn(f"skipped: {problem}")
            problems.append(problem)
    if unreadable := next((problem for problem in problems if isinstance(problem, Unreadable)), None):
        raise unreadable
    if problems:
        raise DataProblem(
            f"no valid checkpoint in {run.checkpoints}", "restore one, or remove the folder to start over"
        )
    return None


def needed(run: Run, chosen: Path | None = None) -> Checkpoint:
    """The ``chosen`` or the newest valid checkpoint of a run; raises DataProblem where there is none."""
    if chosen and not chosen.is_file():
        raise DataProblem(f"no checkpoint {chosen}", f"those of this run are in {run.checkpoints}")
    if chosen and chosen.resolve().parent != run.checkpoints.resolve():  # its numbers would bear this run's name
        raise DataProblem(f"{chosen} is no checkpoint of {run.folder}", f"those of this run are in {run.checkpoints}")
    loaded = _of_run(chosen, run.began_as()) if chosen else newest(run)
    if loaded is None:
        raise DataProblem(f"{run.folder} has no checkpoint yet", "train it first, or wait for its first checkpoint")
    return loaded


def prune(run: Run, keep: int, step: int) -> None:
    """Delete old checkpoints: of those up to ``step``, the ``keep`` newest stay. Temporary files go, too: whoever
    prunes holds the run's lock, so nobody is writing them.

    Checkpoints later than ``step`` are damaged, or training would have gone on from them. They do not count among the
    ``keep``, and training replaces them when it gets there.
    """
    done = [path for path in run.checkpoint_paths() if path.name <= run.checkpoint_path(step).name]
    for path in [*done[keep:], *run.checkpoints.glob(".*.tmp-*")]:
        with suppress(OSError):  # a folder of that name, somebody else's file: in nobody's way
            path.unlink(missing_ok=True)
