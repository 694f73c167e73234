"""Grids of pictures and texts as one image: previews of datasets and figures of samples. Pillow only, no torch."""

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmvae_cli.disk.files import write_atomic

Cell = np.ndarray | str | None
"""A picture, uint8 (H, W), (H, W, 3) or (C, H, W) with C in {1, 3}; a text; or nothing."""

_INK, _PAPER, _TEXT_PAPER = (20, 20, 20), (255, 255, 255), (242, 242, 242)
_GAP, _MARGIN, _PAD = 3, 8, 4
_FONT_SIZE, _TITLE_SIZE = 12, 15
_LABEL_WIDTH = 220  # pixels; longer row labels are wrapped
_LEAST_COLUMN = 24  # pixels; a column is never too narrow for a short label
_LEAST_TEXT = 84  # pixels; a column of texts holds a usual word in one line
_UP, _DOWN = (140, 180, 230), (240, 170, 130)
_BARS_WIDTH, _BAR, _BAR_NAMED = 96, 3, 12  # pixels: of a vector's picture, and the heights of its bars
_NAMED_BARS, _MOST_BARS = 12, 64
STANDARDISED = 3.0
"""The full length of a bar where numbers have mean 0 and deviation 1."""


class _Block(NamedTuple):
    """Text broken into lines that are known to fit. ``width`` and ``height`` in pixels."""

    lines: list[str]
    font: Any
    width: int
    height: int


