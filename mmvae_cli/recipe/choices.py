"""The choices that a method leaves open: their usual values, when each matters, and what contradicts what.

A key that would do nothing is refused, not ignored: a resolved recipe shows every choice that matters and no other. No
torch: the functions behind the names are in ``model/``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from mmvae_cli.recipe.families import Subset

Fusion = Literal["product", "consensus", "average", "barycenter", "hellinger"]
LatentFamily = Literal["normal", "laplace"]
Regulariser = Literal["components", "mixture", "total_correlation"]
PriorInside = Literal["standard", "dynamic", "mixture", "pairwise"]
Estimator = Literal["elbo", "iwae", "stl", "dreg"]


@dataclass(frozen=True)
class Chosen:
    """The keys settled so far, by dotted name, and what they are settled for."""

    keys: dict[str, Any]
    method: str
    subsets: list[Subset]
    modalities: int

    def says(self, key: str, *values: Any) -> bool:
        return self.keys.get(key) in values

    @property
    def several(self) -> bool:
        """The joint posterior is a mixture of more than one component."""
        return len(self.subsets) > 1

    @property
    def fuses(self) -> bool:
        """Some component has more than one expert."""
        return max(map(len, self.subsets)) > 1

    @property
    def whole(self) -> bool:
        """Every component contains every modality."""
        return min(map(len, self.subsets)) == self.modalities

    @property
    def one_an_item(self) -> bool:
        return self.says("objective.component_choice", "stratified", "balanced", "random")

    @property
    def sampled(self) -> bool:
        return not self.says("objective.estimator", "elbo")


class Choice(NamedTuple):
    """``usual``: the value where neither the recipe nor its method says one. ``matters``: whether the key says
    anything; ``otherwise``: why not, as a reader of the message has to know it."""

    usual: Any
    matters: Callable[[Chosen], bool] = lambda chosen: True
    otherwise: str = ""


_ONE = "there is one component, the full set"
_WEIGHTS, _DECODE, _CHOICE = "objective.component_weights", "objective.decode", "objective.component_choice"
_KL, _PRIOR, _ESTIMATOR = "objective.kl", "objective.prior", "objective.estimator"
NEEDED = object()
"""The usual value of a key that has none: it has to be said."""

CHOICES: dict[str, Choice] = {
    "model.posterior": Choice("normal"),
    "model.learn_prior": Choice(False),
    "model.fusion": Choice("product", lambda c: c.fuses, "every component has one expert, and nothing is fused"),
    "model.correlation": Choice(
        0.4, lambda c: c.says("model.fusion", "consensus"), "only model.fusion: consensus knows of a correlation"
    ),
    "model.prior_expert": Choice("none"),
    "model.private": Choice(
        "posterior", lambda c: c.keys["model.private_dim"] > 0, "there are no private latents (model.private_dim: 0)"
    ),
    _CHOICE: Choice("stratified", lambda c: c.several, _ONE),
    _WEIGHTS: Choice("mean", lambda c: c.several, _ONE),
    _DECODE: Choice("all", lambda c: c.several, f"{_ONE}, and its members are all modalities"),
    "objective.entropy_weight": Choice(
        1000.0, lambda c: c.says(_WEIGHTS, "learned"), "the components' weights are not learned"
    ),
    _KL: Choice("components"),
    _PRIOR: Choice("standard", lambda c: c.says(_KL, "components"), "only objective.kl: components has a prior inside"),
    "objective.prior_share": Choice(
        "auto", lambda c: c.says(_PRIOR, "dynamic", "mixture", "pairwise"),
        "only objective.prior: dynamic, mixture and pairwise share the weight between N(0, I) and the components",
    ),
    "objective.alpha": Choice(
        "auto", lambda c: c.says(_KL, "total_correlation"), "only objective.kl: total_correlation has an alpha"
    ),
    _ESTIMATOR: Choice("elbo"),
    "objective.samples": Choice(
        NEEDED, lambda c: c.sampled, "objective.estimator: elbo takes one sample; iwae, stl and dreg take several"
    ),
    "objective.bound": Choice(
        "loose", lambda c: c.sampled and c.several and c.says(_KL, "mixture"),
        "loose and tight differ where K samples of several components are weighed against their mixture "
        "(objective.estimator: iwae, stl or dreg, objective.kl: mixture)",
    ),
    "objective.unimodal_weights": Choice(
        "same", lambda c: c.method == "mvae" and c.says(_DECODE, "members") and c.says(_WEIGHTS, "sum"),
        "it is a quirk of the released MVAE, likelihood weights of 1 in the components of one modality; everywhere "
        "else they are the same",
    ),
    "objective.random_subsets": Choice(
        0, lambda c: c.modalities > 2 and c.fuses and c.says(_DECODE, "members") and c.says(_WEIGHTS, "sum"),
        "extra subsets are drawn where experts are fused, each component is a bound of its own (objective.decode: "
        "members, objective.component_weights: sum), and three modalities or more have proper subsets of several",
    ),
    "objective.beta_warmup": Choice(0.0),
}  # fmt: skip
"""In the order of settling: what a key depends on comes before it."""


class Idle(NamedTuple):
    """A value that does the same as the key's usual one: which value, when, and why, in words."""

    key: str
    value: Any
    when: Callable[[Chosen], bool]
    why: str


