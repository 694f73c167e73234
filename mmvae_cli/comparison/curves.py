"""Learning curves from metrics.jsonl: the terms of the bound, the KL of each component and the speed, over steps."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from mmvae_cli.comparison import looks
from mmvae_cli.comparison.content import Content
from mmvae_cli.comparison.groups import Member
from mmvae_cli.comparison.looks import Look, Wanted
from mmvae_cli.comparison.measures import size
from mmvae_cli.comparison.progress import Unfinished
from mmvae_cli.drawing import plots
from mmvae_cli.drawing.plots import COLOURS, MARKERS, Page
from mmvae_cli.run import metrics
from mmvae_cli.run.layout import Run

_POINTS = 200
"""Of one curve: neighbouring records of longer ones are averaged."""
_PANELS, _COLUMNS = 20, 4
_ON_PAPER = 6
"""Panels of a figure for a paper."""
_NAMED = 8
"""Up to so many components have a name each; of more only their size is said."""
_OF_BOUND = "unimodal.kl."
LIGHTEST = 0.58
"""Of the palette of components: grey blues, no colour of a method."""
_NO_TERM = ("steps", "epoch", "learning_rate", "memory_mib", "seconds")
_FIRST, _LAST = ("loss", "elbo"), "items_per_second"
_TITLES = {"loss": "loss (weighted)", "elbo": "ELBO", "items_per_second": "speed, items/s"}


@dataclass(frozen=True)
class Curves:
    """Of one run: name -> (steps, values). ``kls``: component -> the name of its KL (nats) in the log; those of
    single modalities' own bounds too, where a method adds them (MVAE)."""

    label: str
    look: Look
    known: dict[str, tuple[list[int], list[float]]]
    kls: dict[str, str]


def wanted(content: Content) -> list[Wanted]:
    """The figures of the runs that are compared."""
    groups = content.groups
    return _figures(lambda: [_read(member, group.label, look)
                             for group, look in zip(groups, looks.looks(groups), strict=True)
                             for member in group.members], "Each line is one run; a colour is a group.")  # fmt: skip


def unfinished(runs: list[Unfinished]) -> list[Wanted]:
    """The figures of runs that are still being trained, or were stopped."""
    chosen = [Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], "-", "") for i in range(len(runs))]
    figures = _figures(lambda: [_read(run, run.name, look) for run, look in zip(runs, chosen, strict=True)],
                       "Each line is one run. They are in no average.")  # fmt: skip
    return [one._replace(name=f"unfinished-{one.name}", title=f"{one.title}, of unfinished runs") for one in figures]


def _figures(read: Callable[[], list[Curves | None]], about: str) -> list[Wanted]:
    """``read`` is called once, while figures are drawn: not before, for colours need matplotlib in our own style."""

    @cache
    def curves() -> list[Curves]:
        return [one for one in read() if one]

    return [
        Wanted("learning-curves", "How training went", f"Means since the record before, over steps. {about}",
               lambda _, page: _terms(curves(), page)),
        Wanted("kl-by-component", "The KL of each component",
               "KL(q(z | X_A) || p(z)) of the components A over steps, of the first run of each group. The darker, the "
               "more modalities has A; colours say nothing of the method here.",
               lambda _, page: _components(curves(), page)),
    ]  # fmt: skip


