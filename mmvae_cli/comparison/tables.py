"""Tables as plain data: which numbers stand where, which are best, what must be said below. No formatting here.

Every layout has one row per group and, under it, the published numbers of the same method where there are any; tables
of coherence end with what real data score.
"""

from dataclasses import dataclass, field

from mmvae_cli.comparison import marking
from mmvae_cli.comparison.collect import Collection
from mmvae_cli.comparison.groups import Group
from mmvae_cli.comparison.measures import METRICS, Key, Stat, ceiling, outside, subsets, unmeasured
from mmvae_cli.comparison.published import Published, experiment
from mmvae_cli.run.result import CHANCE

Stats = list[dict[Key, Stat]]
"""One mapping per group, in the groups' order."""
LETTERS = {"mnist": "M", "svhn": "S", "text": "T"}
CELEBA_LETTERS = {"image": "I", "text": "T"}
CEILING = "real data: the ceiling"
"""The row of what the classifiers make of real data: no coherence can be higher but by luck."""
_WIDE = 15


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

    @property
    def at_chance(self) -> bool:
        return self.stat is not None and self.stat.at_chance


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

    @property
    def turned(self) -> bool:
        """Too wide for a page: its columns are written as rows."""
        return len(self.columns) > 12

    @property
    def remarks(self) -> list[str]:
        cells = [(c.key, cell.stat) for row in self.rows for c, cell in zip(self.columns, row.cells, strict=True)
                 if cell.stat and cell.at_chance]  # fmt: skip
        chance = _at_chance([(key, stat.chance) for key, stat in cells if stat.chance is not None])
        return [remark for remark in (self.letters, chance) if remark]


def build(collection: Collection, stats: Stats, published: list[Published]) -> list[Table]:
    """The tables for this dataset, most important first."""
    layout = {"polymnist": _polymnist, "mnist-svhn-text": _trimodal, "celeba": _celeba}.get(
        experiment(collection), _generic
    )
    maker = _Maker(collection, stats, published)
    short = {"mnist-svhn-text": LETTERS, "celeba": CELEBA_LETTERS}.get(experiment(collection), {})
    own = [table for table in layout(maker) if table]
    for table in own:
        table.letters = ", ".join(f"{letter}: {name}" for name, letter in short.items())
    return [*filter(None, [_summary(maker)]), *own, *filter(None, _quality(maker))]


class _Maker:
    """What every layout needs at hand; :meth:`table` is the one place where rows, bests and notes are made."""

    def __init__(self, collection: Collection, stats: Stats, published: list[Published]) -> None:
        self.groups, self.stats, self.published = collection.groups, stats, published
        self.modalities = collection.reference.modalities
        self.subsets = subsets(self.modalities)
        self.full = self.subsets[-1]
        self.dashes = [unmeasured(group.members) for group in self.groups]
        rates = collection.reference.base_rates.values()
        measured = [member.evaluation.quality for member in collection.members]
        self.quality = next((quality for quality in measured if quality), None)
        self.guess = f"; a guess has {sum(rates) / len(rates):.3f}, the mean base rate" if rates else ""

    def table(
        self, title: str, columns: list[Column], *, groups: list[Group] | None = None, detail: bool = False,
        beside: bool = True, sources: str = "",
    ) -> Table | None:  # fmt: skip
        """``sources``: only published numbers whose source contains it. None where nobody measured anything."""
        chosen = [i for i, g in enumerate(self.groups) if groups is None or g in groups]
        columns = [c for c in columns if any(c.key in self.stats[i] or c.key in self.dashes[i] for i in chosen)]
        if not columns:
            return None
        table = Table(title, columns, [], detail=detail)
        best = {
            c.key: marking.best([self.stats[i].get(c.key) for i in chosen], c.key, decimals(c.key)) for c in columns
        }
        for place, i in enumerate(chosen):
            one, known = self.groups[i], self.stats[i]
            cells = [_cell(known.get(c.key), c.key, best[c.key] == place, len(one.members)) for c in columns]
            table.rows.append(Row(one.label, cells, n=len(one.members)))
            if beside:
                self._add_published(table, one, sources)
        real = [ceiling(self.stats[i].get(c.key) for i in chosen) for c in columns]
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
            marks = tuple(_note(table, text) for p in mine for text in _notes_of(p))
            table.rows.append(Row(mine[0].label, cells, published=True, marks=tuple(dict.fromkeys(marks))))


