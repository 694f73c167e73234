"""The paper's figures from one's own runs: Figures 1, 3, 5, 6, 12 and 13. matplotlib on Agg, no pyplot, no display.

A plot is made twice from the same drawing: PNG for slides, SVG for the report. Both are functions of the numbers alone
(no dates, no random identifiers), so that the same runs give the same bytes.
"""

import io
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mmvae_cli.comparison.content import Content
from mmvae_cli.comparison.groups import Group, method_name
from mmvae_cli.comparison.measures import Key, Stat
from mmvae_cli.comparison.tables import CELEBA_LETTERS, LETTERS, letters

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#5B5B5B"]
MARKERS = "osD^vP*X"
_STYLE: Any = {
    "text.parse_math": False, "svg.fonttype": "path", "font.size": 9.0, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#e5e7eb", "grid.linewidth": 0.7,
    "axes.edgecolor": "#6b7280", "axes.titlesize": 10.0, "axes.titleweight": "bold", "axes.axisbelow": True,
    "axes.labelcolor": "#374151", "xtick.color": "#374151", "ytick.color": "#374151", "legend.frameon": False,
}  # fmt: skip


@dataclass(frozen=True)
class Plot:
    """``name``: of the files; ``about``: a sentence for the caption; ``width``: on the page, in CSS pixels."""

    name: str
    title: str
    about: str
    png: bytes
    svg: str
    width: int


