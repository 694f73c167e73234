"""Quality of what is generated (equations 6.6): Frechet distance, precision, recall, density and coverage of generated
against real samples, and the likeness of reconstructions."""

from typing import Any

import torch
from torch import Tensor

from mmvae_cli.evaluation import distances, generation, similarity
from mmvae_cli.evaluation.classifier_training import as_mean
from mmvae_cli.evaluation.encoding import BLOCK, Evaluation, Experts, ShuffledSplit
from mmvae_cli.evaluation.seen import Seen, joined
from mmvae_cli.model.distributions import at
from mmvae_cli.process import console, signals
from mmvae_cli.run.result import NOT_FINITE, NotMeasured, Value

NEAR_ITEMS = 5_000
"""How many points have their neighbours looked for, at most."""
REPEATED = NotMeasured("most real samples are there many times over, so that their balls are points")
_EQUAL = 1e-5
"""Features that differ by less, as a share of their length, are of equal samples."""
NO_REFERENCE = NotMeasured("no training item has all modalities")


def measure(evaluation: Evaluation, data: ShuffledSplit, seen: Seen) -> dict[str, Any]:
    """The fields of result.Quality, of the items that ``seen`` looks at."""
    names, some, usable = evaluation.model.names, seen.items, seen.usable
    real, split = _reference(evaluation, data, seen)
    generated = seen.features()
    compared: dict[str, Any] = {name: {} if m in real else seen.of_name[name] if m not in usable else NO_REFERENCE
                             for m, name in enumerate(names)}  # fmt: skip
    _warn_of_few(evaluation, real, some)
    with console.progress("quality", len(generated), "sets of samples") as shown:
        for m, truth in real.items():
            known = _Real(truth)
            for (target, s), points in generated.items():
                if target == m:
                    signals.leave_if_requested("no evaluation was written")
                    compared[names[m]][s] = known.compared(points)
                    shown.advance()
    return {
        "features": evaluation.spec.features, "pairs": evaluation.spec.pairs, "sampler": evaluation.protocol.sampler,
        "weights": {names[m]: own.weights for m, own in usable.items()},
        "feature_size": {names[m]: truth.shape[1] for m, truth in real.items()},
        "reference_split": split, "reference_count": max((len(truth) for truth in real.values()), default=0),
        "generated": len(some.items), "joint_samples": generation.joint_count(evaluation),
        **_by_source(evaluation, compared), "reconstruction": _reconstruction(evaluation, data, some),
    }  # fmt: skip


class _Real:
    """What is known of one modality's real samples (n, F)."""

    def __init__(self, truth: Tensor) -> None:
        self.finite = bool(truth.isfinite().all())
        self.moments = distances.moments(truth) if len(truth) > 1 else None
        self.near = truth[:NEAR_ITEMS]
        self.around = distances.neighbours(self.near) if len(self.near) > distances.NEAREST_OF_DENSITY else None
        length = self.near.double().norm(dim=1).mean()
        self.repeated = self.around is not None and bool(self.around.of_precision.median() <= _EQUAL * length)

    def compared(self, points: Tensor) -> dict[str, Value]:
        """Every measure of generated points (n, F) by its name."""
        if not (self.finite and points.isfinite().all()):
            return dict.fromkeys(_MEASURES, NOT_FINITE)
        few = NotMeasured(f"needs more than {distances.NEAREST_OF_DENSITY} items")
        near: dict[str, Value] = dict.fromkeys(_MEASURES[1:], REPEATED if self.repeated else few)
        if self.around is not None and len(points) > distances.NEAREST_OF_DENSITY and not self.repeated:
            near = dict(distances.fidelity(points[:NEAR_ITEMS], self.near, self.around)._asdict())
        if self.moments is None or len(points) < 2:
            return {"frechet": NotMeasured("needs two items")} | near
        return {"frechet": distances.frechet(distances.moments(points), self.moments)} | near


_MEASURES = ("frechet", "precision", "recall", "density", "coverage")


