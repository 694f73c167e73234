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

from mmvae_cli.evaluation.encoding import LIKELIHOOD_BLOCK, Evaluation, Experts, ShuffledSplit
from mmvae_cli.model.distributions import at
from mmvae_cli.process import console, signals
from mmvae_cli.recipe.families import Subset

_JOINT = ""
"""Stands for all modalities among names of single ones, of which none is empty."""


def measure(evaluation: Evaluation, data: ShuffledSplit, test: Experts) -> dict[str, Any]:
    """The fields of result.LogLikelihood: the estimate for every subset, joint and per modality. ``released`` grouping
    puts different items into one group as the authors' code does, which is not a bound on log p(X)."""
    samples, grouping = evaluation.protocol.importance_samples, evaluation.protocol.importance_grouping
    names, subsets = evaluation.model.names, evaluation.subsets
    keys = (_JOINT, *names)
    parts = evaluation.blocks(test, LIKELIHOOD_BLOCK)

    def sums_of(_: int, block: Experts) -> Tensor:
        """Of estimates, of the joint ones' squares, and of effective samples: (3 + M, S)."""
        x, sums = data.batch(block.items), torch.zeros(len(keys) + 2, len(subsets), dtype=torch.double)
        for s, weights in _block_weights(evaluation, block, x, samples):
            estimates = torch.stack([_estimate(weights[key], grouping) for key in keys])
            sums[:-2, s] = estimates.sum(1).cpu()
            sums[-2, s] = estimates[0].square().sum().cpu()
            sums[-1, s] = effective_samples(weights[_JOINT]).sum().cpu()
            shown.advance(len(block.items))
        return sums

    total = sum(len(block.items) for block in evaluation.group.share(parts))
    with console.progress("log-likelihood", total * len(subsets), "items x subsets") as shown:
        sums = evaluation.each(parts, sums_of)
    count = sum(len(block.items) for block in parts)
    means = torch.stack(sums).sum(0) / count
    values, errors = means.tolist(), _standard_errors(means[0], means[-2], count)
    label = [evaluation.name_of(subset) for subset in subsets]
    return {
        "importance_samples": samples, "grouping": grouping, "count": count,
        "joint": dict(zip(label, values[0], strict=True)),
        "per_modality": {source: {name: values[1 + m][s] for m, name in enumerate(names)}
                         for s, source in enumerate(label)},
        "standard_errors": dict(zip(label, errors, strict=True)) if grouping == "per_item" and count > 1 else {},
        "effective_samples": dict(zip(label, values[-1], strict=True)),
    }  # fmt: skip


def _standard_errors(mean: Tensor, of_squares: Tensor, count: int) -> list[float]:
    """Of means over so many items: the items' sample standard deviation by the root of their number."""
    return ((of_squares - mean.square()).clamp(min=0) / max(count - 1, 1)).sqrt().tolist()


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
    evaluation: Evaluation, block: Experts, x: dict[str, Tensor], samples: int
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Yield (subset position, {_JOINT and every modality: log weights (K, B)}) for all subsets of one block."""
    model, count = evaluation.model, len(block.items)
    torch.manual_seed(evaluation.seed(f"likelihood components {int(block.items[0])}"))  # of mixtures, in a short block
    together = max(1, evaluation.latents_at_once // (samples * count))
    for start in range(0, len(evaluation.subsets), together):
        signals.leave_if_requested("no evaluation was written")
        chosen = range(start, min(start + together, len(evaluation.subsets)))
        subsets = [evaluation.subsets[s] for s in chosen]
        q = at(evaluation.posteriors(block, subsets), (slice(None), None))
        noise = _noise(evaluation, block, "shared", (samples, count, model.latent_dim))
        z = q.sample(noise)  # (A, K, B, D): the same noise for every subset, which makes their differences sharper
        ratio = model.prior.log_prob(z) - q.log_prob(z)  # (A, K, B)
        terms, own = {}, {}
        for m, name in enumerate(model.names):
            private, own[name] = _private(evaluation, block, m, subsets, samples)
            terms[name] = _log_likelihood(evaluation, name, z, private, x[name])
        joint = ratio + sum(terms[name] + own[name] for name in model.names)
        for i, s in enumerate(chosen):
            single = {name: (ratio + terms[name] + own[name])[i] for name in model.names}
            yield s, {_JOINT: joint[i], **single}


def _log_likelihood(evaluation: Evaluation, name: str, z: Tensor, private: Tensor | None, x: Tensor) -> Tensor:
    """log p(x_m | z, s_m) for latents (A, K, B, D), decoded a few at a time: -> (A, K, B)."""
    rows = max(1, evaluation.latents_at_once // z.shape[2])
    own = [None] * z.shape[0] * z.shape[1] if private is None else private.flatten(0, 1).split(rows)
    parts = [evaluation.model.log_likelihood(name, part, s, x) for part, s in zip(z.flatten(0, 1).split(rows), own)]  # noqa: B905
    return torch.cat(parts).unflatten(0, z.shape[:2])


def _noise(evaluation: Evaluation, block: Experts, purpose: str, shape: tuple[int, ...]) -> Tensor:
    first = int(block.items[0])
    generator = torch.Generator(evaluation.device).manual_seed(evaluation.seed(f"likelihood {purpose} {first}"))
    return evaluation.model.prior.noise(*shape, device=evaluation.device, generator=generator)


def _private(
    evaluation: Evaluation, block: Experts, m: int, subsets: list[Subset], samples: int
) -> tuple[Tensor | None, Tensor | float]:
    """Private latents (A, K, B, P) of modality m, and log p(s) - log q(s) (A, K, B), 0 where s is from the prior."""
    if block.private is None:
        return None, 0.0
    q, prior = at(block.private, m), evaluation.model.private_prior
    noise = _noise(evaluation, block, f"private {m}", (samples, len(block.items), evaluation.model.private_dim))
    own = q.sample(noise)
    ratio = prior.log_prob(own) - q.log_prob(own)
    inside = torch.tensor([m in subset for subset in subsets], device=own.device)
    latents = torch.where(inside[:, None, None, None], own, prior.sample(noise))
    return latents, torch.where(inside[:, None, None], ratio, torch.zeros_like(ratio))
