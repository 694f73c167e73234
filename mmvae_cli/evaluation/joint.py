"""Joint coherence (equations 6.2): do the modalities that are generated from one z show the same class?"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmvae_cli.evaluation import generation
from mmvae_cli.evaluation.encoding import Evaluation
from mmvae_cli.evaluation.generation import Samples
from mmvae_cli.evaluation.scores import answers, classified, constant
from mmvae_cli.evaluation.seen import Seen
from mmvae_cli.run.result import NotMeasured


class _Block(NamedTuple):
    """``agree``: in how many samples the largest group of modalities with the same answer has 1, 2, ... M members (M,),
    nan where a logit is no number; ``given``: how often each class is the answer (M, classes)."""

    agree: Tensor
    given: Tensor


def undefined(evaluation: Evaluation) -> NotMeasured | None:
    """Why there is no joint coherence, if so."""
    if evaluation.labels.kind != "class":
        return NotMeasured("undefined for attributes: there is no single label to agree on")
    return NotMeasured("needs two modalities") if len(evaluation.model.names) < 2 else None


def measure(evaluation: Evaluation, classifiers: dict[str, nn.Module], seen: Seen | None = None) -> dict[str, Any]:
    """The ``joint`` fields of the result: share of samples of which all modalities, and at least k, have the same
    answer, of how many samples, and what it would be by chance. ``seen`` sees the samples, too."""
    if why := undefined(evaluation):
        return {"joint": why, "joint_samples": evaluation.protocol.joint_samples, "joint_chance": why}
    if why := evaluation.undrawn:
        return {"joint": why, "joint_samples": generation.joint_count(evaluation), "joint_chance": why}

    def judged(number: int, count: int) -> _Block:
        samples = generation.joint(evaluation, number, count)
        return _block(seen.of_none(number, samples) if seen else samples, [*classifiers.values()])

    return _fields(evaluation, evaluation.each(generation.joint_sizes(evaluation), judged, "joint coherence"))


@torch.no_grad()
def _block(samples: Iterable[Samples], classifiers: list[nn.Module]) -> _Block:
    logits = torch.cat([classified(classifiers[m], means).cpu() for m, _, means in samples])  # (M, b, classes)
    given = nn.functional.one_hot(logits.argmax(-1), logits.shape[-1])  # (M, b, classes)
    largest = given.sum(0).max(-1).values  # (b,)
    agree = largest.bincount(minlength=len(logits) + 1)[1:].double()
    return _Block(agree if logits.isfinite().all() else agree * math.nan, answers(logits))


def _fields(evaluation: Evaluation, blocks: list[_Block]) -> dict[str, Any]:
    samples, names = generation.joint_count(evaluation), evaluation.model.names
    agree, given = (torch.stack(parts).sum(0) for parts in zip(*blocks, strict=True))  # (M,), (M, classes)
    shares = agree.flip(0).cumsum(0).flip(0) / samples  # at least 1 ... M
    share = float(shares[-1])
    if not math.isfinite(share):
        return {"joint": share, "joint_samples": samples, "joint_chance": share}
    always = {name: constant(row, evaluation) for name, row in zip(names, given, strict=True)}
    return {
        "joint": share, "joint_samples": samples, "joint_chance": float((given / samples).prod(0).sum()),
        "joint_at_least": {str(k): float(shares[k - 1]) for k in range(2, len(names) + 1)},
        "joint_constant": {name: label for name, label in always.items() if label},
    }  # fmt: skip
