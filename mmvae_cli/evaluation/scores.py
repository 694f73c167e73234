"""Accuracy and average precision over the evaluated items, whole or (released) per batch and averaged."""

import math
from collections.abc import Iterable

import numpy as np
from torch import Tensor, nn

from mmvae_cli.evaluation.encoding import Evaluation
from mmvae_cli.run.result import NOT_FINITE, NotMeasured, Value

NO_POSITIVE = NotMeasured("no evaluated item has this attribute")
CONSTANT = 0.99
"""A classifier that gives so large a share of the items one class tells nothing about them."""


def classified(classifier: nn.Module, means: Tensor) -> Tensor:
    """What a classifier makes of generated means (S, b, *shape): (S, b, labels)."""
    logits: Tensor = classifier(means.flatten(0, 1))
    return logits.unflatten(0, means.shape[:2])


def correct_by_class(logits: Tensor, labels: Tensor) -> Tensor:
    """How many items of each class have its logit as the largest: logits (..., b, classes), labels (b,) -> (...,
    classes) as floats. All nan where a logit is nan or +inf; -inf is the logit of a class that is ruled out."""
    ours = (logits.argmax(-1) == labels).double()  # (..., b)
    of_class = nn.functional.one_hot(labels, logits.shape[-1]).double()  # (b, classes)
    wrong = (logits.isnan() | logits.isposinf()).flatten(-2).any(-1)
    return (ours @ of_class).masked_fill(wrong[..., None], math.nan)


def answers(logits: Tensor) -> Tensor:
    """How often each class is the answer: logits (..., b, classes) -> (..., classes)."""
    return nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).sum(-2).double()


def constant(counts: Tensor, evaluation: Evaluation) -> str | None:
    """The class that nearly all of the answers ``counts`` (classes,) are; None where they differ."""
    return evaluation.labels.names[int(counts.argmax())] if counts.max() >= CONSTANT * counts.sum() else None


def base_rates(evaluation: Evaluation, labels: Tensor) -> dict[str, float]:
    """Share of the items with ``labels`` (b, A) that have each attribute: the average precision of a guess. Classes:
    ``{}``."""
    if evaluation.labels.kind == "class":
        return {}
    return dict(zip(evaluation.labels.names, labels.double().mean(0).tolist(), strict=True))


def chance(labels: Tensor) -> float:
    """What a guess scores on ``labels``: (b,) the share of the most frequent class, which an answer that is always the
    same can reach; (b, A) the mean base rate, of the attributes that occur."""
    if labels.ndim == 1:
        return float(labels.bincount().max()) / len(labels)
    rates = labels.double().mean(0)
    return float(rates[rates > 0].mean()) if rates.any() else 0.0


def average_precisions(
    scores: list[Tensor], labels: list[Tensor], evaluation: Evaluation, *, hard: bool = False
) -> dict[str, Value]:
    """Average precision per attribute: blocks of scores (b, A), higher is more likely, and labels (b, A) in 0/1.

    ``hard``: scores count as 0/1 predictions (score > 0), as in the released code. Where the protocol averages
    blocks, each is scored by itself, a block without a positive counting 0 (equations 6.1, 6.2).
    """
    if not all(block.isfinite().all() for block in scores):
        return dict.fromkeys(evaluation.labels.names, NOT_FINITE)
    ready = [((s > 0).double() if hard else s.double()).cpu().numpy() for s in scores]
    truth = [block.cpu().numpy() for block in labels]
    whole = evaluation.protocol.attribute_average == "items"
    if whole:
        ready, truth = [np.concatenate(ready)], [np.concatenate(truth)]
    values: dict[str, Value] = {}
    for a, name in enumerate(evaluation.labels.names):
        parts = [average_precision(s[:, a], t[:, a]) for s, t in zip(ready, truth, strict=True)]
        none = whole and parts[0] is None
        values[name] = NO_POSITIVE if none else float(np.mean([part or 0.0 for part in parts]))
    return values


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float | None:
    """sklearn's average precision, which may round above 1; None where nothing is positive."""
    from sklearn.metrics import average_precision_score

    return min(float(average_precision_score(truth, scores)), 1.0) if truth.any() else None


def mean_of(values: Iterable[Value]) -> Value:
    """Mean over the attributes that have a value."""
    known = [value for value in values if isinstance(value, float)]
    return float(np.mean(known)) if known else NotMeasured("no attribute could be scored")
