"""Importance-sampled log-likelihood log p(X | X_A) for every subset A (equations 6.3; Tables 4 and 7, Figure 3 right).

    log w_k = sum_m log p(x_m | z_k, s_mk) + log p(z_k) - log q_A(z_k) + sum_{m in A} (log p(s_mk) - log q(s_mk))
    log p(X | X_A) ~ logsumexp_k log w_k - log K, averaged over the items

Likelihoods are unweighted, in nats. Private latents come from the posterior for m in A, from the prior otherwise.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mmvae_cli.evaluation.encoding import LIKELIHOOD_BLOCK, Data, Experts, Setting, from_all, numbered_blocks
from mmvae_cli.model.distributions import at
from mmvae_cli.process import console, signals
from mmvae_cli.recipe.families import Subset


def measure(setting: Setting, data: Data, test: Experts) -> dict[str, Any]:
    """The fields of result.Likelihood: the estimate for every subset, joint and per modality. ``released``
    grouping puts different items into one group as the authors' code does, which is not a bound on log p(X)."""
    samples, grouping = setting.protocol.importance_samples, setting.protocol.importance_grouping
    names, subsets = setting.model.names, setting.subsets
    keys = ("joint", *names)
    own: dict[
        int, tuple[Tensor, int]
    ] = {}  # per block: sums of estimates and effective samples (2 + M, S), of how many
    mine = numbered_blocks(test, LIKELIHOOD_BLOCK, setting)
    total = sum(len(block.items) for _, block in mine)
    with console.progress("log-likelihood", total * len(subsets), "items x subsets") as shown:
        for number, block in mine:
            x, sums, count = data.batch(block.items), torch.zeros(len(keys) + 1, len(subsets), dtype=torch.double), 0
            for s, weights in _block_weights(setting, block, x, samples):
                estimates = torch.stack([_estimate(weights[key], grouping) for key in keys])  # (1 + M, B)
                sums[:-1, s], count = estimates.sum(1).cpu(), estimates.shape[1]
                sums[-1, s] = effective_samples(weights["joint"]).sum().cpu()
                shown.advance(len(block.items))
            own[number] = sums, count
    found = from_all(setting, own)
    count = sum(part for _, part in found)
    values = (torch.stack([sums for sums, _ in found]).sum(0) / count).tolist()
    label = [setting.name_of(subset) for subset in subsets]
    return {
        "importance_samples": samples, "grouping": grouping, "count": count,
        "joint": dict(zip(label, values[0], strict=True)),
        "per_modality": {source: {name: values[1 + m][s] for m, name in enumerate(names)}
                         for s, source in enumerate(label)},
        "effective_samples": dict(zip(label, values[-1], strict=True)),
    }  # fmt: skip


def effective_samples(log_w: Tensor) -> Tensor:
    """(sum w)^2 / sum w^2 over each item's samples: log weights (K, B) -> (B,), between 1 and K."""
    log_w = log_w.double()
    return torch.exp(2 * torch.logsumexp(log_w, 0) - torch.logsumexp(2 * log_w, 0))


def _estimate(log_w: Tensor, grouping: str) -> Tensor:
    """log-mean-exp of the weights (K, B) -> (B,): over each item's own K samples, or over the released code's groups,
    which after a sample-major reshape hold one sample each of K different items."""
    samples, batch = log_w.shape
    if grouping == "released":
        log_w = log_w.reshape(batch, samples).t()
    return torch.logsumexp(log_w.double(), 0) - math.log(samples)


@torch.no_grad()
def _block_weights(
    setting: Setting, block: Experts, x: dict[str, Tensor], samples: int
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Yield (subset position, {"joint" and every modality: log weights (K, B)}) for all subsets of one block."""
    model, count = setting.model, len(block.items)
    torch.manual_seed(setting.seed(f"likelihood components {int(block.items[0])}"))  # of mixtures, in a short block
    together = max(1, setting.latents_at_once // (samples * count))
    for start in range(0, len(setting.subsets), together):
        signals.leave_if_requested("no evaluation was written")
        chosen = range(start, min(start + together, len(setting.subsets)))
        subsets = [setting.subsets[s] for s in chosen]
        q = at(setting.posteriors(block, subsets), (slice(None), None))
        noise = _noise(setting, block, "shared", (samples, count, model.latent_dim))
        z = q.sample(noise)  # (A, K, B, D): the same noise for every subset, which makes their differences sharper
        ratio = model.prior.log_prob(z) - q.log_prob(z)  # (A, K, B)
        terms, own = {}, {}
        for m, name in enumerate(model.names):
            private, own[name] = _private(setting, block, m, subsets, samples)
            terms[name] = _log_likelihood(setting, name, z, private, x[name])
        joint = ratio + sum(terms[name] + own[name] for name in model.names)
        for i, s in enumerate(chosen):
            single = {name: (ratio + terms[name] + own[name])[i] for name in model.names}
            yield s, {"joint": joint[i], **single}


def _log_likelihood(setting: Setting, name: str, z: Tensor, private: Tensor | None, x: Tensor) -> Tensor:
    """log p(x_m | z, s_m) for latents (A, K, B, D), decoded a few at a time: -> (A, K, B)."""
    rows = max(1, setting.latents_at_once // z.shape[2])
    own = [None] * z.shape[0] * z.shape[1] if private is None else private.flatten(0, 1).split(rows)
    parts = [setting.model.log_likelihood(name, part, s, x) for part, s in zip(z.flatten(0, 1).split(rows), own)]  # noqa: B905
    return torch.cat(parts).unflatten(0, z.shape[:2])


def _noise(setting: Setting, block: Experts, purpose: str, shape: tuple[int, ...]) -> Tensor:
    first = int(block.items[0])
    generator = torch.Generator(setting.device).manual_seed(setting.seed(f"likelihood {purpose} {first}"))
    return setting.model.prior.noise(*shape, device=setting.device, generator=generator)


def _private(
    setting: Setting, block: Experts, m: int, subsets: list[Subset], samples: int
) -> tuple[Tensor | None, Tensor | float]:
    """Private latents (A, K, B, P) of modality m, and log p(s) - log q(s) (A, K, B), 0 where s is from the prior."""
    if block.private is None:
        return None, 0.0
    q, prior = at(block.private, m), setting.model.private_prior
    noise = _noise(setting, block, f"private {m}", (samples, len(block.items), setting.model.private_dim))
    own = q.sample(noise)
    ratio = prior.log_prob(own) - q.log_prob(own)
    inside = torch.tensor([m in subset for subset in subsets], device=own.device)
    latents = torch.where(inside[:, None, None, None], own, prior.sample(noise))
    return latents, torch.where(inside[:, None, None], ratio, torch.zeros_like(ratio))
