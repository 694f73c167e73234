"""Grids of pictures and texts as one image: previews of datasets and figures of samples. No torch.

For a screen Pillow draws, pixel by pixel; for paper matplotlib does, words as words and cells of any size. Both use the
typeface of the other figures, DejaVu Sans, which matplotlib brings along.
"""

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmvae_cli.drawing import plots
from mmvae_cli.drawing.plots import Page

Cell = np.ndarray | str | None
"""A picture, uint8 (H, W), (H, W, 3) or (C, H, W) with C in {1, 3}; a text; or nothing."""

_INK, _SOFT, _PAPER, _TEXT_PAPER = (20, 20, 20), (90, 90, 90), (255, 255, 255), (242, 242, 242)
_UP, _DOWN = (140, 180, 230), (240, 170, 130)
_BARS_WIDTH, _BAR, _BAR_NAMED = 112, 3, 12  # pixels: of a vector's picture, and the heights of its bars
_NAMED_BARS, MOST_BARS = 12, 64
STANDARDISED = 3.0
"""The full length of a bar where numbers have mean 0 and deviation 1."""
SHOWN_CHANNELS = (1, 3)
_EMPTY = "(empty)"  # a text of padding alone


class _Measures(NamedTuple):
    """``label``: longer row labels are wrapped; ``least``: a column is never too narrow for a short label, nor, with
    texts in it, for a usual word (``least_text``); ``most``: the widest cell on paper."""

    font: float
    title: float
    gap: float
    margin: float
    pad: float
    label: float
    least: float
    least_text: float
    most: float = math.inf


_SCREEN = _Measures(12, 15, 3, 8, 4, 220, 24, 84)  # pixels
_ON_PAPER = _Measures(7, 8, 1.5, 1, 2, 58, 0, 0, 60)  # points


class _Block(NamedTuple):
    """Text broken into lines that are known to fit."""

    lines: list[str]
    size: float
    width: float

    @property
    def height(self) -> float:
        return len(self.lines) * _step(self.size)


@dataclass
class _Sheet:
    """What stands where, from the top left corner: pictures as (x, y, width, height, pixels), boxes behind texts as
    (x, y, width, height), lines as (x, y, text, size, colour)."""

    width: float = 0
    height: float = 0
    pictures: list[tuple[float, float, float, float, np.ndarray]] = field(default_factory=list)
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    lines: list[tuple[float, float, str, float, tuple[int, int, int]]] = field(default_factory=list)

    def write(self, block: _Block, x: float, y: float, width: float, align: str = "left", colour: Any = _INK) -> None:
        for number, line in enumerate(block.lines):
            spare = width - _font(block.size).getlength(line)
            shift = 0 if align == "left" else spare if align == "right" else spare / 2
            self.lines.append((x + max(0, shift), y + number * _step(block.size), line, block.size, colour))


@dataclass(frozen=True)
class Grid:
    """``rows`` of cells, labels at the left and on top. ``title``: what is shown, in few words; ``about``: how to read
    it; ``origin``: run and data, which a paper says in its caption. On a screen pictures are enlarged by whole factors
    to the largest one's size times ``scale``. Texts and labels are wrapped; a row grows with its longest text, so
    nothing is cut and nothing overlaps.
    """

    rows: Sequence[Sequence[Cell]]
    row_labels: Sequence[str] | None = None
    column_labels: Sequence[str] | None = None
    title: str = ""
    about: str = ""
    origin: str = ""
    scale: int = 2

    def image(self) -> Any:
        """For a screen, as ``PIL.Image``."""
        return _painted(_laid(self, _SCREEN))

    def png(self) -> bytes:
        """The same as a file, which carries title and explanation for whoever shows it."""
        from PIL.PngImagePlugin import PngInfo

        words = PngInfo()
        words.add_text("Title", self.title)
        words.add_text("Description", self.about)
        out = io.BytesIO()
        self.image().save(out, format="PNG", optimize=True, pnginfo=words)
        return out.getvalue()

    def paper(self, page: Page, ending: str) -> bytes:
        """For a paper, ``ending`` pdf or svg: as wide as its column, without title and origin."""
        sheet = _laid(self, _ON_PAPER, page)
        with plots.style(page):
            return plots.written(_plotted(sheet), ending, self.title)


