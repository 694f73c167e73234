"""What a model generates, block by block: the means of the decoders' distributions at drawn latents (equations 6.2).
Coherence and quality see the same samples."""

from collections.abc import Iterator

import torch
from torch import Tensor

from mmvae_cli.evaluation.encoding import BLOCK, Evaluation, Experts
from mmvae_cli.process import signals

NO_ITEM = -1
"""Stands for the position of a subset where z comes from no item."""
SUBSETS_AT_ONCE = 64
"""So that 4,095 subsets cost time, not memory."""
Samples = tuple[int, list[int], Tensor]
"""(target's position, positions of subsets, means (s, b, *shape))."""


@torch.no_grad()
def conditional(
    evaluation: Evaluation, number: int, part: Experts, pairs: set[tuple[int, int]] | None = None
) -> Iterator[Samples]:
    """Samples of every target from all subsets, or of the (target, subset) in ``pairs``, of block ``number``. z is
    drawn anew for every subset; the private latents are drawn from the prior, once per block and shared by all subsets,
    for observed modalities too (equations 3.4, 6.2)."""
    torch.manual_seed(evaluation.seed(f"coherence {number}"))
    model, count = evaluation.model, len(part.items)
    size, prior = model.private_dim, model.private_prior
    private = {name: prior.sample(prior.noise(1, count, size, device=evaluation.device)) if size else None
               for name in model.names}  # fmt: skip
    for start in range(0, len(evaluation.subsets), SUBSETS_AT_ONCE):
        if start:  # whoever looks at the samples may draw at random, too, as dropout does
            torch.manual_seed(evaluation.seed(f"coherence {number} from {start}"))
        signals.leave_if_requested("no evaluation was written")
        subsets = evaluation.subsets[start : start + SUBSETS_AT_ONCE]
        posteriors = evaluation.posteriors(part, subsets)
        z = posteriors.sample(model.prior.noise(len(subsets), count, model.latent_dim, device=evaluation.device))
        for m, name in enumerate(model.names):
            wanted = [s for s in range(start, start + len(subsets)) if pairs is None or (m, s) in pairs]
            at_once = evaluation.subsets_at_once(count)
            for first in range(0, len(wanted), at_once):
                some = wanted[first : first + at_once]
                yield m, some, decoded(evaluation, name, z[[s - start for s in some]], private[name])


def joint_count(evaluation: Evaluation) -> int:
    """How many z that come from no item the protocol asks for, whether or not they can be drawn."""
    samples = evaluation.protocol.joint_samples
    dropped = evaluation.protocol.incomplete_batches == "dropped" and samples > BLOCK
    return samples - samples % BLOCK if dropped else samples


def joint_sizes(evaluation: Evaluation) -> list[int]:
    """The sizes of the blocks of z that come from no item."""
    samples = 0 if evaluation.undrawn else joint_count(evaluation)
    return [min(BLOCK, samples - start) for start in range(0, samples, BLOCK)]


@torch.no_grad()
def joint(evaluation: Evaluation, number: int, count: int) -> Iterator[Samples]:
    """Samples of every modality in turn, (1, b, *shape), decoded from the z of block ``number``; private latents come
    from where z does."""
    signals.leave_if_requested("no evaluation was written")
    purpose = f"joint coherence {number}"
    torch.manual_seed(evaluation.seed(purpose))
    z = evaluation.latents.shared(count, evaluation.seed(purpose))
    for m, name in enumerate(evaluation.model.names):
        private = evaluation.latents.private(name, count, evaluation.seed(f"{purpose} {name}"))
        yield m, [NO_ITEM], decoded(evaluation, name, z, private)


def decoded(evaluation: Evaluation, name: str, z: Tensor, private: Tensor | None) -> Tensor:
    """The means (S, b, *shape) of z (S, b, D) with one set of private latents (1, b, P)."""
    own = None if private is None else private.expand(len(z), -1, -1)
    return evaluation.model.likelihoods[name].mean(evaluation.model.decode(name, z, own))
