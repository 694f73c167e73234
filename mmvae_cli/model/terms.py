"""The terms of the bound, each with its role and weight (equations 4.1), and the one place that weighs them."""

from typing import Any, Literal, NamedTuple

from torch import Tensor

from mmvae_cli.model import estimators
from mmvae_cli.model.distributions import Distribution, at, detached
from mmvae_cli.model.estimators import ESTIMATORS, FIXED, Path, Weighed
from mmvae_cli.model.latents import Latents
from mmvae_cli.model.objective import Noise, Objective, Weight
from mmvae_cli.model.posterior import Family, mixture_log_prob
from mmvae_cli.model.vae import Encoded, MultimodalVAE


class Term(NamedTuple):
    """One term of the bound. ``value``, nats per item, is (B,), or (Z, B) of several components that are weighed one by
    one. It enters the loss with ``weight``; without one it is only logged. ``share``: how it enters the unweighted
    bound of the joint posterior, (Z, 1) where the components' weights are learned. Weights are numbers, or tensors that
    broadcast against the value."""

    value: Tensor
    role: Literal["log-likelihood", "KL", "component", "bound", "entropy", "look"]
    weight: Weight | None = None
    share: Weight = 0.0

    def shown(self) -> Tensor:
        """(B,), the mean over components, weighed as they share in the bound."""
        if self.value.dim() == 1:
            return self.value
        if isinstance(self.share, Tensor):
            return (self.share / self.share.sum(0) * self.value).sum(0)
        return self.value.mean(0)


Terms = dict[str, Term]
"""By the names of metrics.jsonl; modalities that were present only."""


def weigh(terms: Terms) -> Tensor:
    """The loss per item (B,), which is minimised: the weighted sum of the terms. Nothing else applies weights."""
    return _sum([(term.weight, term.value) for term in terms.values() if term.weight is not None])


def elbo(terms: Terms) -> Tensor:
    """The joint posterior's bound per item (B,), unweighted."""
    shares = [(term.share, term.value) for term in terms.values()]
    return _sum([pair for pair in shares if isinstance(pair[0], Tensor) or pair[0]])


def _sum(weighed: list[tuple[Weight, Tensor]]) -> Tensor:
    products = [weight * value for weight, value in weighed]
    flat = [product.sum(0) if product.dim() == 2 else product for product in products]
    return sum(flat[1:], flat[0])


class Private(NamedTuple):
    """One modality's private latents: their posterior (B, P), its KL to the prior (B,), and samples of it for every
    part, (Z_m, B, P) each."""

    posterior: Distribution
    kl: Tensor
    own: list[Tensor]


class Decoded(NamedTuple):
    """What one modality's decoder made of the latents of every part: log-likelihoods (Z_m, B)."""

    log_likelihoods: list[Tensor]
    private: Private | None


class Pass(NamedTuple):
    """A forward pass of rows that have the same modalities, from which the terms are made. ``decoded`` is filled one
    modality after the other."""

    model: MultimodalVAE
    objective: Objective
    encoded: Encoded
    parts: list[Family]
    latents: list[Latents]
    noise: Noise
    log_weights: Tensor | None
    path: Path
    decoded: dict[str, Decoded]

    @property
    def names(self) -> list[str]:
        return list(self.decoded)


# --- one sample: every term is weighed by itself ---------------------------------------------------------------------


def of_single_samples(p: Pass) -> Terms:
    """Every value with its role and weight, in the order in which they are added up."""
    terms: Terms = {}
    for i, (part, latents) in enumerate(zip(p.parts, p.latents, strict=False)):
        prefix = "unimodal." if part.unimodal else ""
        if not part.unimodal:
            terms["kl.shared"] = _regulariser(p, part, latents)
        for m, (name, decoded) in enumerate(p.decoded.items()):
            terms[f"{prefix}log_likelihood.{name}"] = _log_likelihood(p, part, m, name, decoded.log_likelihoods[i])
            if part.unimodal and latents.values is not None:
                weight = p.objective.of_shared * p.objective.share(part, p.parts) / len(part)
                terms[f"{prefix}kl.{name}"] = Term(latents.values[m], "KL", weight)
            elif not part.unimodal and decoded.private is not None:
                terms[f"kl.private.{name}"] = _private(p, m, name, decoded.private.kl)
    if p.noise.random is not None:
        terms |= _of_random_subsets(p, p.noise.random)
    return terms | _to_look_at(p) | _of_learned_weights(p)


