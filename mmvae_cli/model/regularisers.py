"""The regularisers R of the bound, which hold the joint posterior near a prior (equations 4.4 and 4.5).

Each takes the :class:`Joint` posterior and gives a value for every component, (S, B), or (C, B) where it is estimated
at the latents that were drawn. R is their sum, weighted as the components are.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmvae_cli.model.distributions import Gaussian, at, kl
from mmvae_cli.model.fusion import EPS
from mmvae_cli.model.posterior import mixture_log_prob
from mmvae_cli.model.prior import Prior
from mmvae_cli.recipe import ObjectiveSpec


class Joint(NamedTuple):
    """``experts`` (M, B, D) and ``components`` (S, B, D) are in units of the prior, so that p(z) is the standard one;
    ``mixture`` are the same components over z itself, and ``drawn`` (C, B, D) those that z (C, B, D) was drawn from.
    ``inside`` (S, M): who is in each; ``log_weights`` (S,), where the components do not count alike; ``to_experts``
    (M, S, B), what :func:`to_experts` gives, where it is asked for."""

    experts: Any
    components: Any
    mixture: Any
    drawn: Any
    z: Tensor
    inside: Tensor
    log_weights: Tensor | None
    prior: Prior
    to_experts: Tensor | None = None


def standard(q: Joint, share: float | None) -> Tensor:
    """``KL(q_A || N(0, I))``: (S, B)."""
    return q.components.kl_to_prior()


def dynamic(q: Joint, share: float | None) -> Tensor:
    """``a KL(N0 || f) + (1-a) KL(q_A || f)``: (S, B), where f is the geometric mean of N0, with weight a, and of all
    components: precision ``a t_0 + (1-a) mean t_A``, and the mean weighted by precision (Sutter et al. 2020)."""
    components, a = q.components, 1 / (len(q.components.mean) + 1) if share is None else share
    weight = torch.exp(-components.logvar)
    total = a / (1 + EPS) + (1 - a) * weight.mean(0)
    f = Gaussian((1 - a) * (weight * components.mean).mean(0) / total, -total.log())
    zero = torch.zeros_like(f.mean)
    return a * kl(Gaussian(zero, zero), f) + (1 - a) * kl(components, f)


def mixture(q: Joint, share: float | None) -> Tensor:
    """``KL(q_A || h)`` with ``h = a N0 + (1-a) mean q_A``, by Monte Carlo: ``log q_A(z_A) - log h(z_A)``, (C, B)
    (Sutter et al. 2024)."""
    log_h = mixture_log_prob(q.mixture, q.z)
    if share:
        log_rest = math.log1p(-share) if share < 1 else -math.inf
        log_h = torch.logaddexp(math.log(share) + q.prior.log_prob(q.z), log_rest + log_h)
    return q.drawn.log_prob(q.z) - log_h


def pairwise(q: Joint, share: float | None) -> Tensor:
    """``a KL(q_A || N0) + (1-a) mean_B KL(q_A || q_B)``: (S, B) (Sutter et al. 2024, released code)."""
    count, a = len(q.components.mean), share or 0.0
    among = torch.stack([kl(q.components, at(q.components, s)) for s in range(count)]).mean(0)
    return a * standard(q, None) + (1 - a) * among if a else among


def of_the_mixture(q: Joint) -> Tensor:
    """``KL(q(z | X) || p(z))`` of the mixture itself, by Monte Carlo: ``log q(z | X) - log p(z)``, (C, B) (Eq. 6)."""
    return mixture_log_prob(q.mixture, q.z, q.log_weights) - q.prior.log_prob(q.z)


def total_correlation(q: Joint, alpha: float | None) -> Tensor:
    """``(1-a) KL(q_A || N0) + a/|A| sum_{m in A} KL(q_A || q_m)``: (S, B), with a = alpha or, without one,
    ``|A| / (|A| + 1)`` (Hwang et al. 2021)."""
    size = q.inside.sum(1)[:, None]
    a = size / (size + 1) if alpha is None else torch.full_like(size, alpha)
    apart = to_experts(q) if q.to_experts is None else q.to_experts
    return (1 - a) * standard(q, None) + a / size * apart.sum(0)


def to_experts(q: Joint) -> Tensor:
    """``KL(q_A || q_m)``: (M, S, B), 0 where m is outside A. There q_m is replaced by q_A itself: the distance to an
    expert outside may be infinite, and 0 times infinity is not a number."""
    each = []
    for m in range(len(q.experts.mean)):
        there = q.inside[:, m, None, None] > 0
        parts = [torch.where(there, own[m], part) for own, part in zip(q.experts, q.components, strict=True)]
        each.append(kl(q.components, Gaussian(*parts)))
    return torch.stack(each)


PRIORS: dict[str, Callable[[Joint, float | None], Tensor]] = {
    "standard": standard, "dynamic": dynamic, "mixture": mixture, "pairwise": pairwise,
}  # fmt: skip
"""The priors h inside the component KLs."""
REGULARISERS: dict[str, Callable[[Joint, ObjectiveSpec], Tensor]] = {
    "components": lambda q, spec: PRIORS[spec.prior or "standard"](q, _number(spec.prior_share)),
    "mixture": lambda q, spec: of_the_mixture(q),
    "total_correlation": lambda q, spec: total_correlation(q, _number(spec.alpha)),
}


def _number(given: float | str | None) -> float | None:
    """None for ``auto``."""
    return given if isinstance(given, float) else None
