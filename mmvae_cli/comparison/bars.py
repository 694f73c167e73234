"""Attributes one by one, as in the paper's Figures 12 and 13: a bar for each group and attribute."""

from functools import partial
from typing import Any

from mmvae_cli.comparison import looks
from mmvae_cli.comparison.content import Content
from mmvae_cli.comparison.looks import Wanted
from mmvae_cli.comparison.measures import Key, ceiling
from mmvae_cli.comparison.tables import CEILING
from mmvae_cli.drawing import plots
from mmvae_cli.drawing.plots import Page

_MOST = 120
"""Attributes in one figure."""
Panel = tuple[str, str, str]
"""Metric, source subset, target modality."""


def wanted(content: Content) -> list[Wanted]:
    """Generation and representation by attribute; none where labels are classes."""
    names = content.reference.modalities
    full = "+".join(names)
    others = {target: "+".join(name for name in names if name != target) for target in reversed(names)}
    given = [(source, target) for target, source in others.items() if source] + [(full, target) for target in names]
    generated = [("coherence_per_label", source, target) for source, target in given]
    encoded = [("latent_per_label", subset, "") for subset in dict.fromkeys([*names, full])]
    paper = content.experiment == "celeba"
    plots = []
    for name, number, title, about, panels in (
        ("attributes-generation", 12, "How well generated samples show each attribute",
         "Average precision of the attribute classifiers on what was generated from the modalities that a title names.",
         generated),
        ("attributes-representation", 13, "How well each attribute can be read off the latent representation",
         "Average precision of linear classifiers on the representation of the modalities that a title names.",
         encoded),
    ):  # fmt: skip
        labels = list(dict.fromkeys(label for panel in panels for label in _labels(content, panel)))
        if labels:
            if len(labels) > _MOST:
                about += f" The first {_MOST} of {len(labels)} attributes; the tables have all."
            drawing = partial(_draw, panels=panels, labels=labels[:_MOST])
            title += f" (the paper's Figure {number})" if paper else ""
            plots.append(Wanted(name, title, about, drawing))
    return plots


def _labels(content: Content, panel: Panel) -> list[str]:
    keys = [key for one in content.groups for key in one.stats if (key.metric, key.subset, key.target) == panel]
    return list(dict.fromkeys(key.label for key in keys))


def _draw(content: Content, page: Page, panels: list[Panel], labels: list[str]) -> Any:
    """One row of bars per panel, attributes in the data's order."""
    chosen = [panel for panel in panels if _labels(content, panel)]
    figure = plots.figure(page.width or max(6.0, 0.26 * len(labels) + 1.2), 1.75 * len(chosen) + 1.5)
    axes = figure.subplots(len(chosen), 1, squeeze=False, sharex=True)[:, 0]
    size = min(8.0, 40 * figure.get_figwidth() / max(len(labels), 1))
    for axis, panel in zip(axes, chosen, strict=True):
        _bars(axis, content, panel, labels)
        _, source, target = panel
        given = source.replace("+", ", ")
        title = f"{target} generated from {given}" if target else f"representation of {given}"
        axis.set(title=title, ylabel="AP", ylim=(0, 1))
        axis.grid(False, axis="x")
    names = [name.replace("_", " ")[:28] for name in labels]
    axes[-1].set_xticks(range(len(labels)), names, rotation=90, fontsize=size)
    axes[-1].set_xlim(-0.7, len(labels) - 0.3)
    looks.legend(figure, axes)
    return figure


def _bars(axis: Any, content: Content, panel: Panel, labels: list[str]) -> None:
    groups = content.groups
    width = 0.82 / len(groups)
    for i, (one, look) in enumerate(zip(groups, looks.looks(groups), strict=True)):
        known = {k: s for k, label in enumerate(labels) if (s := one.stats.get(Key(*panel, label)))}
        axis.bar([k - 0.41 + width * (i + 0.5) for k in known], [s.mean for s in known.values()], width,
                 yerr=looks.bars(list(known.values())), label=one.label, color=look.colour, hatch=look.hatch,
                 edgecolor="#ffffff", linewidth=0, error_kw={"elinewidth": 0.6, "ecolor": "#374151"})  # fmt: skip
    rates = [content.reference.chance_of(panel[1], label) for label in labels]  # what a bar has to rise above
    _marks(axis, rates, "-", "chance: base rate")
    real = [ceiling(one.stats.get(Key(*panel, label)) for one in groups) for label in labels]
    _marks(axis, real, (0, (2, 1)), CEILING)


def _marks(axis: Any, values: list[float | None], dash: Any, name: str) -> None:
    """A short line across the bars of every attribute that has a value."""
    known = {k: value for k, value in enumerate(values) if value is not None}
    if known:
        axis.hlines(list(known.values()), [k - 0.46 for k in known], [k + 0.46 for k in known],
                    colors="#111827", linestyles=dash, linewidths=1.1, label=name, zorder=3)  # fmt: skip
