"""Generation coherence (facts 4.2; Tables 3, 5, 6, Figure 3 centre): do classifiers find in what is generated the label
that it was generated from? A generated sample is the mean of the decoder's distribution at one drawn z."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mmvae_cli import console, result, signals
from mmvae_cli.evaluation.encoding import BLOCK, Experts, Setting, blocks
from mmvae_cli.evaluation.scores import accuracy, average_precisions, mean_or_none
from mmvae_cli.model import fusion

_LATENTS_AT_ONCE = {"cpu": 256, "cuda": 1 << 15}


def measure(
    setting: Setting, test: Experts, classifiers: dict[str, nn.Module], known: dict[str, float], reasons: dict[str, str]
) -> result.Coherence:
    """Joint coherence of as many prior samples as there are test items, conditional coherence from every subset to
    every modality. ``known``: the classifiers' test scores, which go into the result."""
    for classifier in classifiers.values():
        classifier.train(setting.released)  # the released code never put them into eval mode
    torch.manual_seed(setting.seed("coherence"))
    parts = list(blocks(test, BLOCK, drop_last=setting.released))
    with console.progress("coherence", len(parts) * (len(setting.subsets) + 1), "blocks x subsets") as shown:
        joint_samples = sum(len(part.items) for part in parts)
        joint = _joint(setting, [len(part.items) for part in parts], classifiers, reasons, shown)
        scores = _conditional(setting, parts, classifiers, shown)
    labels = [part.labels for part in parts]
    facts = {"joint": joint, "joint_samples": joint_samples, "classifiers": known}
    names, sources = setting.model.names, [setting.name_of(subset) for subset in setting.subsets]
    if setting.labels.kind == "class":
        values = {source: {name: accuracy(scores[name][s], labels) for name in names}
                  for s, source in enumerate(sources)}  # fmt: skip
        return result.Coherence(metric="accuracy", conditional=values, **facts)
    per_label = {
        source: {
            name: average_precisions(
                scores[name][s], labels, setting, f"coherence.per_label.{source}.{name}", reasons, hard=False
            )
            for name in names
        }
        for s, source in enumerate(sources)
    }
    means = {source: {name: mean_or_none(scores_of, f"coherence.conditional.{source}.{name}", reasons)
                      for name, scores_of in targets.items()} for source, targets in per_label.items()}  # fmt: skip
    return result.Coherence(metric="average_precision", conditional=means, per_label=per_label, **facts)


@torch.no_grad()
def _joint(
    setting: Setting, counts: list[int], classifiers: dict[str, nn.Module], reasons: dict[str, str],
    shown: console.Progress,
) -> float | None:  # fmt: skip
    """Share of z ~ N(0, I) whose generated modalities are all given the same label."""
    if setting.labels.kind != "class":
        reasons["coherence.joint"] = "undefined for attributes: there is no single label to agree on"
        return None
    if len(setting.model.names) < 2:
        reasons["coherence.joint"] = "needs two modalities"
        return None
    agree, model = 0, setting.model
    for count in counts:
        z = torch.randn(1, count, model.latent_dim, device=setting.device)
        found = [classify(setting, classifiers[name], name, z, _prior_private(setting, count)).argmax(-1)
                 for name in model.names]  # fmt: skip
        agree += int((torch.stack(found) == found[0]).all(0).sum())
        shown.advance()
    return agree / sum(counts)


def _conditional(
    setting: Setting, parts: list[Experts], classifiers: dict[str, nn.Module], shown: console.Progress
) -> dict[str, list[list[Tensor]]]:
    """Per target modality and subset the classifier's answers for every block: labels (b,) or scores (b, A)."""
    names, subsets = setting.model.names, setting.subsets
    answers: dict[str, list[list[Tensor]]] = {name: [[] for _ in subsets] for name in names}
    for part in parts:
        for name, s, logits in _generated(setting, part, classifiers):
            answers[name][s].append(logits.argmax(-1) if setting.labels.kind == "class" else logits)
        shown.advance(len(subsets))
    return answers


@torch.no_grad()
def _generated(setting: Setting, part: Experts, classifiers: dict[str, nn.Module]) -> Iterator[tuple[str, int, Tensor]]:
    """(target, subset position, classifier output (b, labels)) for all subsets of one block. The private latents are
    drawn from the prior, once per block and shared by all subsets, for observed modalities too (facts 1.7, 4.2)."""
    signals.leave_if_requested("no evaluation was written")
    model, count = setting.model, len(part.items)
    posteriors = fusion.subset_posteriors(part.shared, model.family, setting.subsets)
    z = posteriors.sample(torch.randn(len(setting.subsets), count, model.latent_dim, device=setting.device))
    for name in model.names:
        logits = classify(setting, classifiers[name], name, z, _prior_private(setting, count))
        for s in range(len(setting.subsets)):
            yield name, s, logits[s]


def _prior_private(setting: Setting, count: int) -> Tensor | None:
    size = setting.model.private_dim
    return torch.randn(1, count, size, device=setting.device) if size else None


def classify(setting: Setting, classifier: nn.Module, name: str, z: Tensor, private: Tensor | None) -> Tensor:
    """Decode z (S, b, D) with one set of private latents (1, b, P) and classify the means: -> (S, b, labels).

    In train mode (``released``) batch norm and dropout see one subset of one block at a time, as in the released code.
    """
    at_once = 1 if classifier.training else max(1, _LATENTS_AT_ONCE.get(setting.device.type, 4096) // z.shape[1])
    outputs = []
    for part in z.split(at_once):
        own = None if private is None else private.expand(len(part), -1, -1)
        mean = setting.model.likelihoods[name].mean(setting.model.decode(name, part, own))
        outputs.append(classifier(mean.flatten(0, 1)).unflatten(0, part.shape[:2]))
    return torch.cat(outputs)
