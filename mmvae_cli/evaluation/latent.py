"""Linear classification of the latent representation (equations 6.1; Table 2, Table 5 left, Figure 3 left)."""

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmvae_cli.evaluation.clustering import clustering
from mmvae_cli.evaluation.encoding import BLOCK, NOBODY_HAS_ALL, Evaluation, Experts, ShuffledSplit
from mmvae_cli.evaluation.scores import answers, average_precisions, constant, correct_by_class, mean_of
from mmvae_cli.model.distributions import Distribution, at
from mmvae_cli.process import console, signals
from mmvae_cli.recipe.families import Subset
from mmvae_cli.run.result import NOT_FINITE, NotMeasured, Value

CLUSTERED = 20_000
"""Training items that clusters are fitted to, at most."""


def measure(evaluation: Evaluation, test: Experts) -> dict[str, Any]:
    """The fields of result.Latent: one logistic regression per subset (and attribute), fitted on ``latent_samples``
    encoded training items and tested on every item of ``test``, whose features are the means of the subset posteriors;
    the same of private latents; and clusters."""
    pool = training_pool(evaluation)
    tested = evaluation.blocks(test)
    _warn_of_unseen(evaluation, pool.labels, test.labels)

    def of_subset(_: int, subset: Subset) -> _Tested:
        return _probe(evaluation, subset, pool, tested, lambda block: means(evaluation, block, subset))

    fitted = evaluation.each(evaluation.subsets, of_subset, "latent classifiers", "subsets")
    names = [evaluation.name_of(subset) for subset in evaluation.subsets]
    values, samples = {name: one.value for name, one in zip(names, fitted, strict=True)}, evaluation.rows_having(pool)
    if test.present is not None and not samples:  # the training items are complete, those that are evaluated are not
        samples = dict.fromkeys(names, len(pool.items))
    more = {"samples": samples, "private": _private(evaluation, pool, tested), **_clusters(evaluation, test)}
    if evaluation.labels.kind == "class":
        constant = {name: one.constant for name, one in zip(names, fitted, strict=True) if one.constant}
        return {"metric": "accuracy", "values": values, "constant": constant} | more
    per_label = {name: one.per_label for name, one in zip(names, fitted, strict=True)}
    return {"metric": "average_precision", "values": values, "per_label": per_label} | more


def _warn_of_unseen(evaluation: Evaluation, known: Tensor, asked: Tensor) -> None:
    """Classes without a training sample count as errors; whoever reads the accuracy should know."""
    if evaluation.labels.kind == "class" and (unseen := set(asked.tolist()) - set(known.tolist())):
        names = ", ".join(evaluation.labels.names[label] for label in sorted(unseen)[:5])
        console.warn(f"latent: {len(unseen)} of the classes have no training sample, so they cannot be found ({names})")


class _Tested(NamedTuple):
    """One subset's score, overall and by attribute (classes: none), and the class that the classifier gives to every
    item, if it does."""

    value: Value
    per_label: dict[str, Value]
    constant: str | None = None


def _private(evaluation: Evaluation, pool: Experts, tested: list[Experts]) -> dict[str, Value]:
    """The same of each modality's private latent, which should know no more of the labels than a guess."""
    if pool.private is None:
        return {}

    def score(m: int, _: str) -> Value:
        return _probe(evaluation, (m,), pool, tested, lambda block: block.private.mean[m]).value  # type: ignore[union-attr]

    return dict(zip(evaluation.model.names, evaluation.each(evaluation.model.names, score), strict=True))


def _probe(
    evaluation: Evaluation, subset: Subset, pool: Experts, tested: list[Experts], features: Callable[[Experts], Tensor]
) -> _Tested:  # fmt: skip
    """A classifier fitted to the ``features`` (n, D) of those of ``pool`` that have all of ``subset``, and tested on
    those of the blocks."""
    pool, tested = pool.having(subset), [own for block in tested if len((own := block.having(subset)).items)]
    if not len(pool.items) or not tested:
        return _Tested(NOBODY_HAS_ALL, {})
    by_attribute, labels = evaluation.labels.kind == "attributes", [block.labels for block in tested]
    known = features(pool)
    x, y = known.cpu().double().numpy(), pool.labels.cpu().numpy()
    if not np.isfinite(x).all():
        return _Tested(NOT_FINITE, {})
    try:
        fitted = _fit_attributes(x, y) if by_attribute else _fit_classes(x, y, evaluation)
    except ValueError as error:
        return _Tested(NotMeasured(str(error)), {})
    weight, bias = (torch.from_numpy(part).to(known) for part in fitted)
    scores = [features(block) @ weight.t() + bias for block in tested]  # a higher one is more likely
    if not by_attribute:
        right = sum(float(correct_by_class(*pair).sum()) for pair in zip(scores, labels, strict=True))
        share = right / sum(map(len, labels))
        given = torch.stack([answers(part) for part in scores]).sum(0)
        return _Tested(share, {}, constant(given, evaluation) if math.isfinite(share) else None)
    hard = evaluation.protocol.attribute_scores == "predictions"
    per_label = average_precisions(scores, labels, evaluation, hard=hard)
    return _Tested(mean_of(per_label.values()), per_label)


