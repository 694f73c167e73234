"""The bound: its terms, each with its role and weight, and one place that weighs and reduces them.

All randomness of a step is drawn up front (:func:`draw_noise`), for the rows of the global batch; the terms are then a
deterministic function of model, batch and noise. That is what makes a resumed or a data-parallel run the same run.
"""

from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from mmvae_cli.model.distributions import Gaussian, joined
from mmvae_cli.model.kernels import component_kls
from mmvae_cli.model.posterior import Family, mixture_log_prob, stratified
from mmvae_cli.model.prior import Prior
from mmvae_cli.model.vae import Batch, MultimodalVAE
from mmvae_cli.recipe import ObjectiveSpec, Recipe
from mmvae_cli.recipe.kinds import KINDS

_AS_THEY_ARE: AbstractContextManager[Any] = nullcontext()


class Noise(NamedTuple):
    """Standard noise, for every part of the family, and the component of every row where a row has one only. Z latents
    of a part are decoded per item, Z_m of them by modality m."""

    choice: Tensor | None  # (B,)
    shared: tuple[Tensor, ...]  # a part: (Z, B, D)
    private: tuple[tuple[Tensor, ...], ...]  # a part, a present modality: (Z_m, B, P)


class Term(NamedTuple):
    """``value`` (B,), nats per item, enters the loss with ``weight``; without one it is there to be looked at.
    ``share``: how it enters the joint posterior's own bound, where nothing is weighed."""

    value: Tensor
    role: Literal["log-likelihood", "KL", "component"]
    weight: float | None = None
    share: float = 0.0


OUTLINE_ROWS = 2
Terms = dict[str, Term]
"""By the names of metrics.jsonl; modalities that were present only."""


@dataclass(frozen=True)
class Objective:
    """What a recipe decides about the bound, with modality names resolved."""

    recipe: Recipe
    spec: ObjectiveSpec
    weights: dict[str, float]
    private_weights: dict[str, float]

    @classmethod
    def of(cls, recipe: Recipe) -> "Objective":
        private = {name: modality.private_weight for name, modality in recipe.modalities.items()}
        return cls(recipe, recipe.objective, recipe.weights(), private)

    def holds(self, part: Family) -> bool:
        """Every component of the part is there for every item; else one component, or one for each row."""
        return part.unimodal or (self.spec.component_choice == "all" and len(part) > 1)

    def decoding(self, part: Family, modality: int) -> list[int] | None:
        """Which of a part's latents decode a modality; None: all of them."""
        if self.spec.decode != "members" or not self.holds(part):
            return None
        return [s for s, subset in enumerate(part.subsets) if modality in subset]

    def latents(self, part: Family, modality: int | None = None) -> int:
        """Z, how many latents of a part there are for an item, or Z_m, how many decode a modality."""
        rows = None if modality is None else self.decoding(part, modality)
        return len(rows) if rows is not None else len(part) if self.holds(part) else 1

    def share(self, part: Family, parts: list[Family], modality: int | None = None) -> float:
        """What all components of a part together count for in the regulariser, or in a modality's likelihood: mean
        over the components of the family, or sum."""
        counts = [len(p) if modality is None else self.latents(p, modality) for p in parts]
        own = len(part) if modality is None else self.latents(part, modality)
        return float(own) if self.spec.component_weights == "sum" else own / sum(counts)


def draw_noise(
    model: MultimodalVAE, objective: Objective, modalities: Collection[str], batch: int, rows: slice,
    device: torch.device | str,
) -> Noise:  # fmt: skip
    """Draw for all ``batch`` rows of the global batch and keep ``rows``: any split of it sees the same noise.
    ``modalities``: names of those that are present (a batch of them will do)."""
    parts, choice = model.parts(model.positions(modalities)), None
    spec, shared, private = objective.spec, [], []

    def normal(*shape: int) -> Tensor:
        return model.prior.noise(*shape, device=device)[..., rows, :]

    if not objective.holds(parts[0]):
        blocks, spread = spec.component_choice != "random", spec.component_choice == "balanced"
        choice = (stratified(batch, len(parts[0]), device, spread=spread) if blocks
                  else torch.randint(len(parts[0]), (batch,), device=device))[rows]  # fmt: skip
    for part in parts:
        shared.append(normal(objective.latents(part), batch, model.latent_dim))
        private.append(tuple(normal(objective.latents(part, m), batch, model.private_dim)
                             for m in range(part.modalities if model.private_dim else 0)))  # fmt: skip
    return Noise(choice, tuple(shared), tuple(private))


def bound_terms(
    model: MultimodalVAE, batch: Batch, objective: Objective, noise: Noise,
    networks: AbstractContextManager[Any] = _AS_THEY_ARE,
) -> Terms:  # fmt: skip
    """The forward pass. ``batch`` may lack modalities: the family is then that of a model of the present ones alone.
    ``networks``: entered around encoders and decoders only (autocast); fusion, KL and densities stay in fp32."""
    with networks:
        encoded = model.encode(batch)
    parts = model.parts(encoded.present)
    names = [model.names[position] for position in encoded.present]
    latents = model.region(shared_latents)(encoded.shared, parts, objective, model.prior, noise)
    found: list[dict[str, Tensor]] = [{} for _ in parts]
    private: dict[str, Tensor] = {}
    for m in model.lanes(range(len(names))):
        z = [_picked(one.z, objective.decoding(part, m)) for one, part in zip(latents, parts, strict=True)]
        s = None
        if encoded.private is not None:
            own = encoded.private.at(m)
            private[names[m]] = own.kl_to_prior()
            s = _joined([own.sample(drawn[m]) for drawn in noise.private])
        # one decoder pass for the latents of all parts
        with networks:
            decoded = model.log_likelihood(names[m], _joined(z), s, batch[names[m]])
        for values, rows in zip(found, decoded.split([len(one) for one in z]), strict=True):
            values[names[m]] = rows.mean(0)
    return _terms(objective, parts, names, latents, found, private)


