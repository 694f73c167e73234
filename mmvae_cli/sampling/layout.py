"""From the arrays of a figure to its PNG grids: which cell stands where, and what is written beside it. No torch."""

import math
from typing import Any, NamedTuple

import numpy as np

from mmvae_cli.drawing import grids
from mmvae_cli.drawing.grids import Cell
from mmvae_cli.sampling.plan import Figure
from mmvae_cli.store import LabelInfo, ModalityInfo

COLUMNS = 20
"""Items side by side in one picture; a larger --count is complete in the .npz, and picture and command say so."""
SHOWN_CHANNELS = (1, 3)
PRIOR_COLUMNS, RANDOM_CELLS = 10, 100
SHOWN = {"prior": RANDOM_CELLS, "reconstruction": COLUMNS, "conditional": COLUMNS, "swap": PRIOR_COLUMNS}
"""Latents, items or texts that the pictures of a kind show at most, all of them together."""
_CELL_PIXELS = 80  # a picture is enlarged by the first whole factor that makes it at least so large
_LONG_TEXT, _LONG_TEXT_PIXELS = 24, 150  # texts longer than this (characters) get a column as wide as this
_EMPTY = "(empty)"  # a text of padding alone


class Context(NamedTuple):
    """What a figure says about its origin. ``split``: of its items; ``about``: run, epoch and dataset in one line;
    ``remark``: what else a reader has to know of this figure."""

    modalities: dict[str, ModalityInfo]
    labels: LabelInfo | None
    split: str
    about: str
    remark: str = ""


def pictures(figure: Figure, arrays: dict[str, np.ndarray], context: Context) -> dict[str, Any]:
    """The PNG grids of a figure as PIL images, by file stem."""
    makers = {"prior": _prior, "reconstruction": _reconstruction, "conditional": _conditional, "swap": _swap}
    return makers[figure.kind](figure, arrays, context)


def _prior(figure: Figure, arrays: dict[str, np.ndarray], context: Context) -> dict[str, Any]:
    """Figure 9: one column is one latent, decoded by all modalities; Figures 7 and 14: a square of each modality."""
    cells = {name: _cells(arrays, f"sample_{name}", context)[0] for name in figure.target}
    first = min(PRIOR_COLUMNS, len(arrays["z"][0]))
    what = f"Samples from the prior, one latent a column{part(first, len(arrays['z'][0]))}"
    found = {"prior": _grid([cells[name][:first] for name in figure.target], context, what, rows=list(figure.target))}
    for name in figure.target:
        shown = cells[name][:RANDOM_CELLS]
        side = math.ceil(math.sqrt(len(shown)))
        square = [shown[start : start + side] for start in range(0, len(shown), side)]
        more = part(len(shown), len(cells[name]))
        found[f"random_{name}"] = _grid(square, context, f"{len(shown)} samples of {name} from the prior{more}")
    return found


def _reconstruction(figure: Figure, arrays: dict[str, np.ndarray], context: Context) -> dict[str, Any]:
    """Figure 8: per modality a row of test items over a row of their reconstructions."""
    rows, labels = [], []
    for name in figure.target:
        rows += [_cells(arrays, f"input_{name}", context), _cells(arrays, f"sample_{name}", context)[0]]
        labels += [f"{name} input", "reconstruction"]
    more = part(COLUMNS, len(arrays["items"]))
    what = f"Reconstructions of {context.split} items, encoded from {_listed(figure.given)}{more}"
    columns = _columns(arrays, context)
    return {figure.name: _grid([row[:COLUMNS] for row in rows], context, what, rows=labels, columns=columns)}


def _conditional(figure: Figure, arrays: dict[str, np.ndarray], context: Context) -> dict[str, Any]:
    """Figures 4, 10 and 11: the inputs on top, then rows of samples; one column is one test item."""
    (target,) = figure.target
    inputs = [_cells(arrays, f"input_{name}", context)[:COLUMNS] for name in figure.given]
    samples = [row[:COLUMNS] for row in _cells(arrays, f"sample_{target}", context)]
    labels = [f"{name} input" for name in figure.given] + [f"sample {row + 1}" for row in range(len(samples))]
    source, item = ("typed text", "text") if figure.texts else (_listed(figure.given), f"{context.split} item")
    what = f"{target} generated from {source}; a column is one {item}{part(COLUMNS, arrays['z'].shape[1])}"
    columns = None if figure.texts else _columns(arrays, context)
    return {figure.name: _grid(inputs + samples, context, what, rows=labels, columns=columns)}


def _swap(figure: Figure, arrays: dict[str, np.ndarray], context: Context) -> dict[str, Any]:
    """Left column: the items that give the content; top row: the items that give the style (equations 6.2)."""
    (target,) = figure.target
    count = min(PRIOR_COLUMNS, len(arrays["z"]))
    style = _cells(arrays, f"input_{target}", context)[:count]
    content = _cells(arrays, f"input_{figure.given[0]}", context)[:count]
    samples = _cells(arrays, f"sample_{target}", context)
    rows = [[None, *style], *([content[row], *samples[row][:count]] for row in range(count))]
    labels = ["style", *(f"content {row + 1}" for row in range(count))]
    shown = f"; the left shows {figure.given[0]}" if len(figure.given) > 1 else ""
    what = (
        f"{target} with the style (private latent) of the top row and the content ({_listed(figure.given)}) of the left"
        f"{shown}{part(count, len(arrays['z']))}"
    )
    return {figure.name: _grid(rows, context, what, rows=labels)}


# --- cells and words -------------------------------------------------------------------------------------------------


def _cells(arrays: dict[str, np.ndarray], key: str, context: Context) -> list[Any]:
    """The array ``key`` as a list, or a list of rows, of cells."""
    info = context.modalities[key.partition("_")[2]]
    known = arrays.get(f"string_{key}", arrays[key])
    if key.startswith("sample_"):
        return [[_cell(content, info) for content in row] for row in known]
    return [_cell(content, info) for content in known]


def _cell(content: Any, info: ModalityInfo) -> Cell:
    if info.kind == "text":
        return str(content) or _EMPTY
    if info.kind == "image":
        return content if content.shape[0] in SHOWN_CHANNELS else content[:1]
    values = np.ravel(content)
    return grids.bars(values, info.features or range(len(values)), grids.STANDARDISED if info.means else None)


def _columns(arrays: dict[str, np.ndarray], context: Context) -> list[str]:
    """Above every column its class, or the number of the item where there are no classes."""
    if context.labels and context.labels.kind == "class":
        return [context.labels.names[label] for label in arrays["labels"][:COLUMNS]]
    return [f"#{item}" for item in arrays["items"][:COLUMNS]]


def part(shown: int, total: int) -> str:
    """What to add where ``shown`` is not all."""
    return f"; the first {shown} of {total}" if shown < total else ""


def _listed(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _grid(
    cells: list[list[Any]], context: Context, what: str, *, rows: list[str] | None = None,
    columns: list[str] | None = None,
) -> Any:  # fmt: skip
    shown = [cell for row in cells for cell in row]
    wide = max((cell.shape[-1] for cell in shown if isinstance(cell, np.ndarray)), default=28)
    scale = math.ceil(_CELL_PIXELS / wide)
    if any(isinstance(cell, str) and len(cell) > _LONG_TEXT for cell in shown):
        scale = math.ceil(_LONG_TEXT_PIXELS / wide)
    return grids.grid(
        cells, row_labels=rows, column_labels=columns, title=f"{what}{context.remark}\n{context.about}", scale=scale
    )