IDLE: list[Idle] = [
    Idle(
        "model.prior_expert", "full", lambda c: tuple(range(c.modalities)) not in c.subsets,
        "the full set is not in the family, so that none of the components has the prior expert",
    ),
    Idle(
        "model.learn_prior", True,
        lambda c: c.says("model.prior_expert", "none")
        and ((c.says(_PRIOR, "mixture", "pairwise") and c.says("objective.prior_share", "auto", 0.0))
             or c.says("objective.alpha", 1.0)),
        "the regulariser compares the components with one another, and nothing with p(z)",
    ),
]  # fmt: skip


class Refusal(NamedTuple):
    """A combination that is refused: the key to name, when, and why, in words."""

    key: str
    when: Callable[[Chosen], bool]
    why: str


REFUSALS: list[Refusal] = [
    Refusal(
        "model.private", lambda c: c.says("model.private", "auxiliary") and (c.says(_DECODE, "members") or c.whole),
        "auxiliary priors stand for modalities that a component decodes and does not contain: here there are none",
    ),
    Refusal(
        "model.posterior", lambda c: c.says("model.posterior", "laplace") and c.fuses,
        "the product of Laplace distributions is no Laplace distribution: laplace needs components of one modality, "
        "model.subsets=singletons",
    ),
    Refusal(
        "model.posterior", lambda c: c.says("model.posterior", "laplace") and not c.says("model.prior_expert", "none"),
        "the product of Laplace distributions is no Laplace distribution: laplace needs model.prior_expert=none",
    ),
    Refusal(
        "model.posterior",
        lambda c: c.says("model.posterior", "laplace")
        and (c.says(_PRIOR, "dynamic", "pairwise") or c.says(_KL, "total_correlation")),
        "KLs between two Laplace distributions have no closed form here, and objective.prior dynamic and pairwise and "
        "objective.kl total_correlation need one: give model.posterior=normal",
    ),
    Refusal(
        "model.fusion",
        lambda c: c.says("model.fusion", "consensus", "average", "barycenter", "hellinger")
        and not c.says("model.prior_expert", "none"),
        "only a product has a prior expert: give model.prior_expert=none",
    ),
    Refusal(
        _KL, lambda c: c.says(_KL, "total_correlation") and not c.says("model.prior_expert", "none"),
        "total_correlation compares the fusion of the experts with each of them, without a prior expert: give "
        "model.prior_expert=none",
    ),
    Refusal(
        _KL, lambda c: c.says(_KL, "total_correlation") and c.sampled,
        "total_correlation has a closed form and no importance weight: it goes with objective.estimator=elbo",
    ),
    Refusal(
        _DECODE,
        lambda c: c.says(_KL, "total_correlation") and c.says(_DECODE, "members")
        and tuple(range(c.modalities)) not in c.subsets,
        "with members, total_correlation is that of the full set, which is not in the family",
    ),
    Refusal(
        _PRIOR, lambda c: c.sampled and c.says(_PRIOR, "dynamic", "mixture", "pairwise"),
        "importance weights compare with p(z): with objective.estimator iwae, stl and dreg the prior is standard",
    ),
    Refusal(
        _PRIOR,
        lambda c: c.says(_PRIOR, "mixture", "pairwise") and not c.several
        and c.says("objective.prior_share", "auto", 0.0),
        "with one component and objective.prior_share 0 the prior is the component itself, and nothing is regularised",
    ),
    Refusal(
        _PRIOR, lambda c: c.says(_PRIOR, "dynamic") and c.says(_WEIGHTS, "sum", "learned"),
        "the dynamic prior weighs the components by objective.prior_share: it goes with "
        "objective.component_weights=mean",
    ),
    Refusal(
        "objective.samples", lambda c: c.says(_ESTIMATOR, "iwae", "dreg") and c.says("objective.samples", 1),
        "with one sample iwae and dreg are elbo with objective.kl=mixture, or stl: give 2 or more",
    ),
    Refusal(
        _ESTIMATOR, lambda c: c.sampled and c.says(_WEIGHTS, "sum", "learned"),
        "components inside one logarithm have a common weight: iwae, stl and dreg go with "
        "objective.component_weights=mean",
    ),
    Refusal(
        _ESTIMATOR, lambda c: c.sampled and c.says(_DECODE, "members"),
        "components inside one logarithm decode the same modalities: iwae, stl and dreg go with objective.decode=all",
    ),
    Refusal(
        "objective.bound", lambda c: c.says("objective.bound", "tight") and c.one_an_item,
        "the logarithm of tight needs all components of an item: give objective.component_choice=all",
    ),
    Refusal(
        _WEIGHTS, lambda c: c.says(_WEIGHTS, "learned") and c.one_an_item,
        "learned weights need every component of an item to learn from: give objective.component_choice=all",
    ),
    Refusal(
        _WEIGHTS, lambda c: c.says(_WEIGHTS, "sum") and c.one_an_item,
        "sum needs every component of an item, and objective.component_choice takes one: give it the value all",
    ),
    Refusal(
        _DECODE, lambda c: c.says(_DECODE, "members") and c.says(_WEIGHTS, "learned"),
        "learned weights are those of components that decode everything: give objective.decode=all",
    ),
    Refusal(
        _DECODE, lambda c: c.says(_DECODE, "members") and c.one_an_item,
        "members needs every component of an item: with one, a modality outside it is not decoded at all, and the mean "
        "over the components that decode it has no estimate; give objective.component_choice the value all",
    ),
    Refusal(
        "objective.random_subsets",
        lambda c: bool(c.keys["objective.random_subsets"])
        and (c.says("model.posterior", "laplace") or not c.says(_PRIOR, "standard")),
        "the ELBOs of extra subsets are of normal latents, with objective.kl=components and objective.prior=standard",
    ),
]  # fmt: skip


