"""Generation coherence (equations 6.2): whether classifiers find in a generated sample the label of the item it was
generated from. A generated sample is the mean of the decoder's distribution at one drawn z."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmvae_cli.evaluation import generation, joint
from mmvae_cli.evaluation.classifier_training import as_mean
from mmvae_cli.evaluation.encoding import NOBODY_HAS_ALL, Evaluation, Experts, ShuffledSplit
from mmvae_cli.evaluation.generation import Samples
from mmvae_cli.evaluation.scores import answers, average_precisions, classified, constant, correct_by_class, mean_of
from mmvae_cli.evaluation.seen import Seen
from mmvae_cli.recipe.families import Subset
from mmvae_cli.run.result import NotMeasured, Value


def measure(
    evaluation: Evaluation, data: ShuffledSplit, test: Experts, classifiers: dict[str, nn.Module],
    seen: Seen | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The fields of result.Coherence: joint coherence, conditional coherence from every subset to every modality, and
    what the test items of ``data`` themselves score. ``seen`` sees all that is generated, too."""
    for classifier in classifiers.values():
        classifier.train(evaluation.protocol.classifier_mode == "train")
    looked_at, scored, ceiling = _OF_CLASSES if evaluation.labels.kind == "class" else _OF_ATTRIBUTES

    def judged(number: int, part: Experts) -> Any:
        samples = generation.conditional(evaluation, number, part)
        return looked_at(evaluation, part, seen.of_items(number, samples) if seen else samples, [*classifiers.values()])

    together, tested = joint.measure(evaluation, classifiers, seen), evaluation.blocks(test)
    generated = evaluation.each(tested, judged, "coherence")
    real = evaluation.each(tested, lambda number, part: _real(evaluation, data, number, part, classifiers))
    labels = [block.labels.cpu() for block in tested]
    return together | scored(evaluation, generated, tested) | ceiling(evaluation, real, labels)


def believed(measured: dict[str, Any], weak: dict[str, NotMeasured]) -> dict[str, Any]:
    """What was measured without what ``weak`` classifiers say: no score of these targets, and no agreement with them.
    What they score on real data stays: it is the reason."""
    if not weak:
        return measured
    why = NotMeasured("; ".join(reason.why for reason in weak.values()))
    left = measured | {"joint_at_least": {}}
    for key in ("joint", "joint_chance", "joint_ceiling"):
        left[key] = known if isinstance(known := measured[key], NotMeasured) else why
    for key in ("conditional", "balanced"):
        left[key] = {source: row | weak for source, row in measured.get(key, {}).items()}
    for key in ("per_label", "constant"):
        left[key] = {source: _without(row, weak) for source, row in measured.get(key, {}).items()}
    left["joint_constant"] = _without(measured.get("joint_constant", {}), weak)
    agreement = measured.get("agreement", {})
    left["agreement"] = {s: one if set(weak) <= set(s.split("+")) else why for s, one in agreement.items()}
    return left


def _without(row: dict[str, Any], weak: dict[str, NotMeasured]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in weak}


@torch.no_grad()
def _real(
    evaluation: Evaluation, data: ShuffledSplit, number: int, part: Experts, classifiers: dict[str, nn.Module]
) -> Tensor:
    """What the classifiers say of the real items of a block, (M, b, labels) on the CPU; nan where an item lacks a
    modality."""
    torch.manual_seed(evaluation.seed(f"real data {number}"))  # train mode drops at random
    batch, verdicts = data.batch(part.items), []
    for m, (name, classifier) in enumerate(classifiers.items()):
        has, said = part.has((m,)), torch.full((len(part.items), len(evaluation.labels.names)), math.nan)
        if has.any():
            said[has] = classifier(as_mean(batch[name], evaluation, name)).cpu()
        verdicts.append(said)
    return torch.stack(verdicts)


def _real_accuracies(evaluation: Evaluation, real: list[Tensor], labels: list[Tensor]) -> dict[str, Any]:
    """The classifiers' accuracies on real items, from logits (M, b, classes): what a perfect model would score."""
    logits, truth = torch.cat(real, 1), torch.cat(labels)
    given, has = logits.argmax(-1), ~logits.isnan().any(-1)
    ceiling = {name: _share((given[m] == truth)[has[m]]) for m, name in enumerate(evaluation.model.names)}
    agree = (given == given[0]).all(0)[has.all(0)]
    return {"classifiers": ceiling, "joint_ceiling": joint.undefined(evaluation) or _share(agree)}


def _share(correct: Tensor) -> Value:
    """The share of bool (n,) that is true."""
    return float(correct.double().mean()) if len(correct) else NOBODY_HAS_ALL


def _real_average_precisions(evaluation: Evaluation, real: list[Tensor], labels: list[Tensor]) -> dict[str, Any]:
    """The same from scores (M, b, A)."""
    per_label, ceiling = {}, {}
    for m, name in enumerate(evaluation.model.names):
        scores, theirs = [block[m] for block in real], labels
        if any(block.isnan().any() for block in scores):
            has = [~block.isnan().any(-1) for block in scores]
            scores, theirs = _picked(scores, has), _picked(labels, has)
        per_label[name] = average_precisions(scores, theirs, evaluation)
        ceiling[name] = mean_of(per_label[name].values())
    return {"classifiers": ceiling, "classifiers_per_label": per_label, "joint_ceiling": joint.undefined(evaluation)}


