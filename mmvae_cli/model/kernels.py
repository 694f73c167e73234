"""Written for speed: the KLs of all components, without keeping the components."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmvae_cli.model.distributions import Gaussian
from mmvae_cli.model.fusion import membership_product, precision
from mmvae_cli.model.posterior import Family

_CHUNK = {"cpu": 1 << 18, "cuda": 1 << 26}
"""Elements of one (S, b, d) temporary: about a core's cache on the CPU, a small part of the memory on a GPU."""


class ComponentKLs(NamedTuple):
    """KL(q_A || N(0, I)) of every product of a family, and their mean, which regularises the mixture methods."""

    each: Tensor  # (S, B), to be looked at: no gradient
    mean: Tensor  # (B,), over the family


def component_kls(experts: Gaussian, family: Family) -> ComponentKLs:
    """The KLs of all products of the family: experts (M, B, D) -> (S, B), and their mean (B,).

    The plain twin is ``family.components(experts).kl_to_prior()``, which a compiler gets
    (tests/model/test_fusion.py: test_chunked_kls_and_gradients_equal_the_plain_ones). Here batch and dimensions are
    worked through in chunks, and the gradient of the mean is taken in the same pass. So the (S, B, D) tensors never
    exist as a whole, and 1,023 subsets cost time, not memory.

    PolyMNIST's 31 components with their gradient: 31 -> 13 ms per step on two cores with AMX.
    """
    if torch.compiler.is_compiling():
        kls = family.components(experts).kl_to_prior()
        return ComponentKLs(kls.detach(), kls.mean(0))
    weight = precision(experts)
    each, mean, *_ = _ComponentKL.apply(weight, weight * experts.mean, family.table.to(weight))
    return ComponentKLs(each, mean)


class _ComponentKL(torch.autograd.Function):
    """With T = members @ weight + prior, n = members @ (weight * mean), v = 1/T and mu = n v, the product's mean:
    KL = 1/2 sum_d (v + mu^2 - 1 + log T), dKL/dn = mu v, dKL/dT = v (1/2 - v/2 - mu^2).

    ``members`` (S, M + 1) has the prior's precision in its last column.
    """

    generate_vmap_rule = True  # several models at once, with torch.func

    @staticmethod
    def forward(weight: Tensor, weighted: Tensor, members: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        subsets, (_, batch, latent) = len(members), weight.shape
        each = weight.new_full((subsets, batch), -0.5 * latent)
        to_weight, to_weighted = torch.empty_like(weight), torch.empty_like(weighted)
        back = members[:, :-1].t() / subsets
        for rows, dims in _chunks(weight, subsets):
            one = torch.ones_like(weight[:1, rows, dims])
            total = membership_product(members, torch.cat([weight[:, rows, dims], one]))  # (S, b, d)
            mean = membership_product(members[:, :-1], weighted[:, rows, dims])
            variance = total.reciprocal()
            mean.mul_(variance)
            each[:, rows] += 0.5 * (total.log_().sum(-1) + variance.sum(-1))
            to_weighted[:, rows, dims] = membership_product(back, mean * variance)
            squared = mean.mul_(mean)
            each[:, rows] += 0.5 * squared.sum(-1)
            by_total = torch.rsub(squared.add_(variance, alpha=0.5), 0.5).mul_(variance)
            to_weight[:, rows, dims] = membership_product(back, by_total)
        return each, each.mean(0), to_weight, to_weighted

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        each, _, *gradients = output
        ctx.mark_non_differentiable(each, *gradients)
        ctx.save_for_backward(*gradients)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor, None]:
        to_weight, to_weighted = ctx.saved_tensors
        by_row = upstream[1][:, None]  # (B, 1)
        return to_weight * by_row, to_weighted * by_row, None


def _chunks(weight: Tensor, subsets: int) -> list[tuple[slice, slice]]:
    """(rows, dimensions) of the chunks of (M, B, D): as many whole rows as fit, or a part of one row."""
    _, batch, latent = weight.shape
    columns = max(1, _CHUNK.get(weight.device.type, 1 << 22) // subsets)
    return [(slice(row, row + max(1, columns // latent)), slice(dim, dim + columns))
            for row in range(0, batch, max(1, columns // latent)) for dim in range(0, latent, columns)]  # fmt: skip
