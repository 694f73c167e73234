"""From the parts of own data to a dataset folder and a recipe to start from."""

import math
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmvae_cli.datasets import building, placing
from mmvae_cli.datasets.own.parts import Part
from mmvae_cli.datasets.own.splits import Splits
from mmvae_cli.disk.files import write_atomic
from mmvae_cli.process import console
from mmvae_cli.process.errors import DataProblem, UsageProblem
from mmvae_cli.process.paths import refuse_existing, shown
from mmvae_cli.recipe.kinds import KINDS
from mmvae_cli.recipe.schema import NAME, TAKEN, by_size
from mmvae_cli.store import LabelInfo, new_array

_LONGEST_KEY = 1000
"""Bytes."""


@dataclass(frozen=True)
class StoreOptions:
    """What does not depend on where own data come from. ``offers``: a recipe to start from is offered."""

    out: Path
    data_dir: Path
    name: str
    test: float | None = None
    seed: int = 0
    raw: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    recipe: Path | None = None
    force: bool = False
    offers: bool = True


def options(source: Path, name: str | None, out: Path | None, data_dir: Path, **more: Any) -> StoreOptions:
    """The dataset is named by its source unless ``name`` is given. Raises UsageProblem for a name that is none."""
    name = source.stem if name is None else name
    if not re.fullmatch(NAME, name):
        raise UsageProblem(f"{name!r} cannot name a dataset", "give --name: letters, digits, '_' and '-', 64 at most")
    return StoreOptions(out or data_dir / name, data_dir, name, **more)


def check(options: StoreOptions, names: list[str], vectors: list[str]) -> None:
    """Raise UsageProblem for options that fit nothing, before anything is read in full."""
    if options.recipe is not None:
        if options.recipe.suffix.lower() not in (".yaml", ".yml"):
            raise UsageProblem(f"--recipe {options.recipe}: a recipe is a .yaml file", "end its name in .yaml")
        refuse_existing(options.recipe, options.force, "another --recipe")
    if len(set(names)) < len(names):
        raise UsageProblem("two modalities have the same name", "give each --modality a name of its own")
    for name in names:
        if not re.fullmatch(NAME, name) or name in ("labels", "keys", TAKEN):
            hint = f"name it otherwise: letters, digits, '_' and '-', 64 at most, not 'labels', 'keys' or '{TAKEN}'"
            raise UsageProblem(f"{name!r} cannot name a modality", hint)
    for name in options.raw:
        if name not in vectors:
            raise UsageProblem(f"--raw {name}: no such vector", f"there are: {', '.join(vectors) or 'none'}")


def build(
    options: StoreOptions, parts: dict[str, Part], splits: Splits, labels: tuple[np.ndarray, LabelInfo] | None,
    source: Path, keys: Sequence[str],
) -> None:  # fmt: skip
    """Write the dataset, or nothing; then the recipe. ``keys``: the user's own name of each item, or where it stood."""
    names = _encoded(keys, source)
    with building.dataset_folder(options.out, force=options.force) as folder:
        _check_room(folder, parts, splits)
        with console.progress(options.name, sum(map(len, splits.values())) * len(parts), "rows") as bar:
            for split, items in splits.items():
                for name, part in parts.items():
                    has, dtype = part.present[items], np.dtype(KINDS[part.info.kind].dtype)
                    if not has.all():
                        index = np.where(has, np.cumsum(has) - 1, -1)
                        new_array(folder, f"{split}/{name}.index.npy", index.shape, np.int32)[:] = index
                    array = new_array(folder, f"{split}/{name}.npy", (int(has.sum()), *part.info.shape), dtype)
                    building.fill(array, part.rows, items[has], bar)
                    bar.advance(len(items) - len(array))
                if labels:
                    new_array(folder, f"{split}/labels.npy", (len(items),), np.int64)[:] = labels[0][items]
                new_array(folder, f"{split}/keys.npy", (len(items),), names.dtype)[:] = names[items]
        placing.finish(
            folder, options.name, {name: part.info for name, part in parts.items()},
            {split: len(items) for split, items in splits.items()}, labels[1] if labels else None,
            {"source": shown(str(source))}, seed=options.seed, own=True,
        )  # fmt: skip
    if options.offers:
        _offer(options, recipe_for(options, parts, splits))


