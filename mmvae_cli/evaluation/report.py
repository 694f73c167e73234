"""What ``evaluate`` says of its result: plain tables, every score beside what a guess has."""

from collections.abc import Iterable, Mapping

from mmvae_cli.process import console
from mmvae_cli.run import result
from mmvae_cli.run.result import CHANCE, EvaluationResult, Score, at_chance

_OF_DISTANCES = "by distances in which nothing is standardised: a linear classifier may find far more"
_NEAR = ("precision", "recall", "density", "coverage")


def text(outcome: EvaluationResult) -> str:
    """The result as plain tables."""
    about = outcome.dataset
    notes = f"; stand-in: {about.stand_in}" if about.stand_in else ""
    notes += f"; note: {about.repeated}" if about.repeated else ""
    trained = f"{outcome.run.recipe} seed {outcome.run.seed}, epoch {outcome.run.epoch}"
    measured = f"{about.count:,} {about.split} items of {about.name} ({about.fingerprint})"
    parts = [f"{trained}, on {measured}; protocol: {outcome.protocol}{notes}"]
    if about.rows:
        samples = outcome.latent.samples if outcome.latent else {}
        rows = [[subset, f"{count:,}", f"{samples.get(subset, 0):,}"] for subset, count in about.rows.items()]
        parts.append(console.table("incomplete data: how many items have a source",
                                   ["source", f"{about.split} items", "labelled samples"], rows))  # fmt: skip
    parts += [*_latent(outcome), *_alignment(outcome), *_coherence(outcome)]
    if remarks := _remarks(outcome, parts[1:]):
        parts.append("\n".join(remarks))
    parts += [*_attributes(outcome), *_likelihood(outcome), *_quality(outcome)]
    if outcome.reasons:
        missing = result.unmeasured(outcome.reasons).items()
        parts.append("\n".join(f"not measured: {what}: {why}" for why, what in missing))
    return "\n\n".join(parts)


def _table(
    title: str, what: str, named: Iterable[tuple[str, Mapping[str, Score]]], columns: list[str] | None = None,
    digits: int = 3,
) -> str:  # fmt: skip
    """``named``: the name and the values of each row, under ``columns`` or all that the rows have."""
    named = list(named)
    columns = columns or list(dict.fromkeys(key for _, row in named for key in row))
    rows = [[name, *(console.number(row.get(key), digits) for key in columns)] for name, row in named]
    return console.table(title, [what, *columns], rows)


def _latent(outcome: EvaluationResult) -> list[str]:
    latent = outcome.latent
    if not latent:
        return []
    rows = [[subset, _score(outcome, value, subset)] for subset, value in latent.values.items()]
    tables = [console.table(f"latent representation ({latent.metric})", ["subset", "score"], rows)]
    if latent.private:
        chance = "; should be at chance" + (f", {outcome.guess}" if outcome.guess else "")
        rows = [[name, _score(outcome, value, name)] for name, value in latent.private.items()]
        tables.append(console.table(f"private latents ({latent.metric}{chance})", ["modality", "score"], rows))
    if latent.clusters:
        found = _table(f"k-means of the latent space, {latent.clusters} clusters", "subset", latent.clustering.items())
        tables.append(f"{found}\n{_OF_DISTANCES}")
    return tables


def _alignment(outcome: EvaluationResult) -> list[str]:
    if not outcome.alignment:
        return []
    counts = outcome.alignment.items  # chance is k / N: of incomplete data every pair has its own N
    alike = len(set(counts.values())) == 1
    pairs = {pair if alike else f"{pair} ({counts[pair]:,})": row for pair, row in outcome.alignment.pairs.items()}
    about = f"{max(counts.values()):,} items" if alike else "number of items in brackets"
    return [_table(f"alignment of modalities, {about} (foscttm: 0 perfect, 0.5 chance)", "pair", pairs.items())]


def _coherence(outcome: EvaluationResult) -> list[str]:
    part, names = outcome.coherence, outcome.modalities
    if not part:
        return []
    sources = {**part.conditional, "real data": part.classifiers}
    rows = [[s, *(_score(outcome, targets.get(n), s if s in part.conditional else n) for n in names)]
            for s, targets in sources.items()]  # fmt: skip
    return [console.table(f"coherence ({part.metric}): joint {_joint(outcome)}", ["source", *names], rows)]


def _attributes(outcome: EvaluationResult) -> list[str]:
    """Average precision by attribute beside the base rate, without which it says nothing: of the representation of
    every subset; of what is generated from each subset without the target in it; of the classifiers. The last row is
    the mean over the attributes that could be scored."""
    if not outcome.base_rates:
        return []
    columns: dict[str, dict[str, Score]] = {"base rate": {**outcome.base_rates}}
    columns |= {f"base rate, {source}": {**rates} for source, rates in outcome.dataset.base_rates.items()}
    if outcome.latent:
        columns |= {f"latent {subset}": values for subset, values in outcome.latent.per_label.items()}
    if part := outcome.coherence:
        columns |= {f"{source}->{target}": values for source, targets in part.per_label.items()
                    for target, values in targets.items() if target not in source.split("+")}  # fmt: skip
        columns |= {f"classifier {name}": values for name, values in part.classifiers_per_label.items()}
    rows = [(label, {name: values.get(label) for name, values in columns.items()}) for label in outcome.base_rates]
    means = {name: _mean(values) for name, values in columns.items()} | {"base rate": outcome.chance}
    return [_table("average precision by attribute", "attribute", [*rows, ("mean", means)])]


