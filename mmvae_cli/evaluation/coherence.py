"""Generation coherence (equations 6.2): do classifiers find in what is generated the label that it was generated
from? A generated sample is the mean of the decoder's distribution at one drawn z."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mmvae_cli.evaluation.classifier_training import judged
from mmvae_cli.evaluation.encoding import (
    BLOCK,
    NOBODY_HAS_ALL,
    Data,
    Experts,
    Setting,
    blocks,
    from_all,
    numbered_blocks,
    subset_chunks,
)
from mmvae_cli.evaluation.scores import answers, average_precisions, constant, mean_of, right
from mmvae_cli.process import console, signals
from mmvae_cli.run.result import NotMeasured, Value


def measure(setting: Setting, data: Data, test: Experts, classifiers: dict[str, nn.Module]) -> dict[str, Any]:
    """The fields of result.Coherence: the joint coherence of as many prior samples as there are test items, the
    conditional coherence from every subset to every modality, and what the test items of ``data`` themselves score."""
    for classifier in classifiers.values():
        classifier.train(setting.protocol.classifier_mode == "train")
    mine = numbered_blocks(test, BLOCK, setting)
    with console.progress("coherence", len(mine) * (len(setting.subsets) + 1), "blocks x subsets") as shown:
        joint = _joint(setting, mine, classifiers, shown)
        found = from_all(setting, _conditional(setting, mine, classifiers, shown))
    real = from_all(setting, _real(setting, data, mine, classifiers))
    tested = list(blocks(test, BLOCK, setting))
    labels = [block.labels.cpu() for block in tested]
    scored = _accuracies if setting.labels.kind == "class" else _average_precisions
    ceiling = _real_accuracies if setting.labels.kind == "class" else _real_average_precisions
    return joint | scored(setting, found, tested) | ceiling(setting, real, labels)


@torch.no_grad()
def _real(
    setting: Setting, data: Data, mine: list[tuple[int, Experts]], classifiers: dict[str, nn.Module]
) -> dict[int, Tensor]:
    """What the classifiers say of real items, (M, b, labels) for every block of ours, by its number and on the CPU; nan
    where an item lacks a modality."""
    own = {}
    for number, part in mine:
        signals.leave_if_requested("no evaluation was written")
        torch.manual_seed(setting.seed(f"real data {number}"))  # train mode drops at random
        batch, verdicts = data.batch(part.items), []
        for m, (name, classifier) in enumerate(classifiers.items()):
            has, said = part.has((m,)), torch.full((len(part.items), len(setting.labels.names)), math.nan)
            if has.any():
                said[has] = classifier(judged(batch[name], setting, name)).cpu()
            verdicts.append(said)
        own[number] = torch.stack(verdicts)
    return own


def _real_accuracies(setting: Setting, real: list[Tensor], labels: list[Tensor]) -> dict[str, Any]:
    """The result's fields that no coherence can exceed but by luck, from logits (M, b, classes)."""
    logits, truth = torch.cat(real, 1), torch.cat(labels)
    given, has = logits.argmax(-1), ~logits.isnan().any(-1)
    ceiling = {name: _share((given[m] == truth)[has[m]]) for m, name in enumerate(setting.model.names)}
    agree = (given == given[0]).all(0)[has.all(0)]
    return {"classifiers": ceiling, "joint_ceiling": _no_joint(setting) or _share(agree)}


def _share(right_ones: Tensor) -> Value:
    """The share of bool (n,) that is true."""
    return float(right_ones.double().mean()) if len(right_ones) else NOBODY_HAS_ALL


def _real_average_precisions(setting: Setting, real: list[Tensor], labels: list[Tensor]) -> dict[str, Any]:
    """The same from scores (M, b, A)."""
    per_label, ceiling = {}, {}
    for m, name in enumerate(setting.model.names):
        scores, theirs = [block[m] for block in real], labels
        if any(block.isnan().any() for block in scores):
            has = [~block.isnan().any(-1) for block in scores]
            scores, theirs = _picked(scores, has), _picked(labels, has)
        per_label[name] = average_precisions(scores, theirs, setting)
        ceiling[name] = mean_of(per_label[name].values())
    return {"classifiers": ceiling, "classifiers_per_label": per_label, "joint_ceiling": _no_joint(setting)}


