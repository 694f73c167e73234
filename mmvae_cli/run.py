"""The run folder: layout, lock, status, metrics, checkpoints. The only owner of its file names.

::

    recipe.yaml        the resolved recipe            metrics.jsonl   one JSON object a line
    environment.json   versions, device, command      checkpoints/    step-00002340.safetensors ...
    status.json        running | stopped | finished   evaluation.json, figures/
"""

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmvae_cli import recipe as recipes
from mmvae_cli.errors import DataProblem, Failure, UsageProblem
from mmvae_cli.files import process_alive, read_json, write_atomic, write_json
from mmvae_cli.recipe import Recipe


def default_folder(recipe: Recipe, overrides: list[str]) -> Path:
    """``runs/NAME[-key=value...]-seedN``: a function of what is asked for, so a requeued job finds its run. The key is
    the last word of the dotted one, or all of it where two would read alike."""
    pairs = [(key, value.strip()) for key, _, value in (o.partition("=") for o in overrides) if key != "training.seed"]
    short = [key.rpartition(".")[2] for key, _ in pairs]
    names = [last if short.count(last) == 1 else key for last, (key, _) in zip(short, pairs, strict=True)]
    changed = sorted(f"{name}={value}" for name, (_, value) in zip(names, pairs, strict=True))
    safe = [re.sub(r"[^A-Za-z0-9_.=+-]+", "_", part)[:80] for part in changed]
    return Path("runs") / "-".join([recipe.name, *safe, f"seed{recipe.training.seed}"])


class Run:
    """Paths and small files of one run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipe_path = folder / "recipe.yaml"
        self.environment_path = folder / "environment.json"
        self.status_path = folder / "status.json"
        self.metrics_path = folder / "metrics.jsonl"
        self.checkpoints = folder / "checkpoints"
        self.figures = folder / "figures"

    def evaluation_path(self, protocol: str = "default") -> Path:
        return self.folder / ("evaluation.json" if protocol == "default" else f"evaluation.{protocol}.json")

    def recipe(self) -> Recipe:
        """The resolved recipe of the run. Raises DataProblem where there is none."""
        if not self.recipe_path.is_file():
            raise DataProblem(f"{self.folder} is no run: it has no recipe.yaml", "train first: mmvae train RECIPE")
        try:
            return recipes.load(str(self.recipe_path))
        except UsageProblem as error:
            raise DataProblem(str(error), "the run's recipe.yaml is damaged; train into another folder") from error

    def status(self) -> dict[str, Any]:
        """What status.json says; ``{}`` where there is none."""
        content = read_json(self.status_path) if self.status_path.is_file() else {}
        if not isinstance(content, dict):
            raise DataProblem(f"{self.status_path} is not a JSON object")
        return content

    def set_status(self, state: str, **facts: Any) -> None:
        write_json(self.status_path, {**facts, "state": state})

    def environment(self) -> dict[str, Any]:
        """What environment.json says; ``{}`` where there is none."""
        content = read_json(self.environment_path) if self.environment_path.is_file() else {}
        return content if isinstance(content, dict) else {}

    def set_environment(self, facts: dict[str, Any]) -> None:
        write_json(self.environment_path, facts)

    def prepare(self, recipe: Recipe) -> None:
        """Make the folder and write recipe.yaml, or check that it is the same one. Raises UsageProblem with the
        difference where the folder belongs to another recipe."""
        if self.recipe_path.is_file():
            if changes := recipes.difference(self.recipe(), recipe):
                raise UsageProblem(
                    f"{self.folder} was trained with another recipe: {'; '.join(changes)}",
                    "give --run for another folder, or the same recipe",
                )
            return
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Failure(
                f"cannot write {self.folder}: {error.strerror}", "choose a writable folder with --run"
            ) from error
        write_atomic(self.recipe_path, recipe.dump().encode())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second process out. A file made with O_EXCL, which holds on NFS too; it names host and process, so
        the lock of a dead process on this host is recognised."""
        path = self.folder / "lock"
        while True:
            try:
                descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
                break
            except FileExistsError:
                if not _lock_is_stale(path):
                    raise UsageProblem(
                        f"{self.folder} is in use by {_holder(path)}", f"wait for it; if it is gone, remove {path}"
                    ) from None
                path.unlink(missing_ok=True)
            except OSError as error:
                raise Failure(
                    f"cannot write {path}: {error.strerror}", "choose a writable folder with --run"
                ) from error
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{socket.gethostname()} {os.getpid()}\n")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

    # metrics ---------------------------------------------------------------------------------------------------------

    def log(self, records: list[dict[str, Any]]) -> None:
        """Append lines to metrics.jsonl and flush them."""
        with open(self.metrics_path, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(record, allow_nan=False) + "\n" for record in records)

    def forget_after(self, step: int) -> None:
        """Drop the lines of metrics.jsonl later than ``step`` (and a last line cut in half): they will come again."""
        if not self.metrics_path.is_file():
            return
        kept = []
        for line in self.metrics_path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                continue
        write_atomic(self.metrics_path, "".join(kept).encode())

    # checkpoints -----------------------------------------------------------------------------------------------------

    def checkpoint_path(self, step: int) -> Path:
        return self.checkpoints / f"step-{step:08d}.safetensors"

    def checkpoint_paths(self) -> list[Path]:
        """Checkpoint files, newest first."""
        return sorted(self.checkpoints.glob("step-*.safetensors"), reverse=True)


def _holder(path: Path) -> str:
    try:
        host, pid = path.read_text().split()
        return f"process {pid} on {host}"
    except (OSError, ValueError):
        return "another process"


def _lock_is_stale(path: Path) -> bool:
    try:
        host, pid = path.read_text().split()
        return host == socket.gethostname() and (not process_alive(pid) or int(pid) == os.getpid())
    except (OSError, ValueError):
        return _age(path) > 60  # killed between making and filling the file


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