def _by_source(evaluation: Evaluation, compared: dict[str, Any]) -> dict[str, Any]:
    """``unconditional``: measure -> target, ``conditional``: measure -> source -> target; a modality without features
    has its reason once."""
    unconditional: dict[str, dict[str, Value]] = {measure: {} for measure in _MEASURES}
    conditional: dict[str, dict[str, dict[str, Value]]] = {measure: {} for measure in _MEASURES}
    for name, values in compared.items():
        if isinstance(values, NotMeasured):
            unconditional["frechet"][name] = values
            continue
        if evaluation.undrawn:
            unconditional["frechet"][name] = evaluation.undrawn
        for s, scores in sorted(values.items()):
            for measure, value in scores.items():
                if s == generation.NO_ITEM:
                    unconditional[measure][name] = value
                else:
                    source = evaluation.name_of(evaluation.subsets[s])
                    conditional[measure].setdefault(source, {})[name] = value
    return {"unconditional": unconditional, "conditional": conditional}


def _warn_of_few(evaluation: Evaluation, real: dict[int, Tensor], some: Experts) -> None:
    for m, truth in real.items():
        if (count := min(len(truth), len(some.items))) <= truth.shape[1]:
            console.warn(
                f"quality of {evaluation.model.names[m]}: {count:,} items for {truth.shape[1]:,} features; a Frechet "
                "distance is biased upward, the more so the fewer items there are: compare equal numbers only"
            )


def _reference(evaluation: Evaluation, data: ShuffledSplit, seen: Seen) -> tuple[dict[int, Tensor], str]:
    """The features of the real samples (n, F) of every modality, and the name of their split."""
    split, items = str(evaluation.spec.split), seen.items.items
    if seen.rule.reference == "train":
        data, split = ShuffledSplit(evaluation, "train", "reference items"), "train"
        able = torch.from_numpy(evaluation.store.complete("train", evaluation.model.names))
        items = data.order[torch.isin(data.order, able)]  # labels mixed

    def features_of(_: int, part: Tensor) -> dict[int, Tensor]:
        batch, names = data.batch(part), evaluation.model.names
        return {m: of(as_mean(batch[names[m]], evaluation, names[m])) for m, of in seen.usable.items()}

    return joined(evaluation.each(items.split(BLOCK) if len(items) else (), features_of)), split


def _reconstruction(evaluation: Evaluation, data: ShuffledSplit, some: Experts) -> dict[str, Any]:
    """Source -> modality of it -> score -> mean over the items."""
    parts = evaluation.blocks(some)
    sums = evaluation.each(parts, lambda number, part: _likeness(evaluation, number, part, data.batch(part.items)))
    result: dict[str, dict[str, dict[str, Value]]] = {}
    for source, name, score in sums[0]:
        total = sum(own[source, name, score] for own in sums)
        result.setdefault(source, {}).setdefault(name, {})[score] = total / len(some.items)
    return result


@torch.no_grad()
def _likeness(
    evaluation: Evaluation, number: int, part: Experts, batch: dict[str, Tensor]
) -> dict[tuple[str, str, str], float]:
    """(source, modality of it, score) -> sum over a block's items. z is one sample of q(z | X_A) for every single
    modality and for all together; private latents are one of the modality's own posterior."""
    torch.manual_seed(evaluation.seed(f"reconstruction {number}"))
    model, sources, sums = evaluation.model, evaluation.singles_and_all, dict[tuple[str, str, str], float]()
    posteriors = evaluation.posteriors(part, sources)
    z = posteriors.sample(model.prior.noise(*posteriors.mean.shape, device=evaluation.device))
    for m, name in enumerate(model.names):
        private = None
        if part.private is not None:
            q = at(part.private, slice(m, m + 1))
            private = q.sample(model.private_prior.noise(*q.mean.shape, device=evaluation.device))
        for s, source in enumerate(sources):
            if m in source:
                mean = generation.decoded(evaluation, name, z[s : s + 1], private)[0]
                each = similarity.scores(evaluation.store.info.modalities[name].kind, mean, batch[name])
                sums |= {(evaluation.name_of(source), name, score): float(v.sum()) for score, v in each.items()}
    return sums
