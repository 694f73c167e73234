"""Tables as plain data: which numbers stand where, which are best, what must be said below. No formatting here.

Every layout has one row per group and, under it, the published numbers of the same method where there are any; tables
of coherence end with what real data score.
"""

from dataclasses import dataclass, field

from mmvae_cli.comparison import marking
from mmvae_cli.comparison.groups import Collection, Group
from mmvae_cli.comparison.measures import METRICS, Key, Stat, ceiling, scored_targets, subsets
from mmvae_cli.comparison.published import Published
from mmvae_cli.process.words import listed
from mmvae_cli.run.result import CHANCE, FEW_EFFECTIVE

CEILING = "real data: the ceiling"
"""The row of what the classifiers make of real data: no coherence can be higher but by luck."""

EFFECTIVE = "effective samples"
"""The row of how many samples an estimate of the log-likelihood rests on."""
_COUNTED = {"log_likelihood": "effective_samples", "log_likelihood_by_size": "effective_samples_by_size"}


@dataclass(frozen=True)
class Column:
    """``span``: heading shared with the neighbours that have the same one."""

    header: str
    key: Key
    span: str = ""


@dataclass(frozen=True)
class Cell:
    """``n`` is given only where it is not the whole group's."""

    stat: Stat | None
    decimals: tuple[int, int]
    best: bool = False
    n: int | None = None


@dataclass(frozen=True)
class Row:
    """``published``: not a group of ours, but what stands beside one."""

    label: str
    cells: list[Cell]
    published: bool = False
    n: int = 0
    marks: tuple[int, ...] = ()


@dataclass
class Table:
    """``detail``: long, and left out of the terminal. ``notes`` are numbered from 1; rows point to them. ``letters``:
    what the letters in its headings mean. ``remarks``: sentences on letters, and on CHANCE where a cell has it."""

    title: str
    columns: list[Column]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    detail: bool = False
    letters: str = ""
    unscored: str = ""

    @property
    def turned(self) -> bool:
        """Too wide for a page: its columns are written as rows."""
        return len(self.columns) > 12

    @property
    def remarks(self) -> list[str]:
        cells = [(c.key, cell.stat) for row in self.rows for c, cell in zip(self.columns, row.cells, strict=True)
                 if cell.stat and cell.stat.at_chance]  # fmt: skip
        chance = _at_chance([(key, stat.chance) for key, stat in cells if stat.chance is not None])
        weighed = FEW_EFFECTIVE if any(row.label == EFFECTIVE for row in self.rows) else ""
        return [remark for remark in (self.letters, self.unscored, chance, weighed) if remark]


class Maker:
    """What every layout needs at hand; :meth:`table` is the one place where rows, bests and notes are made."""

    def __init__(self, collection: Collection, published: list[Published]) -> None:
        self.groups, self.published = collection.groups, published
        self.modalities = collection.reference.modalities
        self.subsets = subsets(self.modalities)
        self.full = self.subsets[-1]
        rates = [rate for rate in collection.reference.base_rates.values() if rate]  # others have no precision
        measured = [member.evaluation.quality for member in collection.members]
        self.quality = next((quality for quality in measured if quality), None)
        coherences = [one for member in collection.members if (one := member.evaluation.coherence)]
        scored = scored_targets(coherences[0]) if coherences else self.modalities
        others = [name for name in self.modalities if name not in scored]
        self.unscored = f"means leave out {listed(others)}: no classifier could score their samples" if others else ""
        self.guess = f"; a guess has {sum(rates) / len(rates):.3f}, the mean base rate" if rates else ""

    def table(
        self, title: str, columns: list[Column], *, groups: list[Group] | None = None, detail: bool = False,
        beside: bool = True, sources: str = "",
    ) -> Table | None:  # fmt: skip
        """``sources``: only published numbers whose source contains it. None where nobody measured anything."""
        chosen = self.groups if groups is None else groups
        columns = [c for c in columns if any(c.key in one.stats or c.key in one.dashes for one in chosen)]
        if not columns:
            return None
        means = any(c.key.metric in ("coherence_given", "coherence_by_size") for c in columns)
        table = Table(title, columns, [], detail=detail, unscored=self.unscored if means else "")
        best = {c.key: marking.best([one.stats.get(c.key) for one in chosen], c.key, decimals(c.key))
                for c in columns}  # fmt: skip
        for place, one in enumerate(chosen):
            cells = [_cell(one.stats.get(c.key), c.key, best[c.key] == place, len(one.members)) for c in columns]
            table.rows.append(Row(one.label, cells, n=len(one.members)))
            if beside:
                _add_effective(table, one.stats)
                self._add_published(table, one, sources)
        real = [ceiling(one.stats.get(c.key) for one in chosen) for c in columns]
        if any(value is not None for value in real):
            stats = [None if value is None else Stat(value, None, len(chosen)) for value in real]
            cells = [Cell(one, (decimals(c.key),) * 2) for one, c in zip(stats, columns, strict=True)]
            table.rows.append(Row(CEILING, cells, published=True))
        return table

    def _add_published(self, table: Table, one: Group, sources: str) -> None:
        """A row for each of those whose numbers they are, the paper first: values of several metrics share it."""
        known = [p for p in self.published if p.group is one and sources in p.source]
        known = [p for p in known if any(c.key in p.values for c in table.columns)]
        for label in dict.fromkeys(p.label for p in sorted(known, key=lambda p: p.external)):
            mine = [p for p in known if p.label == label]
            values = {key: stat for p in mine for key, stat in p.values.items()}
            places = {key: digits for p in mine for key, digits in p.decimals.items()}
            cells = [Cell(values.get(c.key), places.get(c.key, (2, 2))) for c in table.columns]
            marks = dict.fromkeys(_note(table, _setting(p)) for p in mine)
            table.rows.append(Row(label, cells, published=True, marks=tuple(marks)))