def _read(run: Member | Unfinished, label: str, look: Look) -> Curves | None:
    """None where nothing was logged."""
    records = metrics.read(Run(run.folder).metrics_path).records
    together = -(-len(records) // _POINTS) or 1
    known: dict[str, tuple[list[int], list[float]]] = {}
    for start in range(0, len(records), together):
        part = records[start : start + together]
        for name, value in _means(part).items():
            steps, values = known.setdefault(name, ([], []))
            steps.append(part[-1]["step"])
            values.append(value)
    parts = [name.removeprefix("kl.") for name in known if name.startswith("kl.")]
    kls = {part: f"kl.{part}" for part in parts if set(part.split("+")) <= set(run.recipe.modalities)}
    if run.recipe.objective.prior == "standard":  # else a bound of one modality has another regulariser
        kls |= {name.removeprefix(_OF_BOUND): name for name in known if name.startswith(_OF_BOUND)}
    return Curves(label, look, known, kls) if known else None


def _means(records: list[metrics.Record]) -> dict[str, float]:
    """Of neighbouring records, each of which is the mean of its own steps."""
    parts: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        numbers = metrics.numbers(record)
        steps = max(numbers.get("steps", 1.0), 1.0)
        for name, value in numbers.items():
            parts.setdefault(name, []).append((steps, value))
    totals = {name: sum(steps for steps, _ in own) for name, own in parts.items()}
    return {name: sum(value * (steps / totals[name]) for steps, value in own) for name, own in parts.items()}


def _terms(curves: list[Curves], page: Page) -> Any:
    """A panel for each term that any of the runs logged: the loss first, the speed last."""
    components = {name for one in curves for name in one.kls.values()}
    names = dict.fromkeys(name for one in curves for name in one.known)
    whole = {name for name in names if _is_complete(name, curves)}
    middle = [name for name in names if name not in {*_FIRST, _LAST, *_NO_TERM, *components, *whole}]
    every = [name for name in (*_FIRST, *middle, _LAST) if name in names]
    most = _ON_PAPER if page.width else _PANELS
    shown = every if len(every) <= most else [*every[: most - 1], every[-1]]
    if not shown:
        return None
    figure, axes = plots.panels(page, len(shown), _COLUMNS, 2.6, 2.1)
    for axis, name in zip(axes, shown, strict=True):
        for one in curves:
            steps, values = one.known.get(name, ([], []))
            if steps:
                axis.plot(steps, values, color=one.look.colour, linestyle=one.look.dash, linewidth=1.1, label=one.label)
        axis.set(title=_TITLES.get(name) or name.replace("_", "-").replace(".", " "), xlabel="step")
    if (left := len(every) - len(shown)) and not page.width:
        axes[-1].set_xlabel(f"step\n{left} more terms stand in metrics.jsonl")
    looks.legend(figure, axes)
    return figure


def _is_complete(name: str, curves: list[Curves]) -> bool:
    """Whether every row of every run had this modality: nothing to be seen."""
    return name.startswith("present.") and all(set(one.known.get(name, ([], []))[1]) <= {1.0} for one in curves)


def _components(curves: list[Curves], page: Page) -> Any:
    """A panel for each group on one axis of nats, a line for each component; the more modalities it has, the darker."""
    firsts = {one.label: one for one in reversed(curves) if one.kls}
    chosen = [firsts[label] for label in dict.fromkeys(one.label for one in curves) if label in firsts][:_PANELS]
    if not chosen:
        return None
    figure, axes = plots.panels(page, len(chosen), _COLUMNS, 2.6, 2.1)
    names = sorted({part for one in chosen for part in one.kls}, key=lambda part: (part.count("+"), part))
    dashes = _dashes(names) if len(names) <= _NAMED else {}
    words = {part: part if dashes else f"{size(part)} modalit{'y' if size(part) == 1 else 'ies'}" for part in names}
    shades = looks.shades(max(map(size, names)), "bone", LIGHTEST)
    styles = {part: {"color": shades[size(part) - 1], "linestyle": dashes.get(part, "-"), "label": words[part]}
              for part in names}  # fmt: skip
    keys = [axes[0].plot([], [], **style)[0] for style in {style["label"]: style for style in styles.values()}.values()]
    for axis, one in zip(axes, chosen, strict=True):
        for part, name in one.kls.items():
            axis.plot(*one.known[name], linewidth=1.0, **styles[part])
        axis.set(title=one.label, xlabel="step", ylabel="nats")
    looks.share_limits(axes)
    looks.legend(figure, axes)
    for key in keys:  # they put the legend in the order of sizes, whichever group has them
        key.remove()
    return figure


def _dashes(names: list[str]) -> dict[str, Any]:
    """Components of one size have one colour, so each has dashes of its own."""
    places: dict[int, int] = {}
    dashes = {}
    for part in names:
        at = places[size(part)] = places.get(size(part), -1) + 1
        dashes[part] = looks.DASHES[at % len(looks.DASHES)]
    return dashes
