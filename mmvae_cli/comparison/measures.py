"""From evaluation.json to numbers per group: one flat mapping per run, then mean and standard deviation over seeds.

Aggregates (by number of input modalities, over attributes) are formed within a run before anything is averaged over
runs, so that a standard deviation is always one over seeds.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from mmvae_cli.recipe.families import powerset
from mmvae_cli.run.result import Coherence, EvaluationResult, at_chance

DDOF = 1
DDOF_NOTE = "standard deviation over seeds: of the sample, divided by n - 1 (ddof 1)"


@dataclass(frozen=True, order=True)
class Key:
    """What a number is: ``metric``, ``subset`` (source, or number of sources), ``target`` modality, ``label``."""

    metric: str
    subset: str = ""
    target: str = ""
    label: str = ""


@dataclass(frozen=True)
class Stat:
    """Over ``n`` seeds; ``std`` is None for fewer than two. ``chance``: what a guess has (None: not known, or no
    score); ``trials``: on how many answers each seed's score rests; ``ceiling``: what the same classifiers make of
    real data (None: not known, or no coherence); ``item_error``: the standard error of one seed over the items (None:
    not known)."""

    mean: float
    std: float | None
    n: int
    chance: float | None = None
    trials: float = 0.0
    ceiling: float | None = None
    item_error: float | None = None

    @property
    def at_chance(self) -> bool:
        return self.chance is not None and at_chance(self.mean, self.chance, self.trials)


# metric -> (title, unit, larger is better)
METRICS: dict[str, tuple[str, str, bool]] = {
    "latent": ("linear classification of the representation", "score", True),
    "latent_by_size": ("linear classification, mean over subsets of one size", "score", True),
    "latent_per_label": ("linear classification per attribute", "average precision", True),
    "joint_coherence": ("joint coherence", "share", True),
    "coherence": ("conditional coherence", "score", True),
    "coherence_given": ("conditional coherence, mean over targets outside the source", "score", True),
    "coherence_by_size": ("conditional coherence, mean over sources of one size and targets outside", "score", True),
    "coherence_per_label": ("conditional coherence per attribute", "average precision", True),
    "log_likelihood": ("log p(X | subset)", "nats", True),
    "log_likelihood_by_size": ("log p(X | subset), mean over subsets of one size", "nats", True),
    "log_likelihood_of": ("log p(x_target | subset)", "nats", True),
    "effective_samples": ("effective samples of the weights of log p(X | subset)", "samples", True),
    "effective_samples_by_size": ("effective samples, mean over subsets of one size", "samples", True),
    "frechet": ("Frechet distance", "distance", False),
    "frechet_conditional": ("Frechet distance, mean over the pairs of source and target", "distance", False),
    "frechet_unconditional": ("Frechet distance of samples of no item, mean over targets", "distance", False),
}

UNBOUNDED = ("nats", "distance", "samples")
"""Units of numbers that are no shares of answers: a guess has none of them."""


def subsets(modalities: list[str]) -> list[str]:
    """Every non-empty subset by size, then in the recipe's order: ``m0``, ``m1``, ``m0+m1``."""
    return ["+".join(subset) for subset in powerset(modalities)]


def size(subset: str) -> int:
    return subset.count("+") + 1


def outside(subset: str, modalities: Iterable[str]) -> list[str]:
    return [name for name in modalities if name not in subset.split("+")]


def of_run(evaluation: EvaluationResult) -> dict[Key, float]:
    """Every number of one evaluation, aggregates included; values that could not be measured are absent."""
    return {key: value for key, value in _numbers(evaluation).items() if value is not None}


def unmeasured(evaluations: list[EvaluationResult]) -> list[Key]:
    """What no run could measure although it tried: shown as a dash, its reason in the notes."""
    runs = [_numbers(evaluation) for evaluation in evaluations]
    tried = dict.fromkeys(key for run in runs for key in run)
    return [key for key in tried if all(run.get(key) is None for run in runs)]


def _numbers(evaluation: EvaluationResult) -> dict[Key, float | None]:
    numbers: dict[Key, float | None] = {}
    if latent := evaluation.latent:
        numbers |= {Key("latent", subset): value for subset, value in latent.values.items()}
        numbers |= _by_size("latent_by_size", latent.values)
        for subset, row in latent.per_label.items():
            numbers |= {Key("latent_per_label", subset, "", label): v for label, v in row.items()}
    if coherence := evaluation.coherence:
        if coherence.metric == "accuracy" or coherence.joint is not None:  # attributes have no label to agree on
            numbers[Key("joint_coherence")] = coherence.joint
        numbers |= _pairs("coherence", coherence.conditional)
        scored = scored_targets(coherence)
        given = {s: _mean([row.get(t) for t in others]) for s, row in coherence.conditional.items()
                 if (others := outside(s, scored))}  # fmt: skip
        numbers |= {Key("coherence_given", subset): value for subset, value in given.items()}
        numbers |= _by_size("coherence_by_size", given)
        for source, targets in coherence.per_label.items():
            for target, row in targets.items():
                numbers |= {Key("coherence_per_label", source, target, label): v for label, v in row.items()}
    if likelihood := evaluation.likelihood:
        numbers |= {Key("log_likelihood", subset): value for subset, value in likelihood.joint.items()}
        numbers |= _by_size("log_likelihood_by_size", likelihood.joint)
        numbers |= _pairs("log_likelihood_of", likelihood.per_modality)
        numbers |= {Key("effective_samples", subset): value for subset, value in likelihood.effective_samples.items()}
        numbers |= _by_size("effective_samples_by_size", likelihood.effective_samples)
    if quality := evaluation.quality:
        free, pairs = quality.unconditional["frechet"], quality.conditional["frechet"]
        numbers |= {Key("frechet", "", target): value for target, value in free.items()} | _pairs("frechet", pairs)
        comparable = [value for target, value in free.items() if target in quality.feature_size]
        numbers[Key("frechet_unconditional")] = _mean(comparable)
        numbers[Key("frechet_conditional")] = _mean([value for row in pairs.values() for value in row.values()])
    return numbers


