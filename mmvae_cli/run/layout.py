"""The run folder: layout, lock, status, metrics, checkpoints. The only owner of its file names.

::

    recipe.yaml        the resolved recipe            metrics.jsonl   one JSON object a line
    environment.json   versions, device, command      checkpoints/    step-00002340.safetensors ...
    status.json        running | stopped | finished   evaluation.json, figures/, samplers/
    code.py            of own networks, as it was run
"""

import json
import os
import re
from contextlib import AbstractContextManager
from itertools import product
from pathlib import Path
from typing import Any, get_args

from mmvae_cli import recipe as recipes
from mmvae_cli.disk import lock, plain_yaml, sealed
from mmvae_cli.disk.files import reading, short_name, visible, write_atomic
from mmvae_cli.disk.lock import Lock
from mmvae_cli.disk.sealed import read_json, write_json
from mmvae_cli.process import console
from mmvae_cli.process.errors import DataProblem, UsageProblem, cannot_write
from mmvae_cli.process.named import Protocol, Sampler
from mmvae_cli.process.paths import make_folder
from mmvae_cli.recipe import Recipe
from mmvae_cli.run.metrics import record_of

PROTOCOLS, SAMPLERS = get_args(Protocol), get_args(Sampler)
Way = tuple[str, str]
"""A protocol and a sampler: an evaluation for each is kept, and they are never mixed."""
WAYS = list(product(PROTOCOLS, SAMPLERS))
_CHECKPOINT = re.compile(r"step-.*\.safetensors")


def default_folder(recipe: Recipe, overrides: list[str]) -> Path:
    """``runs/NAME[-key=value...]-seedN``: a function of what is asked for, so a requeued job finds its run.
    ``overrides`` are those that matter. The key is the last word of the dotted one, or all of it where two would read
    alike; 5, 5.0 and 5e0 are one value. Many changes make a name too long for a folder: it ends with a digest then."""
    said = [override.partition("=") for override in overrides]
    pairs = [(key, _spelled(value)) for key, _, value in said if key != "training.seed"]
    short = [key.rpartition(".")[2] for key, _ in pairs]
    names = [last if short.count(last) == 1 else key for last, (key, _) in zip(short, pairs, strict=True)]
    changed = sorted(f"{name}={value}" for name, (_, value) in zip(names, pairs, strict=True))
    safe = [re.sub(r"[^A-Za-z0-9_.=+-]+", "_", part) for part in changed]
    return Path("runs") / f"{short_name('-'.join([recipe.name, *safe]))}-seed{recipe.training.seed}"


def _spelled(text: str) -> str:
    """A number or plain word of YAML in one spelling; anything else as it was typed."""
    value = plain_yaml.parse(text, "override")
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return json.dumps(value) if value is None or isinstance(value, int | float) else text.strip()


