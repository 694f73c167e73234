"""The joint posterior: a mixture over a family of subsets, each component the fusion of the experts in its subset.

q(z | X_A) has its home here, for training and for whatever is asked of a trained model.
"""

import math
from itertools import combinations

import torch
from torch import Tensor, nn

from mmvae_cli.model import fusion
from mmvae_cli.model.distributions import Gaussian
from mmvae_cli.model.fusion import EPS, Members
from mmvae_cli.recipe.families import Subset


class Family(nn.Module):
    """The admitted subsets of M modalities, and the policy for the N(0, I) prior expert.

    ``prior_expert``: ``none``; ``full``: in the product over all M modalities only; ``all``: in every product.
    ``table`` (S, M + 1) is 1 where modality m is in subset s; its last column is the precision that the prior expert
    adds. It goes wherever the weights go, for a step that had to fetch it would wait for it. ``unimodal``: these are
    the components of one modality each that are bounds of their own beside the joint one (MVAE).
    """

    table: Tensor

    def __init__(
        self, subsets: tuple[Subset, ...], modalities: int, prior_expert: str = "none", *, unimodal: bool = False
    ) -> None:
        super().__init__()
        self.subsets, self.modalities, self.prior_expert = subsets, modalities, prior_expert
        self.unimodal = unimodal
        rows = [[*(float(m in s) for m in range(modalities)), self._prior_precision(s)] for s in subsets]
        self.register_buffer("table", torch.tensor(rows), persistent=False)

    def __len__(self) -> int:
        return len(self.subsets)

    def _prior_precision(self, subset: Subset) -> float:
        inside = self.prior_expert == "all" or (self.prior_expert == "full" and len(subset) == self.modalities)
        return float(inside) / (1 + EPS)

    def components(self, experts: Gaussian) -> Gaussian:
        """Every component: experts (M, B, D) -> (S, B, D)."""
        return self._fused(experts, self.table)

    def chosen(self, experts: Gaussian, choice: Tensor) -> Gaussian:
        """The chosen component of every row: experts (M, B, D), choice (B,) -> (B, D); no other one is computed."""
        return self._fused(experts, self.table[choice][None]).at(0)

    def given(self, experts: Gaussian, subsets: list[Subset], *, spread: bool = True) -> Gaussian:
        """q(z | X_A) for every A in ``subsets``: experts (M, B, D) -> (S, B, D). Where the family stands for A by
        several components (MMVAE), rows are split over them in blocks (``spread`` as in :func:`stratified`, False as
        released), so rows should be shuffled."""
        batch = experts.mean.shape[1]
        tables = []
        for subset in subsets:
            standing = Family(self.components_of(subset), self.modalities, self.prior_expert)
            tables.append(standing.table[stratified(batch, len(standing), spread=spread)])
        return self._fused(experts, torch.stack(tables))

    def _fused(self, experts: Gaussian, table: Tensor) -> Gaussian:
        table = table.to(experts.mean)
        return fusion.product(experts, Members(table[..., :-1], table[..., -1]))

    def restrict(self, present: Subset) -> "Family":
        """The family of a model built for the ``present`` modalities alone, with positions counted among them:
        every subset loses its missing members; what becomes empty or equal falls away."""
        if len(present) == self.modalities:
            return self
        kept = {tuple(present.index(m) for m in subset if m in present) for subset in self.subsets} - {()}
        subsets = tuple(sorted(kept, key=lambda s: (len(s), s)))
        return Family(subsets, len(present), self.prior_expert, unimodal=self.unimodal).to(self.table.device)

    def components_of(self, subset: Subset) -> tuple[Subset, ...]:
        """The mixture that stands for q(z | X_subset): the fusion over ``subset`` itself where the family admits it,
        else (MMVAE) the admitted parts of it. Positions are those of the whole model."""
        inside = {tuple(m for m in admitted if m in subset) for admitted in self.subsets} - {()}
        return (subset,) if subset in inside else tuple(sorted(inside, key=lambda s: (len(s), s)))


def powerset(modalities: int) -> list[Subset]:
    """All non-empty subsets by size, then lexicographically; the full set last."""
    everyone = range(modalities)
    return [subset for size in range(1, modalities + 1) for subset in combinations(everyone, size)]


def stratified(batch: int, components: int, device: torch.device | str = "cpu", *, spread: bool = False) -> Tensor:
    """(B,) component of every row: contiguous blocks, equal by integer division, the remainder to the last component
    as in the released code, or ``spread``, so that no two blocks differ by more than a row: 64 rows of 36 components
    give the last one 29 or 1 or 2. With fewer rows than components each row gets another, randomly drawn component."""
    if batch < components:
        return torch.randperm(components, device=device)[:batch]
    rows = torch.arange(batch, device=device)
    if spread:
        return rows * components // batch
    return (rows // (batch // components)).clamp(max=components - 1)


def mixture_log_prob(components: Gaussian, z: Tensor) -> Tensor:
    """log of the uniform mixture of ``components`` (S, B, D) at z (..., B, D) -> (..., B)."""
    count = len(components.mean)
    return torch.logsumexp(torch.stack([components.at(s).log_prob(z) for s in range(count)]), 0) - math.log(count)
