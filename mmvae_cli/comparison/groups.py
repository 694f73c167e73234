"""Groups of runs: everything equal but the seed, with names that say what separates them. No torch."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmvae_cli.recipe import PRESETS, Recipe, flatten
from mmvae_cli.result import EvaluationResult

METHODS = {"mvae": "MVAE", "mmvae": "MMVAE", "mopoe": "MoPoE-VAE"}
IGNORED = ("name", "dataset.name", "training.seed")
"""What does not separate groups: the seed; the name; and where the data lay, for which the fingerprint speaks."""


@dataclass(frozen=True)
class Member:
    """A finished, evaluated run."""

    folder: Path
    recipe: Recipe
    evaluation: EvaluationResult
    status: dict[str, Any]

    @property
    def seed(self) -> int:
        return self.recipe.training.seed

    def settings(self) -> dict[str, Any]:
        """The recipe, flat, without what is ignored when grouping."""
        return {k: v for k, v in flatten(self.recipe.model_dump(mode="json")).items() if k not in IGNORED}


@dataclass
class Group:
    """Runs that differ in nothing but the seed. ``differing``: the recipe keys in which groups differ -> value here."""

    label: str
    members: list[Member]
    differing: dict[str, Any] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        return self.members[0].recipe

    @property
    def seeds(self) -> list[int]:
        return [member.seed for member in self.members]

    @property
    def variant(self) -> str:
        """``mvae``, ``mmvae``, ``mopoe``, with ``_all`` for Eq. (5)'s objective; ``custom`` where a preset was bent."""
        model, objective = self.recipe.model, self.recipe.objective
        preset = PRESETS[model.method]
        if model.method == "custom" or any(getattr(model, key) != value for key, value in preset.items()):
            return "custom"
        return model.method + ("_all" if objective.component_choice == "all" else "")


def group(members: list[Member]) -> list[Group]:
    """Members with equal settings together, seeds ascending; groups by method, then by what differs."""
    buckets: dict[str, list[Member]] = {}
    for member in members:
        buckets.setdefault(json.dumps(member.settings(), sort_keys=True), []).append(member)
    groups = [Group("", sorted(bucket, key=lambda m: m.seed)) for bucket in buckets.values()]
    settings = [g.members[0].settings() for g in groups]
    keys = [key for key in {k: None for s in settings for k in s} if len({repr(s.get(key)) for s in settings}) > 1]
    for one, own in zip(groups, settings, strict=True):
        one.differing = {key: own.get(key) for key in keys}
    groups.sort(key=_order)
    _label(groups)
    return groups


def _order(one: Group) -> tuple[Any, ...]:
    order = ["mvae", "mvae_all", "mmvae", "mmvae_all", "mopoe_all", "mopoe", "custom"]
    values = [(0, v, "") if isinstance(v, int | float) else (1, 0, str(v)) for v in one.differing.values()]
    return order.index(one.variant), *values


def _label(groups: list[Group]) -> None:
    """Method, then the differing keys it does not imply; short keys, and a number where that is not enough."""
    implied = {"model.method", "model.subsets", "model.prior_expert", "model.unimodal_elbos", "model.subsets.max_size"}
    for one in groups:
        shown = [k for k in one.differing if k not in implied or (one.variant == "custom" and k != "model.method")]
        if one.recipe.objective.component_choice == "stratified" or one.variant.endswith("_all"):
            shown = [key for key in shown if key != "objective.component_choice"]
        # A key is worth naming only where it separates this group from another one of the same kind.
        kin = [other for other in groups if _kind(other) == _kind(one)]
        shown = [key for key in shown if len({repr(other.differing[key]) for other in kin}) > 1]
        parts = [f"{key.rpartition('.')[2]}={_short(one.differing[key])}" for key in shown]
        tail = " " + ", ".join(parts) if parts else ""
        one.label = method_name(one) + (tail if len(tail) <= 40 else " ...")
    counts = Counter(one.label for one in groups)
    numbers: Counter[str] = Counter()
    for one in groups:
        if counts[one.label] > 1:
            numbers[one.label] += 1
            one.label = f"{one.label} #{numbers[one.label]}"


def method_name(one: Group) -> str:
    base, _, all_components = one.variant.partition("_")
    if base == "custom":
        return one.recipe.name
    return METHODS[base] + (" Eq. (5)" if all_components else "")


def _kind(one: Group) -> str:
    return method_name(one) if one.variant == "custom" else one.recipe.model.method


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def missing_seeds(groups: list[Group]) -> list[str]:
    """Groups that lack seeds which others have: their averages rest on other runs, and the reader should know."""
    every = sorted({seed for one in groups for seed in one.seeds})
    lacking = [(one, [seed for seed in every if seed not in one.seeds]) for one in groups]
    return [f"{one.label}: no usable run for seed {', '.join(map(str, seeds))}" for one, seeds in lacking if seeds]


def different_classifiers(groups: list[Group]) -> list[str]:
    """Coherence is read off by classifiers; where runs used different ones, say so."""
    used = [m.evaluation.coherence.classifiers for g in groups for m in g.members if m.evaluation.coherence]
    names = [name for name in (used[0] if used else {}) if len({scores.get(name) for scores in used}) > 1]
    return [f"coherence was judged by different classifiers of {name} (test scores "
            f"{', '.join(sorted({f'{scores.get(name, 0):.4f}' for scores in used}))})" for name in names]  # fmt: skip
