"""The joint posterior: a mixture over a family of subsets, each component the fusion of the experts in its subset.

Training, evaluation, sampling and export all take q(z | X_A) from here.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmvae_cli.model import fusion
from mmvae_cli.model.distributions import Latent, at
from mmvae_cli.model.fusion import EPS, FUSIONS, Members
from mmvae_cli.recipe import ModelSpec
from mmvae_cli.recipe.families import Subset

Fuse = Callable[[Any, Members], Any]


def fuse_of(spec: ModelSpec) -> Fuse:
    """How a recipe fuses experts: (M, B, D) and members to (S, B, D)."""
    if spec.posterior == "laplace":
        return fusion.alone
    if spec.fusion == "consensus":
        return partial(fusion.consensus, correlation=spec.correlation or 0.0)
    return FUSIONS[spec.fusion or "product"]


class Family(nn.Module):
    """The admitted subsets of M modalities, how the experts of one are fused, and the policy for the prior expert.

    ``prior_expert``: ``none``; ``full``: in the product over all M modalities only; ``all``: in every product.
    ``table`` (S, M + 1) is 1 where modality m is in subset s; its last column is the precision that the prior expert
    adds. It goes wherever the weights go, for a step that had to fetch it would wait for it.

    ``unimodal``: these are the components of one modality each that are bounds of their own beside the joint one.
    ``sources``: for a family that was restricted, the components of the whole one that each of its own stands for.
    ``admitted``: subsets that are components of the same model, in another part of it.
    """

    table: Tensor

    def __init__(
        self, subsets: tuple[Subset, ...], modalities: int, prior_expert: str = "none", *,
        fuse: Fuse = fusion.product, unimodal: bool = False, sources: tuple[tuple[int, ...], ...] | None = None,
        admitted: tuple[Subset, ...] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.subsets, self.modalities, self.prior_expert = subsets, modalities, prior_expert
        self.fuse, self.unimodal = fuse, unimodal
        self.sources = sources or tuple((s,) for s in range(len(subsets)))
        self.admitted = {*subsets, *admitted}
        self.register_buffer("table", torch.tensor([self._row(subset) for subset in subsets]), persistent=False)

    def __len__(self) -> int:
        return len(self.subsets)

    @property
    def inside(self) -> Tensor:
        """(S, M): 1 where modality m is in subset s."""
        return self.table[:, :-1]

    def _row(self, subset: Subset) -> list[float]:
        """A row of the table. A model of the present modalities alone would count what is left of the full set as its
        full set; so does this, where only the full set is admitted."""
        everyone = tuple(range(self.modalities))
        whole = subset == everyone or (subset not in self.admitted and everyone in self.admitted)
        inside = self.prior_expert == "all" or (self.prior_expert == "full" and whole)
        return [*(float(m in subset) for m in range(self.modalities)), float(inside) / (1 + EPS)]

    def components(self, experts: Latent) -> Latent:
        """Every component: experts (M, B, D) -> (S, B, D)."""
        return self.fused(experts, self.table)

    def chosen(self, experts: Latent, choice: Tensor) -> Latent:
        """The chosen component of every row: experts (M, B, D), choice (B,) -> (1, B, D); no other is computed."""
        return self.fused(experts, self.table[choice][None])

    def given(self, experts: Latent, subsets: list[Subset], *, spread: bool = True) -> Latent:
        """q(z | X_A) for every A in ``subsets``: experts (M, B, D) -> (S, B, D). Where the family stands for A by
        several components (MMVAE), rows are split over them in blocks (``spread`` as in :func:`stratified`, False as
        released), so rows should be shuffled."""
        batch = experts[0].shape[1]
        tables = []
        for subset in subsets:
            rows = torch.tensor([self._row(component) for component in self.components_of(subset)])
            tables.append(rows[stratified(batch, len(rows), spread=spread)])
        return self.fused(experts, torch.stack(tables))

    def fused(self, experts: Latent, table: Tensor) -> Latent:
        """The fusions of the subsets in a table like the family's own: (S, M + 1) -> (S, B, D), or row by row (..., B,
        M + 1)."""
        table = table.to(experts[0])
        return self.fuse(experts, Members(table[..., :-1], table[..., -1]))

    def restrict(self, present: Subset) -> "Family":
        """The family of a model built for the ``present`` modalities alone, with positions counted among them:
        every subset loses its missing members; what becomes empty or equal falls away."""
        if len(present) == self.modalities:
            return self
        kept: dict[Subset, tuple[int, ...]] = {}
        for s, subset in enumerate(self.subsets):
            if rest := tuple(present.index(m) for m in subset if m in present):
                kept[rest] = (*kept.get(rest, ()), s)
        subsets = tuple(sorted(kept, key=lambda s: (len(s), s)))
        sources = tuple(kept[subset] for subset in subsets)
        smaller = Family(subsets, len(present), self.prior_expert, fuse=self.fuse, unimodal=self.unimodal,
                         sources=sources)  # fmt: skip
        return smaller.to(self.table.device)

    def components_of(self, subset: Subset) -> tuple[Subset, ...]:
        """The components whose mixture is q(z | X_subset): ``subset`` itself where the family admits it, else (MMVAE)
        the admitted parts of it. Positions are those of the whole model."""
        inside = {tuple(m for m in admitted if m in subset) for admitted in self.subsets} - {()}
        return (subset,) if subset in inside else tuple(sorted(inside, key=lambda s: (len(s), s)))


def stratified(batch: int, components: int, device: torch.device | str = "cpu", *, spread: bool = False) -> Tensor:
    """The component of every row, (B,): blocks of neighbouring rows, one block a component.

    Where B does not divide evenly, the last component gets the rows that are left over, as in the released code. With
    ``spread`` no two blocks differ by more than a row: of 64 rows and 36 components the last one has 1 or 2 rows, not
    29. Where there are fewer rows than components, every row gets a component of its own, drawn at random.
    """
    if batch < components:
        return torch.randperm(components, device=device)[:batch]
    rows = torch.arange(batch, device=device)
    if spread:
        return rows * components // batch
    return (rows // (batch // components)).clamp(max=components - 1)


def evenly(rows: int, components: int, device: torch.device | str = "cpu") -> Tensor:
    """(B,) component of every one of ``rows`` that are a part of a batch, however few they are: blocks that differ by
    one row at most, from a start drawn at random, so that every component is as likely."""
    places = torch.arange(rows, device=device) + torch.rand((), device=device)
    return (places * components / rows).long().clamp(max=components - 1)


def mixture_log_prob(components: Latent, z: Tensor, log_weights: Tensor | None = None) -> Tensor:
    """log of the mixture of ``components`` (S, B, D), uniform or with ``log_weights`` (S,): z (..., B, D) -> (..., B).
    What is kept for the gradient grows with S plus the number of z, not with their product."""
    count = len(components[0])
    densities = torch.stack([_frugal_log_prob(at(components, s), z) for s in range(count)])
    if log_weights is None:
        return torch.logsumexp(densities, 0) - math.log(count)
    return torch.logsumexp(densities + log_weights.view(-1, *(1,) * (z.dim() - 1)), 0)


def _frugal_log_prob(q: Latent, z: Tensor) -> Tensor:
    """``q.log_prob(z)``, which is computed again for the gradient instead of being kept in memory."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return q.log_prob(z)
    return checkpoint(
        lambda z, *parameters: type(q)(*parameters).log_prob(z), z, *q,
        use_reentrant=False, preserve_rng_state=False, determinism_check="none",
    )  # fmt: skip