class Run:
    """Paths and small files of one run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipe_path = folder / "recipe.yaml"
        self.environment_path = folder / "environment.json"
        self.code_path = folder / "code.py"
        self.status_path = folder / "status.json"
        self.metrics_path = folder / "metrics.jsonl"
        self.checkpoints = folder / "checkpoints"
        self.figures = folder / "figures"
        self.sampler_path = folder / "samplers" / "gmm.safetensors"

    def evaluation_path(self, protocol: str = "default", sampler: str = "prior") -> Path:
        """``evaluation.json``; of another protocol or sampler ``evaluation.released.gmm.json`` and the like."""
        parts = [*([] if protocol == "default" else [protocol]), *([] if sampler == "prior" else [sampler])]
        return self.folder / ".".join(["evaluation", *parts, "json"])

    def evaluations(self) -> dict[str, Path]:
        """Those that are there: ``default``, ``default.gmm`` and the like -> file."""
        names = {f"{protocol}{'' if sampler == 'prior' else f'.{sampler}'}": self.evaluation_path(protocol, sampler)
                 for protocol, sampler in WAYS}  # fmt: skip
        return {name: path for name, path in names.items() if path.is_file()}

    def pictures(self, pattern: str = "*.png") -> list[Path]:
        """The files of its figures, in order."""
        return visible(self.figures.glob(pattern))

    def recipe(self) -> Recipe:
        """The resolved recipe of the run. Raises DataProblem where there is none."""
        if not self.recipe_path.is_file():
            above = next((one for one in self.folder.parents if (one / "recipe.yaml").is_file()), None)
            hint = f"give the run's folder: {above}" if above else "train first: mmvae train RECIPE"
            raise DataProblem(f"{self.folder} is no run: it has no recipe.yaml", hint)
        sealed.check_yaml(self.recipe_path)
        try:
            return recipes.load_resolved(self.recipe_path)
        except UsageProblem as error:
            raise DataProblem(
                f"a newer version of mmvae may have trained this run: {error}",
                "pip install --upgrade mmvae-cli; a recipe.yaml that was edited: restore it",
            ) from error

    def status(self) -> dict[str, Any]:
        """What status.json says; ``{}`` where there is none."""
        content = read_json(self.status_path) if self.status_path.is_file() else {}
        if not isinstance(content, dict):
            raise DataProblem(f"{self.status_path} is not a JSON object", "restore it or remove it")
        return content

    def set_status(self, state: str, **facts: Any) -> None:
        write_json(self.status_path, {**facts, "state": state})

    def environment(self) -> dict[str, Any]:
        """What environment.json says; ``{}`` where there is none."""
        content = read_json(self.environment_path) if self.environment_path.is_file() else {}
        return content if isinstance(content, dict) else {}

    def set_environment(self, facts: dict[str, Any]) -> None:
        write_json(self.environment_path, facts)

    def trained_on(self) -> str | None:
        """The fingerprint of the data that training began with; None where it is not known."""
        return self._noted("dataset", "fingerprint")

    def began_as(self) -> str | None:
        """The fingerprint of the recipe that the run was begun by, before it was made longer."""
        return self._noted("recipe", "began_as")

    def _noted(self, part: str, key: str) -> str | None:
        known = self.environment().get(part)
        return str(known[key]) if isinstance(known, dict) and known.get(key) else None

    def check_data(self, folder: Path, fingerprint: str) -> None:
        """Raise DataProblem unless the data now in ``folder`` are those that this run was trained on, as far as that is
        known: data built anew may have training items in their test split."""
        known = self.trained_on()
        if known and known != fingerprint:
            raise DataProblem(
                f"{self.folder} was trained on other data ({known[:16]}) than {folder} now holds ({fingerprint})",
                "build the dataset as it was, or train into another folder with --run",
            )

    def code_sha256(self) -> str | None:
        """SHA-256 of the code of the user's own networks, as environment.json has it."""
        return self._noted("code", "sha256")

    def check_code(self, content: bytes, name: str) -> None:
        """Raise UsageProblem where the run keeps other code of the user's own networks, or none."""
        with reading(self.code_path):
            if not self.code_path.is_file() or self.code_path.read_bytes() != content:
                hint = f"give --code {self.code_path}, or train into another folder with --run"
                raise UsageProblem(f"{name} is not the code that {self.folder} was trained with", hint)

    def keep_code(self, content: bytes, name: str) -> None:
        """A copy of the code of the user's own networks, or a check that it is the same."""
        if self.code_path.exists() or self.environment_path.exists():
            self.check_code(content, name)
        else:
            write_atomic(self.code_path, content)

    def prepare(self, recipe: Recipe) -> None:
        """Make the folder and write recipe.yaml, or check that it is the same one, if with fewer epochs. Raises
        UsageProblem with the difference where the folder belongs to another recipe, where an earlier version began it,
        and where it is a dataset."""
        if self.recipe_path.is_file():
            self.recipe()  # damage is told as such, before what it says
            if recipes.is_earlier(recipes.read(self.recipe_path)):
                raise UsageProblem(
                    f"{self.folder} was begun by mmvae 0.1, which trained by other code: going on would make one run "
                    "of two",
                    "evaluate, sample and compare it as it is, or train anew into another folder with --run",
                )
            return self.refuse_another(recipe, "give --run for another folder, or the same recipe")
        if self.checkpoint_paths():
            raise DataProblem(
                f"{self.recipe_path} is missing, but there are checkpoints", "restore it, or choose another --run"
            )
        if (self.folder / "dataset.json").exists():  # building that again would remove the run
            raise UsageProblem(f"{self.folder} is a dataset, no place for a run", "choose another folder with --run")
        make_folder(self.checkpoints)
        sealed.write_yaml(self.recipe_path, recipe.dump())

    def refuse_another(self, recipe: Recipe, hint: str) -> None:
        """Raise UsageProblem where ``recipe`` differs from this run's; more epochs than before are the same run made
        longer, unless the learning rate's schedule depends on their number."""
        known = self.recipe()
        if known.training.schedule == "constant":
            known = known.with_epochs(max(recipe.training.epochs, known.training.epochs))
        if changes := recipes.difference(known, recipe):
            raise UsageProblem(f"{self.folder} was trained with another recipe: {'; '.join(changes)}", hint)

    def lengthen(self, recipe: Recipe) -> None:
        """Write ``recipe``'s larger number of epochs into recipe.yaml; call it with the lock held, after
        :meth:`prepare`."""
        if recipe.training.epochs > self.recipe().training.epochs:
            sealed.write_yaml(self.recipe_path, recipe.dump())

    def lock(self) -> AbstractContextManager[Lock]:
        """Keep a second process out of the folder."""
        return lock.hold(self.folder)

    # metrics ---------------------------------------------------------------------------------------------------------

    def log(self, records: list[dict[str, Any]]) -> None:
        """Append lines to metrics.jsonl in one write: whoever reads meanwhile finds whole lines, the last one aside."""
        lines = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records).encode()
        try:
            with open(self.metrics_path, "ab", buffering=len(lines) + 1) as file:
                file.write(lines)
        except OSError as error:
            raise cannot_write(self.metrics_path, error, "what was written before is untouched") from error

    def forget_after(self, step: int) -> None:
        """Remove the lines of metrics.jsonl that are later than ``step``, and a last line that was cut off: training
        writes them again."""
        if not self.metrics_path.is_file():
            return
        with reading(self.metrics_path):
            lines = self.metrics_path.read_bytes().split(b"\n")[:-1]  # what follows the last newline was cut in half
        records = [record_of(line) for line in lines]
        if damaged := records.count(None):
            console.warn(f"{self.metrics_path}: {damaged} damaged line(s) dropped")
        kept = [line for line, record in zip(lines, records, strict=True) if record and record["step"] <= step]
        write_atomic(self.metrics_path, b"".join(line + b"\n" for line in kept))

    # checkpoints -----------------------------------------------------------------------------------------------------

    def checkpoint_path(self, step: int) -> Path:
        return self.checkpoints / f"step-{step:08d}.safetensors"

    def checkpoint_paths(self) -> list[Path]:
        """Checkpoint files, newest first. Raises Unreadable where their folder may not be listed."""
        if not self.checkpoints.is_dir():
            return []
        with reading(self.checkpoints):
            names = os.listdir(self.checkpoints)  # glob would say that there are none
        return [self.checkpoints / name for name in sorted(names, reverse=True) if _CHECKPOINT.fullmatch(name)]
