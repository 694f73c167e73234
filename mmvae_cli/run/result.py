"""evaluation.json: what was measured, and everything needed to know later exactly how. No torch.

Subsets are named by their modalities joined with ``+`` in the recipe's order (``m0+m3``). A value that could not be
measured is null, and ``reasons`` says why under the same dotted path.
"""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mmvae_cli.disk.sealed import read_json
from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.process.named import Features, Protocol
from mmvae_cli.process.words import first
from mmvae_cli.recipe import EvaluationSpec
from mmvae_cli.recipe.wording import believed

USUAL = ("latent", "coherence", "likelihood")
"""What is measured where nothing else is asked for."""
METRICS = (*USUAL, "quality")
CLASSIFIER_VERSION = "5"
"""Version of the coherence classifiers and of how they are trained: one of another version is trained again, and what
it has measured is evaluated again."""


@dataclass(frozen=True)
class NotMeasured:
    """Stands for a value that could not be measured."""

    why: str


NOT_FINITE = NotMeasured("the model gives numbers that are not finite")
Value = float | NotMeasured
"""What a metric returns; a float that is not finite, which a model with finite weights can give, is NOT_FINITE."""
Score = float | None
"""What evaluation.json keeps of it."""
Share = Annotated[float, Field(ge=0, le=1)] | None
Measure = Annotated[float, Field(ge=-1, le=1e12)] | None
"""A distance, a likeness, an adjusted index."""
Nats = Annotated[float, Field(ge=-1e12, le=1e12)] | None
Count = Annotated[int, Field(ge=0, le=2**53)]
FID, INCEPTION = "FID (Inception)", "6726825d0af5f729"
"""A Frechet distance is called so in features of these weights alone: the beginning of their SHA-256."""
CHANCE = "°"
"""Marks, in every table, a score that a guess reaches, too."""
FEW_EFFECTIVE = (
    "effective samples: (sum w)^2 / sum w^2 of an item's importance weights; near 1, one sample outweighs all others, "
    "and the true log-likelihood may be much higher: raise evaluation.importance_samples"
)
"""What is said below every table of log-likelihoods."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class RunFacts(_Part):
    """``folder``: the run's, where the evaluation lies outside it (``evaluate --out``). ``weights``: the SHA-256 of the
    checkpoint's weights; older files lack it."""

    recipe: str
    method: str
    seed: int
    checkpoint: str
    step: int
    epoch: int
    folder: str | None = None
    weights: str | None = None


class DatasetFacts(_Part):
    name: str
    fingerprint: str
    split: str
    count: Count
    stand_in: str | None = None
    repeated: str | None = None
    rows: dict[str, Count] = Field(default_factory=dict)
    """Incomplete data: how many of the items have all of each subset, which scores of that source rest on."""
    chances: dict[str, Share] = Field(default_factory=dict)
    base_rates: dict[str, dict[str, float]] = Field(default_factory=dict)
    """The same of these items: what a guess scores, and of attributes the share that has each."""


class Latent(_Part):
    """Linear classification of the representation (Table 2, Figure 3 left). ``values``: subset -> score;
    ``per_label``: subset -> attribute -> average precision, where labels are attributes; ``constant``: subset whose
    classifier gives all items one class -> that class; ``samples``, of incomplete data: subset -> how many labelled
    training items have all of it; ``private``: modality -> the score of its private latent, which should be at chance;
    ``clustering``: subset -> measure -> value, of k-means with so many ``clusters``."""

    metric: Literal["accuracy", "average_precision"]
    values: dict[str, Share]
    per_label: dict[str, dict[str, Share]] = Field(default_factory=dict)
    constant: dict[str, str] = Field(default_factory=dict)
    samples: dict[str, int] = Field(default_factory=dict)
    private: dict[str, Share] = Field(default_factory=dict)
    clusters: int = 0
    clustering: dict[str, dict[str, Measure]] = Field(default_factory=dict)


class Alignment(_Part):
    """Retrieval without labels: pair of modalities -> measure -> value, among so many ``items`` of each."""

    items: dict[str, int]
    pairs: dict[str, dict[str, Measure]]


