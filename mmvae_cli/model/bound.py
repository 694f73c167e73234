"""The bound of a batch (equations 4): experts, latents, decoders, terms. One engine for all methods; it knows none of
them. The :class:`Objective` says what is computed, the terms (``terms.py``) are the result."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmvae_cli.model.distributions import Distribution, at
from mmvae_cli.model.estimators import Path
from mmvae_cli.model.latents import Latents, shared_latents
from mmvae_cli.model.objective import Noise, Objective, draw_noise
from mmvae_cli.model.posterior import Family
from mmvae_cli.model.terms import Decoded, Pass, Terms, of_importance_weights, of_single_samples
from mmvae_cli.model.vae import Batch, Encoded, MultimodalVAE
from mmvae_cli.recipe import Recipe
from mmvae_cli.recipe.kinds import KINDS
from mmvae_cli.store.presence import Pattern

_AS_THEY_ARE: AbstractContextManager[Any] = nullcontext()
OUTLINE_ROWS = 2


def bound_terms(
    model: MultimodalVAE, batch: Batch, objective: Objective, noise: Noise,
    networks: AbstractContextManager[Any] = _AS_THEY_ARE,
) -> Terms:  # fmt: skip
    """The forward pass. ``batch`` may lack modalities: the family is then that of a model of the present ones alone.
    ``networks``: entered around encoders and decoders only (autocast); fusion, KL and densities stay in fp32."""
    with networks:
        encoded = model.encode(batch)
    drawn = _draw(model, objective, encoded, noise)
    decoded: dict[str, Decoded] = {}
    for m in model.lanes(range(len(encoded.present))):
        name = model.names[encoded.present[m]]
        asked = _asked(model, objective, drawn, m)
        with networks:  # one decoder pass for the latents of all parts
            densities = model.log_likelihood(name, asked.z, asked.private, batch[name])
        decoded[name] = asked.answered(densities)
    return _terms(model, objective, drawn, decoded)


def terms_by_pattern(
    model: MultimodalVAE, batch: Batch, patterns: list[Pattern], objective: Objective, noises: list[Noise],
    networks: AbstractContextManager[Any] = _AS_THEY_ARE,
) -> list[Terms]:  # fmt: skip
    """The forward pass of rows that differ in what they have (equations 2.5): the terms of every pattern, which are
    those of a batch of its rows alone. Each network runs once, on all rows that have its modality."""
    with networks:
        encoded = model.encode_patterns(batch, patterns)
    drawn = [_draw(model, objective, own, noise) for own, noise in zip(encoded, noises, strict=True)]
    decoded: list[dict[str, Decoded]] = [{} for _ in patterns]
    for position, name in enumerate(model.names):
        those = [g for g, pattern in enumerate(patterns) if position in pattern.present]
        if not those:
            continue
        asked = [_asked(model, objective, drawn[g], patterns[g].present.index(position)) for g in those]
        with networks:
            outputs = model.decode_rows(name, [(one.z, one.private) for one in asked])
            rows = batch[name].split([patterns[g].rows for g in those])
            for g, one, output, x in zip(those, asked, outputs, rows, strict=True):
                decoded[g][name] = one.answered(model.likelihoods[name].log_prob(output, x))
    return [_terms(model, objective, *pair) for pair in zip(drawn, decoded, strict=True)]


class _Drawn(NamedTuple):
    """The latents of rows that have the same modalities, before anything is decoded."""

    encoded: Encoded
    parts: list[Family]
    latents: list[Latents]
    noise: Noise
    log_weights: Tensor | None
    path: Path


def _draw(model: MultimodalVAE, objective: Objective, encoded: Encoded, noise: Noise) -> _Drawn:
    parts, path = model.parts(encoded.present), Path()
    log_weights = model.component_log_weights(parts[0])
    latents = model.region(shared_latents)(encoded.shared, parts, objective, model.prior, noise, log_weights)
    if objective.spec.estimator == "dreg":
        latents = [one._replace(z=path(one.z)) for one in latents]
    return _Drawn(encoded, parts, latents, noise, log_weights, path)


class _Asked(NamedTuple):
    """What a modality's decoder is asked for: latents (Z_m, B, D) of all parts, ``sizes`` of them each, and private
    ones (Z_m, B, P). ``own``, ``posterior``, ``kl``: of its private posterior."""

    z: Tensor
    private: Tensor | None
    sizes: list[int]
    posterior: Distribution | None
    kl: Tensor | None
    own: list[Tensor]

    def answered(self, log_likelihoods: Tensor) -> Decoded:
        return Decoded(list(log_likelihoods.split(self.sizes)), self.posterior, self.kl, self.own)


def _asked(model: MultimodalVAE, objective: Objective, drawn: _Drawn, m: int) -> _Asked:
    """Of the modality at position ``m`` among the present ones."""
    rows = [objective.decoding(part, m) for part in drawn.parts] + [None] * (drawn.noise.random is not None)
    z = [_picked(one.z, some) for one, some in zip(drawn.latents, rows, strict=True)]
    private, kl, own, used = _private_latents(
        model, objective, drawn.parts, drawn.noise, drawn.encoded, m, drawn.path
    )  # fmt: skip
    return _Asked(_joined(z), _joined(used) if used else None, [len(one) for one in z], private, kl, own)


def _terms(model: MultimodalVAE, objective: Objective, drawn: _Drawn, decoded: dict[str, Decoded]) -> Terms:
    whole = Pass(model, objective, drawn.parts, drawn.latents, decoded, drawn.noise, drawn.log_weights)
    return of_single_samples(whole) if objective.spec.estimator == "elbo" else of_importance_weights(whole, drawn.path)


def _private_latents(
    model: MultimodalVAE, objective: Objective, parts: list[Family], noise: Noise, encoded: Encoded, m: int, path: Path
) -> tuple[Distribution | None, Tensor | None, list[Tensor], list[Tensor]]:
    """The private latents of a modality: its posterior (B, P), the KL of that to the prior (B,), samples for every part
    (Z_m, B, P), and what its decoder gets. Where a component does not contain the modality, that is a sample of the
    auxiliary prior instead."""
    if encoded.private is None:
        return None, None, [], []
    q: Distribution = at(encoded.private, m)
    kl = q.kl_to_prior()
    own = [q.sample(drawn[m]) for drawn in noise.private]
    if objective.spec.estimator == "dreg":
        own = [path(one) for one in own]
    if model.auxiliary is None:
        return q, kl, own, own
    used = []
    for part, one, drawn in zip(parts, own, noise.private, strict=True):
        inside = part.inside[:, m]
        rows = inside.repeat_interleave(objective.samples)[:, None] if objective.holds(part) else inside[noise.choice]
        other = model.auxiliary.sample(encoded.present[m], drawn[m])
        used.append(torch.where(rows[..., None] > 0, one, other))
    return q, kl, own, used


def _picked(z: Tensor, rows: list[int] | None) -> Tensor:
    return z if rows is None else _joined([z[row : row + 1] for row in rows])


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def outline(recipe: Recipe, model: MultimodalVAE | None = None) -> Terms:
    """The terms of a step with their roles and weights, without data: a pass on the meta device, whose tensors hold no
    numbers. ``model``: one that exists already; it may have hooks."""
    with torch.device("meta"):
        model = model or MultimodalVAE(recipe)
        batch = {}
        for name, spec in recipe.modalities.items():
            kind = KINDS[spec.kind]
            batch[name] = kind.read(torch.zeros(OUTLINE_ROWS, *spec.shape or (), dtype=getattr(torch, kind.dtype)))
        objective = Objective.of(recipe)
        noise = draw_noise(model, objective, model.names, OUTLINE_ROWS, slice(None), "meta")
        return bound_terms(model, batch, objective, noise)
