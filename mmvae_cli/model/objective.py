"""The bound: its terms as tensors (B,) in a typed record, and one place that weighs and reduces them (facts 1.6).

All randomness of a step is drawn up front (:func:`draw_noise`), for the rows of the global batch; the terms are then a
deterministic function of model, batch and noise. That is what makes a resumed or a data-parallel run the same run.
"""

from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmvae_cli.model import fusion
from mmvae_cli.model.fusion import Family, Gaussian
from mmvae_cli.model.vae import Batch, Encoded, MultimodalVAE
from mmvae_cli.recipe import ObjectiveSpec, Recipe

_AS_THEY_ARE: AbstractContextManager[Any] = nullcontext()


class Noise(NamedTuple):
    """Standard normal noise and the component of every row. Z is 1, or S where every component is decoded."""

    choice: Tensor | None  # (B,)
    shared: Tensor  # (Z, B, D)
    private: Tensor | None  # (M, Z, B, P)
    unimodal: Tensor | None  # (M, B, D)
    unimodal_private: Tensor | None  # (M, B, P)


@dataclass(frozen=True)
class Objective:
    """What a recipe decides about the bound, with modality names resolved."""

    spec: ObjectiveSpec
    weights: dict[str, float]
    private_weights: dict[str, float]
    unimodal_elbos: bool

    @classmethod
    def of(cls, recipe: Recipe) -> "Objective":
        private = {name: modality.private_weight for name, modality in recipe.modalities.items()}
        return cls(recipe.objective, recipe.weights(), private, recipe.model.unimodal_elbos)


@dataclass
class Terms:
    """The terms of the bound, each (B,) in nats per item unless said otherwise; modalities that were present only."""

    log_likelihood: dict[str, Tensor]
    kl_components: Tensor  # (S, B), each component's KL to the prior, to be looked at: it may have no gradient
    kl_shared: Tensor
    kl_private: dict[str, Tensor] = field(default_factory=dict)
    unimodal_log_likelihood: dict[str, Tensor] = field(default_factory=dict)
    unimodal_kl: dict[str, Tensor] = field(default_factory=dict)

    def means(self, names: list[str]) -> dict[str, Tensor]:
        """Scalar batch means by the names used in metrics.jsonl; ``names`` are those of the components."""
        flat = {f"log_likelihood.{name}": term.mean() for name, term in self.log_likelihood.items()}
        flat |= {"kl.shared": self.kl_shared.mean()}
        flat |= {f"kl.private.{name}": term.mean() for name, term in self.kl_private.items()}
        flat |= {f"unimodal.log_likelihood.{name}": t.mean() for name, t in self.unimodal_log_likelihood.items()}
        flat |= {f"unimodal.kl.{name}": term.mean() for name, term in self.unimodal_kl.items()}
        return flat | dict(zip((f"kl.{name}" for name in names), self.kl_components.mean(1).unbind(), strict=True))


def draw_noise(
    model: MultimodalVAE, objective: Objective, modalities: Collection[str], batch: int, rows: slice,
    device: torch.device | str,
) -> Noise:  # fmt: skip
    """Draw for all ``batch`` rows of the global batch and keep ``rows``: any split of it sees the same noise.
    ``modalities``: names of those that are present (a batch of them will do)."""
    family, present = model.family_of(model.positions(modalities)), len(modalities)
    spec, decoded = objective.spec, len(family) if objective.spec.component_choice == "all" else 1

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device)[..., rows, :]

    choice = None
    if spec.component_choice != "all":
        blocks, spread = spec.component_choice != "random", spec.component_choice == "balanced"
        choice = (fusion.stratified(batch, len(family), device, spread=spread) if blocks
                  else torch.randint(len(family), (batch,), device=device))[rows]  # fmt: skip
    shared = normal(decoded, batch, model.latent_dim)
    private = normal(present, decoded, batch, model.private_dim) if model.private_dim else None
    unimodal = normal(present, batch, model.latent_dim) if objective.unimodal_elbos else None
    both = model.private_dim and objective.unimodal_elbos
    return Noise(choice, shared, private, unimodal, normal(present, batch, model.private_dim) if both else None)


