"""From the arrays of a figure to its pictures: which cell stands where, and what is written beside it. No torch."""

import math
from typing import Any, NamedTuple, Protocol

import numpy as np

from mmvae_cli.drawing import grids
from mmvae_cli.drawing.grids import Grid
from mmvae_cli.drawing.plots import Page
from mmvae_cli.process.words import listed
from mmvae_cli.sampling.figures import Figure
from mmvae_cli.sampling.latent_space import LatentSpace
from mmvae_cli.store import LabelInfo, ModalityInfo

COLUMNS = 20
"""Items side by side in one picture; a larger --count is complete in the .npz, and picture and command say so."""
PRIOR_COLUMNS, RANDOM_CELLS = 10, 100
SHOWN = {"prior": RANDOM_CELLS, "reconstruction": COLUMNS, "conditional": COLUMNS, "swap": PRIOR_COLUMNS}
"""Latents, items or texts that the pictures of a kind show at most, all of them together."""
_CELL_PIXELS = 80  # a picture is enlarged by the first whole factor that makes it at least so large
_LONG_TEXT, _LONG_TEXT_PIXELS = 24, 150  # texts longer than this (characters) get a column as wide as this


class Context(NamedTuple):
    """What a figure says about its origin. ``split``: of its items; ``origin``: run, epoch and dataset in one line;
    ``remark``: what else a reader has to know of this figure, in sentences; ``drawn_from``: what gives latents of no
    item; ``probabilities``: modalities whose samples are some, with the full bar of a 1."""

    modalities: dict[str, ModalityInfo]
    labels: LabelInfo | None
    split: str
    origin: str
    remark: str = ""
    drawn_from: str = "the prior"
    probabilities: frozenset[str] = frozenset()


class Picture(Protocol):
    """What can be written as a file: for a screen, and for a column of a paper (``ending`` pdf or svg)."""

    def png(self) -> bytes: ...
    def paper(self, page: Page, ending: str) -> bytes: ...


def pictures(figure: Figure, arrays: dict[str, np.ndarray], context: Context) -> dict[str, Picture]:
    """The pictures of a figure, by file stem."""
    if figure.kind == "latent":
        return {figure.name: LatentSpace(figure.given, arrays, context.labels, context.split, context.origin)}
    makers = {"prior": _prior, "reconstruction": _reconstruction, "conditional": _conditional, "swap": _swap}
    return dict(makers[figure.kind](figure, arrays, context))


def _prior(figure: Figure, arrays: dict[str, np.ndarray], context: Context) -> dict[str, Grid]:
    """Figure 9: one column is one latent, decoded by all modalities; Figures 7 and 14: a square of each modality."""
    cells = {name: _cells(arrays, f"sample_{name}", context)[0] for name in figure.target}
    drawn = len(arrays["z"][0])
    first = min(PRIOR_COLUMNS, drawn)
    about = f"Each column is one latent, decoded into every modality{_of(first, drawn)}."
    rows = [cells[name][:first] for name in figure.target]
    grids = {"prior": _grid(rows, context, f"Samples from {context.drawn_from}", about, rows=list(figure.target))}
    for name in figure.target:
        shown = cells[name][:RANDOM_CELLS]
        side = math.ceil(math.sqrt(len(shown)))
        square = [shown[start : start + side] for start in range(0, len(shown), side)]
        about = f"Each cell is one latent, decoded into {name}{_of(len(shown), drawn)}."
        grids[f"random_{name}"] = _grid(
            square, context, f"{len(shown)} samples of {name} from {context.drawn_from}", about
        )
    return grids


def _reconstruction(figure: Figure, arrays: dict[str, np.ndarray], context: Context) -> dict[str, Grid]:
    """Figure 8: per modality a row of test items over a row of their reconstructions."""
    rows, labels = [], []
    for name in figure.target:
        rows += [_cells(arrays, f"input_{name}", context), _cells(arrays, f"sample_{name}", context)[0]]
        labels += [f"{name} input", "reconstruction"]
    about = (
        f"Each column is one item{_of(COLUMNS, len(arrays['items']))}. Below each input stands what the model makes of "
        f"it, encoded from {listed(figure.given)}."
    )
    what = f"Reconstructions of {context.split} items"
    columns = _columns(arrays, context)
    return {figure.name: _grid([row[:COLUMNS] for row in rows], context, what, about, rows=labels, columns=columns)}