def _regulariser(p: Pass, part: Family, latents: Latents) -> Term:
    assert latents.values is not None
    if p.log_weights is not None:
        omega = p.log_weights.exp()[:, None]
        return Term(latents.values, "KL", p.objective.of_shared * omega, 0.0 if _correlates(p) else -omega)
    paying = [one for one, its in zip(p.parts, p.latents, strict=False) if its.values is not None]
    weight = p.objective.of_shared * p.objective.share(part, paying)
    return Term(latents.values.mean(0), "KL", weight, 0.0 if _correlates(p) else -p.objective.share(part, [part]))


def _log_likelihood(p: Pass, part: Family, m: int, name: str, rows: Tensor) -> Term:
    """Of a modality, over the latents (Z_m, B) of a part that decode it."""
    objective, share = p.objective, p.objective.share(part, p.parts, m)
    weight = 1.0 if part.unimodal and objective.spec.unimodal_weights == "one" else objective.weights[name]
    left = objective.likelihood_share(part, m, p.noise.choice)
    own = 0.0 if part.unimodal else objective.share(part, [part], m)
    if p.log_weights is None and isinstance(left, float):
        return Term(rows.mean(0), "log-likelihood", -share * left * weight, own)
    counts = left * (share / len(rows) if p.log_weights is None else p.log_weights.exp()[:, None])
    shown = own / len(rows) if p.log_weights is None else p.log_weights.exp()[:, None]
    return Term(rows, "log-likelihood", -counts * weight, shown)


def _private(p: Pass, m: int, name: str, kl: Tensor) -> Term:
    share: Weight = p.objective.private_share(p.parts, m)
    if p.log_weights is not None and p.model.auxiliary is not None:
        share = (p.log_weights.exp() * p.parts[0].inside[:, m]).sum()
    shown = -1.0 if len(p.parts) > 1 else -share
    if p.noise.random is not None:
        share = share + p.noise.random[:, m].sum()
    return Term(kl, "KL", p.objective.of_private(name) * share, shown)


def _of_random_subsets(p: Pass, inside: Tensor) -> Terms:
    """The summed ELBOs of the subsets that were drawn for the step, over their members (k, M)."""
    terms: Terms = {"random.kl": Term(p.latents[-1].each.sum(0), "KL", p.objective.of_shared)}
    for m, (name, decoded) in enumerate(p.decoded.items()):
        value = (inside[:, m, None] * decoded.log_likelihoods[-1]).sum(0)
        terms[f"random.log_likelihood.{name}"] = Term(value, "log-likelihood", -p.objective.weights[name])
    return terms


def _of_learned_weights(p: Pass) -> Terms:
    """The entropy of the components' weights, a term that keeps all weight from going to the easiest subset; and the
    weights, to be logged."""
    if p.log_weights is None or p.objective.spec.entropy_weight is None:
        return {}
    omega, rows = p.log_weights.exp(), p.latents[0].z[0, :, 0]
    entropy = -(omega * p.log_weights).sum()
    terms: Terms = {"entropy": Term(entropy.expand_as(rows), "entropy", -p.objective.spec.entropy_weight)}
    for name, weight in zip(component_names(p), omega, strict=True):
        terms[f"weight.{name}"] = Term(weight.expand_as(rows), "look")
    return terms


def _correlates(p: Pass) -> bool:
    """Total correlation bounds something else than log p(X). The joint posterior's bound has the KLs to the prior in
    its place, and whole likelihoods."""
    return p.objective.spec.kl == "total_correlation"


def _to_look_at(p: Pass) -> Terms:
    """KLs that are only logged: of every component to the prior or, with total correlation, to every expert, averaged
    over the sets that contain it."""
    joint = p.latents[0]
    shares: list[Weight] = [0.0] * len(joint.each)
    if _correlates(p) and p.log_weights is not None:
        shares = [*(-p.log_weights.exp()).unbind()]
    elif _correlates(p):
        shares = [-p.objective.share(p.parts[0], [p.parts[0]]) / len(joint.each)] * len(joint.each)
    terms = {f"kl.{name}": Term(value, "component", share=share)
             for name, value, share in zip(component_names(p), joint.each, shares, strict=True)}  # fmt: skip
    if joint.to_experts is not None:
        among = joint.to_experts.sum(1) / p.parts[0].inside.sum(0)[:, None]  # (M, B)
        terms |= {f"kl.total_correlation.{name}": Term(own, "look") for name, own in zip(p.names, among, strict=True)}
    return terms