def grid(
    rows: Sequence[Sequence[Cell]],
    *,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    title: str = "",
    scale: int = 2,
) -> Any:
    """Draw ``rows`` of cells as one ``PIL.Image``, labels at the left and on top.

    Pictures are enlarged by whole factors (nearest neighbour) to the largest one's size times ``scale`` and centred.
    Texts and labels are wrapped; a row grows with its longest text, so nothing is cut and nothing overlaps.
    Raises ValueError for a cell or a number of labels that does not fit.
    """
    from PIL import Image, ImageDraw

    columns = max((len(row) for row in rows), default=0)
    if columns == 0 or scale < 1:
        raise ValueError("a grid needs at least one cell and a scale of at least 1")
    if len(row_labels or rows) != len(rows) or len(column_labels or range(columns)) != columns:
        raise ValueError("one label per row and per column")
    pictures = [[_as_picture(cell) if isinstance(cell, np.ndarray) else cell for cell in row] for row in rows]
    tall, wide = _largest(pictures)
    width, height = max(wide * scale, _LEAST_COLUMN), tall * scale
    width = max(width, _LEAST_TEXT) if any(isinstance(cell, str) for row in pictures for cell in row) else width

    heads = [_wrap(text, width, _FONT_SIZE) for text in column_labels or []]
    sides = [_wrap(text, _LABEL_WIDTH, _FONT_SIZE) for text in row_labels or []]
    texts = [[_wrap(c, width - 2 * _PAD, _FONT_SIZE) if isinstance(c, str) else None for c in row] for row in pictures]
    heights = [
        max([height if any(isinstance(c, np.ndarray) for c in row) or not any(texts[r]) else 0]
            + [block.height + 2 * _PAD for block in texts[r] if block] + [block.height for block in sides[r : r + 1]])
        for r, row in enumerate(pictures)
    ]  # fmt: skip
    left = _MARGIN + (max(block.width for block in sides) + _PAD if sides else 0)
    right = left + columns * (width + _GAP) - _GAP + _MARGIN
    banner = _wrap(title, right - 2 * _MARGIN, _TITLE_SIZE) if title else None
    head_top = _MARGIN + (banner.height + _PAD if banner else 0)
    top = head_top + (max(block.height for block in heads) + _PAD if heads else 0)
    bottom = top + sum(heights) + _GAP * (len(heights) - 1) + _MARGIN

    image = Image.new("RGB", (right, bottom), _PAPER)
    pen = ImageDraw.Draw(image)
    if banner:
        _write(pen, banner, _MARGIN, _MARGIN, right - 2 * _MARGIN, "left")
    for column, block in enumerate(heads):
        _write(pen, block, left + column * (width + _GAP), top - _PAD - block.height, width, "centre")
    for r, row in enumerate(pictures):
        y = top + sum(heights[:r]) + _GAP * r
        if sides:
            _write(pen, sides[r], _MARGIN, y + (heights[r] - sides[r].height) // 2, left - _MARGIN - _PAD, "right")
        for column, cell in enumerate(row):
            x, text = left + column * (width + _GAP), texts[r][column]
            if text:
                pen.rectangle([x, y, x + width - 1, y + heights[r] - 1], fill=_TEXT_PAPER)
                _write(pen, text, x + _PAD, y + (heights[r] - text.height) // 2, width - 2 * _PAD, "centre")
            elif isinstance(cell, np.ndarray):
                enlarged = _enlarge(cell, tall * scale, wide * scale)
                spare_x, spare_y = width - enlarged.shape[1], heights[r] - enlarged.shape[0]
                image.paste(Image.fromarray(enlarged), (x + spare_x // 2, y + spare_y // 2))
    return image


def bars(values: np.ndarray, names: Sequence[Any], most: float | None = None) -> np.ndarray:
    """A vector (F,) as a picture (3, H, W): a bar from the middle for each number, right for positive ones, with its
    name where there is room. ``most``: the number whose bar is full, and all beyond; None: the vector's largest."""
    from PIL import Image, ImageDraw

    shown = np.nan_to_num(np.asarray(values, np.float64)[:_MOST_BARS])
    most = most or float(np.abs(shown).max()) or 1.0
    named = len(shown) <= _NAMED_BARS
    height = _BAR_NAMED if named else _BAR
    image = Image.new("RGB", (_BARS_WIDTH, max(len(shown) * height, 2)), _TEXT_PAPER)
    pen, middle = ImageDraw.Draw(image), _BARS_WIDTH // 2
    for row, value in enumerate(shown):
        end = middle + round(float(np.clip(value / most, -1, 1)) * (middle - 1))
        pen.rectangle([min(middle, end), row * height, max(middle, end), (row + 1) * height - 2],
                      fill=_UP if value >= 0 else _DOWN)  # fmt: skip
        if named:
            pen.text((2, row * height - 1), str(names[row])[:16], fill=_INK, font=_font(_BAR_NAMED - 2))
    pen.line([middle, 0, middle, image.height], fill=_INK)
    return np.asarray(image).transpose(2, 0, 1)


def save_png(image: Any, path: Path) -> None:
    """Write ``image`` as PNG, atomically. Raises Failure where it cannot be written."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    write_atomic(path, buffer.getvalue())


def _as_picture(cell: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) of any accepted picture. (C, H, W) wins where a shape could be read both ways."""
    if cell.dtype != np.uint8 or cell.size == 0:
        raise ValueError(f"a picture is a non-empty uint8 array, not {cell.dtype} {cell.shape}")
    if cell.ndim == 2:
        cell = cell[None]
    if cell.ndim == 3 and cell.shape[0] in (1, 3):
        cell = cell.transpose(1, 2, 0)
    if cell.ndim != 3 or cell.shape[2] not in (1, 3):
        raise ValueError(f"a picture is (H, W), (H, W, 3) or (C, H, W), not {cell.shape}")
    return np.ascontiguousarray(np.broadcast_to(cell, (*cell.shape[:2], 3)))


def _largest(pictures: list[list[Any]]) -> tuple[int, int]:
    """Height and width of the largest picture; a small square where there are only texts."""
    shapes = [cell.shape for row in pictures for cell in row if isinstance(cell, np.ndarray)]
    return max((s[0] for s in shapes), default=8), max((s[1] for s in shapes), default=28)


def _enlarge(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    factor = max(1, min(height // picture.shape[0], width // picture.shape[1]))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


@cache
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _wrap(text: str, width: int, size: int) -> _Block:
    """Break ``text`` at spaces, and inside a word only where the word alone is too wide for ``width`` pixels."""
    font = _font(size)
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            if line and font.getlength(f"{line} {word}") <= width:
                line = f"{line} {word}"
                continue
            if line:
                lines.append(line)
            line = word
            while font.getlength(line) > width and len(line) > 1:
                fits = next(n for n in range(2, len(line) + 1) if font.getlength(line[:n]) > width) - 1
                lines.append(line[:fits])
                line = line[fits:]
        lines.append(line)
    widest = max(int(np.ceil(font.getlength(line))) for line in lines)
    return _Block(lines, font, widest, len(lines) * (size + 3))


def _write(pen: Any, block: _Block, x: int, y: int, width: int, align: str) -> None:
    step = block.height // len(block.lines)
    for number, line in enumerate(block.lines):
        spare = width - block.font.getlength(line)
        shift = 0 if align == "left" else spare if align == "right" else spare / 2
        pen.text((x + max(0, shift), y + number * step), line, fill=_INK, font=block.font)
