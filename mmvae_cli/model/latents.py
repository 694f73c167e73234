"""The latents between encoders and decoders: how they are drawn from the components, and the values of the regulariser.

:func:`shared_latents` does not depend on the networks, so that it can be compiled as one region.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmvae_cli.model.distributions import Distribution, at, joined
from mmvae_cli.model.fusion import EPS
from mmvae_cli.model.kernels import component_kls
from mmvae_cli.model.objective import Noise, Objective
from mmvae_cli.model.posterior import Family
from mmvae_cli.model.prior import Prior
from mmvae_cli.model.regularisers import REGULARISERS, Joint, to_experts


class Latents(NamedTuple):
    """The latents of one part of the family."""

    z: Tensor  # (Z, B, D), K of each component drawn from, one after the other
    drawn: Distribution  # (C, B, D), what they were drawn from
    components: Distribution | None  # (S, B, D) in units of the prior, where they are held
    each: Tensor  # (S, B), the KL of every component to the prior
    values: Tensor | None = None  # what regularises: (S, B), (C, B) or, where it is a mean already, (1, B)
    to_experts: Tensor | None = None  # (M, S, B), of total correlation


def shared_latents(
    experts: Distribution, parts: list[Family], objective: Objective, prior: Prior, noise: Noise,
    log_weights: Tensor | None,
) -> list[Latents]:  # fmt: skip
    """The latents of every part, and at the end those of the subsets that are drawn for the step; ``log_weights``
    (S,): of the components, where they do not count alike."""
    experts = prior.standardised(experts)
    latents = [
        _unimodal(experts, part, prior, drawn) if part.unimodal
        else _joint(experts, part, objective, prior, drawn, noise.choice)
        for part, drawn in zip(parts, noise.shared, strict=False)
    ]  # fmt: skip
    if noise.random is not None:
        latents.append(_random(experts, parts[0], prior, noise.shared[-1], noise.random))
    if objective.is_plain or objective.spec.estimator != "elbo":
        return latents
    return _regularised(experts, parts, objective, prior, log_weights, latents)


def _joint(
    experts: Any, part: Family, objective: Objective, prior: Prior, noise: Tensor, choice: Tensor | None
) -> Latents:
    """The latents of the joint posterior: of every component, or of each row's own."""
    if choice is not None and not objective.keeps(part):
        each, mean = component_kls(experts, part)
        drawn = prior.restored(part.chosen(experts, choice))
        return Latents(_sampled(drawn, noise, objective.samples), drawn, None, each, mean[None])
    components = part.components(experts)
    with torch.set_grad_enabled(objective.is_plain and torch.is_grad_enabled()):
        each = components.kl_to_prior()
    drawn = prior.restored(components if choice is None else part.chosen(experts, choice))
    return Latents(_sampled(drawn, noise, objective.samples), drawn, components, each, each)


def _unimodal(experts: Distribution, part: Family, prior: Prior, noise: Tensor) -> Latents:
    """The latents of every component of one modality."""
    components = part.components(experts)
    drawn = prior.restored(components)
    z, each = drawn.sample(noise), components.kl_to_prior()  # in this order: gradients are summed in it
    return Latents(z, drawn, components, each, each)


def _random(experts: Distribution, part: Family, prior: Prior, noise: Tensor, inside: Tensor) -> Latents:
    """The latents of the subsets ``inside`` (k, M)."""
    policy = inside.new_full((len(inside), 1), float(part.prior_expert == "all") / (1 + EPS))
    components = part.fused(experts, torch.cat([inside, policy], 1))
    drawn, each = prior.restored(components), components.kl_to_prior()
    return Latents(drawn.sample(noise), drawn, components, each, each)


def _sampled(drawn: Distribution, noise: Tensor, samples: int) -> Tensor:
    """K samples of each: (C, B, D) and noise (Z, B, D) -> (Z, B, D)."""
    if samples == 1:
        return drawn.sample(noise)
    return at(drawn, (slice(None), None)).sample(noise.unflatten(0, (-1, samples))).flatten(0, 1)


def _regularised(
    experts: Distribution, parts: list[Family], objective: Objective, prior: Prior, log_weights: Tensor | None,
    latents: list[Latents],
) -> list[Latents]:  # fmt: skip
    """The latents with the values of the regulariser, over all parts at once. With total correlation and components
    that decode their members only, the full set alone has one."""
    correlation = objective.spec.kl == "total_correlation"
    count = 1 if correlation and objective.spec.decode == "members" else len(parts)
    held, paying = parts[:count], latents[:count]
    components: Distribution = joined([one.components for one in paying if one.components is not None], 0)
    drawn, z = joined([one.drawn for one in paying], 0), torch.cat([one.z for one in paying])
    inside = torch.cat([part.inside for part in held])
    q = Joint(experts, components, prior.restored(components), drawn, z, inside, log_weights, prior)
    if correlation:
        q = q._replace(to_experts=to_experts(q))
    values = REGULARISERS[objective.spec.kl](q, objective.spec)
    split = [values] if count == 1 else values.split([len(part) for part in held])
    paid = [one._replace(values=own, to_experts=q.to_experts) for one, own in zip(paying, split, strict=True)]
    return paid + [one._replace(values=None) for one in latents[count:]]
