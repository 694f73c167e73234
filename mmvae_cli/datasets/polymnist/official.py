"""The official files of PolyMNIST: ``{train,test}/m{v}/{i}.{label}.png``, ``i`` from 0 for every
label (equations 7.1)."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np

from mmvae_cli.datasets import building
from mmvae_cli.datasets.pictures import set_upright
from mmvae_cli.datasets.polymnist.trees import SPLITS, STAND_IN, Tree
from mmvae_cli.datasets.spread import ranks, spread
from mmvae_cli.process import console, signals
from mmvae_cli.process.errors import DataProblem, UsageProblem
from mmvae_cli.store import StoreInfo, new_array

_NAME = re.compile(r"([0-9]{1,9})\.([0-9])\.png")
_LARGEST_PNG = 1 << 20  # bytes; 28x28 pixels need three thousand
Read = tuple[dict[str, int], dict[str, tuple[int, ...]], dict[str, Any]]
"""Tuples per split; tuples per label 0..9 of each split before any limit; what provenance says."""


def read_into(folder: Path, tree: Tree, views: int | None, limit: int | None) -> Read:
    """Read the PNG files of ``tree`` into the arrays of a store at ``folder``, tuples by label and number.

    Views are paired by file name. Raises DataProblem for a tuple that is not in all views, UsageProblem for more views
    than there are.
    """
    views_of = {split: _by_view(tree, split) for split in SPLITS}
    count = count_views(tree, {split: list(views_of[split]) for split in SPLITS}, views)
    tuples = {split: _paired(tree, split, views_of[split], count) for split in SPLITS}
    kept = {split: [tuples[split][i] for i in spread(len(tuples[split]), limit)] for split in SPLITS}
    with console.progress("polymnist", sum(map(len, kept.values())) * count, "images") as bar:
        for split in SPLITS:
            labels = [label for label, _, _ in kept[split]]
            new_array(folder, f"{split}/labels.npy", (len(labels),), np.int64)[:] = labels
            for view in range(count):
                array = new_array(folder, f"{split}/m{view}.npy", (len(labels), 3, 28, 28))
                names = np.array([f"{split}/m{view}/{name}" for _, _, name in kept[split]])
                building.fill(
                    array, lambda some: [_decode(tree, name) for name in some], names, bar, f"{split} m{view}"
                )
    per_label = {s: tuple(int(n) for n in np.bincount([t[0] for t in tuples[s]], minlength=10)) for s in SPLITS}
    return {split: len(kept[split]) for split in SPLITS}, per_label, {"layout": "PNG folders"}


def count_views(tree: Tree, views_of: dict[str, list[int]], wanted: int | None) -> int:
    """How many views to read: all, or the first ``wanted``. ``views_of``: the view numbers of each split."""
    shared = set(views_of["train"]) & set(views_of["test"])
    count = next(v for v in range(len(shared) + 1) if v not in shared)
    if count == 0:
        raise DataProblem(f"{tree.where}: no view m0 in both train and test", "expected {train,test}/m0 ...")
    if wanted is not None and wanted > count:
        raise UsageProblem(f"--views {wanted}: {tree.where} has {count} views", f"give --views {count} or fewer")
    if (set(views_of["train"]) | set(views_of["test"])) - set(range(count)):
        if wanted is None:
            lacking = " and ".join(split for split in SPLITS if count not in views_of[split])
            raise DataProblem(
                f"{tree.where}: view m{count} is missing in {lacking}", f"give --views {count} to do without"
            )
        console.say(f"views from m{count} on are incomplete and not read")
    return wanted or count


def _by_view(tree: Tree, split: str) -> dict[int, dict[str, tuple[int, int, str]]]:
    """view -> file name -> (label, number, file name)."""
    views: dict[int, dict[str, tuple[int, int, str]]] = {}
    for path in tree.names:
        if not (found := re.fullmatch(rf"{split}/m(0|[1-9][0-9]{{0,3}})/([^/]*\.(?i:png))", path)):
            continue
        if not (match := _NAME.fullmatch(found[2])):
            raise DataProblem(f"{tree.shown(path)} is not named NUMBER.LABEL.png, label 0 to 9", "rename or remove it")
        views.setdefault(int(found[1]), {})[found[2]] = (int(match[2]), int(match[1]), found[2])
    return views


def _paired(tree: Tree, split: str, views: dict[int, dict[str, Any]], count: int) -> list[tuple[int, int, str]]:
    first = views[0]
    for view in range(1, count):
        if odd := min(first.keys() ^ views[view].keys(), default=None):
            holder, lacking = (0, view) if odd in first else (view, 0)
            raise DataProblem(
                f"{tree.shown(f'{split}/m{lacking}/{odd}')} is missing, m{holder} has it",
                "every tuple needs a file of the same name in every view",
            )
    return sorted(first.values())


def _decode(tree: Tree, name: str) -> np.ndarray:
    """uint8 (3, 28, 28) of one PNG."""
    from PIL import Image

    content = tree.read(name, _LARGEST_PNG)
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            if picture.size != (28, 28):
                raise ValueError(f"it has {picture.size[0]}x{picture.size[1]} pixels, not 28x28")
            set_upright(picture)
            return np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = str(error).replace(repr(error), "")[:80]
        raise DataProblem(f"{tree.shown(name)} is no PNG of PolyMNIST ({reason})", "fetch it again") from error


def write(target: Path, folder: Path, info: StoreInfo) -> None:
    """Write the official folders at ``target`` from the finished store at ``folder``.

    What is not the real thing is said in ``stand_in.txt`` beside them, so that it is not forgotten by an import.
    """
    from PIL import Image

    total = sum(split.count for split in info.splits.values()) * len(info.modalities)
    with console.progress("png", total, "files") as bar:
        if info.stand_in:
            target.mkdir(parents=True)
            (target / STAND_IN).write_text(info.stand_in + "\n", encoding="utf-8")
        for split in SPLITS:
            labels = np.load(folder / split / "labels.npy", allow_pickle=False)
            names = [f"{number}.{label}.png" for label, number in zip(labels, ranks(labels), strict=True)]
            for view in info.modalities:
                (target / split / view).mkdir(parents=True)
                array = np.load(folder / split / f"{view}.npy", mmap_mode="r", allow_pickle=False)
                for image, name in zip(array, names, strict=True):
                    signals.leave_if_requested("nothing was written")
                    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
                    picture.save(target / split / view / name, format="PNG", compress_level=3)
                    bar.advance(1, f"{split} {view}")
