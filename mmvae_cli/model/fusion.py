"""Fusions: how the experts of a subset become one distribution (equations 2.2 and 2.4).

Membership is data, a table of ones and zeros, so every fusion is made of sums over a table. Where the subsets are the
same for every row these are matrix products, else weighted sums.
"""

import math
from collections.abc import Callable
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmvae_cli.model.distributions import Gaussian, Laplace

EPS = 1e-8
"""Added once to every expert's variance, so that precisions stay finite however sharp an expert gets."""
_MAX_LOGVAR = 80.0


class Members(NamedTuple):
    """Who is in each subset: ``inside`` (S, M) for all rows alike, or (..., B, M) row by row; ``prior``, (S,) or
    (..., B), the precision that the prior expert adds to a product."""

    inside: Tensor
    prior: Tensor

    @property
    def alike(self) -> bool:
        return self.inside.dim() == 2

    def sum(self, x: Tensor) -> Tensor:
        """The sum over the members of each subset: x (M, B, D) -> (S, B, D) or (..., B, D)."""
        return membership_product(self.inside, x) if self.alike else _weighted(self.inside, x)

    def over_dims(self, each: Tensor) -> Tensor:
        """A number of each subset, (S,) or (..., B), in the shape that broadcasts against (S, B, D) or (..., B, D)."""
        return each[:, None, None] if self.alike else each[..., None]

    def size(self) -> Tensor:
        """The number of members, in the shape that broadcasts against what :meth:`sum` gives."""
        return self.over_dims(self.inside.sum(-1))


def precision(experts: Gaussian) -> Tensor:
    """The precisions 1 / (variance + EPS) of the experts, (M, B, D)."""
    return 1 / _variance(experts)


def _variance(experts: Gaussian) -> Tensor:
    """Variance + EPS, (M, B, D).

    An expert may learn a variance so large that it overflows. Its precision is 0 then. The bound on the log-variance
    makes the gradient 0, too; without it, infinity over infinity would give NaN.
    """
    return experts.logvar.clamp(max=_MAX_LOGVAR).exp() + EPS


def product(experts: Gaussian, members: Members) -> Gaussian:
    """Product of experts: ``t_A = sum t_m (+ prior)``, ``mu_A = sum t_m mu_m / t_A`` with precisions t: experts
    (M, B, D) -> (S, B, D) or, row by row, (..., B, D)."""
    weight = precision(experts)
    total = members.sum(weight) + members.over_dims(members.prior)
    return Gaussian(members.sum(weight * experts.mean) / total, -total.log())


def consensus(experts: Gaussian, members: Members, correlation: float) -> Gaussian:
    """The best linear estimate from n experts whose errors have the correlation rho (Winkler 1981; Mancisidor et al.
    2025). With ``a = 1/sigma`` and ``c = rho / (1 + (n-1) rho)``: ``t_A = [sum a^2 - c (sum a)^2] / (1 - rho)``,
    ``mu_A = [sum a^2 mu - c (sum a)(sum a mu)] / ((1 - rho) t_A)``."""
    weight = precision(experts)
    root = weight.sqrt()
    c = correlation / (1 + (members.size() - 1) * correlation)
    roots = members.sum(root)
    total = members.sum(weight) - c * roots.square()
    mean = (members.sum(weight * experts.mean) - c * roots * members.sum(root * experts.mean)) / total
    return Gaussian(mean, -(total / (1 - correlation)).log())


def average(experts: Gaussian, members: Members) -> Gaussian:
    """``mu_A = mean mu_m``, ``v_A = mean v_m``."""
    variance = members.sum(_variance(experts))
    return Gaussian(members.sum(experts.mean) / members.size(), (variance / members.size()).log())


def barycenter(experts: Gaussian, members: Members) -> Gaussian:
    """The 2-Wasserstein barycenter: ``mu_A = mean mu_m``, ``sigma_A = mean sigma_m`` (Qiu et al. 2025)."""
    deviation = members.sum(_variance(experts).sqrt())
    return Gaussian(members.sum(experts.mean) / members.size(), 2 * (deviation / members.size()).log())


def hellinger(experts: Gaussian, members: Members) -> Gaussian:
    """Mean and variance of the pool ``(1/n sum sqrt q_m)^2`` in every dimension: experts (M, B, D) -> (S, B, D) or,
    row by row, (..., B, D). The pool is a mixture over the pairs (i, j) of Gaussians with variance ``2 / (t_i + t_j)``,
    mean ``(t_i mu_i + t_j mu_j) / (t_i + t_j)`` and weight proportional to
    ``sqrt(2 sigma_i sigma_j / (v_i + v_j)) exp(-(mu_i - mu_j)^2 / (4 (v_i + v_j)))``."""
    logvar, mu = -precision(experts).log(), experts.mean
    weights, means, variances, inside = [], [], [], []
    for i, j in combinations_with_replacement(range(len(mu)), 2):
        log_both = torch.logaddexp(-logvar[i], -logvar[j])
        apart = torch.exp(-logvar[i] - logvar[j] - log_both) * (mu[i] - mu[j]).square()
        overlap = torch.exp(-(logvar[i] + logvar[j]) / 4 - (log_both - math.log(2)) / 2 - apart / 4)
        weights.append(overlap * (1 if i == j else 2))
        means.append(torch.lerp(mu[j], mu[i], torch.sigmoid(logvar[j] - logvar[i])))
        variances.append(2 * torch.exp(-log_both))
        inside.append(members.inside[..., i] * members.inside[..., j])
    # double: the difference of squares below would lose the variance of an expert that is sharp and far from the others
    pairs = Members(torch.stack(inside, -1).double(), members.prior)
    weight, mean, variance = (torch.stack(each).double() for each in (weights, means, variances))
    total = pairs.sum(weight)
    first, within = pairs.sum(weight * mean) / total, pairs.sum(weight * variance) / total
    between = (pairs.sum(weight * mean.square()) / total - first.square()).clamp_min(0)
    return Gaussian(first.to(mu.dtype), (within + between).log().to(mu.dtype))


def alone(experts: Laplace, members: Members) -> Laplace:
    """The one member of every subset, for experts without a product (Laplace)."""
    return Laplace(members.sum(experts.mean), members.sum(experts.scale))


def membership_product(members: Tensor, x: Tensor) -> Tensor:
    """members (S, M) times x (M, b, d) -> (S, b, d); not a matrix product on a GPU, where TF32 would round it."""
    return _weighted(members[:, None], x) if x.is_cuda else (members @ x.flatten(1)).unflatten(1, x.shape[1:])


def _weighted(members: Tensor, x: Tensor) -> Tensor:
    """members (..., B, M) times x (M, B, D) -> (..., B, D), by addition: exact where matrix products may be rounded."""
    total = members[..., 0, None] * x[0]
    for m in range(1, len(x)):
        total = total.addcmul(members[..., m, None], x[m])
    return total


FUSIONS: dict[str, Callable[..., Any]] = {
    "product": product, "consensus": consensus, "average": average, "barycenter": barycenter, "hellinger": hellinger,
}  # fmt: skip
