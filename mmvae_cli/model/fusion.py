"""Subset families, products of experts, mixtures of products.

The joint posterior is a uniform mixture over a family of subsets; each component is the product of the experts in its
subset (Definition 1 and Eq. 4 of the paper). The family is data: a membership matrix (S, M), so that all subset
posteriors are two matrix products.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

EPS = 1e-8
"""Added once to every expert's variance: a product's precision stays finite however sharp an expert gets."""
_MAX_LOGVAR = 80.0
PriorExpert = Literal["none", "full", "all"]
Subset = tuple[int, ...]


class Gaussian(NamedTuple):
    """Diagonal Gaussians; ``mean`` and ``logvar`` have one shape (..., D)."""

    mean: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Reparameterised sample; ``noise`` broadcasts against (..., D)."""
        return self.mean + torch.exp(0.5 * self.logvar) * noise

    def log_prob(self, z: Tensor) -> Tensor:
        """log density summed over D: (..., D) -> (...)."""
        squared = (z - self.mean).square() * torch.exp(-self.logvar)
        return -0.5 * (squared + self.logvar + _LOG_2PI).sum(-1)

    def kl_to_prior(self) -> Tensor:
        """KL(q || N(0, I)) summed over D: (..., D) -> (...), closed form (facts 1.3)."""
        return 0.5 * (self.logvar.exp() + self.mean.square() - 1 - self.logvar).sum(-1)


_LOG_2PI = 1.8378770664093453


def log_prior(z: Tensor) -> Tensor:
    """log N(z; 0, I) summed over D: (..., D) -> (...)."""
    return -0.5 * (z.square() + _LOG_2PI).sum(-1)


@dataclass(frozen=True)
class Family:
    """The admitted subsets of M modalities and the policy for the N(0, I) prior expert.

    ``prior_expert``: ``none``; ``full``: in the product over all M modalities only; ``all``: in every product.
    """

    subsets: tuple[Subset, ...]
    modalities: int
    prior_expert: PriorExpert

    def __len__(self) -> int:
        return len(self.subsets)

    @cached_property
    def membership(self) -> Tensor:
        """(S, M): 1 where modality m is in subset s."""
        return torch.tensor([[float(m in subset) for m in range(self.modalities)] for subset in self.subsets])

    @cached_property
    def prior(self) -> Tensor:
        """(S,): precision that the prior expert adds to each product."""
        return torch.tensor([self.prior_precision(subset) for subset in self.subsets])

    def prior_precision(self, subset: Subset) -> float:
        inside = self.prior_expert == "all" or (self.prior_expert == "full" and len(subset) == self.modalities)
        return float(inside) / (1 + EPS)

    def restrict(self, present: Subset) -> "Family":
        """The family of a model built for the ``present`` modalities alone, with positions counted among them:
        every subset loses its missing members; what becomes empty or equal falls away."""
        kept = {tuple(present.index(m) for m in subset if m in present) for subset in self.subsets} - {()}
        return Family(tuple(sorted(kept, key=lambda s: (len(s), s))), len(present), self.prior_expert)

    def components_of(self, subset: Subset) -> tuple[Subset, ...]:
        """The mixture that stands for q(z | X_subset): the product over ``subset`` itself where the family admits it,
        else (MMVAE) the admitted parts of it. Positions are those of the whole model."""
        inside = {tuple(m for m in admitted if m in subset) for admitted in self.subsets} - {()}
        return (subset,) if subset in inside else tuple(sorted(inside, key=lambda s: (len(s), s)))


def powerset(modalities: int) -> list[Subset]:
    """All non-empty subsets by size, then lexicographically; the full set last."""
    everyone = range(modalities)
    return [subset for size in range(1, modalities + 1) for subset in combinations(everyone, size)]