class Caution(NamedTuple):
    """A combination that is allowed but may surprise: when, and what it means, in words."""

    when: Callable[[Chosen], bool]
    what: str


CAUTIONS: list[Caution] = [
    Caution(
        lambda c: c.says(_ESTIMATOR, "stl") and c.keys["objective.samples"] > 1,
        "objective.estimator: stl is biased for more than one sample; dreg is not",
    ),
    Caution(
        lambda c: c.says("objective.entropy_weight", 0.0),
        "objective.entropy_weight: 0 lets the weight go to the component that is easiest to reconstruct from",
    ),
    Caution(
        lambda c: c.sampled and c.keys["objective.beta"] * c.keys["objective.beta_content"] != 1,
        "with objective.beta other than 1 the importance weights do not estimate p(X), and the loss is no "
        "bound on log p(X)",
    ),
]


def settle(given: dict[str, Any], preset: dict[str, Any], chosen: Chosen) -> tuple[dict[str, Any], list[str]]:
    """Every choice with its value (None where it does nothing), and what is wrong, one line each.

    ``given``: what the recipe says. It wins over the method's ``preset``, which wins over the usual value.
    """
    problems = _unmet_needs(given, preset, chosen)
    for key, choice in CHOICES.items():
        value = None
        if choice.matters(chosen):
            value = given.get(key, preset.get(key, choice.usual))
            if value is NEEDED:
                problems.append(f"{key}: is required by {_ESTIMATOR}: {chosen.keys[_ESTIMATOR]}")
        elif key in given:
            problems.append(f"{key}: would do nothing: {choice.otherwise}")
        chosen.keys[key] = None if value is NEEDED else value
    for idle in IDLE:
        if chosen.says(idle.key, idle.value) and idle.when(chosen):
            problems += [f"{idle.key}: would do nothing: {idle.why}"] if idle.key in given else []
            chosen.keys[idle.key] = CHOICES[idle.key].usual
    problems += [f"{refusal.key}: {refusal.why}" for refusal in REFUSALS if refusal.when(chosen)]
    return {key: chosen.keys[key] for key in CHOICES}, problems


def _unmet_needs(given: dict[str, Any], preset: dict[str, Any], chosen: Chosen) -> list[str]:
    """What a choice needs of a key that is none."""
    auxiliary = given.get("model.private", preset.get("model.private")) == "auxiliary"
    if auxiliary and not chosen.keys["model.private_dim"]:
        by = f"method {chosen.method}" if "model.private" not in given else "model.private: auxiliary"
        return [f"model.private_dim: {by} needs private latents: give, say, model.private_dim=16"]
    return []
