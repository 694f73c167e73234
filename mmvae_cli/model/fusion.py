"""Subset families, products of experts, mixtures of products.

The joint posterior is a uniform mixture over a family of subsets; each component is the product of the experts in its
subset (Definition 1 and Eq. 4 of the paper). The family is data: a membership matrix (S, M), so that all subset
posteriors are two matrix products.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
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
    ``membership`` (S, M) is 1 where modality m is in subset s, ``prior`` (S,) the precision that the prior expert adds.
    """

    subsets: tuple[Subset, ...]
    modalities: int
    prior_expert: PriorExpert
    membership: Tensor = field(init=False, repr=False, compare=False)
    prior: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rows = [[float(m in subset) for m in range(self.modalities)] for subset in self.subsets]
        self._set(torch.tensor(rows), torch.tensor([self.prior_precision(subset) for subset in self.subsets]))

    def _set(self, membership: Tensor, prior: Tensor) -> None:
        object.__setattr__(self, "membership", membership)
        object.__setattr__(self, "prior", prior)

    def move(self, how: Callable[[Tensor], Tensor]) -> None:
        """Take the tables to where the model goes: a step that had to fetch them would wait for it."""
        self._set(how(self.membership), how(self.prior))

    def __len__(self) -> int:
        return len(self.subsets)

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