def stratified(batch: int, components: int, device: torch.device | str = "cpu") -> Tensor:
    """(B,) component of every row: equal contiguous blocks by integer division, the remainder to the last component
    (facts 1.2). With fewer rows than components each row gets another, randomly drawn component."""
    if batch < components:
        return torch.randperm(components, device=device)[:batch]
    rows = torch.arange(batch, device=device)
    return (rows // (batch // components)).clamp(max=components - 1)


def precision(experts: Gaussian) -> Tensor:
    """(M, B, D): 1 / (variance + EPS). An expert that has learned to say nothing has a variance that overflows: its
    precision is as good as 0 then, and its gradient must be 0, not the NaN of infinity over infinity."""
    return 1 / (experts.logvar.clamp(max=_MAX_LOGVAR).exp() + EPS)


def products(experts: Gaussian, family: Family) -> Gaussian:
    """Every product of the family: experts (M, B, D) -> (S, B, D), as two matrix products (facts 1.1)."""
    shape = experts.mean.shape[1:]
    members, prior = family.membership.to(experts.mean), family.prior.to(experts.mean)
    weight = precision(experts)  # (M, B, D)
    total = members @ weight.flatten(1) + prior[:, None]  # (S, B*D)
    mean = (members @ (weight * experts.mean).flatten(1)) / total
    return Gaussian(mean.unflatten(1, shape), -total.log().unflatten(1, shape))


def row_products(experts: Gaussian, members: Tensor, prior: Tensor) -> Gaussian:
    """Products that differ from row to row: members (..., B, M), prior (..., B) -> (..., B, D)."""
    weight = precision(experts)
    total = torch.einsum("...bm,mbd->...bd", members, weight) + prior[..., None]
    mean = torch.einsum("...bm,mbd->...bd", members, weight * experts.mean) / total
    return Gaussian(mean, -total.log())


def select(experts: Gaussian, family: Family, choice: Tensor) -> Gaussian:
    """The chosen component of every row: experts (M, B, D), choice (B,) -> (B, D); no other component is computed."""
    members, prior = family.membership.to(experts.mean), family.prior.to(experts.mean)
    return row_products(experts, members[choice], prior[choice])


def subset_posteriors(experts: Gaussian, family: Family, subsets: list[Subset]) -> Gaussian:
    """q(z | X_A) for every A in ``subsets``: experts (M, B, D) -> (S, B, D). Where the family stands for A by several
    components (MMVAE), rows are split over them by the block rule (facts 1.2), so rows should be shuffled."""
    batch = experts.mean.shape[1]
    members = torch.zeros(len(subsets), batch, family.modalities)
    prior = torch.zeros(len(subsets), batch)
    for s, subset in enumerate(subsets):
        components = family.components_of(subset)
        chosen = stratified(batch, len(components))
        table = Family(components, family.modalities, family.prior_expert)
        members[s], prior[s] = table.membership[chosen], table.prior[chosen]
    return row_products(experts, members.to(experts.mean), prior.to(experts.mean))


def mixture_log_prob(components: Gaussian, z: Tensor) -> Tensor:
    """log of the uniform mixture of ``components`` (S, B, D) at z (..., B, D) -> (..., B)."""
    densities = torch.stack([Gaussian(mean, logvar).log_prob(z) for mean, logvar in zip(*components, strict=True)])
    return torch.logsumexp(densities, 0) - torch.log(torch.tensor(float(len(densities)), device=z.device))


# --- all component KLs without keeping all components ---------------------------------------------------------------

_CHUNK = {"cpu": 1 << 19, "cuda": 1 << 26}
"""Elements of one (S, b, D) temporary: about a core's cache on the CPU, a small part of the memory on a GPU."""


def component_kls(experts: Gaussian, family: Family) -> Tensor:
    """KL(q_A || N(0, I)) of every product of the family: experts (M, B, D) -> (S, B).

    Equals ``products(experts, family).kl_to_prior()``; works through the batch in chunks and recomputes them in the
    backward pass, so that the (S, B, D) tensors never exist as a whole: 1,023 subsets cost time, not memory.
    """
    weight = precision(experts)
    members, prior = family.membership.to(weight), family.prior.to(weight)
    if torch.compiler.is_compiling():
        return products(experts, family).kl_to_prior()
    result: Tensor = _ComponentKL.apply(weight, weight * experts.mean, members, prior)
    return result


class _ComponentKL(torch.autograd.Function):
    """With T = members @ weight + prior and n = members @ (weight * mean):
    KL = 1/2 sum_d (1/T + (n/T)^2 - 1 + log T), dKL/dn = n/T^2, dKL/dT = 1/2 (1/T - 1/T^2 - 2 n^2/T^3)."""

    generate_vmap_rule = True  # several models at once, with torch.func

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def forward(weight: Tensor, weighted: Tensor, members: Tensor, prior: Tensor) -> Tensor:
        parts = []
        for rows in _chunks(weight, len(members)):
            total, mean = _chunk_products(weight[:, rows], weighted[:, rows], members, prior)
            inner = total.log().add_(mean.mul_(mean)).add_(total.reciprocal_())
            parts.append(0.5 * (inner.sum(-1) - weight.shape[-1]))
        return torch.cat(parts, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        weight, weighted, members, prior = ctx.saved_tensors
        to_weight, to_weighted = torch.empty_like(weight), torch.empty_like(weighted)
        for rows in _chunks(weight, len(members)):
            total, mean = _chunk_products(weight[:, rows], weighted[:, rows], members, prior)
            upstream = gradients[0][:, rows, None]
            variance = total.reciprocal_()
            by_n = (mean * variance).mul_(upstream)
            # 1/2 (v - v^2) - n^2 v^3  =  v (1/2 - v/2 - mean^2), and n^2 v^3 = mean * (mean v)
            by_total = (0.5 - 0.5 * variance).mul_(variance).mul_(upstream).sub_(mean.mul_(by_n))
            flat = members.t()
            to_weight[:, rows] = (flat @ by_total.flatten(1)).unflatten(1, by_total.shape[1:])
            to_weighted[:, rows] = (flat @ by_n.flatten(1)).unflatten(1, by_n.shape[1:])
        return to_weight, to_weighted, None, None


def _chunks(weight: Tensor, subsets: int) -> list[slice]:
    _, batch, latent = weight.shape
    rows = max(1, _CHUNK.get(weight.device.type, 1 << 22) // (subsets * latent))
    return [slice(start, start + rows) for start in range(0, batch, rows)]


def _chunk_products(weight: Tensor, weighted: Tensor, members: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
    """Total precision and mean of every product: (M, b, D) -> (S, b, D) twice."""
    shape = weight.shape[1:]
    total = (members @ weight.flatten(1)).add_(prior[:, None])
    mean = (members @ weighted.flatten(1)).div_(total)
    return total.unflatten(1, shape), mean.unflatten(1, shape)