def _picked(blocks: list[Tensor], rows: list[Tensor]) -> list[Tensor]:
    return [block[some] for block, some in zip(blocks, rows, strict=True)]


def _accuracies(setting: Setting, found: list[Tensor], tested: list[Experts]) -> dict[str, Any]:
    """The result's fields for classes: blocks of counts (M, S, 1 + classes)."""
    total = torch.stack(found).sum(0)
    values: dict[str, dict[str, Value]] = {}
    always: dict[str, dict[str, str]] = {}
    for s, subset in enumerate(setting.subsets):
        source, count = setting.name_of(subset), sum(int(block.has(subset).sum()) for block in tested)
        for name, (right_ones, *_), given in zip(
            setting.model.names, total[:, s].tolist(), total[:, s, 1:], strict=True
        ):
            values.setdefault(source, {})[name] = value = right_ones / count if count else NOBODY_HAS_ALL
            if isinstance(value, float) and math.isfinite(value) and (label := constant(given, setting)):
                always.setdefault(source, {})[name] = label
    return {"metric": "accuracy", "conditional": values, "constant": always}


def _average_precisions(setting: Setting, found: list[Tensor], tested: list[Experts]) -> dict[str, Any]:
    """The result's fields for attributes: blocks of scores (M, S, b, A)."""
    per_label: dict[str, dict[str, dict[str, Value]]] = {}
    means: dict[str, dict[str, Value]] = {}
    for s, subset in enumerate(setting.subsets):
        source, has = setting.name_of(subset), [block.has(subset) for block in tested]
        labels = [block.labels.cpu()[own] for block, own in zip(tested, has, strict=True)]
        for m, name in enumerate(setting.model.names):
            values = average_precisions(_picked([block[m, s] for block in found], has), labels, setting)
            per_label.setdefault(source, {})[name] = values
            means.setdefault(source, {})[name] = mean_of(values.values())
    return {"metric": "average_precision", "conditional": means, "per_label": per_label}


def _no_joint(setting: Setting) -> NotMeasured | None:
    """Why there is no joint coherence, if so."""
    if setting.labels.kind != "class":
        return NotMeasured("undefined for attributes: there is no single label to agree on")
    return NotMeasured("needs two modalities") if len(setting.model.names) < 2 else None


@torch.no_grad()
def _joint(
    setting: Setting, mine: list[tuple[int, Experts]], classifiers: dict[str, nn.Module], shown: console.Progress
) -> dict[str, Any]:
    """Share of z ~ N(0, I) whose generated modalities are all given the same label, of how many z (as many as there are
    items, a block at a time), and what that share would be by chance: the ``joint`` fields of the result."""
    undefined, model = _no_joint(setting), setting.model
    own: dict[int, tuple[float, int, Tensor]] = {}
    for number, part in mine:
        signals.leave_if_requested("no evaluation was written")
        count = len(part.items)
        agree, given = float(count), torch.zeros(len(model.names), len(setting.labels.names), dtype=torch.double)
        if not undefined:
            torch.manual_seed(setting.seed(f"joint coherence {number}"))
            z = model.prior.sample(model.prior.noise(1, count, model.latent_dim, device=setting.device))
            logits = torch.stack([classify(setting, classifiers[name], name, z, _prior_private(setting, count))
                                  for name in model.names])  # (M, 1, b, classes)  # fmt: skip
            found = logits.argmax(-1)
            agree = float((found == found[0]).all(0).sum()) if logits.isfinite().all() else math.nan
            given = answers(logits)[:, 0].cpu()
        own[number] = agree, count, given
        shown.advance()
    found_by_all = from_all(setting, own)
    samples = sum(count for _, count, _ in found_by_all)
    if undefined:
        return {"joint": undefined, "joint_samples": samples, "joint_chance": undefined}
    share = sum(agree for agree, _, _ in found_by_all) / samples
    if not math.isfinite(share):
        return {"joint": share, "joint_samples": samples, "joint_chance": share}
    counts = torch.stack([given for _, _, given in found_by_all]).sum(0)  # (M, classes)
    always = {name: constant(row, setting) for name, row in zip(model.names, counts, strict=True)}
    return {
        "joint": share, "joint_samples": samples, "joint_chance": float((counts / samples).prod(0).sum()),
        "joint_constant": {name: label for name, label in always.items() if label},
    }  # fmt: skip