def bound_terms(
    model: MultimodalVAE, batch: Batch, objective: Objective, noise: Noise,
    networks: AbstractContextManager[Any] = _AS_THEY_ARE,
) -> Terms:  # fmt: skip
    """The forward pass. ``batch`` may lack modalities: the family is then that of a model of the present ones alone.
    ``networks``: entered around encoders and decoders only (autocast); fusion, KL and densities stay in fp32."""
    with networks:
        encoded = model.encode(batch)
    family = model.family_of(encoded.present)
    z, kl_components, kl_shared = model.region(shared_latent)(encoded, family, objective.spec, noise)
    terms = Terms({}, kl_components, kl_shared)
    unimodal = fusion.products(encoded.shared, model.singles_of(encoded.present)) if objective.unimodal_elbos else None
    for i in model.lanes(range(len(encoded.present))):
        name = model.names[encoded.present[i]]
        latents, private = [z], []
        if unimodal is not None and noise.unimodal is not None:
            latents.append(Gaussian(unimodal.mean[i], unimodal.logvar[i]).sample(noise.unimodal[i])[None])
            terms.unimodal_kl[name] = Gaussian(unimodal.mean[i], unimodal.logvar[i]).kl_to_prior()
        if encoded.private is not None and noise.private is not None:
            own = Gaussian(encoded.private.mean[i], encoded.private.logvar[i])
            terms.kl_private[name] = own.kl_to_prior()
            private.append(own.sample(noise.private[i]))
            if noise.unimodal_private is not None:
                private.append(own.sample(noise.unimodal_private[i])[None])
        # one decoder pass for the joint and the unimodal latents: (Z or Z + 1, B, D)
        with networks:
            decoded = model.log_likelihood(name, _joined(latents), _joined(private) if private else None, batch[name])
        terms.log_likelihood[name] = decoded[: len(z)].mean(0)
        if unimodal is not None:
            terms.unimodal_log_likelihood[name] = decoded[-1]
    return terms


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def shared_latent(encoded: Encoded, family: Family, spec: ObjectiveSpec, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
    """z (Z, B, D), the KL of every component (S, B), and the regulariser (B,) that the recipe asks for: a
    region."""
    experts = encoded.shared
    if noise.choice is None or spec.kl == "mixture":
        components = fusion.products(experts, family)
        each = components.kl_to_prior()
        kls = fusion.ComponentKLs(each, each.mean(0))
    else:
        components, kls = None, fusion.component_kls(experts, family)
    chosen = components if noise.choice is None else fusion.select(experts, family, noise.choice)
    assert chosen is not None
    z = chosen.sample(noise.shared)  # (Z, B, D)
    if spec.kl == "components":
        return z, kls.each, kls.mean
    assert components is not None
    mixture = fusion.mixture_log_prob(components, z) - fusion.log_prior(z)  # (Z, B), Eq. (6) by Monte Carlo
    return z, kls.each, mixture.mean(0)


def weigh(terms: Terms, objective: Objective) -> Tensor:
    """The loss per item (B,), minimised: the only place where terms meet weights (facts 1.6, Eq. 34)."""
    spec = objective.spec
    loss = spec.beta * spec.beta_content * terms.kl_shared
    for name, log_likelihood in terms.log_likelihood.items():
        loss = loss - objective.weights[name] * log_likelihood
        if name in terms.kl_private:
            private = spec.beta * spec.beta_private * objective.private_weights[name] * terms.kl_private[name]
            loss = loss + private * (2 if objective.unimodal_elbos else 1)  # J and U_m have one each
    for name, log_likelihood in terms.unimodal_log_likelihood.items():
        weight = objective.weights[name] if spec.unimodal_weights == "same" else 1.0
        loss = loss - weight * log_likelihood + spec.beta * spec.beta_content * terms.unimodal_kl[name]
    return loss
