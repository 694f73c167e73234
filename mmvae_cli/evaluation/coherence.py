"""Generation coherence (facts 4.2; Tables 3, 5, 6, Figure 3 centre): do classifiers find in what is generated the label
that it was generated from? A generated sample is the mean of the decoder's distribution at one drawn z."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mmvae_cli import console, result, signals
from mmvae_cli.evaluation.encoding import BLOCK, Experts, Setting, blocks, from_all, numbered_blocks, subset_chunks
from mmvae_cli.evaluation.scores import average_precisions, finite, mean_or_none, right
from mmvae_cli.model import fusion


def measure(
    setting: Setting, test: Experts, classifiers: dict[str, nn.Module], known: dict[str, float], reasons: dict[str, str]
) -> result.Coherence:
    """Joint coherence of as many prior samples as there are test items, conditional coherence from every subset to
    every modality. ``known``: the classifiers' test scores, which go into the result."""
    for classifier in classifiers.values():
        classifier.train(setting.released)  # the released code never put them into eval mode
    mine = numbered_blocks(test, BLOCK, setting)
    with console.progress("coherence", len(mine) * (len(setting.subsets) + 1), "blocks x subsets") as shown:
        joint, joint_samples = _joint(setting, mine, classifiers, reasons, shown)
        answers = from_all(setting, _conditional(setting, mine, classifiers, shown))
    labels = [block.labels for block in blocks(test, BLOCK, drop_last=setting.released)]
    facts = {"joint": joint, "joint_samples": joint_samples, "classifiers": known}
    names, sources = setting.model.names, [setting.name_of(subset) for subset in setting.subsets]
    if setting.labels.kind == "class":
        hits, count = torch.stack(answers).sum(0).tolist(), sum(len(part) for part in labels)  # (M, S)
        values = {source: {name: finite(hits[m][s] / count, f"coherence.conditional.{source}.{name}", reasons)
                           for m, name in enumerate(names)} for s, source in enumerate(sources)}  # fmt: skip
        return result.Coherence(metric="accuracy", conditional=values, **facts)
    per_label = {
        source: {
            name: average_precisions(
                [answer[m, s] for answer in answers],
                labels,
                setting,
                f"coherence.per_label.{source}.{name}",
                reasons,
                hard=False,
            )
            for m, name in enumerate(names)
        }
        for s, source in enumerate(sources)
    }
    means = {source: {name: mean_or_none(scores_of, f"coherence.conditional.{source}.{name}", reasons)
                      for name, scores_of in targets.items()} for source, targets in per_label.items()}  # fmt: skip
    return result.Coherence(metric="average_precision", conditional=means, per_label=per_label, **facts)


@torch.no_grad()
def _joint(
    setting: Setting, mine: list[tuple[int, Experts]], classifiers: dict[str, nn.Module], reasons: dict[str, str],
    shown: console.Progress,
) -> tuple[float | None, int]:  # fmt: skip
    """Share of z ~ N(0, I) whose generated modalities are all given the same label, and of how many z; as many as
    there are items, a block at a time."""
    defined, model = setting.labels.kind == "class", setting.model
    own: dict[int, tuple[float, int]] = {}
    for number, part in mine:
        signals.leave_if_requested("no evaluation was written")
        count = len(part.items)
        agree = float(count)
        if defined and len(model.names) > 1:
            torch.manual_seed(setting.seed(f"joint coherence {number}"))
            z = torch.randn(1, count, model.latent_dim, device=setting.device)
            logits = torch.stack([classify(setting, classifiers[name], name, z, _prior_private(setting, count))
                                  for name in model.names])  # (M, 1, b, classes)  # fmt: skip
            found = logits.argmax(-1)
            agree = float((found == found[0]).all(0).sum()) if logits.isfinite().all() else math.nan
        own[number] = agree, count
        shown.advance()
    found_by_all = from_all(setting, own)
    samples = sum(count for _, count in found_by_all)
    if not defined:
        reasons["coherence.joint"] = "undefined for attributes: there is no single label to agree on"
    elif len(model.names) < 2:
        reasons["coherence.joint"] = "needs two modalities"
    else:
        return finite(sum(agree for agree, _ in found_by_all) / samples, "coherence.joint", reasons), samples
    return None, samples


def _conditional(
    setting: Setting, mine: list[tuple[int, Experts]], classifiers: dict[str, nn.Module], shown: console.Progress
) -> dict[int, Tensor]:
    """For every block of ours, by its number and on the CPU: how many right labels (M, S), or scores (M, S, b, A)."""
    names, subsets = setting.model.names, setting.subsets
    answers = {}
    for number, part in mine:
        torch.manual_seed(setting.seed(f"coherence {number}"))
        shape = () if setting.labels.kind == "class" else part.labels.shape
        answer = torch.zeros(len(names), len(subsets), *shape, dtype=torch.double if shape == () else torch.float)
        for m, chunk, logits in _generated(setting, part, classifiers):
            if setting.labels.kind == "class":
                answer[m, chunk.start : chunk.stop] = right(logits, part.labels).cpu()
            else:
                answer[m, chunk.start : chunk.stop] = logits.cpu()
        answers[number] = answer
        shown.advance(len(subsets))
    return answers


@torch.no_grad()
def _generated(
    setting: Setting, part: Experts, classifiers: dict[str, nn.Module]
) -> Iterator[tuple[int, range, Tensor]]:
    """(target's position, positions of subsets, classifier output (s, b, labels)) for all subsets of one block. The
    private latents are drawn from the prior, once per block and shared by all subsets, for observed modalities too
    (facts 1.7, 4.2)."""
    model, count = setting.model, len(part.items)
    private = {name: _prior_private(setting, count) for name in model.names}
    for chunk in subset_chunks(setting):
        signals.leave_if_requested("no evaluation was written")
        subsets = [setting.subsets[s] for s in chunk]
        posteriors = fusion.subset_posteriors(part.shared, model.family, subsets, spread=not setting.released)
        z = posteriors.sample(torch.randn(len(subsets), count, model.latent_dim, device=setting.device))
        for m, name in enumerate(model.names):
            yield m, chunk, classify(setting, classifiers[name], name, z, private[name])


def _prior_private(setting: Setting, count: int) -> Tensor | None:
    size = setting.model.private_dim
    return torch.randn(1, count, size, device=setting.device) if size else None


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
