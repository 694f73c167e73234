"""The same test items through all methods: what each generates from the same given modalities, row by row."""

import json
import math
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmvae_cli.comparison.content import Content, plain
from mmvae_cli.comparison.groups import Group
from mmvae_cli.drawing import grids as drawing
from mmvae_cli.drawing.grids import Cell, Grid
from mmvae_cli.process.words import listed
from mmvae_cli.recipe.kinds import PROBABILITIES
from mmvae_cli.run.layout import Run

_COLUMNS, _CELL_PIXELS = 10, 80
_MOST_BYTES = 256 << 20
"""Of one figure's arrays, unpacked: run folders come from other people."""
Arrays = dict[str, np.ndarray]


class Shown(NamedTuple):
    """What a figure shows: which items of which data, what is given and what is generated."""

    fingerprint: str
    split: str
    given: tuple[str, ...]
    target: str
    items: tuple[int, ...]


Drawn = tuple[Shown, Arrays]
"""The first columns of a figure."""


def grids(content: Content) -> list[tuple[str, Grid]]:
    """Name of the file and grid of every conditional figure that two groups at least have drawn for the same items."""
    by_stem: dict[str, list[tuple[str, Shown, Arrays]]] = {}
    for group in content.groups:
        for stem, (shown, arrays) in _conditional(group).items():
            by_stem.setdefault(stem, []).append((group.label, shown, arrays))
    made = []
    for stem, every in sorted(by_stem.items(), key=lambda item: len(item[0])):
        _, first, _ = every[0]
        same = [(label, arrays) for label, shown, arrays in every if shown == first]
        if len(same) > 1:
            made.append((f"same-items-{stem}", _grid(content, first, same)))
    return made


def _conditional(group: Group) -> dict[str, Drawn]:
    """The figures of the group's first run that has drawn any by the weights that were evaluated, by figure."""
    for member in group.members:
        paths = Run(member.folder).pictures("*_given_*.npz")
        if readable := {path.stem: drawn for path in paths if (drawn := _read(path, member.evaluation.run.step))}:
            return readable
    return {}


def _read(path: Path, step: int) -> Drawn | None:
    """The first items of a conditional figure; None for what is none, is damaged, or was drawn after another step."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MOST_BYTES:
                return None
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            if about.get("step", step) != step:
                return None
            (target,), given, items = about["target"], tuple(about["given"]), arrays["items"][:_COLUMNS]
            wanted = {f"input_{name}": arrays[f"input_{name}"] for name in given}
            wanted |= {f"sample_{target}": arrays[f"sample_{target}"][0]}
            for known in (*wanted, f"true_{target}"):
                for key in (known, f"string_{known}", f"measured_{known}"):
                    if key in arrays and key not in wanted:
                        wanted[key] = arrays[key][0] if known == f"sample_{target}" else arrays[key]
            shown = Shown(about["fingerprint"], about["split"], given, target, tuple(items.tolist()))
    except (OSError, ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile):
        return None
    return shown, {key: value[:_COLUMNS] for key, value in wanted.items()}


def _grid(content: Content, shown: Shown, drawn: list[tuple[str, Arrays]]) -> Grid:
    first, target, given = drawn[0][1], shown.target, shown.given
    full = {name: _full_bar(name, content, [arrays for _, arrays in drawn]) for name in (*given, target)}
    rows = [(f"{name} input", _cells(first, f"input_{name}", full[name])) for name in given]
    knowing = [arrays for _, arrays in drawn if f"true_{target}" in arrays]  # earlier versions did not write it
    rows += [(f"true {target}", _cells(arrays, f"true_{target}", full[target])) for arrays in knowing[:1]]
    rows += [(plain(label), _cells(arrays, f"sample_{target}", full[target])) for label, arrays in drawn]
    cells = [own for _, own in rows]
    warning = f"; stand-in: {content.warning}" if content.warning else ""
    return Grid(
        cells, [label for label, _ in rows], title=f"{target} generated from {listed(given)}",
        about=f"Each column is one {shown.split} item. On top stands what all methods are given; then each has "
        "a row with its first sample.", origin=f"{content.name}{warning}",
        scale=math.ceil(_CELL_PIXELS / drawing.widest(cells)),
    )  # fmt: skip


def _full_bar(name: str, content: Content, drawn: list[Arrays]) -> float | None:
    """Of a vector's bars in all rows; None for what is no vector."""
    keys = [f"{what}_{name}" for what in ("input", "true", "sample")]
    known = [arrays[key] for arrays in drawn for key in keys if key in arrays]
    if known[0].dtype == np.uint8:
        return None
    return drawing.full_bar(
        known, standardised=any(f"measured_{key}" in arrays for arrays in drawn for key in keys),
        probabilities=content.groups[0].recipe.modalities[name].likelihood in PROBABILITIES,
    )  # fmt: skip


def _cells(arrays: Arrays, key: str, full: float | None) -> list[Cell]:
    """``full``: the number whose bar is full, of vectors; None for pictures and texts."""
    if f"string_{key}" in arrays:
        return [drawing.cell("text", plain(text)) for text in arrays[f"string_{key}"]]
    kind, measured = "image" if full is None else "vector", arrays.get(f"measured_{key}", arrays[key])
    pairs = zip(arrays[key], measured, strict=True)
    return [drawing.cell(kind, content, None, full, number) for content, number in pairs]
