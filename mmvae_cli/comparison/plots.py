"""The paper's figures from one's own runs: Figures 1, 3, 5, 6, 12 and 13, and the same items through all methods."""

from typing import Any

from mmvae_cli.comparison import bars, curves, looks, same_items, tradeoffs
from mmvae_cli.comparison.content import Content, Plot
from mmvae_cli.comparison.groups import Group
from mmvae_cli.comparison.looks import Look, Wanted
from mmvae_cli.comparison.measures import METRICS, UNBOUNDED, Key, Stat
from mmvae_cli.comparison.progress import Unfinished
from mmvae_cli.drawing import plots
from mmvae_cli.drawing.plots import PAPER, SCREEN, Page

_FEW = 4  # groups


def draw(content: Content, prefix: str = "", paper: int | None = None) -> list[Plot]:
    """Every figure that these runs have the numbers for; ``prefix``: of their names; ``paper``: for so many columns
    of a paper, whose caption and not the figure says that data are a stand-in."""
    page = PAPER.get(paper or 0, SCREEN)
    drawn = _drawn([one._replace(name=prefix + one.name) for one in wanted(content)], content, paper)
    for name, grid in same_items.grids(content):
        files = {"png": grid.png()} | {ending: grid.paper(page, ending) for ending in ("svg", "pdf") if paper}
        drawn.append(Plot(prefix + name, grid.title, grid.about, files))
    return drawn


def draw_unfinished(runs: list[Unfinished], paper: int | None = None) -> list[Plot]:
    """The learning curves of runs that are in no average."""
    return _drawn(curves.unfinished(runs), None, paper) if runs else []


def _drawn(figures: list[Wanted], content: Content | None, paper: int | None) -> list[Plot]:
    page, drawn, endings = PAPER.get(paper or 0, SCREEN), [], ("png", "svg", "pdf") if paper else ("png", "svg")
    with plots.style(page):
        for one in figures:
            figure = one.drawing(content, page)
            if figure is None:
                continue
            if content and content.warning and not paper:
                figure.suptitle(f"stand-in data: {content.warning}", fontsize=page.font, color="#b91c1c", wrap=True)
            files = {ending: plots.written(figure, ending, one.name) for ending in endings}
            drawn.append(Plot(one.name, one.title, one.about, files, round(100 * figure.get_figwidth())))
    return drawn


def wanted(content: Content) -> list[Wanted]:
    """Figure 3; Figures 1, 5 and 6 of a sweep; Figures 12 and 13 of attributes; learning curves."""
    return [*_by_number(content), *tradeoffs.wanted(content), *bars.wanted(content), *curves.wanted(content)]


def _by_number(content: Content) -> list[Wanted]:
    if content.experiment == "celeba":
        return []
    title = "How each method does with more and more input modalities"
    title += " (the paper's Figure 3)" if content.experiment == "polymnist" else ""
    most = content.reference.settings.get("subsets_per_size")
    averaged = f"at most {most} drawn subsets" if most else "all subsets"
    about = (f"A point is the mean over {averaged} of so many modalities, a band the standard deviation over "
             f"seeds.{_faint(content)}")  # fmt: skip
    return [Wanted("by-number-of-inputs", title, about, _by_size)]


def _faint(content: Content) -> str:
    """What the caption says of published values: what is not the same, and which are in no figure."""
    metrics = {"coherence_by_size", "latent_by_size"}
    known = [one for one in content.published if one.key_metrics & metrics]
    drawn = dict.fromkeys(text for one in known if not one.otherwise for text in one.differences)
    left = dict.fromkeys(f"{one.label}: {one.otherwise}" for one in known if one.otherwise)
    faint = " Faint lines are published values: dashed the paper's, dotted those of others."
    words = faint if len(left) < len(known) else ""
    words += f" Not the same: {'; '.join(drawn)}." if drawn else ""
    return words + (f" Not drawn, because measured otherwise: {'; '.join(left)}." if left else "")


def _by_size(content: Content, page: Page) -> Any:
    count = len(content.reference.modalities)
    panels = [
        ("Linear classification", "latent_by_size", count, _score_name(content, "latent")),
        ("Conditional coherence", "coherence_by_size", count - 1, _score_name(content, "coherence")),
        ("Log-likelihood", "log_likelihood_by_size", count, "log p(X | A), nats"),
    ]
    drawn = [one.stats for one in content.groups]
    panels = [p for p in panels if any(Key(p[1], str(k)) in s for s in drawn for k in range(1, p[2] + 1))]
    if not panels or count < 2:
        return None
    figure, axes = plots.panels(page, len(panels), 3, 3.4, 3.4)
    chosen = looks.looks(content.groups)
    for axis, (title, metric, top, label) in zip(axes, panels, strict=True):
        _panel(axis, content, chosen, metric, range(1, top + 1))
        axis.set(title=title, xlabel="number of input modalities |A|", ylabel=label, xticks=range(1, count + 1))
        axis.set_xlim(0.8, count + 0.2)
    looks.legend(figure, axes)
    return figure


def _panel(axis: Any, content: Content, chosen: list[Look], metric: str, sizes: range) -> None:
    """One metric of all groups, published values of the same method beside them."""
    every, scores = [], METRICS[metric][1] not in UNBOUNDED
    few = len(chosen) <= _FEW
    for i, (one, look) in enumerate(zip(content.groups, chosen, strict=True), 1):
        known = {k: one.stats[key] for k in sizes if (key := Key(metric, str(k))) in one.stats}
        wider = 1 + 0.25 * (len(chosen) - i) * few  # where lines coincide, the lower one shows
        _line(axis, known, look, one.label, scores, wider)
        every += [*known.values(), *_published_lines(axis, content, one, metric, look)]
    if scores:
        looks.score_axis(axis, every)
        looks.chance_line(axis, every)
        looks.ceiling_line(axis, every)
    else:
        axis.set_ylim(looks.nats_limits(every))


def _score_name(content: Content, metric: str) -> str:
    measured = [getattr(member.evaluation, metric) for member in content.members]
    return next((part.metric.replace("_", " ") for part in measured if part), "score")


def _line(axis: Any, stats: dict[int, Stat], look: Look, label: str, scores: bool, wider: float) -> None:
    if not stats:
        return
    known = list(stats.values())
    means = [s.mean for s in known]
    (line,) = axis.plot(
        list(stats), means, color=look.colour, linestyle=look.dash, marker=look.marker, label=label, clip_on=not scores
    )
    line.set(linewidth=wider * line.get_linewidth(), markersize=wider * line.get_markersize())
    low, high = looks.spread(known, scores)
    axis.fill_between(list(stats), low, high, color=look.colour, alpha=0.18, linewidth=0)


def _published_lines(axis: Any, content: Content, group: Group, metric: str, look: Look) -> list[Stat]:
    """Draws the published values and returns them."""
    drawn: list[Stat] = []
    for one in content.published:
        stats = {int(k.subset): s for k, s in one.values.items() if k.metric == metric}
        if one.group is group and stats and not one.otherwise:
            style = {"linestyle": (0, (1, 2)) if one.external else (0, (5, 3)), "alpha": 0.45 if one.external else 0.7}
            axis.plot(list(stats), [s.mean for s in stats.values()], color=look.colour, linewidth=1.1,
                      marker=look.marker, markersize=4, markerfacecolor="none", label=one.label, **style)  # fmt: skip
            drawn += stats.values()
    return drawn
