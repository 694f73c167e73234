"""The same test items through all methods: what each generates from the same given modalities, row by row."""

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from mmvae_cli.comparison.content import Content, plain
from mmvae_cli.comparison.groups import Group
from mmvae_cli.drawing import grids as drawing
from mmvae_cli.drawing.grids import Cell, Grid
from mmvae_cli.process.words import listed
from mmvae_cli.run.layout import Run

_COLUMNS, _CELL_PIXELS = 10, 80
_MOST_BYTES = 256 << 20
"""Of one figure's arrays, unpacked: run folders come from other people."""
Arrays = dict[str, np.ndarray]


def grids(content: Content) -> list[tuple[str, Grid]]:
    """Name of the file and grid of every conditional figure that two groups at least have drawn for the same items."""
    by_stem: dict[str, list[tuple[str, Arrays]]] = {}
    for group in content.groups:
        for stem, arrays in _conditional(group).items():
            by_stem.setdefault(stem, []).append((group.label, arrays))
    shortest = sorted(by_stem.items(), key=lambda item: len(item[0]))
    return [(f"same-items-{stem}", _grid(content, same)) for stem, drawn in shortest if len(same := _same(drawn)) > 1]


def _conditional(group: Group) -> dict[str, Arrays]:
    """The arrays of the group's first run that has drawn any by the weights that were evaluated, by figure."""
    for member in group.members:
        paths = Run(member.folder).pictures("*_given_*.npz")
        if readable := {path.stem: arrays for path in paths if (arrays := _read(path, member.evaluation.run.step))}:
            return readable
    return {}


def _read(path: Path, step: int) -> Arrays | None:
    """The first items of a conditional figure; None for what is none, is damaged, or was drawn after another step."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MOST_BYTES:
                return None
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            if about.get("step", step) != step:
                return None
            (target,), given = about["target"], list(about["given"])
            wanted = {"items": arrays["items"][:_COLUMNS], f"sample_{target}": arrays[f"sample_{target}"][0]}
            for key in (f"input_{name}" for name in given):
                wanted[key] = arrays[key]
            for key in list(arrays):
                if key in (f"true_{target}", *(f"string_{key}" for key in wanted), f"string_true_{target}"):
                    wanted[key] = arrays[key][0] if key.startswith("string_sample") else arrays[key]
            places = {"fingerprint": about["fingerprint"], "split": about["split"], "given": given, "target": target}
    except (OSError, ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile):
        return None
    return {key: value[:_COLUMNS] for key, value in wanted.items()} | {"about": np.array(json.dumps(places))}


def _same(drawn: list[tuple[str, Arrays]]) -> list[tuple[str, Arrays]]:
    """Those that show what the first shows."""

    def shown(arrays: Arrays) -> Any:
        return str(arrays["about"]), arrays["items"].tolist()

    return [one for one in drawn if shown(one[1]) == shown(drawn[0][1])]


def _grid(content: Content, drawn: list[tuple[str, Arrays]]) -> Grid:
    first = drawn[0][1]
    about = json.loads(str(first["about"]))
    target, given = about["target"], about["given"]
    rows = [(f"{name} input", _cells(first, f"input_{name}")) for name in given]
    knowing = [arrays for _, arrays in drawn if f"true_{target}" in arrays]  # earlier versions did not write it
    rows += [(f"true {target}", _cells(arrays, f"true_{target}")) for arrays in knowing[:1]]
    rows += [(plain(label), _cells(arrays, f"sample_{target}")) for label, arrays in drawn]
    shown = [cells for _, cells in rows]
    warning = f"; stand-in: {content.warning}" if content.warning else ""
    return Grid(
        shown, [label for label, _ in rows], title=f"{target} generated from {listed(given)}",
        about=f"Each column is one {about['split']} item. On top stands what all methods are given; then each has "
        "a row with its first sample.", origin=f"{content.name}{warning}",
        scale=math.ceil(_CELL_PIXELS / drawing.widest(shown)),
    )  # fmt: skip


def _cells(arrays: Arrays, key: str) -> list[Cell]:
    if f"string_{key}" in arrays:
        return [drawing.cell("text", plain(text)) for text in arrays[f"string_{key}"]]
    kind = "image" if arrays[key].dtype == np.uint8 else "vector"
    return [drawing.cell(kind, content) for content in arrays[key]]
