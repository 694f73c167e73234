"""The choices that a method makes: which key says something beside which others, and what does not go together.

A key that would do nothing is refused, not ignored, so that a resolved recipe shows every choice that matters and none
that does not. No torch: names and sentences stand here, the functions of the same names in ``model/``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from mmvae_cli.recipe.families import Subset


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


class Choice(NamedTuple):
    """``usual``: the value where neither the recipe nor its method says one. ``matters``: whether the key says
    anything; ``otherwise``: why not, as a reader of the message has to know it."""

    usual: Any
    matters: Callable[[Chosen], bool] = lambda chosen: True
    otherwise: str = ""


_ONE = "there is one component, the full set"
_BOUNDS = "objective.component_weights"

CHOICES: dict[str, Choice] = {
    "model.prior_expert": Choice("full"),
    "objective.component_choice": Choice("stratified", lambda c: c.several, _ONE),
    "objective.component_weights": Choice("mean", lambda c: c.several, _ONE),
    "objective.decode": Choice("all", lambda c: c.several, f"{_ONE}, and its members are all modalities"),
    "objective.kl": Choice("components"),
    "objective.unimodal_weights": Choice(
        "same",
        lambda c: c.method == "mvae" and c.says("objective.decode", "members") and c.says(_BOUNDS, "sum"),
        "it is a quirk of the released MVAE, likelihood weights of 1 in the components of one modality",
    ),
}
"""In the order of settling: what a key depends on comes before it."""


class Refusal(NamedTuple):
    """What does not go together: the key that is named, when, and why, in words."""

    key: str
    when: Callable[[Chosen], bool]
    why: str


def _one_an_item(c: Chosen) -> bool:
    return c.says("objective.component_choice", "stratified", "balanced", "random")


REFUSALS: list[Refusal] = [
    Refusal(
        "objective.component_weights", lambda c: c.says(_BOUNDS, "sum") and _one_an_item(c),
        "sum needs every component of an item, and objective.component_choice takes one: give it the value all",
    ),
    Refusal(
        "objective.decode", lambda c: c.says("objective.decode", "members") and _one_an_item(c),
        "members needs every component of an item: with one, a modality outside it is not decoded at all, and the mean "
        "over the components that decode it has no estimate; give objective.component_choice the value all",
    ),
]  # fmt: skip


def settle(given: dict[str, Any], preset: dict[str, Any], chosen: Chosen) -> tuple[dict[str, Any], list[str]]:
    """Every choice with its value, None where it says nothing, and what is wrong, one line each.

    ``given``: what the recipe itself says; it wins over the method's ``preset``, that over the usual value.
    """
    problems = []
    for key, choice in CHOICES.items():
        if choice.matters(chosen):
            value = given.get(key, preset.get(key, choice.usual))
        else:
            value = None
            if key in given:
                problems.append(f"{key}: would do nothing: {choice.otherwise}")
        chosen.keys[key] = value
    problems += [f"{refusal.key}: {refusal.why}" for refusal in REFUSALS if refusal.when(chosen)]
    return {key: chosen.keys[key] for key in CHOICES}, problems