def _encoded(keys: Sequence[str], source: Path) -> np.ndarray:
    """Names of items as UTF-8 of one width. Raises DataProblem where one is empty, no text, too long or another's."""
    hint = f"a name is one item's, and has 1 to {_LONGEST_KEY} bytes"
    first: dict[bytes, int] = {}
    for item, key in enumerate(keys):
        name = key.encode(errors="replace")
        if not 0 < len(name) <= _LONGEST_KEY or name.decode() != key or b"\0" in name:
            raise DataProblem(f"{source}: {key[:40]!r} cannot name item {item + 1}", hint)
        if (other := first.setdefault(name, item)) != item:
            raise DataProblem(f"{source}: {key[:40]!r} names item {other + 1} and item {item + 1}", hint)
    return np.array([*first])


def check_present(
    parts: dict[str, Part], train: np.ndarray, where: str, problem: Callable[[int, str], DataProblem]
) -> None:
    """Raise DataProblem for an item that has nothing (``problem``: of an item, in its source's words) and for a
    modality that no training item has; say what share of the items has each, where it is not all."""
    has = np.stack([part.present for part in parts.values()], 1)
    if len(bare := np.flatnonzero(~has.any(1))):
        raise problem(int(bare[0]), f"has nothing: no {' and no '.join(parts)}")
    for name, column in zip(parts, has.T, strict=True):
        if not column[train].any():
            raise DataProblem(f"{where}: no training item has {name}", "leave the modality out, or mend its column")
    if not has.all():
        shares = ", ".join(f"{name} {share:.0%}" for name, share in zip(parts, has.mean(0), strict=True))
        console.say(f"note: incomplete items: {shares} are there; {has.all(1).sum():,} of {len(has):,} are complete")


def _check_room(folder: Path, parts: dict[str, Part], splits: Splits) -> None:
    rows = sum(map(len, splits.values()))
    needed = rows * sum(math.prod(p.info.shape) * np.dtype(KINDS[p.info.kind].dtype).itemsize for p in parts.values())
    if needed > (free := shutil.disk_usage(folder).free):
        raise DataProblem(f"the dataset takes {needed / 1e9:.3g} GB, {folder.parent} has {free / 1e9:.3g} GB left",
                          "choose fewer features, smaller pictures or another --out")  # fmt: skip


def recipe_for(options: StoreOptions, parts: dict[str, Part], splits: Splits) -> str:
    """A complete recipe for these data, as YAML."""
    usual = options.out.resolve() == (options.data_dir / options.name).resolve()
    place = (options.name if usual else str(options.out.resolve())).replace("'", "''")
    lines = [f"  {name}: {{{_modality(part)}}}" for name, part in parts.items()]
    count = len(splits["train"])
    weights = [f"{name} {weight:,.5g}" for name, weight in by_size({n: p.info.shape for n, p in parts.items()}).items()]
    return "\n".join([
        f"# A recipe to start from, for the dataset {options.name}.",
        f"name: {options.name}", f"dataset: {{name: '{place}'}}", "modalities:", *lines,
        "model: {method: mopoe, latent_dim: 32}", "objective:", "  beta: 1.0",
        f"  likelihood_weights: by_size  # {', '.join(weights)}; equal: 1 each", "training:",
        f"  epochs: {min(500, max(20, 200_000 // count))}  # fewer may do: look at the learning curves",
        f"  batch_size: {min(64, count)}",
        "  learning_rate: 1.0e-3", "evaluation: {likelihood_items: 256}", "",
    ])  # fmt: skip


def _modality(part: Part) -> str:
    kind, shape = part.info.kind, part.info.shape
    if kind == "image":
        return f"network: conv, shape: {list(shape)}, width: 128, likelihood: normal, scale: 0.3"
    if kind == "text":
        return f"network: text, shape: {list(shape)}, characters: {len(part.info.alphabet or '')}, width: 32"
    likelihood = ", likelihood: negative_binomial" if part.counts else ""
    return f"network: mlp, shape: {list(shape)}, width: 128{likelihood}"


def _offer(options: StoreOptions, recipe: str) -> None:
    if options.recipe is not None:
        write_atomic(options.recipe, recipe.encode())
        console.say(f"a recipe to start from: mmvae train {options.recipe}")
    else:
        console.say(f"a recipe to start from (--recipe FILE writes it):\n{recipe}")