class Coherence(_Part):
    """``joint``: share of prior samples whose modalities agree. ``conditional``: source -> target -> score, targets
    inside the source included (the paper's tables leave those out). ``classifiers``: modality -> what the coherence
    classifiers score on the evaluated items themselves, the ceiling of a conditional coherence;
    ``classifiers_per_label``: the same by modality and attribute; ``joint_ceiling``: the share of these items of which
    the classifiers of all modalities say the same.

    ``joint_chance``: the joint coherence that modalities without anything in common would have if each were given each
    class as often as here: near 0 where all classes are generated, 1 for a model that always generates the same one.
    ``joint_at_least``: k -> share of prior samples of which at least k modalities agree. ``agreement``: source -> share
    of pairs of modalities outside it that are generated from one z and agree, whatever the true label.
    ``balanced``: the accuracy of ``conditional`` as a mean over the classes.
    ``constant`` and ``joint_constant``: what is always given one class -> that class, by source and target, and by
    modality among the prior samples."""

    metric: Literal["accuracy", "average_precision"]
    joint: Share
    joint_samples: Count
    joint_chance: Share = None
    joint_ceiling: Share = None
    joint_constant: dict[str, str] = Field(default_factory=dict)
    joint_at_least: dict[str, Share] = Field(default_factory=dict)
    conditional: dict[str, dict[str, Share]]
    balanced: dict[str, dict[str, Share]] = Field(default_factory=dict)
    agreement: dict[str, Share] = Field(default_factory=dict)
    constant: dict[str, dict[str, str]] = Field(default_factory=dict)
    per_label: dict[str, dict[str, dict[str, Share]]] = Field(default_factory=dict)
    classifiers: dict[str, Share]
    classifiers_per_label: dict[str, dict[str, Share]] = Field(default_factory=dict)


class LogLikelihood(_Part):
    """Importance-sampled log p(X | subset) in nats per item, unweighted. ``joint``: all modalities;
    ``per_modality``: source -> target -> log p(x_target | source). ``standard_errors``: subset -> standard error of
    ``joint`` over the items. ``effective_samples``: subset -> (sum w)^2 / sum w^2 of an item's weights, mean over the
    items: near 1, so many samples are worth one."""

    importance_samples: int
    grouping: Literal["per_item", "released"]
    count: Count
    joint: dict[str, Nats]
    per_modality: dict[str, dict[str, Nats]]
    standard_errors: dict[str, Measure] = Field(default_factory=dict)
    effective_samples: dict[str, Measure] = Field(default_factory=dict)


class Quality(_Part):
    """Of generated against real samples, as ``features``: what they are taken by, with the beginning of the SHA-256 of
    its ``weights`` and its size by modality. ``pairs``: the rule of what is compared. ``unconditional``: measure ->
    target, from ``joint_samples`` of the ``sampler``; ``conditional``: measure -> source -> target, from ``generated``
    items. ``reconstruction``: source -> modality of it -> likeness -> mean over these items."""

    features: Features
    pairs: str
    sampler: str
    weights: dict[str, str]
    feature_size: dict[str, int]
    reference_split: str
    reference_count: Count
    generated: int
    joint_samples: Count
    unconditional: dict[str, dict[str, Measure]]
    conditional: dict[str, dict[str, dict[str, Measure]]]
    reconstruction: dict[str, dict[str, dict[str, Measure]]]

    @property
    def distance(self) -> str:
        """What its Frechet distance is called."""
        if self.features == "classifier":
            return "FD (classifier)"
        other = [digest for digest in self.weights.values() if digest != INCEPTION]
        return f"FD (Inception of other weights, {other[0]}...)" if other else FID


NAMED_LATER = {
    "default": {"attribute_scores": "scores", "attribute_average": "items", "sampler": "prior"},
    "released": {"attribute_scores": "predictions", "attribute_average": "blocks", "sampler": "prior"},
}
"""Settings that evaluation.json did not always name, and what they were by then: an older file reads as a newer one."""


PARTS = ("latent", "alignment", *METRICS[1:])
"""Parts of a result: alignment is what latent measures without labels."""