def scored_targets(coherence: Coherence) -> list[str]:
    """The modalities whose samples a classifier could score: means over targets are over these. Where none could, all
    of them, so that it is seen what was tried."""
    names = list(dict.fromkeys(target for row in coherence.conditional.values() for target in row))
    having = {target for row in coherence.conditional.values() for target, value in row.items() if value is not None}
    return [name for name in names if name in having or not having]


def _pairs(metric: str, table: dict[str, dict[str, float | None]]) -> dict[Key, float | None]:
    return {Key(metric, source, target): value for source, row in table.items() for target, value in row.items()}


def _by_size(metric: str, values: dict[str, float | None]) -> dict[Key, float | None]:
    """The mean over the subsets of each size. Where one of them was not measured there is none: a mean over the others
    could not be compared."""
    sizes = sorted({size(subset) for subset in values})
    return {Key(metric, str(k)): _mean([v for s, v in values.items() if size(s) == k]) for k in sizes}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def of_seeds(evaluations: list[EvaluationResult]) -> dict[Key, Stat]:
    """Mean and sample standard deviation over runs that differ in the seed, for every number any of them has."""
    runs = [_Run(of_run(one), of_run(_real(one)), _errors(one), one) for one in evaluations]
    keys = {key: None for run in runs for key in run.numbers}
    return {key: _stat(key, [run for run in runs if key in run.numbers]) for key in keys}


class _Run(NamedTuple):
    """``real``: what the numbers would be if the model generated the evaluated items themselves; ``errors``: what is
    measured of their standard errors over the items."""

    numbers: dict[Key, float]
    real: dict[Key, float]
    errors: dict[Key, float | None]
    evaluation: EvaluationResult


def _stat(key: Key, runs: list[_Run]) -> Stat:
    guesses = [_guess(key, run.evaluation) for run in runs]
    over, trials = stat([run.numbers[key] for run in runs]), min(trials for _, trials in guesses)
    errors = [run.errors.get(key) for run in runs]
    if _is_share(key, runs[0].evaluation):
        errors = [math.sqrt(max(over.mean * (1 - over.mean), 0.0) / trials)] if trials else [None]
    return replace(
        over, chance=_mean([chance for chance, _ in guesses]), trials=trials,
        ceiling=_mean([run.real.get(key) for run in runs]), item_error=_mean(errors),
    )  # fmt: skip


def _is_share(key: Key, evaluation: EvaluationResult) -> bool:
    """Whether a number is a share of answers, or a mean of such: then its error over the items is the binomial one."""
    return key.metric == "joint_coherence" or (METRICS[key.metric][1] not in UNBOUNDED and not evaluation.base_rates)


def _errors(evaluation: EvaluationResult) -> dict[Key, float | None]:
    """The standard error of log p(X) over the items. Of a mean over subsets, which are of the same items, it is at most
    the mean of theirs."""
    errors = evaluation.likelihood.standard_errors if evaluation.likelihood else {}
    of_each = {Key("log_likelihood", subset): error for subset, error in errors.items()}
    return of_each | _by_size("log_likelihood_by_size", errors)


def _real(evaluation: EvaluationResult) -> EvaluationResult:
    real = coherence = evaluation.coherence
    if coherence:
        scored = scored_targets(coherence)
        scores = {name: value if name in scored else None for name, value in coherence.classifiers.items()}
        real = coherence.model_copy(update={
            "joint": coherence.joint_ceiling, "conditional": dict.fromkeys(coherence.conditional, scores),
            "per_label": dict.fromkeys(coherence.per_label, coherence.classifiers_per_label),
        })  # fmt: skip
    return evaluation.model_copy(update={"latent": None, "likelihood": None, "quality": None, "coherence": real})


def ceiling(stats: Iterable[Stat | None]) -> float | None:
    """What real data score: the mean where the stats' own differ, as they do where classifiers were not the same."""
    return _mean([stat.ceiling for stat in stats if stat and stat.ceiling is not None])


def _guess(key: Key, evaluation: EvaluationResult) -> tuple[float | None, float]:
    """What a guess scores in place of this number, and on how many answers the number rests."""
    if METRICS[key.metric][1] in UNBOUNDED:
        return None, 0.0
    if key.metric == "joint_coherence":
        part = evaluation.coherence
        return (part.joint_chance, part.joint_samples) if part else (None, 0.0)
    if key.label:
        rate = evaluation.chance_of(key.subset, key.label)
        return rate, evaluation.dataset.rows.get(key.subset, evaluation.dataset.count) * (rate or 0.0)
    sources = [key.subset]
    if key.metric.endswith("_by_size"):  # a mean over sources rests on no more items than the scarcest of them has
        sources = [source for source in evaluation.dataset.rows if str(size(source)) == key.subset] or [""]
    return _mean([evaluation.chance_of(source) for source in sources]), min(map(evaluation.trials_of, sources))


def stat(values: list[float]) -> Stat:
    mean = math.fsum(values) / len(values)
    if len(values) <= DDOF:
        return Stat(mean, None, len(values))
    return Stat(mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - DDOF)), len(values))