def _mean(values: dict[str, Score]) -> Score:
    known = [value for value in values.values() if value is not None]
    return sum(known) / len(known) if known else None


def _likelihood(outcome: EvaluationResult) -> list[str]:
    found, names = outcome.likelihood, outcome.modalities
    if not found:
        return []
    rows = []
    for source, value in found.joint.items():
        each = found.per_modality.get(source, {})
        values = [value, found.standard_errors.get(source), *map(each.get, names), found.effective_samples.get(source)]
        rows.append([source, *(console.number(one, 1) for one in values)])
    title = (f"log-likelihood given the source, nats per item ({found.importance_samples} samples, "
             f"grouping {found.grouping}, {found.count:,} items)")  # fmt: skip
    table = console.table(title, ["source", "all", "±", *names, "effective"], rows)
    told = ["all: log p(X). The column of a modality: log p of that modality alone. The columns do not add up."]
    told += ["±: the standard error of log p(X) over the items"] if found.standard_errors else []
    told += [result.FEW_EFFECTIVE] if found.effective_samples else []
    return ["\n".join([table, *told])]


def _quality(outcome: EvaluationResult) -> list[str]:
    """Frechet distances by source and target, neighbours' measures, reconstructions."""
    quality, names = outcome.quality, outcome.modalities
    if not quality:
        return []
    free, tables = quality.unconditional, []
    if quality.feature_size:
        size = "/".join(dict.fromkeys(str(size) for size in quality.feature_size.values()))
        real = f"{quality.reference_count:,} real {quality.reference_split} items"
        drawn = f"{quality.joint_samples:,} samples of the {quality.sampler}, {quality.generated:,} of each source"
        title = f"{quality.distance}, lower is better: {size} features, {real}, {drawn}"
        distances = [(quality.sampler, free["frechet"]), *quality.conditional["frechet"].items()]
        near = [(measure, free[measure]) for measure in _NEAR]
        tables = [_table(title, "source", distances, names, digits=2),
                  _table(f"samples of the {quality.sampler} among real ones", "measure", near, names)]  # fmt: skip
    likeness = [[source, name, *(f"{score} {console.number(value, 4)}" for score, value in scores.items())]
                for source, own in quality.reconstruction.items() for name, scores in own.items()]  # fmt: skip
    wide = max(map(len, likeness))
    rows = [row + [""] * (wide - len(row)) for row in likeness]
    return [*tables, console.table("reconstruction", ["source", "modality", *[""] * (wide - 2)], rows)]


# what a guess reaches, too --------------------------------------------------------------------------------------------


def _score(outcome: EvaluationResult, value: float | None, source: str) -> str:
    """A latent or conditional score given ``source`` with three decimals; marked where a guess is as good."""
    return _marked(value, outcome.chance_of(source), outcome.trials_of(source))


def _joint(outcome: EvaluationResult) -> str:
    """The joint coherence, what it would be if the modalities had nothing in common, and what real data have."""
    part = outcome.coherence
    if part is None or part.joint is None:
        return "-"
    beside = {"by chance": part.joint_chance, "real data": part.joint_ceiling}
    known = ", ".join(f"{what} {value:.3f}" for what, value in beside.items() if value is not None)
    return _marked(part.joint, part.joint_chance, part.joint_samples) + (f" ({known})" if known else "")


def _marked(value: float | None, chance: float | None, trials: float) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}{CHANCE if chance is not None and at_chance(value, chance, trials) else ''}"


def _remarks(outcome: EvaluationResult, tables: list[str]) -> list[str]:
    """What the mark means, where ``tables`` have it, and which answers are always the same."""
    if outcome.chance is None or not any(CHANCE in table for table in tables):
        return outcome.constants()
    guess = f"a guess, which has {outcome.guess} (of the joint coherence: its own chance)"
    return [f"{CHANCE} at chance: no better than {guess}", *outcome.constants()]


def warning(outcome: EvaluationResult) -> str:
    """One line where nothing of a kind is better than a guess (three standard errors, for they are many); or empty."""
    if outcome.chance is None:
        return ""
    latent = outcome.latent.values.items() if outcome.latent else ()
    rows = outcome.coherence.conditional.items() if outcome.coherence else ()
    generated = [
        (source, value) for source, row in rows for name, value in row.items() if name not in source.split("+")
    ]
    kinds = {"the latent representation": latent, "what is generated from other modalities": generated}
    known = {what: [(source, v) for source, v in scores if v is not None] for what, scores in kinds.items()}

    def is_guess(source: str, value: float) -> bool:
        return at_chance(value, outcome.chance_of(source) or 0.0, outcome.trials_of(source), errors=3)

    what = [what for what, scores in known.items() if scores and all(is_guess(*one) for one in scores)]
    if not what:
        return ""
    joint = "; the joint coherence then says nothing either" if outcome.coherence and outcome.coherence.joint else ""
    return (f"{' and '.join(what)}: every score is at chance, no better than a guess ({outcome.guess}){joint}. The "
            "model may need more epochs, more data or another objective.beta")  # fmt: skip