def _conditional(
    setting: Setting, mine: list[tuple[int, Experts]], classifiers: dict[str, nn.Module], shown: console.Progress
) -> dict[int, Tensor]:
    """For every block of ours, by its number and on the CPU: how many labels are right, then how often each class is
    given, (M, S, 1 + classes); or scores (M, S, b, A)."""
    names, subsets = setting.model.names, setting.subsets
    by_class = setting.labels.kind == "class"
    own = {}
    for number, part in mine:
        torch.manual_seed(setting.seed(f"coherence {number}"))
        shape = (1 + len(setting.labels.names),) if by_class else part.labels.shape
        found = torch.zeros(len(names), len(subsets), *shape, dtype=torch.double if by_class else torch.float)
        for m, chunk, logits in _generated(setting, part, classifiers):
            if by_class and part.present is None:
                logits = torch.cat([right(logits, part.labels)[:, None], answers(logits)], -1)
            elif by_class:
                has = [part.has(setting.subsets[s]).to(logits.device) for s in chunk]
                logits = torch.stack([torch.cat([right(own[rows], part.labels[rows])[None], answers(own[rows])])
                                      for own, rows in zip(logits, has, strict=True)])  # fmt: skip
            found[m, chunk.start : chunk.stop] = logits.cpu()
        own[number] = found
        shown.advance(len(subsets))
    return own


@torch.no_grad()
def _generated(
    setting: Setting, part: Experts, classifiers: dict[str, nn.Module]
) -> Iterator[tuple[int, range, Tensor]]:
    """(target's position, positions of subsets, classifier output (s, b, labels)) for all subsets of one block. The
    private latents are drawn from the prior, once per block and shared by all subsets, for observed modalities too
    (equations 3.4, 6.2)."""
    model, count = setting.model, len(part.items)
    private = {name: _prior_private(setting, count) for name in model.names}
    for chunk in subset_chunks(setting):
        signals.leave_if_requested("no evaluation was written")
        subsets = [setting.subsets[s] for s in chunk]
        posteriors = setting.posteriors(part, subsets)
        z = posteriors.sample(model.prior.noise(len(subsets), count, model.latent_dim, device=setting.device))
        for m, name in enumerate(model.names):
            yield m, chunk, classify(setting, classifiers[name], name, z, private[name])


def _prior_private(setting: Setting, count: int) -> Tensor | None:
    size, prior = setting.model.private_dim, setting.model.private_prior
    return prior.sample(prior.noise(1, count, size, device=setting.device)) if size else None


def classify(setting: Setting, classifier: nn.Module, name: str, z: Tensor, private: Tensor | None) -> Tensor:
    """Decode z (S, b, D) with one set of private latents (1, b, P) and classify the means: -> (S, b, labels).

    In train mode (``released``) batch norm and dropout see one subset of one block at a time, as in the released code.
    """
    at_once = 1 if classifier.training else max(1, setting.latents_at_once // z.shape[1])
    outputs = []
    for part in z.split(at_once):
        own = None if private is None else private.expand(len(part), -1, -1)
        mean = setting.model.likelihoods[name].mean(setting.model.decode(name, part, own))
        outputs.append(classifier(mean.flatten(0, 1)).unflatten(0, part.shape[:2]))
    return torch.cat(outputs)