def cell(
    kind: str, content: Any, features: Sequence[Any] | None = None, most: float | None = None, measured: Any = None
) -> Cell:
    """What one item holds as a cell: of an image with more channels than can be shown the first, of a text its words,
    of a vector :func:`bars` (``features``: the names of its numbers)."""
    if kind == "text":
        return str(content) or _EMPTY
    if kind == "image":
        return content if content.shape[0] in SHOWN_CHANNELS else content[:1]
    values = np.ravel(content)
    return bars(values, features or range(len(values)), most, values if measured is None else np.ravel(measured))


def full_bar(arrays: Iterable[np.ndarray], *, standardised: bool, probabilities: bool = False) -> float:
    """The number whose bar is full, one for all vectors (..., F) of a modality in a figure: the largest of them, unless
    what they are says it."""
    if probabilities or standardised:
        return 1.0 if probabilities else STANDARDISED
    return max((float(np.abs(np.nan_to_num(array)).max(initial=0)) for array in arrays), default=0) or 1.0


def widest(rows: Sequence[Sequence[Cell]]) -> int:
    """Pixels across of the widest picture (C, H, W) in ``rows``; 28 where there are texts alone."""
    return max((cell.shape[-1] for row in rows for cell in row if isinstance(cell, np.ndarray)), default=28)


def bars(values: np.ndarray, names: Sequence[Any], most: float | None, measured: np.ndarray) -> np.ndarray:
    """A vector (F,) as a picture (3, H, W): a bar from the middle for each number, right for positive ones. Where there
    is room, name and number stand on it, the number as it was ``measured`` (F,). ``most``: the number whose bar is
    full, and all beyond; None: the vector's largest."""
    from PIL import Image, ImageDraw

    shown = np.nan_to_num(np.asarray(values, np.float64)[:MOST_BARS])
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
            font, number = _font(_BAR_NAMED - 3), f"{measured[row]:.3g}"
            start = _BARS_WIDTH - 2 - font.getlength(number)
            pen.text((2, row * height - 1), _cut(str(names[row]), start - 6, font), fill=_INK, font=font)
            pen.text((start, row * height - 1), number, fill=_INK, font=font)
    pen.line([middle, 0, middle, image.height], fill=_INK)
    return np.asarray(image).transpose(2, 0, 1)


# where everything stands ---------------------------------------------------------------------------------------------


def _laid(grid: Grid, m: _Measures, page: Page | None = None) -> _Sheet:
    """The sheet of a grid: in pixels for a screen, in points for a ``page`` of paper."""
    columns = max(len(row) for row in grid.rows)
    rows = [[_as_picture(cell) if isinstance(cell, np.ndarray) else cell for cell in row] for row in grid.rows]
    shapes = [cell.shape for row in rows for cell in row if isinstance(cell, np.ndarray)] or [(8, 28)]  # texts only
    tall, wide = (max(shape[axis] for shape in shapes) for axis in (0, 1))
    sides = [_wrap(text, m.label, m.font) for text in grid.row_labels or []]
    left = m.margin + (max(block.width for block in sides) + m.pad if sides else 0)
    if page and page.width:
        width = min((72 * page.width - left - m.margin + m.gap) / columns - m.gap, m.most)
        box = (width, width * tall / wide)
    else:
        box = (wide * grid.scale, tall * grid.scale)
        width = max(box[0], m.least, m.least_text if any(isinstance(c, str) for row in rows for c in row) else 0)

    heads = [_wrap(text, width, m.font) for text in grid.column_labels or []]
    texts = [[_wrap(c, width - 2 * m.pad, m.font) if isinstance(c, str) else None for c in row] for row in rows]
    heights = [
        max([box[1] if any(isinstance(c, np.ndarray) for c in row) or not any(texts[r]) else 0]
            + [block.height + 2 * m.pad for block in texts[r] if block] + [block.height for block in sides[r : r + 1]])
        for r, row in enumerate(rows)
    ]  # fmt: skip
    sheet = _Sheet(left + columns * (width + m.gap) - m.gap + m.margin)
    y = m.margin if page else _banner(sheet, grid, m)
    if heads:
        deep = max(block.height for block in heads)
        for column, block in enumerate(heads):
            sheet.write(block, left + column * (width + m.gap), y + deep - block.height, width, "centre")
        y += deep + m.pad
    for r, row in enumerate(rows):
        if sides:
            down = y + (heights[r] - sides[r].height) / 2
            sheet.write(sides[r], m.margin, down, left - m.margin - m.pad, "right")
        for column, content in enumerate(row):
            x, text = left + column * (width + m.gap), texts[r][column]
            if text:
                sheet.boxes.append((x, y, width, heights[r]))
                sheet.write(text, x + m.pad, y + (heights[r] - text.height) / 2, width - 2 * m.pad, "centre")
            elif isinstance(content, np.ndarray):
                factor = min(box[0] / content.shape[1], box[1] / content.shape[0])
                factor = factor if page else max(1, int(factor))
                w, h = content.shape[1] * factor, content.shape[0] * factor
                sheet.pictures.append((x + (width - w) / 2, y + (heights[r] - h) / 2, w, h, content))
        y += heights[r] + m.gap
    sheet.height = y - m.gap + m.margin
    return sheet