def _conditional(figure: Figure, arrays: dict[str, np.ndarray], context: Context) -> dict[str, Grid]:
    """Figures 4, 10 and 11: the inputs on top, then what is true, then rows of samples; one column is one test item."""
    (target,) = figure.target
    rows = [_cells(arrays, f"input_{name}", context)[:COLUMNS] for name in figure.given]
    labels = [f"{name} input" for name in figure.given]
    source, item = ("typed text", "text") if figure.texts else (listed(figure.given), f"{context.split} item")
    about = f"Each column is one {item}{_of(COLUMNS, arrays['z'].shape[1])}. On top stands what is given"
    if f"true_{target}" in arrays:
        rows.append(_cells(arrays, f"true_{target}", context)[:COLUMNS])
        labels.append(f"true {target}")
        about += f", below it the true {target}, which the model does not see"
    samples = [row[:COLUMNS] for row in _cells(arrays, f"sample_{target}", context)]
    labels += [f"sample {row + 1}" for row in range(len(samples))]
    columns = None if figure.texts else _columns(arrays, context)
    what = f"{target} generated from {source}"
    return {figure.name: _grid(rows + samples, context, what, f"{about}, then samples.", rows=labels, columns=columns)}


def _swap(figure: Figure, arrays: dict[str, np.ndarray], context: Context) -> dict[str, Grid]:
    """Left column: the items that give the content; top row: the items that give the style (equations 6.2)."""
    (target,) = figure.target
    count = min(PRIOR_COLUMNS, len(arrays["z"]))
    style = _cells(arrays, f"input_{target}", context)[:count]
    content = _cells(arrays, f"input_{figure.given[0]}", context)[:count]
    samples = _cells(arrays, f"sample_{target}", context)
    rows = [[None, *style], *([content[row], *samples[row][:count]] for row in range(count))]
    labels = ["style", *(f"content {row + 1}" for row in range(count))]
    shown = f" (the left shows {figure.given[0]} alone)" if len(figure.given) > 1 else ""
    about = (
        f"Each cell has the content of the item at the left, encoded from {listed(figure.given)}{shown}, and the "
        f"style (the private latent) of the item on top{_of(count, len(arrays['z']))}."
    )
    what = f"{target}: content of one item in the style of another"
    return {figure.name: _grid(rows, context, what, about, rows=labels)}


def _cells(arrays: dict[str, np.ndarray], key: str, context: Context) -> list[Any]:
    """The array ``key`` as a list, or a list of rows, of cells."""
    name = key.partition("_")[2]
    info, most = context.modalities[name], None
    if info.kind == "vector":
        own = [arrays[f"{what}_{name}"] for what in ("sample", "input", "true") if f"{what}_{name}" in arrays]
        most = grids.full_bar(own, standardised=bool(info.means), probabilities=name in context.probabilities)

    def cells(contents: Any, measured: Any) -> list[grids.Cell]:
        return [grids.cell(info.kind, content, info.features, most, number)
                for content, number in zip(contents, measured, strict=True)]  # fmt: skip

    known = arrays.get(f"string_{key}", arrays[key])
    measured = arrays.get(f"measured_{key}", known)
    if not key.startswith("sample_"):
        return cells(known, measured)
    return [cells(*row) for row in zip(known, measured, strict=True)]


def _columns(arrays: dict[str, np.ndarray], context: Context) -> list[str]:
    """Above every column its class, or the number of the item where there are no classes."""
    if context.labels and context.labels.kind == "class":
        return [context.labels.names[label] for label in arrays["labels"][:COLUMNS]]
    return [f"#{item}" for item in arrays["items"][:COLUMNS]]


def part(shown: int, total: int) -> str:
    """What to say where ``shown`` is not all."""
    return f"the first {shown} of {total}" if shown < total else ""


def _of(shown: int, total: int) -> str:
    return f"; shown are {part(shown, total)}" if shown < total else ""


def _grid(
    cells: list[list[Any]], context: Context, title: str, about: str, *, rows: list[str] | None = None,
    columns: list[str] | None = None,
) -> Grid:  # fmt: skip
    long = any(isinstance(cell, str) and len(cell) > _LONG_TEXT for row in cells for cell in row)
    least = _LONG_TEXT_PIXELS if long else _CELL_PIXELS
    about = " ".join(filter(None, [about, context.remark]))
    return Grid(cells, rows, columns, title, about, context.origin, math.ceil(least / grids.widest(cells)))
