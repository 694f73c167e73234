"""How figures look: colours and markers of the groups, and limits of axes.

matplotlib's own defaults are used; a notebook's MPLBACKEND and a user's matplotlibrc change nothing.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from mmvae_cli.comparison.groups import Group, sweeps_of, swept
from mmvae_cli.comparison.measures import Stat, ceiling
from mmvae_cli.comparison.tables import CEILING
from mmvae_cli.drawing import plots
from mmvae_cli.drawing.plots import COLOURS, MARKERS, Page

DASHES: list[Any] = ["-", (0, (5, 1.5)), (0, (2, 1)), (0, (5, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (8, 2, 1, 2))]
_HATCHES = ["", "////", "....", "xxx", "\\\\\\\\", "++", "oo"]
CHANCE_COLOUR = "#6b7280"
JOINT_CHANCE = "chance of joint coherence"


class Look(NamedTuple):
    """Of one group, the same in every figure of a comparison."""

    colour: str
    marker: Any
    dash: Any
    hatch: str


class Wanted(NamedTuple):
    """A figure to be drawn: ``name`` of its files, title, caption, and the function that draws it (from a Content, for
    a Page; None where no group has the numbers)."""

    name: str
    title: str
    about: str
    drawing: Callable[[Any, Page], Any]


def looks(groups: list[Group]) -> list[Look]:
    """A colour and a marker for each group. In a sweep the colour, light to dark, says the value, and marker and dashes
    say the method."""
    sweep, sweeps = swept(groups), sweeps_of(groups)
    places = {name: at for at, name in enumerate(dict.fromkeys(sweeps))}
    values = sorted({one.differing[sweep] for one in groups}) if sweep else []
    colours = shades(len(values))
    styles = []
    for one, name in zip(groups, sweeps, strict=True):
        at = places[name]
        colour = colours[values.index(one.differing[sweep])] if sweep else COLOURS[at % len(COLOURS)]
        pattern = at if sweep else at // len(COLOURS)
        dash, hatch = DASHES[pattern % len(DASHES)], _HATCHES[pattern % len(_HATCHES)]
        styles.append(Look(colour, MARKERS[at % len(MARKERS)], dash, hatch))
    return styles


def shades(count: int, palette: str = "plasma", lightest: float = 0.6) -> list[str]:
    """``count`` colours of a palette of matplotlib, light to dark, without the light ones that white paper swallows."""
    import matplotlib
    from matplotlib.colors import to_hex

    colour = matplotlib.colormaps[palette]
    return [to_hex(colour(lightest * (1 - i / max(count - 1, 1)))) for i in range(count)]


def spread(stats: list[Stat], scores: bool = True) -> tuple[list[float], list[float]]:
    """Mean less and plus the deviation; a score's as far as it can be, within [0, 1]."""
    low, high = (0.0, 1.0) if scores else (-math.inf, math.inf)
    deviations = [stat.std or 0.0 for stat in stats]
    return ([max(stat.mean - std, low) for stat, std in zip(stats, deviations, strict=True)],
            [min(stat.mean + std, high) for stat, std in zip(stats, deviations, strict=True)])  # fmt: skip


def bars(stats: list[Stat], scores: bool = True) -> list[list[float]] | None:
    """The same as lengths of error bars: below the means, above them. None where no mean has a deviation."""
    if not any(stat.std for stat in stats):
        return None
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


def share_limits(axes: Iterable[Any]) -> None:
    """One y axis for all panels, so that they can be compared."""
    lows, highs = zip(*(axis.get_ylim() for axis in axes), strict=True)
    for axis in axes:
        axis.set_ylim(min(lows), max(highs))


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
    """One legend for all axes; what is no group comes last."""
    plots.legend(made, axes, last=(CEILING, "chance", JOINT_CHANCE))
