"""Coherence against log-likelihood: a mark for each method, or a sweep, as in the paper's Figures 1, 5 and 6, for any
data and any swept key."""

import math
from functools import partial
from typing import Any, NamedTuple

from mmvae_cli.comparison import looks
from mmvae_cli.comparison.content import Content
from mmvae_cli.comparison.groups import BETA, sweeps_of, swept
from mmvae_cli.comparison.looks import Wanted
from mmvae_cli.comparison.measures import Key, Stat, outside, size, subsets
from mmvae_cli.drawing import plots
from mmvae_cli.drawing.plots import COLOURS, MARKERS, Page

_EACH = {
    (3, 2): ("one-given-two", "one modality from the two others", 5),
    (3, 1): ("two-given-one", "two modalities from the third", 6),
    (2, 1): ("one-given-one", "one modality from the other", 0),
}
"""(modalities, given) -> name, words, the paper's figure. With more modalities a panel is a mean over subsets."""
_Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""


class Panel(NamedTuple):
    """Coherence (``y``) against log p(X | ``given``), or another coherence (``x``)."""

    x: Key
    y: Key
    given: str
    title: str = ""

    @property
    def xlabel(self) -> str:
        if self.x.metric == "coherence_by_size":
            return f"coherence given {self.given}"
        return "log p(X), nats" if self.given == "X" else f"log p(X | {self.given}), nats"

    @property
    def ylabel(self) -> str:
        return "joint coherence" if self.y.metric == "joint_coherence" else "coherence"


def wanted(content: Content) -> list[Wanted]:
    """The figures of a sweep; where no two groups differ in one number alone, one figure with a mark for each group."""
    groups, names = content.groups, content.reference.modalities
    sweep = swept(groups)
    if sweep is None:
        return [_of_groups(names)] if len(groups) > 1 else []
    symbol = "beta" if sweep == BETA else sweep.rpartition(".")[2]

    def figure(name: str, title: str, about: str, number: int, panels: list[Panel], columns: int) -> Wanted:
        paper = number and content.experiment == "mnist-svhn-text" and sweep == BETA
        title += f" (the paper's Figure {number})" if paper else ""
        about = f"{about} Each point is one method with one {symbol}; better is further up and further right."
        return Wanted(name, title, about, partial(_draw, panels=panels, columns=columns, symbol=symbol))

    joint = Panel(Key("log_likelihood", "+".join(names)), Key("joint_coherence"), "X")
    plots = [figure("joint-tradeoff", "Samples that agree across modalities, against log-likelihood",
                    f"Joint coherence is the share of samples from the {content.reference.sampler} that all "
                    "modalities show alike.", 1,
                    [joint], 1)]  # fmt: skip
    for count in range(len(names) - 1, 0, -1) if len(names) <= 3 else ():
        name, words, number = _EACH[len(names), count]
        plots.append(figure(
            name, f"Generating {words}: coherence against log-likelihood",
            f"Conditional coherence is {_score(content)}.", number,
            _each(names, count), 3 if count == 2 else 2,
        ))  # fmt: skip
    if len(names) > 3:
        plots.append(figure(
            "tradeoff-by-number-of-inputs", "Generating the modalities not given: coherence against log-likelihood",
            "Means over the subsets A of so many modalities, and over those outside A.", 0,
            _by_size(len(names)), 2 if len(names) == 5 else 3,
        ))  # fmt: skip
    return plots


def _score(content: Content) -> str:
    parts = [member.evaluation.coherence for member in content.members]
    if any(part.metric == "average_precision" for part in parts if part):
        return "the average precision of what is generated, mean over the attributes"
    return "the share of generated samples that have the label of what was given"


def _of_groups(names: list[str]) -> Wanted:
    likelihood, given_one = Key("log_likelihood", "+".join(names)), Key("coherence_by_size", "1")
    panels = [
        Panel(likelihood, given_one, "X", "One modality given"),
        Panel(likelihood, Key("joint_coherence"), "X", "None given"),
        Panel(given_one, Key("joint_coherence"), "one modality", "One given and none given"),
    ]
    about = ("A mark is one group, better is further up and further right. Grey dashes: the joint coherence that "
             "modalities have by chance which show each class as often as these.")  # fmt: skip
    return Wanted("tradeoffs", "Explaining the data, generating from one modality and generating from none", about,
                  partial(_draw, panels=panels, columns=3, symbol=""))  # fmt: skip