def _banner(sheet: _Sheet, grid: Grid, m: _Measures) -> float:
    """Title, explanation and origin at the top; returns where the grid begins."""
    y, width = m.margin, sheet.width - 2 * m.margin
    for words, size, colour in ((grid.title, m.title, _INK), (grid.about, m.font, _INK), (grid.origin, m.font, _SOFT)):
        if words:
            block = _wrap(words, width, size)
            sheet.write(block, m.margin, y, width, colour=colour)
            y += block.height + m.pad / 2
    return y + m.pad if y > m.margin else y


def _as_picture(cell: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) of any accepted picture. (C, H, W) wins where a shape could be read both ways."""
    if cell.ndim == 2:
        cell = cell[None]
    if cell.shape[0] in (1, 3):
        cell = cell.transpose(1, 2, 0)
    return np.ascontiguousarray(np.broadcast_to(cell, (*cell.shape[:2], 3)))


@cache
def _font(size: float) -> Any:
    from PIL import ImageFont

    spec = find_spec("matplotlib")
    assert spec is not None
    assert spec.origin is not None
    return ImageFont.truetype(str(Path(spec.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"), size)


def _cut(text: str, width: float, font: Any) -> str:
    """As much of its beginning as fits."""
    return next(text[:n] for n in range(len(text), -1, -1) if font.getlength(text[:n]) <= max(width, 0))


def _step(size: float) -> float:
    return 1.25 * size


def _wrap(text: str, width: float, size: float) -> _Block:
    """Break ``text`` at spaces, and inside a word only where the word alone is too wide for ``width``."""
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
    return _Block(lines, size, max(math.ceil(font.getlength(line)) for line in lines))


# from the sheet to a picture -----------------------------------------------------------------------------------------


def _painted(sheet: _Sheet) -> Any:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (math.ceil(sheet.width), math.ceil(sheet.height)), _PAPER)
    pen = ImageDraw.Draw(image)
    for x, y, w, h in sheet.boxes:
        pen.rectangle([round(x), round(y), round(x + w) - 1, round(y + h) - 1], fill=_TEXT_PAPER)
    for x, y, w, _, pixels in sheet.pictures:
        factor = round(w) // pixels.shape[1]
        image.paste(Image.fromarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1)), (int(x), int(y)))
    for x, y, line, size, colour in sheet.lines:
        pen.text((round(x), round(y)), line, fill=colour, font=_font(size))
    return image


def _plotted(sheet: _Sheet) -> Any:
    """The sheet as a figure of matplotlib, 72 units an inch."""
    from matplotlib.patches import Rectangle

    made = plots.figure(sheet.width / 72, sheet.height / 72, None)
    axis = made.add_axes((0, 0, 1, 1))
    axis.axis("off")
    for x, y, w, h in sheet.boxes:
        axis.add_patch(Rectangle((x, y), w, h, color=[part / 255 for part in _TEXT_PAPER], linewidth=0))
    for x, y, w, h, pixels in sheet.pictures:
        axis.imshow(pixels, extent=(x, x + w, y + h, y), interpolation="none", aspect="auto")
    for x, y, line, size, colour in sheet.lines:
        axis.text(x, y + 0.93 * size, line, size=size, color=[part / 255 for part in colour])
    axis.set(xlim=(0, sheet.width), ylim=(sheet.height, 0))
    return made
