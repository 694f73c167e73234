"""Sweeps over beta: coherence against log-likelihood, the paper's Figures 1, 5 and 6, for any data."""

from functools import partial
from typing import Any, NamedTuple

from mmvae_cli.comparison import looks
from mmvae_cli.comparison.content import Content
from mmvae_cli.comparison.groups import family
from mmvae_cli.comparison.looks import Wanted
from mmvae_cli.comparison.measures import Key, Stat, outside, size, subsets
from mmvae_cli.comparison.tables import LETTERS, letters

_EACH = {
    (3, 2): ("one-given-two", "Figure 5: ", "one modality given the other two"),
    (3, 1): ("two-given-one", "Figure 6: ", "two modalities given the third"),
    (2, 1): ("one-given-one", "", "one modality given the other"),
}
"""(modalities, given) -> name, the paper's figure, words. With more modalities a panel is a mean over subsets."""


class Panel(NamedTuple):
    """Coherence (``y``) against log p(X | ``given``) (``x``)."""

    x: Key
    y: Key
    given: str
    title: str = ""


def wanted(content: Content) -> list[Wanted]:
    """The figures of a sweep: none where no two groups differ in beta alone."""
    groups = content.collection.groups
    if len({family(one, groups) for one in groups}) == len(groups):
        return []
    paper = content.experiment == "mnist-svhn-text"
    names = content.collection.reference.modalities
    joint = Panel(Key("log_likelihood", "+".join(names)), Key("joint_coherence"), "X")
    found = [Wanted(
        "joint-tradeoff", f"{'Figure 1: joint' if paper else 'Joint'} coherence against log-likelihood",
        "One point per beta and method; the top right corner is best.", partial(_draw, panels=[joint], columns=1),
    )]  # fmt: skip
    for count in range(len(names) - 1, 0, -1) if len(names) <= 3 else ():
        name, number, words = _EACH[len(names), count]
        found.append(Wanted(
            name, number * paper + (words if paper else words.capitalize()),
            "Conditional coherence against log p(X | what is given), one point per beta and method.",
            partial(_draw, panels=_each(names, count, paper), columns=3 if count == 2 else 2),
        ))  # fmt: skip
    if len(names) > 3:
        found.append(Wanted(
            "tradeoff-by-number-of-inputs", "Conditional coherence against log-likelihood, by number of inputs",
            "Means over the subsets A of a size and the modalities outside them, one point per beta and method.",
            partial(_draw, panels=_by_size(len(names)), columns=min(len(names) - 1, 4)),
        ))  # fmt: skip
    return found


def _each(names: list[str], count: int, paper: bool) -> list[Panel]:
    """Every target given every subset of ``count`` others."""

    def word(subset: str) -> str:
        return letters(subset, LETTERS) if paper else subset.replace("+", ", ")

    pairs = [
        (source, target) for source in subsets(names) if size(source) == count for target in outside(source, names)
    ]
    return [Panel(Key("log_likelihood", source), Key("coherence", source, target), word(source),
                  f"{word(target)} given {word(source)}") for source, target in pairs]  # fmt: skip


def _by_size(modalities: int) -> list[Panel]:
    return [Panel(Key("log_likelihood_by_size", str(k)), Key("coherence_by_size", str(k)), "A", f"|A| = {k}")
            for k in range(1, modalities)]  # fmt: skip


def _draw(content: Content, panels: list[Panel], columns: int) -> Any:
    shown = [panel for panel in panels if any(panel.x in s and panel.y in s for s in content.stats)]
    if not shown:
        return None
    rows, columns = -(-len(shown) // columns), min(columns, len(shown))
    figure = looks.figure(max(3.4 * columns + 0.4, 5.6), max(2.9 * rows + 0.5, 4.0))
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis, panel in zip(axes, shown, strict=False):
        _points(axis, content, panel)
        kind = "joint coherence" if panel.y.metric == "joint_coherence" else "coherence"
        axis.set(title=panel.title, xlabel=f"log p(X | {panel.given}), nats", ylabel=kind)
    for axis in axes[len(shown) :]:
        axis.remove()
    looks.legend(figure, figure.axes)
    return figure


def _points(axis: Any, content: Content, panel: Panel) -> None:
    """Points of all groups that have both numbers, joined along beta where nothing else differs."""
    groups = content.collection.groups
    families: dict[str, list[tuple[float, Stat, Stat]]] = {family(one, groups): [] for one in groups}
    for one, stats in zip(groups, content.stats, strict=True):
        if panel.x in stats and panel.y in stats:
            families[family(one, groups)].append((one.recipe.objective.beta, stats[panel.x], stats[panel.y]))
    for i, (name, found) in enumerate(families.items()):
        points = sorted(found, key=lambda point: point[0])
        xs, ys = [p[1] for p in points], [p[2] for p in points]
        colour = looks.COLOURS[i % len(looks.COLOURS)]
        marker = looks.MARKERS[i % len(looks.MARKERS)]
        axis.errorbar([x.mean for x in xs], [y.mean for y in ys], xerr=looks.bars(xs, scores=False),
                      yerr=looks.bars(ys), color=colour, marker=marker, linewidth=1.0, elinewidth=0.8, label=name,
                      alpha=0.9, clip_on=False)  # fmt: skip
        for beta, x, y in points:
            axis.annotate(f"β={beta:g}", (x.mean, y.mean), (4, 4), textcoords="offset points", fontsize=7, color=colour)
    every = [point[1:] for points in families.values() for point in points]
    looks.score_axis(axis, [y for _, y in every])
    if panel.y.metric == "joint_coherence":  # each point has a chance of its own
        if marked := {x.mean: y.chance for x, y in every if y.chance is not None}:
            axis.scatter(
                list(marked),
                list(marked.values()),
                marker="_",
                color=looks.CHANCE_COLOUR,
                label="chance",
                clip_on=False,
            )
    else:
        looks.chance_line(axis, [y for _, y in every])
    looks.ceiling_line(axis, [y for _, y in every])
    axis.set_xlim(looks.nats_limits([x for x, _ in every]))
    axis.ticklabel_format(axis="x", useOffset=False, style="plain")
    axis.locator_params(axis="x", nbins=5)