class EvaluationResult(_Part):
    """``base_rates``: the share of the evaluated items that have each attribute, which is the average precision of a
    guess (empty for classes). ``chance``: what a guess scores: the share of the most frequent class, or the mean base
    rate of the attributes that occur. Of incomplete data ``dataset`` has both for the items of each source."""

    format: Literal["mmvae-evaluation"] = "mmvae-evaluation"
    version: Literal[1] = 1
    protocol: Protocol
    run: RunFacts
    dataset: DatasetFacts
    modalities: list[str]
    settings: dict[str, Any] = Field(default_factory=dict)
    base_rates: dict[str, float] = Field(default_factory=dict)
    chance: Share = None
    latent: Latent | None = None
    alignment: Alignment | None = None
    coherence: Coherence | None = None
    likelihood: LogLikelihood | None = None
    quality: Quality | None = None
    reasons: dict[str, str] = Field(default_factory=dict)

    @property
    def sampler(self) -> str:
        """What z was drawn from when nothing was given: prior or gmm."""
        return str(self.settings.get("sampler", "prior")).partition(" ")[0]

    @property
    def guess(self) -> str:
        """What a guess scores, in words: of incomplete data it differs from source to source."""
        known = [value for value in (*self.dataset.chances.values(), self.chance) if value is not None]
        low, high = (f"{pick(known):.3f}" for pick in (min, max)) if known else ("", "")
        return low if low == high else f"{low} to {high}, depending on what is given"

    def chance_of(self, source: str, label: str = "") -> float | None:
        """What a guess scores on the items that have the source, of one attribute or in all."""
        if label:
            return self.dataset.base_rates.get(source, self.base_rates).get(label)
        return self.dataset.chances.get(source, self.chance)

    def trials_of(self, source: str) -> float:
        """The number of answers that a score given ``source`` rests on: for an accuracy the items, of incomplete data
        those that have the source; for a mean average precision, which takes a precision at each of those, the items
        that have an attribute."""
        count = self.dataset.rows.get(source, self.dataset.count)
        return count * (self.chance_of(source) or 0.0 if self.base_rates else 1.0)

    def constants(self) -> list[str]:
        """A sentence for each kind of answer that is the same whatever is asked."""
        latent = self.latent.constant if self.latent else {}
        conditional = self.coherence.constant if self.coherence else {}
        joint = self.coherence.joint_constant if self.coherence else {}
        pairs = {f"{source} -> {name}": label for source, row in conditional.items() for name, label in row.items()}
        return [f"{what} ({names})" for what, labels in (
            ("the latent classifier gives every item the same class", latent),
            ("what is generated is always classified alike", pairs),
            (f"samples from the {self.sampler} are always classified alike", joint),
        ) if (names := first([f"{name}: {label}" for name, label in labels.items()]))]  # fmt: skip


def with_reasons(measured: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """What was measured, with None for every value that could not be, and why by the dotted path of each."""
    reasons: dict[str, str] = {}

    def clean(value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return {key: clean(item, f"{path}.{key}" if path else key) for key, item in value.items()}
        if isinstance(value, float) and not math.isfinite(value):
            value = NOT_FINITE
        if not isinstance(value, NotMeasured):
            return value
        reasons[path] = value.why
        return None

    return clean(measured, ""), reasons


def metrics(text: str) -> list[str]:
    """``latent,coherence`` -> the metrics named. Raises UsageProblem."""
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    if not wanted or any(name not in METRICS for name in wanted):
        raise UsageProblem(f"--metrics {text[:80]!r}: use any of {','.join(METRICS)}")
    return wanted


def classifiers_of(spec: EvaluationSpec) -> str:
    """Which classifiers measure coherence, as the settings of an evaluation say it."""
    return f"{spec.classifiers or spec.protocol}, version {CLASSIFIER_VERSION}"


def at_chance(value: float, chance: float, trials: float, errors: float = 2) -> bool:
    """Whether a score is no better than a guess: at most ``errors`` binomial standard errors of ``chance`` above it."""
    error = math.sqrt(chance * (1 - chance) / trials) if trials else math.inf
    return value <= chance + errors * error + 1e-9


def by_reason(reasons: dict[str, str]) -> dict[str, str]:
    """Why -> which: ``run1, run2, run3, run4 and 29 more``."""
    paths: dict[str, list[str]] = {}
    for path, why in reasons.items():
        paths.setdefault(why, []).append(path)
    return {why: first(these) for why, these in paths.items()}


def unmeasured(reasons: dict[str, str]) -> dict[str, str]:
    """Why something could not be measured -> what: ``coherence.joint, coherence.conditional (29 numbers)``."""
    parts = {why: Counter(".".join(path.split(".")[:2]) for path, because in reasons.items() if because == why)
             for why in reasons.values()}  # fmt: skip
    return {why: ", ".join(name if count == 1 else f"{name} ({count} numbers)" for name, count in found.items())
            for why, found in parts.items()}  # fmt: skip


def load(path: Path) -> EvaluationResult:
    """Read and check an evaluation.json. Raises DataProblem in one line, Unreadable where it may not be read."""
    outcome = believed(EvaluationResult, read_json(path), path, "run mmvae evaluate again")
    return outcome.model_copy(update={"settings": NAMED_LATER[outcome.protocol] | outcome.settings})