class Latents(NamedTuple):
    """Of one part of the family. ``components`` (S, B, D) where they are held; ``each`` (S, B), the KL of every one to
    the prior, has a gradient only there; ``regulariser``: their mean (B,), of a unimodal part every one (S, B)."""

    z: Tensor  # (Z, B, D)
    components: Gaussian | None
    each: Tensor
    regulariser: Tensor


def shared_latents(
    experts: Gaussian, parts: list[Family], objective: Objective, prior: Prior, noise: Noise
) -> list[Latents]:
    """What lies between encoders and decoders, a region: the latents of every part and what regularises them."""
    mixture = objective.spec.kl == "mixture"
    found = [
        _unimodal(experts, part, drawn) if part.unimodal else _joint(experts, part, drawn, noise.choice, mixture)
        for part, drawn in zip(parts, noise.shared, strict=True)
    ]
    if not mixture:
        return found
    components = joined([one.components for one in found if one.components is not None], 0)
    ratios = [mixture_log_prob(components, one.z) - prior.log_prob(one.z) for one in found]  # Eq. (6) by Monte Carlo
    return [one._replace(regulariser=ratio if part.unimodal else ratio.mean(0))
            for one, part, ratio in zip(found, parts, ratios, strict=True)]  # fmt: skip


def _joint(experts: Gaussian, part: Family, noise: Tensor, choice: Tensor | None, hold: bool) -> Latents:
    """The latents of the joint posterior: of every component, or of each row's own."""
    if choice is not None and not hold:
        each, mean = component_kls(experts, part)
        return Latents(part.chosen(experts, choice).sample(noise), None, each, mean)
    components = part.components(experts)
    each = components.kl_to_prior()
    used = components if choice is None else part.chosen(experts, choice)
    return Latents(used.sample(noise), components, each, each.mean(0))


def _unimodal(experts: Gaussian, part: Family, noise: Tensor) -> Latents:
    """The latents of every component of one modality."""
    components = part.components(experts)
    z, each = components.sample(noise), components.kl_to_prior()
    return Latents(z, components, each, each)


def _picked(z: Tensor, rows: list[int] | None) -> Tensor:
    return z if rows is None else _joined([z[row : row + 1] for row in rows])


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _terms(
    objective: Objective, parts: list[Family], names: list[str], latents: list[Latents],
    log_likelihoods: list[dict[str, Tensor]], private: dict[str, Tensor],
) -> Terms:  # fmt: skip
    """Every value with its role and weight, in the order in which they are added up."""
    spec = objective.spec
    terms: Terms = {}
    for part, latent, values in zip(parts, latents, log_likelihoods, strict=True):
        prefix, quirk = "unimodal." if part.unimodal else "", part.unimodal and spec.unimodal_weights == "one"
        share = objective.share(part, parts)
        if not part.unimodal:
            terms["kl.shared"] = Term(latent.regulariser, "KL", spec.beta * spec.beta_content * share, -share)
        for m, name in enumerate(names):
            counts = objective.share(part, parts, m)
            weight = -counts * (1.0 if quirk else objective.weights[name])
            shown = 0.0 if part.unimodal else counts
            terms[f"{prefix}log_likelihood.{name}"] = Term(values[name], "log-likelihood", weight, shown)
            if part.unimodal:
                weight = spec.beta * spec.beta_content * share / len(part)
                terms[f"{prefix}kl.{name}"] = Term(latent.regulariser[m], "KL", weight)
            elif private:
                everywhere = sum(objective.share(one, parts, m) for one in parts)
                weight = spec.beta * spec.beta_private * objective.private_weights[name] * everywhere
                terms[f"kl.private.{name}"] = Term(private[name], "KL", weight, -1.0)
    for subset, value in zip(parts[0].subsets, latents[0].each, strict=True):
        terms[f"kl.{'+'.join(names[m] for m in subset)}"] = Term(value, "component")
    return terms


def weigh(terms: Terms) -> Tensor:
    """The loss per item (B,), minimised: the only place where terms meet their weights."""
    weighed = [term.weight * term.value for term in terms.values() if term.weight is not None]
    return sum(weighed[1:], weighed[0])


def outline(recipe: Recipe, model: MultimodalVAE | None = None) -> Terms:
    """The terms of a step, their roles and weights, without data: a pass on the meta device, where values hold nothing.
    ``model``: one that is there already, and may have hooks."""
    with torch.device("meta"):
        model = model or MultimodalVAE(recipe)
        batch = {}
        for name, spec in recipe.modalities.items():
            kind = KINDS[spec.kind]
            batch[name] = kind.read(torch.zeros(OUTLINE_ROWS, *spec.shape or (), dtype=getattr(torch, kind.dtype)))
        goal = Objective.of(recipe)
        noise = draw_noise(model, goal, model.names, OUTLINE_ROWS, slice(None), "meta")
        return bound_terms(model, batch, goal, noise)


def elbo(terms: Terms) -> Tensor:
    """The joint posterior's bound per item (B,), as it is before anything is weighed."""
    shares = [term.share * term.value for term in terms.values() if term.share]
    return sum(shares[1:], shares[0])