def _picked(blocks: list[Tensor], rows: list[Tensor]) -> list[Tensor]:
    return [block[some] for block, some in zip(blocks, rows, strict=True)]


class _Counts(NamedTuple):
    """Of one block: how many items of each class are right (M, S, classes), nan where a logit is no number; how often
    each class is the answer (M, S, classes); and the sum over the items of the share of pairs of targets outside the
    source that have the same answer (S,). Items that lack a part of the source are not counted."""

    correct: Tensor
    answers: Tensor
    agree: Tensor


def _accuracies(evaluation: Evaluation, counts: list[_Counts], tested: list[Experts]) -> dict[str, Any]:
    correct, given, agree = (torch.stack(parts).sum(0) for parts in zip(*counts, strict=True))
    conditional: dict[str, dict[str, Value]] = {}
    balanced: dict[str, dict[str, Value]] = {}
    always: dict[str, dict[str, str]] = {}
    agreement: dict[str, Value] = {}
    for s, subset in enumerate(evaluation.subsets):
        source, labels = evaluation.name_of(subset), torch.cat([block.having(subset).labels.cpu() for block in tested])
        of_class = labels.bincount(minlength=len(evaluation.labels.names)).double()
        there, count = of_class > 0, len(labels)
        for m, name in enumerate(evaluation.model.names):
            own = correct[m, s]
            shares = own.sum() / count, (own[there] / of_class[there]).mean()
            for table, share in zip((conditional, balanced), shares, strict=True):
                table.setdefault(source, {})[name] = float(share) if count else NOBODY_HAS_ALL
            if count and own.isfinite().all() and (label := constant(given[m, s], evaluation)):
                always.setdefault(source, {})[name] = label
        if len(evaluation.model.names) - len(subset) > 1:
            agreement[source] = float(agree[s] / count) if count else NOBODY_HAS_ALL
    return {"metric": "accuracy", "conditional": conditional, "balanced": balanced, "agreement": agreement,
            "constant": always}  # fmt: skip


def _average_precisions(evaluation: Evaluation, scores: list[Tensor], tested: list[Experts]) -> dict[str, Any]:
    """The result's fields for attributes: blocks of scores (M, S, b, A)."""
    per_label: dict[str, dict[str, dict[str, Value]]] = {}
    means: dict[str, dict[str, Value]] = {}
    for s, subset in enumerate(evaluation.subsets):
        source, has = evaluation.name_of(subset), [block.has(subset) for block in tested]
        labels = [block.labels.cpu()[own] for block, own in zip(tested, has, strict=True)]
        for m, name in enumerate(evaluation.model.names):
            values = average_precisions(_picked([block[m, s] for block in scores], has), labels, evaluation)
            per_label.setdefault(source, {})[name] = values
            means.setdefault(source, {})[name] = mean_of(values.values())
    return {"metric": "average_precision", "conditional": means, "per_label": per_label}


@torch.no_grad()
def _counts(
    evaluation: Evaluation, part: Experts, samples: Iterable[Samples], classifiers: list[nn.Module]
) -> _Counts:  # fmt: skip
    classes = len(evaluation.labels.names)
    shape = len(classifiers), len(evaluation.subsets)
    correct, given = (torch.zeros(*shape, classes, dtype=torch.double) for _ in range(2))
    said = torch.zeros(*shape, len(part.items), dtype=torch.int32)
    rows = [part.has(subset) for subset in evaluation.subsets]
    for m, positions, means in samples:
        for s, logits in zip(positions, classified(classifiers[m], means), strict=True):
            own = logits[rows[s].to(logits.device)]
            correct[m, s] = correct_by_class(own, part.labels[rows[s].to(part.labels.device)]).cpu()
            given[m, s] = answers(own).cpu()
            said[m, s] = logits.argmax(-1).int().cpu()
    agree = [_agreeing(said[:, s, rows[s]], correct[:, s], subset) for s, subset in enumerate(evaluation.subsets)]
    return _Counts(correct, given, torch.stack(agree))


def _agreeing(said: Tensor, correct: Tensor, subset: Subset) -> Tensor:
    """Sum over the items of the share of pairs outside ``subset`` with the same answer, of answers (M, b); nan where
    one of them is no number, which is how ``correct`` (M, classes) tells it."""
    outside = [m for m in range(len(said)) if m not in subset]
    pairs = [(said[m] == said[n]).double().sum() for i, m in enumerate(outside) for n in outside[:i]]
    valid = correct[outside].sum() * 0  # nan stays nan
    return valid + (torch.stack(pairs).mean() if pairs else 0)


@torch.no_grad()
def _scores(
    evaluation: Evaluation, part: Experts, samples: Iterable[Samples], classifiers: list[nn.Module]
) -> Tensor:  # fmt: skip
    """Logits of attributes, (M, S, b, A)."""
    scores = torch.zeros(len(classifiers), len(evaluation.subsets), *part.labels.shape)
    for m, positions, means in samples:
        scores[m, positions] = classified(classifiers[m], means).cpu()
    return scores


_OF_CLASSES = _counts, _accuracies, _real_accuracies
_OF_ATTRIBUTES = _scores, _average_precisions, _real_average_precisions
"""What is kept of a block of generated samples, what it scores, and what real items score."""