def _notes_of(published: Published) -> list[str]:
    differences = "; ".join(published.differences)
    return [
        f"{published.source}. "
        + (
            f"Not the same setting: {differences}."
            if differences
            else "No difference in what recipe and evaluation record."
        )
    ]


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


# layouts -------------------------------------------------------------------------------------------------------------


def _summary(maker: _Maker) -> Table | None:
    count = len(maker.modalities)
    columns = [
        Column("all modalities", Key("latent", maker.full), "Latent"),
        Column("one modality", Key("latent_by_size", "1"), "Latent"),
        Column("joint", Key("joint_coherence"), "Coherence"),
        Column("from one", Key("coherence_by_size", "1"), "Coherence"),
        Column("one missing", Key("coherence_by_size", str(count - 1)), "Coherence"),
        Column("log p(X|X)", Key("log_likelihood", maker.full), "Likelihood"),
    ]
    if count == 2:
        columns.pop(4)  # from one is one missing
    return maker.table("Summary", columns, beside=False)


def _quality(maker: _Maker) -> list[Table | None]:
    """The four numbers that papers print since 2023, and every distance as a detail."""
    if maker.quality is None:
        return []
    what = "FID" if maker.quality.features == "inception" else "FD in the classifiers' features"
    about = f"pairs {maker.quality.pairs}, {maker.quality.reference_count:,} real {maker.quality.reference_split} items"
    four = [
        Column("conditional", Key("coherence_by_size", "1"), "Coherence"),
        Column("joint", Key("joint_coherence"), "Coherence"),
        Column("conditional", Key("frechet_conditional"), what),
        Column("unconditional", Key("frechet_unconditional"), what),
    ]
    each = [Column(f"{key.subset or maker.quality.sampler} → {key.target}", key) for key in _keys(maker, "frechet")]
    return [
        maker.table(f"Coherence from one modality, and {what} (lower is better; {about})", four),
        maker.table(f"{what}, source → target", each, detail=len(each) > _WIDE),
    ]


def _polymnist(maker: _Maker) -> list[Table | None]:
    """Figure 3 as tables: by number of input views; the joint coherence of its caption."""

    def by_size(metric: str) -> list[Column]:
        return [Column(str(k), Key(metric, str(k)), "input views") for k in range(1, len(maker.modalities) + 1)]

    return [
        maker.table("Joint coherence (caption of Figure 3)", [Column("joint coherence", Key("joint_coherence"))]),
        maker.table("Linear classification accuracy (Figure 3, left)", by_size("latent_by_size")),
        maker.table("Conditional coherence of the views not given (Figure 3, centre)", by_size("coherence_by_size")),
        maker.table("Log-likelihood of all views, nats (Figure 3, right)", by_size("log_likelihood_by_size")),
        *_details(maker),
    ]


def _trimodal(maker: _Maker) -> list[Table | None]:
    """Tables 2, 3/6, 4 and 7 of the paper, columns in its order."""
    mst: list[str] = [m for m in ("mnist", "svhn", "text") if m in maker.modalities]
    order = sorted(maker.subsets, key=lambda s: (s.count("+"), [mst.index(m) for m in s.split("+")]))
    latent = [Column(letters(s, LETTERS), Key("latent", s)) for s in order]
    coherence = [Column("joint", Key("joint_coherence"))]
    coherence += [
        Column(letters(s, LETTERS), Key("coherence", s, target), f"{LETTERS[target]} given")
        for target in mst for s in order if target in outside(s, mst)
    ]  # fmt: skip
    likelihood = [Column("X", Key("log_likelihood", maker.full))]
    likelihood += [Column(f"X|{letters(s, LETTERS)}", Key("log_likelihood", s)) for s in order[:-1]]
    tables = [
        maker.table("Linear classification accuracy of the latent representation (Table 2)", latent),
        maker.table("Generation coherence (Tables 3 and 6)", coherence),
        maker.table("Log-likelihood of X given the subset, nats (Table 4)", likelihood, sources="Table 4"),
    ]
    if any(one.variant == "mopoe_all" for one in maker.groups):
        both = [one for one in maker.groups if one.variant in ("mopoe", "mopoe_all")]
        title = "Objectives: Eq. (5) and Definition 1, log-likelihood of X given the subset, nats (Table 7)"
        tables.append(maker.table(title, likelihood, groups=both, sources="Table 7"))
    return tables


