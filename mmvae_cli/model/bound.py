"""The bound of a batch (equations 4): experts, latents, decoders, terms. One engine for all methods; it knows none of
them. The :class:`Objective` says what is computed, the terms (``terms.py``) are the result."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmvae_cli.model.distributions import Distribution, at
from mmvae_cli.model.estimators import Path
from mmvae_cli.model.latents import shared_latents
from mmvae_cli.model.networks import zeros
from mmvae_cli.model.objective import Noise, Objective, draw_noise
from mmvae_cli.model.terms import Decoded, Pass, Private, Terms, of_importance_weights, of_single_samples
from mmvae_cli.model.vae import Batch, Encoded, MultimodalVAE
from mmvae_cli.recipe import Recipe
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
    p = _begun(model, objective, encoded, noise)
    for m in model.lanes(range(len(encoded.present))):
        name = model.names[encoded.present[m]]
        asked = _asked(p, m)
        with networks:  # one decoder pass for the latents of all parts
            densities = model.log_likelihood(name, asked.z, asked.s, batch[name])
        p.decoded[name] = asked.answered(densities)
    return _terms(p)


def terms_by_pattern(
    model: MultimodalVAE, batch: Batch, patterns: list[Pattern], objective: Objective, noises: list[Noise],
    networks: AbstractContextManager[Any] = _AS_THEY_ARE,
) -> list[Terms]:  # fmt: skip
    """The forward pass of rows that differ in what they have (equations 2.5): the terms of every pattern, which are
    those of a batch of its rows alone. Each network runs once, on all rows that have its modality."""
    with networks:
        encoded = model.encode_patterns(batch, patterns)
    passes = [_begun(model, objective, own, noise) for own, noise in zip(encoded, noises, strict=True)]
    for position, name in enumerate(model.names):
        those = [p for p in passes if position in p.encoded.present]
        if not those:
            continue
        asked = [_asked(p, p.encoded.present.index(position)) for p in those]
        with networks:
            outputs = model.decode_rows(name, [(one.z, one.s) for one in asked])
            rows = batch[name].split([one.z.shape[1] for one in asked])
            for p, one, output, x in zip(those, asked, outputs, rows, strict=True):
                p.decoded[name] = one.answered(model.likelihoods[name].log_prob(output, x))
    return [_terms(p) for p in passes]


def _begun(model: MultimodalVAE, objective: Objective, encoded: Encoded, noise: Noise) -> Pass:
    """The pass with its latents, before anything is decoded."""
    parts, path = model.parts(encoded.present), Path()
    log_weights = model.component_log_weights(parts[0])
    latents = model.region(shared_latents)(encoded.shared, parts, objective, model.prior, noise, log_weights)
    if objective.spec.estimator == "dreg":
        latents = [one._replace(z=path(one.z)) for one in latents]
    return Pass(model, objective, encoded, parts, latents, noise, log_weights, path, {})


class _Asked(NamedTuple):
    """What a modality's decoder is asked for: latents (Z_m, B, D) of all parts, ``sizes`` of them each, and private
    ones ``s`` (Z_m, B, P)."""

    z: Tensor
    s: Tensor | None
    sizes: list[int]
    private: Private | None

    def answered(self, log_likelihoods: Tensor) -> Decoded:
        return Decoded(list(log_likelihoods.split(self.sizes)), self.private)


def _asked(p: Pass, m: int) -> _Asked:
    """Of the modality at position ``m`` among the present ones."""
    rows = [p.objective.decoding(part, m) for part in p.parts] + [None] * (p.noise.random is not None)
    z = [_picked(one.z, some) for one, some in zip(p.latents, rows, strict=True)]
    private = _private(p, m)
    s = None if private is None else _joined(_used(p, m, private))
    return _Asked(_joined(z), s, [len(one) for one in z], private)


def _terms(p: Pass) -> Terms:
    return of_single_samples(p) if p.objective.spec.estimator == "elbo" else of_importance_weights(p)


def _private(p: Pass, m: int) -> Private | None:
    """The private latents of a modality, with samples for every part."""
    if p.encoded.private is None:
        return None
    q: Distribution = at(p.encoded.private, m)
    kl = q.kl_to_prior()
    own = [q.sample(drawn[m]) for drawn in p.noise.private]
    if p.objective.spec.estimator == "dreg":
        own = [p.path(one) for one in own]
    return Private(q, kl, own)


def _used(p: Pass, m: int, private: Private) -> list[Tensor]:
    """What the modality's decoder gets of them: where a component does not contain the modality, a sample of the
    auxiliary prior instead."""
    if p.model.auxiliary is None:
        return private.own
    used = []
    for part, one, drawn in zip(p.parts, private.own, p.noise.private, strict=True):
        inside = part.inside[:, m]
        held = p.objective.holds(part)
        rows = inside.repeat_interleave(p.objective.samples)[:, None] if held else inside[p.noise.choice]
        other = p.model.auxiliary.sample(p.encoded.present[m], drawn[m])
        used.append(torch.where(rows[..., None] > 0, one, other))
    return used


def _picked(z: Tensor, rows: list[int] | None) -> Tensor:
    return z if rows is None else _joined([z[row : row + 1] for row in rows])


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def outline(recipe: Recipe, model: MultimodalVAE | None = None) -> Terms:
    """The terms of a step with their roles and weights, without data: a pass on the meta device, whose tensors hold no
    numbers. ``model``: one that exists already; it may have hooks."""
    with torch.device("meta"):
        model = model or MultimodalVAE(recipe)
        batch = {name: zeros(spec, OUTLINE_ROWS) for name, spec in recipe.modalities.items()}
        objective = Objective.of(recipe)
        noise = draw_noise(model, objective, model.names, OUTLINE_ROWS, slice(None), "meta")
        return bound_terms(model, batch, objective, noise)