def stratified(batch: int, components: int, device: torch.device | str = "cpu", *, spread: bool = False) -> Tensor:
    """(B,) component of every row: contiguous blocks, equal by integer division, the remainder to the last component
    (facts 1.2), or ``spread``, so that no two blocks differ by more than a row: 64 rows of 36 components give the last
    one 29 or 1 or 2. With fewer rows than components each row gets another, randomly drawn component."""
    if batch < components:
        return torch.randperm(components, device=device)[:batch]
    rows = torch.arange(batch, device=device)
    if spread:
        return rows * components // batch
    return (rows // (batch // components)).clamp(max=components - 1)


def precision(experts: Gaussian) -> Tensor:
    """(M, B, D): 1 / (variance + EPS). An expert that has learned to say nothing has a variance that overflows: its
    precision is as good as 0 then, and its gradient must be 0, not the NaN of infinity over infinity."""
    return 1 / (experts.logvar.clamp(max=_MAX_LOGVAR).exp() + EPS)


def products(experts: Gaussian, family: Family) -> Gaussian:
    """Every product of the family: experts (M, B, D) -> (S, B, D), as two matrix products (facts 1.1)."""
    members, prior = family.membership.to(experts.mean), family.prior.to(experts.mean)
    weight = precision(experts)  # (M, B, D)
    total = _product(members, weight) + prior[:, None, None]
    return Gaussian(_product(members, weight * experts.mean) / total, -total.log())


def row_products(experts: Gaussian, members: Tensor, prior: Tensor) -> Gaussian:
    """Products that differ from row to row: members (..., B, M), prior (..., B) -> (..., B, D)."""
    weight = precision(experts)
    total = _weighted(members, weight) + prior[..., None]
    mean = _weighted(members, weight * experts.mean) / total
    return Gaussian(mean, -total.log())


def _weighted(members: Tensor, x: Tensor) -> Tensor:
    """members (..., B, M) times x (M, B, D) -> (..., B, D), by addition: exact where matrix products may be rounded."""
    total = members[..., 0, None] * x[0]
    for m in range(1, len(x)):
        total = torch.addcmul(total, members[..., m, None], x[m])
    return total


def _product(members: Tensor, x: Tensor) -> Tensor:
    """members (S, M) times x (M, b, d) -> (S, b, d); not a matrix product on a GPU, where TF32 would round it."""
    return _weighted(members[:, None], x) if x.is_cuda else _matmul(members, x)


def _matmul(matrix: Tensor, x: Tensor) -> Tensor:
    return (matrix @ x.flatten(1)).unflatten(1, x.shape[1:])


def select(experts: Gaussian, family: Family, choice: Tensor) -> Gaussian:
    """The chosen component of every row: experts (M, B, D), choice (B,) -> (B, D); no other component is computed."""
    members, prior = family.membership.to(experts.mean), family.prior.to(experts.mean)
    return row_products(experts, members[choice], prior[choice])


def subset_posteriors(experts: Gaussian, family: Family, subsets: list[Subset], *, spread: bool = True) -> Gaussian:
    """q(z | X_A) for every A in ``subsets``: experts (M, B, D) -> (S, B, D). Where the family stands for A by several
    components (MMVAE), rows are split over them by the block rule (facts 1.2; ``spread`` as in :func:`stratified`,
    False as released), so rows should be shuffled."""
    batch = experts.mean.shape[1]
    members = torch.zeros(len(subsets), batch, family.modalities)
    prior = torch.zeros(len(subsets), batch)
    for s, subset in enumerate(subsets):
        components = family.components_of(subset)
        chosen = stratified(batch, len(components), spread=spread)
        table = Family(components, family.modalities, family.prior_expert)
        members[s], prior[s] = table.membership[chosen], table.prior[chosen]
    return row_products(experts, members.to(experts.mean), prior.to(experts.mean))


def mixture_log_prob(components: Gaussian, z: Tensor) -> Tensor:
    """log of the uniform mixture of ``components`` (S, B, D) at z (..., B, D) -> (..., B)."""
    densities = torch.stack([Gaussian(mean, logvar).log_prob(z) for mean, logvar in zip(*components, strict=True)])
    return torch.logsumexp(densities, 0) - math.log(len(densities))


# --- all component KLs without keeping all components ---------------------------------------------------------------

_CHUNK = {"cpu": 1 << 18, "cuda": 1 << 26}
"""Elements of one (S, b, d) temporary: about a core's cache on the CPU, a small part of the memory on a GPU."""


class ComponentKLs(NamedTuple):
    """KL(q_A || N(0, I)) of every product of a family, and the regulariser of the mixture methods (facts 1.3)."""

    each: Tensor  # (S, B), to be looked at: no gradient
    mean: Tensor  # (B,), over the family


def component_kls(experts: Gaussian, family: Family) -> ComponentKLs:
    """The KLs of all products of the family: experts (M, B, D) -> (S, B), and their mean (B,).

    Equals ``products(experts, family).kl_to_prior()``; works through batch and dimensions in chunks and takes the
    gradient of the mean in the same pass, so that the (S, B, D) tensors never exist as a whole and nothing is computed
    twice: 1,023 subsets cost time, not memory.
    """
    if torch.compiler.is_compiling():
        kls = products(experts, family).kl_to_prior()
        return ComponentKLs(kls.detach(), kls.mean(0))
    weight = precision(experts)
    members = torch.cat([family.membership, family.prior[:, None]], 1).to(weight)
    each, mean, *_ = _ComponentKL.apply(weight, weight * experts.mean, members)
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
            total = _product(members, torch.cat([weight[:, rows, dims], one]))  # (S, b, d)
            mean = _product(members[:, :-1], weighted[:, rows, dims])
            variance = total.reciprocal()
            mean.mul_(variance)
            each[:, rows] += 0.5 * (total.log_().sum(-1) + variance.sum(-1))
            to_weighted[:, rows, dims] = _product(back, mean * variance)
            squared = mean.mul_(mean)
            each[:, rows] += 0.5 * squared.sum(-1)
            by_total = torch.rsub(squared.add_(variance, alpha=0.5), 0.5).mul_(variance)
            to_weight[:, rows, dims] = _product(back, by_total)
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
    """(rows, dimensions) of the chunks of (M, B, D): as many whole rows as fit, or a part of one."""
    _, batch, latent = weight.shape
    columns = max(1, _CHUNK.get(weight.device.type, 1 << 22) // subsets)
    return [(slice(row, row + max(1, columns // latent)), slice(dim, dim + columns))
            for row in range(0, batch, max(1, columns // latent)) for dim in range(0, latent, columns)]  # fmt: skip