def draw(content: Content) -> list[Plot]:
    """Every figure that these runs have the numbers for."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it reports the building of its font cache as a warning
    import matplotlib

    plots = []
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that the font lacks is drawn as a box
        for name, title, about, drawing in _wanted(content):
            figure = drawing(content)
            if figure is None:
                continue
            if content.warning:
                figure.suptitle(f"stand-in data: {content.warning}", fontsize=7.0, color="#b91c1c", wrap=True)
            plots.append(_render(figure, name, title, about))
    return plots


Drawing = Callable[[Content], Any]


def _wanted(content: Content) -> list[tuple[str, str, str, Drawing]]:
    which, band = content.experiment, "Bands: standard deviation over seeds."
    title = f"{'Figure 3: performance' if which == 'polymnist' else 'Performance'} by number of input modalities"
    known: list[tuple[str, str, str, Drawing]] = []
    if which != "celeba":
        known.append((
            "by-number-of-inputs", title,
            f"Each point is the mean over {_averaged(content)} of that size. {band}{_faint(content)}", _by_size,
        ))  # fmt: skip
    if which == "mnist-svhn-text" and _sweeps_beta(content):
        known += [
            ("joint-tradeoff", "Figure 1: joint coherence against log-likelihood",
             "One point per beta and method; the top right corner is best.", _figure1),
            ("one-given-two", "Figure 5: one modality given the other two",
             "Conditional coherence against log p(X | the two), one point per beta and method.", _figure5),
            ("two-given-one", "Figure 6: two modalities given the third",
             "Conditional coherence of each target against log p(X | the one).", _figure6),
        ]  # fmt: skip
    if which == "celeba":
        known += [
            ("attributes-generation", "Figure 12: coherence of generated samples per attribute",
             "Average precision of the attribute classifiers on what was generated from the modalities in the caption.",
             _figure12),
            ("attributes-representation", "Figure 13: latent representation per attribute",
             "Average precision of linear classifiers on the latent representation of the modalities in the caption.",
             _figure13),
        ]  # fmt: skip
    return known


def _averaged(content: Content) -> str:
    most = content.collection.reference.settings.get("subsets_per_size")
    return f"at most {most} drawn subsets" if most else "all subsets"


def _faint(content: Content) -> str:
    shown = any(p.key_metrics & {"coherence_by_size", "latent_by_size"} for p in content.published)
    return " Faint: published values; their sources and what differs stand below the tables." if shown else ""


def _sweeps_beta(content: Content) -> bool:
    return len({group.recipe.objective.beta for group in content.collection.groups}) > 1


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _render(figure: Any, name: str, title: str, about: str) -> Plot:
    import matplotlib

    png, svg = io.BytesIO(), io.StringIO()
    figure.savefig(png, format="png", dpi=160, metadata={"Software": None})
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    text = svg.getvalue()
    return Plot(name, title, about, png.getvalue(), text[text.index("<svg") :], round(100 * figure.get_figwidth()))


# Figure 3 ------------------------------------------------------------------------------------------------------------


def _by_size(content: Content) -> Any:
    count = len(content.collection.reference.modalities)
    panels = [
        ("Linear classification", "latent_by_size", count, _score_name(content, "latent")),
        ("Conditional coherence", "coherence_by_size", count - 1, _score_name(content, "coherence")),
        ("Log-likelihood", "log_likelihood_by_size", count, "log p(X | A), nats"),
    ]
    panels = [p for p in panels if any(Key(p[1], str(k)) in s for s in content.stats for k in range(1, p[2] + 1))]
    if not panels or count < 2:
        return None
    figure = _figure(3.5 * len(panels) + 0.4, 3.5)
    axes, looks = figure.subplots(1, len(panels), squeeze=False)[0], _looks(content.collection.groups)
    for axis, (title, metric, top, label) in zip(axes, panels, strict=True):
        for i, group in enumerate(content.collection.groups):
            stats = {k: content.stats[i].get(Key(metric, str(k))) for k in range(1, top + 1)}
            known = {k: s for k, s in stats.items() if s}
            _line(axis, known, looks[i], MARKERS[i % len(MARKERS)], group.label)
            _published_lines(axis, content, group, metric, looks[i][0])
        axis.set(title=title, xlabel="number of input modalities |A|", ylabel=label, xticks=range(1, count + 1))
        axis.set_xlim(0.8, count + 0.2)
    _legend(figure, axes)
    return figure


def _looks(groups: list[Group]) -> list[tuple[str, Any]]:
    """Colour by method, dashes within a method, so that a sweep reads as one family."""
    dashes: list[Any] = ["-", (0, (5, 1.5)), (0, (2, 1)), (0, (5, 1, 1, 1)), (0, (1, 1)), (0, (8, 2))]
    kinds = list(dict.fromkeys(method_name(group) for group in groups))
    looks: list[tuple[str, Any]] = []
    for group in groups:
        colour = COLOURS[kinds.index(method_name(group)) % len(COLOURS)]
        looks.append((colour, dashes[sum(known == colour for known, _ in looks) % len(dashes)]))
    return looks


def _score_name(content: Content, metric: str) -> str:
    measured = [getattr(member.evaluation, metric) for member in content.collection.members]
    return next((part.metric.replace("_", " ") for part in measured if part), "score")


def _line(axis: Any, stats: dict[int, Stat], look: tuple[str, Any], marker: str, label: str) -> None:
    if not stats:
        return
    xs, means = list(stats), [s.mean for s in stats.values()]
    spread = [s.std or 0.0 for s in stats.values()]
    colour, style = look
    axis.plot(xs, means, color=colour, linestyle=style, marker=marker, markersize=5, linewidth=1.8, label=label)
    low, high = [m - s for m, s in zip(means, spread, strict=True)], [m + s for m, s in zip(means, spread, strict=True)]
    axis.fill_between(xs, low, high, color=colour, alpha=0.18, linewidth=0)


def _published_lines(axis: Any, content: Content, group: Group, metric: str, colour: str) -> None:
    for one in content.published:
        stats = {int(k.subset): s for k, s in one.values.items() if k.metric == metric}
        if one.group is group and stats:
            style = {"linestyle": (0, (1, 2)) if one.external else (0, (5, 3)), "alpha": 0.45 if one.external else 0.7}
            axis.plot(list(stats), [s.mean for s in stats.values()], color=colour,
                      linewidth=1.1, marker="x", markersize=4, label=one.label, **style)  # fmt: skip


def _legend(figure: Any, axes: Any) -> None:
    known: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            known.setdefault(label, handle)
    columns = min(len(known), 4)
    figure.legend(known.values(), known.keys(), loc="outside lower center", ncols=columns)


# Figures 1, 5 and 6 --------------------------------------------------------------------------------------------------


def _figure1(content: Content) -> Any:
    full = "+".join(content.collection.reference.modalities)
    figure = _figure(5.6, 4.2)
    axis = figure.subplots()
    drawn = _tradeoff(axis, content, Key("log_likelihood", full), Key("joint_coherence"))
    axis.set(xlabel="log p(X | X), nats", ylabel="joint coherence")
    _legend(figure, [axis])
    return figure if drawn else None


def _figure5(content: Content) -> Any:
    pairs = [("mnist+text", "svhn"), ("svhn+text", "mnist"), ("mnist+svhn", "text")]
    return _conditional(content, [[pair] for pair in pairs], turned=True)


def _figure6(content: Content) -> Any:
    sources = [("mnist", ("svhn", "text")), ("svhn", ("mnist", "text")), ("text", ("mnist", "svhn"))]
    return _conditional(content, [[(source, target) for target in targets] for source, targets in sources])


def _conditional(content: Content, grid: list[list[tuple[str, str]]], turned: bool = False) -> Any:
    """One panel per (source, target); ``turned`` lays a single column out as a row."""
    rows = [[row[0] for row in grid]] if turned else grid
    figure = _figure(3.4 * len(rows[0]) + 0.4, 2.9 * len(rows) + 0.5)
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    names, drawn = content.collection.reference.modalities, 0
    for axis, (source, target) in zip(axes.flat, [pair for row in rows for pair in row], strict=True):
        subset = "+".join(name for name in names if name in source.split("+"))
        drawn += _tradeoff(axis, content, Key("log_likelihood", subset), Key("coherence", subset, target))
        given = letters(source, LETTERS)
        axis.set(
            title=f"{LETTERS[target]} given {given}",
            xlabel=f"log p(X | {given}), nats",
            ylabel=f"coherence of {LETTERS[target]}",
        )
    _legend(figure, axes.flat)
    return figure if drawn else None


def _tradeoff(axis: Any, content: Content, x: Key, y: Key) -> int:
    """Points of all groups that have both numbers, joined along beta where nothing else differs; how many."""
    families: dict[str, list[tuple[float, Stat, Stat]]] = {}
    for group, stats in zip(content.collection.groups, content.stats, strict=True):
        if x in stats and y in stats:
            families.setdefault(_but_beta(group, content), []).append((group.recipe.objective.beta, stats[x], stats[y]))
    for i, (name, chosen) in enumerate(families.items()):
        chosen.sort(key=lambda point: point[0])
        colour = COLOURS[i % len(COLOURS)]
        axis.errorbar([p[1].mean for p in chosen], [p[2].mean for p in chosen], xerr=[p[1].std or 0 for p in chosen],
                      yerr=[p[2].std or 0 for p in chosen], color=colour, marker=MARKERS[i % len(MARKERS)],
                      linewidth=1.0, elinewidth=0.8, label=name, alpha=0.9)  # fmt: skip
        for beta, a, b in chosen:
            axis.annotate(f"β={beta:g}", (a.mean, b.mean), (4, 4), textcoords="offset points", fontsize=7, color=colour)
    axis.ticklabel_format(axis="x", useOffset=False, style="plain")
    axis.locator_params(axis="x", nbins=5)
    return sum(map(len, families.values()))


def _but_beta(group: Group, content: Content) -> str:
    """The method, and what else than beta separates this group from another of its method."""
    kin = [other for other in content.collection.groups if method_name(other) == method_name(group)]
    told = [
        f"{key.rpartition('.')[2]}={value}"
        for key, value in group.differing.items()
        if key != "objective.beta" and len({repr(other.differing[key]) for other in kin}) > 1
    ]
    return " ".join([method_name(group), ", ".join(told)]).strip()


# Figures 12 and 13 ---------------------------------------------------------------------------------------------------


def _figure12(content: Content) -> Any:
    pairs = [("image", "text"), ("text", "image"), ("image+text", "image"), ("image+text", "text")]
    titles = [f"{_celeba(target)} generated from {_celeba(source)}" for source, target in pairs]
    return _bars(content, [("coherence_per_label", _order(content, s), t) for s, t in pairs], titles)


def _figure13(content: Content) -> Any:
    sources = ["image", "text", "image+text"]
    panels = [("latent_per_label", _order(content, source), "") for source in sources]
    return _bars(content, panels, [f"Representation of {_celeba(source)}" for source in sources])


def _order(content: Content, source: str) -> str:
    return "+".join(name for name in content.collection.reference.modalities if name in source.split("+"))


def _celeba(subset: str) -> str:
    text = letters(subset, CELEBA_LETTERS)
    return f"{{{text}}}" if "," in text else text


def _bars(content: Content, panels: list[tuple[str, str, str]], titles: list[str]) -> Any:
    """One row of bars per panel, one bar per group and attribute, attributes in the data's order."""
    chosen = [(p, t) for p, t in zip(panels, titles, strict=True) if _labels(content, p)]
    if not chosen:
        return None
    names = list(dict.fromkeys(label for panel, _ in chosen for label in _labels(content, panel)))[:120]
    figure = _figure(max(6.0, 0.26 * len(names) + 1.2), 1.75 * len(chosen) + 1.5)
    axes = figure.subplots(len(chosen), 1, squeeze=False, sharex=True)[:, 0]
    for axis, (panel, title) in zip(axes, chosen, strict=True):
        _bar_panel(axis, content, panel, names)
        axis.set(title=title, ylabel="AP", ylim=(0, 1))
        axis.grid(False, axis="x")
    axes[-1].set_xticks(range(len(names)), [name.replace("_", " ")[:28] for name in names], rotation=90, fontsize=8)
    axes[-1].set_xlim(-0.7, len(names) - 0.3)
    _legend(figure, axes)
    return figure