def component_names(p: Pass) -> list[str]:
    """Of the joint posterior, as ``m0+m1``."""
    return ["+".join(p.names[m] for m in subset) for subset in p.parts[0].subsets]


# --- K samples: the terms of an item are weighed together, inside a logarithm ----------------------------------------


def of_importance_weights(p: Pass) -> Terms:
    """The bound of K samples of each component (equations 4.7), and what it is made of, to be looked at."""
    objective, latents = p.objective, p.latents[0]
    shape = (-1, objective.samples)
    z = latents.z.unflatten(0, shape)  # (C, K, B, D)
    log_q, rest = _log_q(p, z), _rest(p, z.detach())
    cost = log_q - p.model.prior.log_prob(z)
    log_w = -objective.of_shared * cost
    terms: Terms = {"kl.shared": Term(cost.mean((0, 1)), "KL", share=-1.0)}
    for m, (name, decoded) in enumerate(p.decoded.items()):
        log_p = decoded.log_likelihoods[0].unflatten(0, shape)
        log_w = log_w + objective.weights[name] * log_p
        terms[f"log_likelihood.{name}"] = Term(log_p.mean((0, 1)), "log-likelihood", share=1.0)
        if decoded.private is None:
            continue
        q, s, counts = decoded.private.posterior, decoded.private.own[0].unflatten(0, shape), _from_own_posterior(p, m)
        cost = counts * (_held(p, q).log_prob(s) - p.model.private_prior.log_prob(s))
        log_w = log_w - objective.of_private(name) * cost
        rest = rest + counts * (1 - objective.of_private(name)) * q.log_prob(s.detach())
        share = objective.private_share(p.parts, m)
        terms[f"kl.private.{name}"] = Term(cost.mean((0, 1)) / share, "KL", share=-share)
    weighed = Weighed(log_w, objective.spec.bound == "tight", rest, p.path)
    terms["bound"] = Term(ESTIMATORS[objective.spec.estimator](weighed), "bound", -1.0)
    terms["effective_samples"] = Term(estimators.effective_samples(weighed), "look")
    return terms | _to_look_at(p)


def _held(p: Pass, q: Any) -> Any:
    """``q`` as the estimator uses its density: without gradient where the estimator says so."""
    return detached(q) if p.objective.spec.estimator in FIXED else q


def _log_q(p: Pass, z: Tensor) -> Tensor:
    """The density that samples (C, K, B, D) are weighed by, the mixture's or their own component's: (C, K, B)."""
    latents = p.latents[0]
    if p.objective.spec.kl == "mixture":
        return mixture_log_prob(_held(p, _mixture(p)), z)
    return _held(p, at(latents.drawn, (slice(None), None))).log_prob(z)


def _rest(p: Pass, z: Tensor) -> Tensor | float:
    """``log q_A - gamma log q`` at fixed z, where a nat of z costs gamma: what dreg adds to the path through z."""
    if p.objective.spec.estimator != "dreg":
        return 0.0
    latents, gamma = p.latents[0], p.objective.of_shared
    own: Tensor = at(latents.drawn, (slice(None), None)).log_prob(z)
    if p.objective.spec.kl == "components":
        return (1 - gamma) * own
    return own - gamma * mixture_log_prob(_mixture(p), z)


def _mixture(p: Pass) -> Distribution:
    """Every component (S, B, D), over z itself."""
    components = p.latents[0].components
    assert components is not None
    return p.model.prior.restored(components)


def _from_own_posterior(p: Pass, modality: int) -> Tensor | float:
    """1 where a modality's private latent came from its own posterior, 0 where from its auxiliary prior."""
    if p.model.auxiliary is None:
        return 1.0
    inside = p.parts[0].inside[:, modality]
    return inside[:, None, None] if p.noise.choice is None else inside[p.noise.choice]