def _add_effective(table: Table, known: dict[Key, Stat]) -> None:
    """Under log-likelihoods, how many of their samples count."""
    stats = [known.get(Key(_COUNTED.get(c.key.metric, ""), c.key.subset)) for c in table.columns]
    if any(stats):
        table.rows.append(Row(EFFECTIVE, [Cell(stat, (1, 1)) for stat in stats], published=True))


def _setting(published: Published) -> str:
    """The source, and what is not the same."""
    if not published.differences:
        return f"{published.source}. No difference in what recipe and evaluation record."
    return f"{published.source}. Not the same setting: {'; '.join(published.differences)}."


def _note(table: Table, text: str) -> int:
    if text not in table.notes:
        table.notes.append(text)
    return table.notes.index(text) + 1


def decimals(key: Key) -> int:
    """Nats to one decimal, distances to two, scores in [0, 1] to three."""
    return {"nats": 1, "distance": 2}.get(METRICS[key.metric][1], 3)


def _cell(stat: Stat | None, key: Key, best: bool, members: int) -> Cell:
    digits = decimals(key)
    return Cell(stat, (digits, digits), best, stat.n if stat and stat.n != members else None)


def _at_chance(marked: list[tuple[Key, float]]) -> str:
    """What the marked cells are no better than, in one sentence."""
    guesses = [chance for key, chance in marked if key.metric != "joint_coherence" and not key.label]
    joint = [chance for key, chance in marked if key.metric == "joint_coherence"]
    said = [f"no better than a guess ({_range(guesses)})"] if guesses else []
    said += ["no better than the attribute's base rate"] if any(key.label for key, _ in marked) else []
    if joint:
        said.append(f"a joint coherence no better than that of modalities without anything in common ({_range(joint)})")
    return f"{CHANCE} at chance: {'; '.join(said)}" if said else ""


def _range(values: list[float]) -> str:
    low, high = f"{min(values):.3f}", f"{max(values):.3f}"
    return low if low == high else f"{low} to {high}"


def headings(table: Table) -> list[str]:
    """Column headings with the shared one in front: for formats that have no second heading line."""
    return [f"{c.span}: {c.header}" if c.span else c.header for c in table.columns]


def cell_text(cell: Cell, plus_minus: str = "±") -> str:
    """``0.974 ± 0.003``; without deviation for a single seed; ``-`` where there is nothing; CHANCE behind a guess."""
    if cell.stat is None:
        return "-"
    text = f"{cell.stat.mean:.{cell.decimals[0]}f}"
    if cell.stat.std is not None:
        text += f" {plus_minus} {cell.stat.std:.{cell.decimals[1]}f}"
    text += f" [n={cell.n}]" if cell.n is not None else ""
    return text + (CHANCE if cell.stat.at_chance else "")


def spans(table: Table) -> list[tuple[str, int]]:
    """Runs of columns under the same shared heading: (heading, number of columns)."""
    merged: list[tuple[str, int]] = []
    for column in table.columns:
        if merged and merged[-1][0] == column.span:
            merged[-1] = (column.span, merged[-1][1] + 1)
        else:
            merged.append((column.span, 1))
    return merged