def _celeba(maker: _Maker) -> list[Table | None]:
    """Table 5; the numbers behind Figures 12 and 13 as details."""
    latent = [Column("Joint" if "+" in s else letters(s, CELEBA_LETTERS), Key("latent", s), "Latent representation")
              for s in sorted(maker.subsets, key=lambda s: (s.count("+"), s))]  # fmt: skip
    generation = [Column("I → T", Key("coherence", "image", "text"), "Generation"),
                  Column("T → I", Key("coherence", "text", "image"), "Generation")]  # fmt: skip
    labels = [Column(f"{letters(k.subset, CELEBA_LETTERS)}: {k.label}", k) for k in _keys(maker, "latent_per_label")]
    generated = [
        Column(f"{letters(k.subset, CELEBA_LETTERS)} → {letters(k.target, CELEBA_LETTERS)}: {k.label}", k)
        for k in _keys(maker, "coherence_per_label")
    ]
    return [
        maker.table(f"Mean average precision over the attributes (Table 5){maker.guess}", latent + generation),
        maker.table("Log-likelihood of X given the subset, nats", _likelihood_columns(maker)),
        maker.table("Average precision per attribute, generation (Figure 12)", generated, detail=True),
        maker.table("Average precision per attribute, representation (Figure 13)", labels, detail=True),
    ]


def _generic(maker: _Maker) -> list[Table | None]:
    sizes = range(1, len(maker.modalities))
    coherence = [Column("joint", Key("joint_coherence"))]
    coherence += [Column(str(k), Key("coherence_by_size", str(k)), "sources") for k in sizes]
    return [maker.table("Coherence", coherence), *_details(maker)]


def _details(maker: _Maker) -> list[Table | None]:
    """Every subset by itself; long tables are details."""
    latent = [Column(s, Key("latent", s)) for s in maker.subsets]
    pairs = [(s, t) for s in maker.subsets for t in outside(s, maker.modalities)]
    conditional = [Column(f"{s} → {t}", Key("coherence", s, t)) for s, t in pairs]
    likelihood = _likelihood_columns(maker)
    return [
        maker.table(
            "Linear classification of the latent representation, per subset", latent, detail=len(latent) > _WIDE
        ),
        maker.table("Conditional coherence, source → target", conditional, detail=len(conditional) > _WIDE),
        maker.table("Log-likelihood of X given the subset, nats", likelihood, detail=len(likelihood) > _WIDE),
    ]


def _likelihood_columns(maker: _Maker) -> list[Column]:
    return [Column(s, Key("log_likelihood", s)) for s in maker.subsets]


def _keys(maker: _Maker, metric: str) -> list[Key]:
    every = [key for keys in (*maker.stats, *maker.dashes) for key in keys]
    return list(dict.fromkeys(key for key in every if key.metric == metric))


def letters(subset: str, names: dict[str, str]) -> str:
    """``mnist+svhn`` -> ``M,S``."""
    return ",".join(names[name] for name in subset.split("+"))


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
    return text + (CHANCE if cell.at_chance else "")


def spans(table: Table) -> list[tuple[str, int]]:
    """Runs of columns under the same shared heading: (heading, number of columns)."""
    merged: list[tuple[str, int]] = []
    for column in table.columns:
        if merged and merged[-1][0] == column.span:
            merged[-1] = (column.span, merged[-1][1] + 1)
        else:
            merged.append((column.span, 1))
    return merged
