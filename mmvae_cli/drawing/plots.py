"""Figures by matplotlib as it is shipped: a notebook's MPLBACKEND and a user's matplotlibrc change nothing. No pyplot.

A file is a function of what is drawn alone (no dates, no random identifiers): the same numbers give the same bytes.
"""

import io
import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from mmvae_cli.process.errors import Failure

COLOURS = [
    "#0072B2", "#D55E00", "#009E73", "#C85C9B", "#A97800", "#2F95D0", "#7F3C8D", "#5B5B5B", "#0000FF",
    "#663300", "#2277FF", "#3300BB", "#775500", "#662266", "#0055CC", "#FF5566", "#663344", "#886644",
]  # fmt: skip
"""All stand out from white paper, three to one at least. The first eight are Okabe and Ito's, the light ones darker;
each other one is the colour farthest from all before it, the nearest of normal, deuteranopic and protanopic sight
(OKLab distance) deciding."""
MARKERS: list[Any] = [*"osD^vP*X<>phd8H", (3, 1, 0), (6, 1, 0)]
_STYLE: Any = {
    "text.parse_math": False, "svg.fonttype": "path", "pdf.fonttype": 42, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#e5e7eb", "grid.linewidth": 0.7,
    "axes.edgecolor": "#6b7280", "axes.titleweight": "bold", "axes.axisbelow": True, "axes.labelcolor": "#374151",
    "xtick.color": "#374151", "ytick.color": "#374151", "legend.frameon": False, "hatch.linewidth": 0.6,
}  # fmt: skip


class Page(NamedTuple):
    """Where a figure will stand. ``width`` in inches, None: as wide as it likes; ``across``: so many panels side by
    side at most, and up to twice as many where the figure would be taller than ``_TALLEST``; ``font``: size of its
    words in points."""

    width: float | None = None
    across: int = 4
    font: float = 9.0


_TALLEST = 7.0
"""Inches of a figure for a paper, its legend aside."""
SCREEN = Page()
PAPER = {1: Page(3.25, 1, 7.0), 2: Page(6.75, 3, 7.0)}
"""One column of a paper with two, and both of them."""


@contextmanager
def style(page: Page = SCREEN) -> Iterator[None]:
    """matplotlib's own defaults and our few changes of them, whatever the user has set for other programs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that the font lacks is drawn as a box; defaults may be deprecated
        matplotlib = _imported()
        defaults = {key: value for key, value in matplotlib.rcParamsDefault.items() if key != "backend"}
        title = page.font if page.width else page.font + 1
        sizes = {"font.size": page.font, "axes.titlesize": title, "lines.markersize": 0.55 * page.font,
                 "lines.linewidth": 0.19 * page.font}  # fmt: skip
        with matplotlib.rc_context(defaults | _STYLE | sizes):
            yield


def _imported() -> Any:
    """matplotlib reads MPLBACKEND and a matplotlibrc while it is imported, and a wrong one ends the import."""
    mine = {"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull}
    theirs = {name: os.environ.get(name) for name in mine}
    os.environ.update(mine)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns of the building of its font cache
    try:
        import matplotlib
    except UnicodeDecodeError as error:
        raise Failure("the file matplotlibrc in this folder is no UTF-8 text", "remove it, or run elsewhere") from error
    finally:
        for name, value in theirs.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return matplotlib


def figure(width: float, height: float, layout: Any = "constrained") -> Any:
    """An empty figure, in inches, drawn by Agg: no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(made)
    return made


def panels(page: Page, count: int, across: int, width: float, height: float) -> tuple[Any, list[Any]]:
    """A figure and its ``count`` axes, ``across`` of them side by side, each ``width`` x ``height`` inches on a screen;
    on paper as the page wants them."""
    across = min(across, count, page.across)
    if page.width:
        most = min(count, 2 * page.across)
        across = next((n for n in range(across, most) if _height(page.width, count, n) <= _TALLEST), most)
        made = figure(page.width, _height(page.width, count, across) + 0.4)
    else:
        made = figure(max(width * across + 0.4, 5.6), max(height * -(-count // across) + 0.5, 4.0))
    rows = -(-count // across)
    axes = list(made.subplots(rows, across, squeeze=False).flat)
    for axis in axes[count:]:
        axis.remove()
    return made, axes[:count]


def _height(width: float, count: int, across: int) -> float:
    """Inches of ``count`` panels, so many side by side in a column of paper."""
    return -(-count // across) * max(1.7, 0.6 * width / across)


def legend(made: Any, axes: Iterable[Any], last: Iterable[str] = ()) -> None:
    """One legend for all axes, below them, each label once and ``last`` at its end; one row where it fits, else as
    many columns as there is room for, and more height."""
    import matplotlib

    known: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            known.setdefault(label, handle)
    if not known:
        return
    known |= {name: known.pop(name) for name in last if name in known}
    size = matplotlib.rcParams["font.size"] / 9
    widths, room = [size * (0.075 * len(label) + 0.7) for label in known], made.get_figwidth()
    columns = len(known) if sum(widths) <= room else max(1, min(len(known), 4, int(room / max(widths))))
    made.set_figheight(made.get_figheight() + size * 0.19 * (-(-len(known) // columns) - 1))
    made.legend(known.values(), known.keys(), loc="outside lower center", ncols=columns)


def pixels(made: Any, dpi: float) -> np.ndarray:
    """The figure as a picture, uint8 (H, W, 3)."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(written(made, "png", dpi=dpi))).convert("RGB"))


def written(made: Any, ending: str, name: str = "", dpi: float = 160) -> bytes:
    """The figure as a file: ``ending`` png, svg or pdf; ``name`` keeps identifiers apart where SVGs share a page."""
    import matplotlib

    nothing = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None},
               "pdf": {"CreationDate": None, "Creator": None, "Producer": None}}[ending]  # fmt: skip
    out = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        made.savefig(out, format=ending, dpi=300 if ending == "pdf" else dpi, metadata=nothing)
    return out.getvalue()