def _bar_panel(axis: Any, content: Content, panel: tuple[str, str, str], names: list[str]) -> None:
    metric, subset, target = panel
    width = 0.82 / len(content.collection.groups)
    for i, (group, stats) in enumerate(zip(content.collection.groups, content.stats, strict=True)):
        found = [stats.get(Key(metric, subset, target, name)) for name in names]
        places = [k - 0.41 + width * (i + 0.5) for k, s in enumerate(found) if s]
        known = [s for s in found if s]
        axis.bar(places, [s.mean for s in known], width, yerr=[s.std or 0 for s in known], label=group.label,
                 color=COLOURS[i % len(COLOURS)], error_kw={"elinewidth": 0.6, "ecolor": "#374151"})  # fmt: skip
    rates = content.collection.reference.base_rates
    marked = [k for k, name in enumerate(names) if name in rates]
    if marked:  # the average precision of a guess: what a bar has to rise above
        axis.hlines([rates[names[k]] for k in marked], [k - 0.46 for k in marked], [k + 0.46 for k in marked],
                    colors="#111827", linewidths=1.1, label="base rate", zorder=3)  # fmt: skip


def _labels(content: Content, panel: tuple[str, str, str]) -> list[str]:
    return list(dict.fromkeys(k.label for s in content.stats for k in s if (k.metric, k.subset, k.target) == panel))
