"""Which tables a dataset has: the paper's, with its columns in its order, or one for every measure."""

from mmvae_cli.comparison.groups import Collection
from mmvae_cli.comparison.measures import Key, outside
from mmvae_cli.comparison.published import Published, experiment
from mmvae_cli.comparison.tables import Column, Maker, Table
from mmvae_cli.run.result import FID

LETTERS = {"mnist": "M", "svhn": "S", "text": "T"}
CELEBA_LETTERS = {"image": "I", "text": "T"}
_WIDE = 15


def build(collection: Collection, published: list[Published]) -> list[Table]:
    """The tables for this dataset, most important first."""
    layouts = {"polymnist": _polymnist, "mnist-svhn-text": _trimodal, "celeba": _celeba}
    known, maker = experiment(collection), Maker(collection, published)
    short = {"mnist-svhn-text": LETTERS, "celeba": CELEBA_LETTERS}.get(known, {})
    own = [table for table in layouts.get(known, _generic)(maker) if table]
    for table in own:
        table.letters = ", ".join(f"{letter}: {name}" for name, letter in short.items())
    return [*filter(None, [_summary(maker)]), *own, *filter(None, _quality(maker))]


def _summary(maker: Maker) -> Table | None:
    count = len(maker.modalities)
    columns = [
        Column("all modalities", Key("latent", maker.full), "Latent"),
        Column("one modality", Key("latent_by_size", "1"), "Latent"),
        Column("joint", Key("joint_coherence"), "Coherence"),
        Column("from one", Key("coherence_by_size", "1"), "Coherence"),
        Column("one missing", Key("coherence_by_size", str(count - 1)), "Coherence"),
        Column("log p(X)", Key("log_likelihood", maker.full), "Likelihood"),
    ]
    if count == 2:
        columns.pop(4)  # from one is one missing
    return maker.table("Summary", columns, beside=False)


def _quality(maker: Maker) -> list[Table | None]:
    """The four numbers that papers print since 2023, and every distance as a detail."""
    if maker.quality is None:
        return []
    called = maker.quality.distance
    what = {FID: "FID", "FD (classifier)": "FD in the classifiers' features"}.get(called, called)
    about = f"pairs {maker.quality.pairs}, {maker.quality.reference_count:,} real {maker.quality.reference_split} items"
    four = [
        Column("conditional", Key("coherence_by_size", "1"), "Coherence"),
        Column("joint", Key("joint_coherence"), "Coherence"),
        Column("conditional, mean of all pairs", Key("frechet_conditional"), what),
        Column("unconditional", Key("frechet_unconditional"), what),
    ]
    each = [Column(f"{key.subset or maker.quality.sampler} → {key.target}", key) for key in _keys(maker, "frechet")]
    return [
        maker.table(f"Coherence from one modality, and {what} (lower is better; {about})", four),
        maker.table(f"{what}, source → target", each, detail=len(each) > _WIDE),
    ]


def _polymnist(maker: Maker) -> list[Table | None]:
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


def _trimodal(maker: Maker) -> list[Table | None]:
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


def _celeba(maker: Maker) -> list[Table | None]:
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


def _generic(maker: Maker) -> list[Table | None]:
    sizes = range(1, len(maker.modalities))
    coherence = [Column("joint", Key("joint_coherence"))]
    coherence += [Column(str(k), Key("coherence_by_size", str(k)), "sources") for k in sizes]
    return [maker.table("Coherence", coherence), *_details(maker)]


def _details(maker: Maker) -> list[Table | None]:
    """Every subset by itself; long tables are details."""
    latent = [Column(s, Key("latent", s)) for s in maker.subsets]
    pairs = [(s, t) for s in maker.subsets for t in outside(s, maker.modalities)]
    conditional = [Column(f"{s} → {t}", Key("coherence", s, t)) for s, t in pairs]
    return [
        maker.table(title, columns, detail=len(columns) > _WIDE)
        for title, columns in (
            ("Linear classification of the latent representation, per subset", latent),
            ("Conditional coherence, source → target", conditional),
            ("Log-likelihood of X given the subset, nats", _likelihood_columns(maker)),
        )
    ]


def _likelihood_columns(maker: Maker) -> list[Column]:
    return [Column(s, Key("log_likelihood", s)) for s in maker.subsets]


def _keys(maker: Maker, metric: str) -> list[Key]:
    measured = [key for one in maker.groups for key in one.stats]
    every = measured + [key for one in maker.groups for key in one.dashes]
    return list(dict.fromkeys(key for key in every if key.metric == metric))


def letters(subset: str, names: dict[str, str]) -> str:
    """``mnist+svhn`` -> ``M,S``."""
    return ",".join(names[name] for name in subset.split("+"))