def _clusters(evaluation: Evaluation, test: Experts) -> dict[str, Any]:
    """k-means of the posterior means of single modalities and of all, with as many clusters as classes, fitted to
    CLUSTERED training items at most and tested on every item of ``test``."""
    subsets = evaluation.singles_and_all
    if evaluation.labels.kind != "class":
        why = NotMeasured("undefined for attributes: an item has several")
        return {"clusters": 0, "clustering": {evaluation.name_of(subset): {"accuracy": why} for subset in subsets}}
    data = ShuffledSplit(evaluation, "train", "latent training")
    pool = data.encode(data.order[:CLUSTERED])
    clustered = evaluation.each(subsets, lambda _, subset: _cluster(evaluation, subset, pool, test))
    named = {evaluation.name_of(subset): one for subset, one in zip(subsets, clustered, strict=True)}
    return {"clusters": len(evaluation.labels.names), "clustering": named}


def _cluster(evaluation: Evaluation, subset: Subset, pool: Experts, test: Experts) -> dict[str, Value]:
    pool, test = (evaluation.measured(part.having(subset)) for part in (pool, test))
    if not len(pool.items) or not len(test.items):
        return {"accuracy": NOBODY_HAS_ALL}
    x, y = (_all_means(evaluation, subset, part) for part in (pool, test))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return {"accuracy": NOT_FINITE}
    seed, classes = evaluation.seed(f"clusters {evaluation.name_of(subset)}"), len(evaluation.labels.names)
    return clustering(x, pool.labels.cpu().numpy(), y, test.labels.cpu().numpy(), classes, seed)._asdict()


def _all_means(evaluation: Evaluation, subset: Subset, experts: Experts) -> np.ndarray:
    parts = [means(evaluation, block, subset) for block in evaluation.blocks(experts)]
    return torch.cat(parts).cpu().double().numpy()


def training_pool(evaluation: Evaluation) -> Experts:
    """The labelled training items that the classifiers are fitted on, encoded. They are drawn without replacement.

    Under the released protocol they are drawn with replacement. That code left the last, incomplete batch out, and its
    rows stayed zeros with label 0: an item of that batch is such a row here, too.
    """
    data = ShuffledSplit(evaluation, "train", "latent training")
    count, wanted = len(data.order), evaluation.protocol.latent_samples
    if evaluation.protocol.latent_draw == "without replacement":
        return data.encode(data.order[: min(wanted, count)])
    generator = torch.Generator().manual_seed(evaluation.seed("latent draws"))
    drawn = torch.randint(count, (wanted,), generator=generator)
    pool = data.encode(data.order[drawn])
    empty = (drawn >= count - count % BLOCK).to(pool.labels.device)
    for q in (pool.shared, pool.private):
        if q is not None:
            q.mean[:, empty] = 0
    pool.labels[empty] = 0
    return pool


@torch.no_grad()
def posterior(evaluation: Evaluation, experts: Experts, subset: Subset) -> Distribution:
    """One subset's posteriors (b, D); where a block has fewer rows than the mixture has components, which ones it gets
    is a function of the seed."""
    torch.manual_seed(evaluation.seed(f"latent {evaluation.name_of(subset)} {int(experts.items[0])}"))
    return at(evaluation.posteriors(experts, [subset]), 0)


def means(evaluation: Evaluation, experts: Experts, subset: Subset) -> Tensor:
    """Their means (b, D)."""
    return posterior(evaluation, experts, subset).mean


def _fit_classes(x: np.ndarray, y: np.ndarray, evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression: weights (classes, D), bias (classes,); classes never seen get -inf."""
    seen = np.unique(y)
    if len(seen) < 2:
        raise ValueError("the training samples have one class only")
    fitted = _logistic(x, y)
    weight, bias = np.zeros((len(evaluation.labels.names), x.shape[1])), np.full(len(evaluation.labels.names), -np.inf)
    if len(seen) == 2:
        both = np.array([-0.5, 0.5])  # the binary model scores the second class; a pair of scores says the same
        weight[seen], bias[seen] = both[:, None] * fitted.coef_, both * fitted.intercept_
    else:
        weight[seen], bias[seen] = fitted.coef_, fitted.intercept_
    return weight, bias


def _fit_attributes(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One binary regression per attribute; an attribute with one class in the samples gets a constant score."""
    weight, bias = np.zeros((y.shape[1], x.shape[1])), np.zeros(y.shape[1])
    for a in range(y.shape[1]):
        signals.leave_if_requested("no evaluation was written")
        if 0 < y[:, a].sum() < len(y):
            fitted = _logistic(x, y[:, a])
            weight[a], bias[a] = fitted.coef_[0], fitted.intercept_[0]
        else:
            bias[a] = 1.0 if y[:, a].all() else -1.0
    return weight, bias


def _logistic(x: np.ndarray, y: np.ndarray) -> Any:
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():  # 1000 iterations are the protocol, converged or not; classes may be many
        warnings.simplefilter("ignore", UserWarning)
        return LogisticRegression(max_iter=1000, random_state=0).fit(x, y)
