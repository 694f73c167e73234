"""What a recipe decides about the bound: which latents are drawn, what they decode, and how everything is weighed.

All randomness of a step is drawn first (:func:`draw_noise`), for all rows of the global batch. The terms are then a
function of model, batch and noise, so that a resumed or data-parallel run repeats the same numbers.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mmvae_cli.model.fusion import product
from mmvae_cli.model.posterior import Family, evenly, stratified
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.recipe import ObjectiveSpec, Recipe

Weight = float | Tensor


class Noise(NamedTuple):
    """Standard noise for every part of the family, and the component of every row where a row has one only. Z latents
    of a part are decoded per item, K for each component, one after the other; Z_m of them by modality m. ``random``:
    who is in the subsets that are drawn for this step; their noise comes last."""

    choice: Tensor | None  # (B,)
    shared: tuple[Tensor, ...]  # a part: (Z, B, D)
    private: tuple[tuple[Tensor, ...], ...]  # a part, a present modality: (Z_m, B, P)
    random: Tensor | None = None  # (k, M)


@dataclass(frozen=True)
class Objective:
    """What a recipe decides about the bound, with modality names resolved. ``warmth``: what beta is multiplied with
    while it warms up, a scalar that changes between steps."""

    recipe: Recipe
    spec: ObjectiveSpec
    weights: dict[str, float]
    private_weights: dict[str, float]
    warmth: Tensor | None = None

    @classmethod
    def of(cls, recipe: Recipe) -> "Objective":
        private = {name: modality.private_weight or 0.0 for name, modality in recipe.modalities.items()}
        return cls(recipe, recipe.objective, recipe.weights(), private)

    @property
    def is_plain(self) -> bool:
        """The regulariser is the mean KL of the components to the standard prior, in closed form."""
        return self.spec.prior == "standard" and self.spec.estimator == "elbo"

    @property
    def samples(self) -> int:
        """K, the number of samples per component."""
        return self.spec.samples or 1

    @property
    def beta(self) -> Weight:
        return self.spec.beta if self.warmth is None else self.spec.beta * self.warmth

    @property
    def of_shared(self) -> Weight:
        """The weight of the shared latent's regulariser: beta, and what it is multiplied with."""
        return self.beta * self.spec.beta_content

    def of_private(self, name: str) -> Weight:
        """The weight of a modality's private KL."""
        return self.beta * (self.spec.beta_private or 0.0) * self.private_weights[name]

    def holds(self, part: Family) -> bool:
        """Whether every item has latents of every component of the part; otherwise of one component."""
        return part.unimodal or (self.spec.component_choice == "all" and len(part) > 1)

    def keeps(self, part: Family) -> bool:
        """Whether all components of a part are in memory at once. Where each item has one component and the regulariser
        has a closed form, they need not be."""
        closed = self.is_plain and self.spec.kl == "components" and part.fuse is product
        return self.holds(part) or not closed

    def decoding(self, part: Family, modality: int) -> list[int] | None:
        """Which of a part's latents decode a modality; None: all of them."""
        if self.spec.decode != "members" or not self.holds(part):
            return None
        return [s for s, subset in enumerate(part.subsets) if modality in subset]

    def components(self, part: Family, modality: int | None = None) -> int:
        """How many components of a part there are for an item, or how many decode a modality."""
        rows = None if modality is None else self.decoding(part, modality)
        return len(rows) if rows is not None else len(part) if self.holds(part) else 1

    def share(self, part: Family, parts: list[Family], modality: int | None = None) -> float:
        """The weight of a part's components together, in the regulariser or in a modality's likelihood. For a sum it is
        their number; for a mean, which is over the components of all parts, their share of these."""
        counts = [len(p) if modality is None else self.components(p, modality) for p in parts]
        own = len(part) if modality is None else self.components(part, modality)
        return float(own) if self.spec.component_weights == "sum" else own / sum(counts)

    def private_share(self, parts: list[Family], modality: int) -> float:
        """The weight of the components that decode a modality from its own private posterior, together, where the
        components' weights are not learned."""
        if self.recipe.model.private != "auxiliary":
            return sum(self.share(part, parts, modality) for part in parts)
        containing = sum(modality in subset for part in parts for subset in part.subsets)
        return float(containing) if self.spec.component_weights == "sum" else containing / sum(map(len, parts))

    def likelihood_share(self, part: Family, modality: int, choice: Tensor | None) -> Weight:
        """The share of a likelihood that stays beside total correlation (equations 4.4), for each latent of a part: 1 -
        a/|A| where the modality is in A, else 1. A number, or (Z, 1) or (1, B)."""
        if self.spec.kl != "total_correlation":
            return 1.0
        alpha = None if self.spec.alpha == "auto" else self.spec.alpha
        count = part.modalities
        if self.spec.decode == "members" or len(part) == 1:  # the regulariser is the full set's
            return 1 - (1 / (count + 1) if alpha is None else alpha / count)
        size = part.inside.sum(1)
        left = 1 - part.inside[:, modality] * (1 / (size + 1) if alpha is None else alpha / size)
        return left[:, None] if choice is None or self.holds(part) else left[choice][None]


def draw_noise(
    model: MultimodalVAE, objective: Objective, modalities: Collection[str], batch: int, rows: slice,
    device: torch.device | str, *, mixed: bool = False,
) -> Noise:  # fmt: skip
    """Draw for all ``batch`` rows of the global batch and keep ``rows``: any split of it sees the same noise.
    ``modalities``: names of those that are present (a batch of them will do). ``mixed``: the rows are those of a
    batch that have these modalities, often too few to be dealt out to the components in blocks (:func:`evenly`)."""
    parts, choice = model.parts(model.positions(modalities)), None
    spec, samples, shared, private = objective.spec, objective.samples, [], []
    everyone = range(parts[0].modalities if model.private_dim else 0)

    def noise(*shape: int) -> Tensor:
        return model.prior.noise(*shape, device=device)[..., rows, :]

    if not objective.holds(parts[0]):
        blocks, spread = spec.component_choice != "random", spec.component_choice == "balanced"
        count = len(parts[0])
        choice = (torch.randint(count, (batch,), device=device) if not blocks
                  else evenly(batch, count, device) if mixed
                  else stratified(batch, count, device, spread=spread))[rows]  # fmt: skip
    for part in parts:
        shared.append(noise(objective.components(part) * samples, batch, model.latent_dim))
        private.append(tuple(noise(objective.components(part, m) * samples, batch, model.private_dim)
                             for m in everyone))  # fmt: skip
    count = spec.random_subsets or 0
    if not count or parts[0].modalities < 3:
        return Noise(choice, tuple(shared), tuple(private))
    random = random_subsets(parts[0].modalities, count, device)
    shared.append(noise(count, batch, model.latent_dim))
    private.append(tuple(noise(count, batch, model.private_dim) for m in everyone))
    return Noise(choice, tuple(shared), tuple(private), random)


def random_subsets(modalities: int, count: int, device: torch.device | str) -> Tensor:
    """Members (k, M) of ``count`` proper subsets: first a size from 2 to M - 1, then which (Wu and Goodman 2018). Drawn
    on the device, without a look at it."""
    size = torch.randint(2, modalities, (count, 1), device=device)
    rank = torch.rand(count, modalities, device=device).argsort(1).argsort(1)
    return (rank < size).float()