def _each(names: list[str], count: int) -> list[Panel]:
    """Every target given every subset of ``count`` others."""
    words = {source: source.replace("+", ", ") for source in subsets(names) if size(source) == count}
    return [Panel(Key("log_likelihood", source), Key("coherence", source, target), said, f"{target} given {said}")
            for source, said in words.items() for target in outside(source, names)]  # fmt: skip


def _by_size(modalities: int) -> list[Panel]:
    return [Panel(Key("log_likelihood_by_size", str(k)), Key("coherence_by_size", str(k)), "A", f"|A| = {k}")
            for k in range(1, modalities)]  # fmt: skip


def _draw(content: Content, page: Page, panels: list[Panel], columns: int, symbol: str) -> Any:
    shown = [panel for panel in panels if any(panel.x in one.stats and panel.y in one.stats for one in content.groups)]
    if not shown:
        return None
    figure, axes = plots.panels(page, len(shown), columns, 3.4, 2.9)
    for axis, panel in zip(axes, shown, strict=True):
        _points(axis, content, panel, symbol)
        axis.set(title=panel.title, xlabel=panel.xlabel, ylabel=panel.ylabel)
    looks.legend(figure, axes)
    return figure


def _points(axis: Any, content: Content, panel: Panel, symbol: str) -> None:
    """Points of all groups that have both numbers, joined along the swept key where nothing else differs."""
    sweep, names = swept(content.groups), sweeps_of(content.groups)
    sweeps: dict[str, list[tuple[float, Stat, Stat]]] = {name: [] for name in names}
    for one, name in zip(content.groups, names, strict=True):
        if panel.x in one.stats and panel.y in one.stats:
            value = one.differing[sweep] if sweep else 0.0
            sweeps[name].append((value, one.stats[panel.x], one.stats[panel.y]))
    for i, (name, unsorted) in enumerate(sweeps.items()):
        if not unsorted:
            continue
        points = sorted(unsorted, key=lambda point: point[0])
        xs, ys = [p[1] for p in points], [p[2] for p in points]
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        axis.errorbar([x.mean for x in xs], [y.mean for y in ys], xerr=looks.bars(xs, scores=False),
                      yerr=looks.bars(ys), color=colour, marker=marker, linewidth=1.0 if symbol else 0.0,
                      elinewidth=0.8, label=name, alpha=0.9, clip_on=False)  # fmt: skip
    every = [point[1:] for points in sweeps.values() for point in points]
    looks.score_axis(axis, [y for _, y in every])
    if panel.y.metric == "joint_coherence":  # each point has a chance of its own
        if marked := {x.mean: y.chance for x, y in every if y.chance is not None}:
            axis.scatter(list(marked), list(marked.values()), marker="_", color=looks.CHANCE_COLOUR,
                         label=looks.JOINT_CHANCE, clip_on=False)  # fmt: skip
    else:
        looks.chance_line(axis, [y for _, y in every])
    looks.ceiling_line(axis, [y for _, y in every])
    if panel.x.metric == "coherence_by_size":
        axis.set_xlim(0, 1)
        return
    axis.set_xlim(looks.nats_limits([x for x, _ in every]))
    axis.ticklabel_format(axis="x", useOffset=False, style="plain")
    axis.locator_params(axis="x", nbins=5)
    if symbol:
        letter = "β" if symbol == "beta" else symbol
        _label_points(axis, [(x.mean, y.mean, f"{letter}={value:g}") for points in sweeps.values()
                     for value, x, y in sorted(points, key=lambda point: point[0])])  # fmt: skip


def _label_points(axis: Any, points: list[tuple[float, float, str]]) -> None:
    """A label beside each point (x, y, label): at the first of six places around it that is free, and where no other
    point is nearer. A point without such a place has none. The axis has its limits already."""
    marks = [axis.transData.transform((x, y)) * 72 / axis.figure.dpi for x, y, _ in points]  # in 1/72 inch
    taken = [(x - 3, y - 3, x + 3, y + 3) for x, y in marks]
    for mark, (x, y, label) in zip(marks, points, strict=True):
        width, height = 4.4 * len(label), 8
        for dx, dy in ((4, 3), (4, -11), (-4 - width, 3), (-4 - width, -11), (-width / 2, 6), (-width / 2, -14)):
            left, bottom = mark[0] + dx, mark[1] + dy
            box = (left, bottom, left + width, bottom + height)
            middle = (left + width / 2, bottom + height / 2)
            nearest = min(math.dist(other, middle) for other in marks)
            if math.dist(mark, middle) == nearest and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                axis.annotate(label, (x, y), (dx, dy), textcoords="offset points", fontsize="x-small")
                break


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
