"""How figures look: colours and markers of the groups, and axes that neither zoom into noise nor leave the possible.

matplotlib is used as it is shipped: a notebook's MPLBACKEND and a user's matplotlibrc change nothing.
"""

import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from mmvae_cli.comparison.groups import Group, family
from mmvae_cli.comparison.measures import Stat, ceiling
from mmvae_cli.comparison.tables import CEILING
from mmvae_cli.process.errors import Failure

COLOURS = [
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#5B5B5B", "#0000FF",
    "#22DDAA", "#8877FF", "#BB0000", "#3300BB", "#880022", "#660088", "#CC22CC", "#77BB77", "#663355",
]  # fmt: skip
"""The first eight are Okabe and Ito's (two darkened); each other one is the colour farthest from all before it, the
nearest of normal, deuteranopic and protanopic sight (OKLab distance) deciding."""
MARKERS: list[Any] = [*"osD^vP*X<>phd8H", (3, 1, 0), (6, 1, 0)]
_DASHES: list[Any] = ["-", (0, (5, 1.5)), (0, (2, 1)), (0, (5, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (8, 2, 1, 2))]
_HATCHES = ["", "////", "....", "xxx", "\\\\\\\\", "++", "oo"]
_STYLE: Any = {
    "text.parse_math": False, "svg.fonttype": "path", "font.size": 9.0, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#e5e7eb", "grid.linewidth": 0.7,
    "axes.edgecolor": "#6b7280", "axes.titlesize": 10.0, "axes.titleweight": "bold", "axes.axisbelow": True,
    "axes.labelcolor": "#374151", "xtick.color": "#374151", "ytick.color": "#374151", "legend.frameon": False,
    "hatch.linewidth": 0.6,
}  # fmt: skip
CHANCE_COLOUR = "#6b7280"


class Look(NamedTuple):
    """Of one group, the same in every figure of a comparison."""

    colour: str
    marker: Any
    dash: Any
    hatch: str


class Wanted(NamedTuple):
    """A figure to be drawn: ``name`` of its files, a sentence for its caption, and the function that draws it (from a
    Content; None where no group has the numbers)."""

    name: str
    title: str
    about: str
    drawing: Callable[[Any], Any]


@contextmanager
def style() -> Iterator[None]:
    """matplotlib's own defaults and our few changes of them, whatever the user has set for other programs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that the font lacks is drawn as a box; defaults may be deprecated
        matplotlib = _imported()
        defaults = {key: value for key, value in matplotlib.rcParamsDefault.items() if key != "backend"}
        with matplotlib.rc_context(defaults | _STYLE):
            yield


def _imported() -> Any:
    """matplotlib reads MPLBACKEND and a matplotlibrc while it is imported, and a wrong one ends the import."""
    mine = {"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull}
    theirs = {name: os.environ.get(name) for name in mine}
    os.environ.update(mine)
    try:
        import matplotlib
    except UnicodeDecodeError as error:
        raise Failure("the file matplotlibrc in this folder is no UTF-8 text", "remove it, or run elsewhere") from error
    finally:
        for name, value in theirs.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return matplotlib


def figure(width: float, height: float) -> Any:
    """An empty figure, drawn by Agg: no pyplot, no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def looks(groups: list[Group]) -> list[Look]:
    """A colour and a marker for each group. In a sweep over beta the colour, light to dark, says beta, and marker and
    dashes say the method."""
    families = list(dict.fromkeys(family(one, groups) for one in groups))
    swept = len(families) < len(groups)
    betas = sorted({one.recipe.objective.beta for one in groups})
    shades = _shades(len(betas))
    found = []
    for one in groups:
        at = families.index(family(one, groups))
        colour = shades[betas.index(one.recipe.objective.beta)] if swept else COLOURS[at % len(COLOURS)]
        pattern = at if swept else at // len(COLOURS)
        dash, hatch = _DASHES[pattern % len(_DASHES)], _HATCHES[pattern % len(_HATCHES)]
        found.append(Look(colour, MARKERS[at % len(MARKERS)], dash, hatch))
    return found


def _shades(count: int) -> list[str]:
    """``count`` colours of viridis, light to dark, without the yellow that white paper swallows."""
    import matplotlib
    from matplotlib.colors import to_hex

    palette = matplotlib.colormaps["viridis"]
    return [to_hex(palette(0.85 * (1 - i / max(count - 1, 1)))) for i in range(count)]


def spread(stats: list[Stat], scores: bool = True) -> tuple[list[float], list[float]]:
    """Mean less and plus the deviation; a score's as far as it can be, within [0, 1]."""
    low, high = (0.0, 1.0) if scores else (-math.inf, math.inf)
    deviations = [stat.std or 0.0 for stat in stats]
    return ([max(stat.mean - std, low) for stat, std in zip(stats, deviations, strict=True)],
            [min(stat.mean + std, high) for stat, std in zip(stats, deviations, strict=True)])  # fmt: skip


def bars(stats: list[Stat], scores: bool = True) -> list[list[float]]:
    """The same as lengths of error bars: below the means, above them."""
    low, high = spread(stats, scores)
    return [[stat.mean - v for stat, v in zip(stats, low, strict=True)],
            [v - stat.mean for stat, v in zip(stats, high, strict=True)]]  # fmt: skip


def score_axis(axis: Any, scores: list[Stat]) -> None:
    """A score's axis: all of [0, 1], or its lower half where everything, deviations included, lies there."""
    axis.set_ylim(0, 0.5 if max(spread(scores)[1], default=1.0) < 0.5 else 1)


def nats_limits(stats: list[Stat]) -> tuple[float, float]:
    """Limits of an axis of log-likelihoods: means and deviations with a margin, and at least 1 % of their size, so
    that a few nats in thousands do not fill the picture."""
    lows, highs = spread(stats, scores=False)
    low, high = min(lows), max(highs)
    wide = max(1.2 * (high - low), 0.01 * max(abs(low), abs(high)))
    middle = (low + high) / 2
    return middle - wide / 2, middle + wide / 2


def chance_line(axis: Any, scores: list[Stat]) -> None:
    """What a guess has."""
    if known := [stat.chance for stat in scores if stat.chance is not None]:
        style = {"color": CHANCE_COLOUR, "linestyle": (0, (1, 1.5)), "linewidth": 1.2, "zorder": 1}
        axis.axhline(math.fsum(known) / len(known), label="chance", **style)


def ceiling_line(axis: Any, scores: list[Stat]) -> None:
    """What real data score, where the axis (whose limits are set) reaches so far up."""
    real = ceiling(scores)
    if real is not None and real <= axis.get_ylim()[1]:
        axis.axhline(real, color=CHANCE_COLOUR, linestyle=(0, (6, 2)), linewidth=0.9, label=CEILING, zorder=1)


def legend(made: Any, axes: Iterable[Any]) -> None:
    """One legend for all axes, below them, each label once; as many columns as there is room for, and more height
    where they are not enough."""
    known: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            known.setdefault(label, handle)
    known |= {name: known.pop(name) for name in (CEILING, "chance") if name in known}  # the last ones
    room = made.get_figwidth() / (0.075 * max(map(len, known), default=1) + 0.7)
    columns = max(1, min(len(known), 4, int(room)))
    made.set_figheight(made.get_figheight() + 0.19 * (-(-len(known) // columns) - 1))
    made.legend(known.values(), known.keys(), loc="outside lower center", ncols=columns)
