"""Groups of runs that differ in the seed alone, and names that say in what groups differ. No torch."""

import json
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mmvae_cli.comparison import measures
from mmvae_cli.comparison.measures import Key, Stat
from mmvae_cli.recipe import METHODS, Recipe, flatten
from mmvae_cli.run.result import CLASSIFIER_VERSION, EvaluationResult

BETA = "objective.beta"
IGNORED = ("name", "dataset.name", "training.seed")
"""What does not separate groups: the seed; the name; and where the data lay, for which the fingerprint speaks."""
_LONGEST = 40
"""Characters of what tells a group from its kin, in its label."""


@dataclass(frozen=True)
class Member:
    """An evaluated run. ``planned``: the epochs it was to have, where ``recipe`` ends at the one that was evaluated;
    ``code``: the beginning of the SHA-256 of the user's own networks, where it has any; ``given``: what was named, the
    folder or an evaluation elsewhere."""

    folder: Path
    recipe: Recipe
    evaluation: EvaluationResult
    status: dict[str, Any]
    planned: int | None = None
    code: str | None = None
    given: Path = field(kw_only=True)

    @property
    def seed(self) -> int:
        return self.recipe.training.seed

    def settings(self) -> dict[str, Any]:
        """The recipe, flat, without what is ignored when grouping, and the code, which it names and does not hold."""
        flat = self.recipe.flat | {"code": self.code}
        return {k: v for k, v in flat.items() if k not in IGNORED}


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
    def evaluations(self) -> list[EvaluationResult]:
        return [member.evaluation for member in self.members]

    @cached_property
    def stats(self) -> dict[Key, Stat]:
        """Means over the seeds."""
        return measures.of_seeds(self.evaluations)

    @cached_property
    def dashes(self) -> list[Key]:
        """What none of its runs could measure."""
        return measures.unmeasured(self.evaluations)

    @cached_property
    def method(self) -> str:
        """The recipe's method; ``custom`` where what the method presets was set otherwise."""
        name, keys = self.recipe.model.method, self.recipe.flat
        bent = any(keys.get(key) not in (value, None) for key, value in flatten(METHODS[name].preset).items())
        return "custom" if bent else name

    @property
    def equation_5(self) -> bool:
        """Whether MoPoE-VAE was trained with all of its components at once: the objective of Eq. (5)."""
        return self.method == "mopoe" and self.recipe.objective.component_choice == "all"

    @property
    def variant(self) -> str:
        """What published.yaml calls this method and objective."""
        return "mopoe_all" if self.equation_5 else self.method

    @property
    def name(self) -> str:
        """The method as a reader knows it; a custom one goes by its recipe's name."""
        if self.method == "custom":
            return self.recipe.name
        return METHODS[self.method].title + (" Eq. (5)" if self.equation_5 else "")

    @property
    def kind(self) -> str:
        """Groups of one kind are told apart by the recipe keys in which they differ."""
        return self.name if self.method == "custom" else self.method


@dataclass
class Collection:
    """The groups on one dataset. ``name``: what tells it from the others."""

    name: str
    groups: list[Group]

    @property
    def reference(self) -> EvaluationResult:
        """The evaluation of the first run: dataset, protocol, modalities and settings are the same in all."""
        return self.groups[0].members[0].evaluation

    @property
    def members(self) -> list[Member]:
        return [member for group in self.groups for member in group.members]


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
    """By method, as the recipe lists them and custom ones last; then by what differs, numbers by size."""
    values = [(0, v, "") if isinstance(v, int | float) else (1, 0, str(v)) for v in one.differing.values()]
    return list(METHODS).index(one.method), not one.equation_5, *values


def _label(groups: list[Group]) -> None:
    """Method, then the keys that separate its groups; short keys, and a number where that is not enough."""
    for one in groups:
        values = _values(one, separating(one, groups))
        if len(values) >= _LONGEST:  # as many as there is room for
            values = f"{values[: _LONGEST - 4].rpartition(', ')[0]}, ...".removeprefix(", ")
        one.label = " ".join([one.name, values]).strip()
    counts = Counter(one.label for one in groups)
    numbers: Counter[str] = Counter()
    for one in groups:
        if counts[one.label] > 1:
            numbers[one.label] += 1
            one.label = f"{one.label} #{numbers[one.label]}"


def separating(one: Group, groups: list[Group]) -> list[str]:
    """The recipe keys in which groups of this one's kind differ, without those that its name already tells."""
    told = {"model.method", *flatten(METHODS[one.method].preset)}
    if one.equation_5 or one.recipe.objective.component_choice == "stratified":
        told.add("objective.component_choice")
    kin = [other for other in groups if other.kind == one.kind]
    return [k for k in one.differing if k not in told and len({repr(other.differing[k]) for other in kin}) > 1]


def swept(groups: list[Group]) -> str | None:
    """The recipe key whose values a sweep goes through: beta, or the one number in which groups of a kind differ."""
    keys = {key for one in groups for key in separating(one, groups)}
    if BETA in keys:
        return BETA
    numbers = all(isinstance(one.differing[key], int | float) for one in groups for key in keys)
    return keys.pop() if len(keys) == 1 and numbers else None


def sweeps_of(groups: list[Group]) -> list[str]:
    """For each group what those have in common that differ in the swept key alone: the method, and what else separates
    it from its kin."""
    sweep = swept(groups)
    told = [[key for key in separating(one, groups) if key != sweep] for one in groups]
    return [" ".join([one.name, _values(one, keys)]).strip() for one, keys in zip(groups, told, strict=True)]


def _values(one: Group, keys: list[str]) -> str:
    return ", ".join(f"{key.rpartition('.')[2]}={short(one.differing[key])}" for key in keys)


def short(value: Any) -> str:
    """The value of a recipe key, as it stands in a label."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def remarks(groups: list[Group]) -> list[str]:
    """What a reader has to know of the groups as a whole."""
    told = missing_seeds, not_at_the_end, different_classifiers, older_classifiers
    return [note for notes in told for note in notes(groups)]


def missing_seeds(groups: list[Group]) -> list[str]:
    """Groups that lack seeds which others have: their averages rest on other runs, and the reader should know."""
    every = sorted({seed for one in groups for seed in one.seeds})
    lacking = [(one, [seed for seed in every if seed not in one.seeds]) for one in groups]
    return [f"{one.label}: no usable run for seed {', '.join(map(str, seeds))}" for one, seeds in lacking if seeds]


def not_at_the_end(groups: list[Group]) -> list[str]:
    """Groups that were evaluated before the end of training. A run that was to end there may have done otherwise: its
    learning rate and beta would have followed another schedule."""
    planned = [(one, sorted({m.planned for m in one.members if m.planned})) for one in groups]
    return [f"{one.label}: evaluated at epoch {one.recipe.training.epochs} of {', '.join(map(str, epochs))}"
            for one, epochs in planned if epochs]  # fmt: skip


def different_classifiers(groups: list[Group]) -> list[str]:
    """Coherence is read off by classifiers; where runs used different ones, say so."""
    used = [m.evaluation.coherence.classifiers for g in groups for m in g.members if m.evaluation.coherence]
    names = [name for name in (used[0] if used else {}) if len({scores.get(name) for scores in used}) > 1]
    return [f"coherence was measured by different classifiers of {name} (on real data "
            f"{', '.join(sorted({f'{scores.get(name) or 0:.4f}' for scores in used}))})" for name in names]  # fmt: skip


def older_classifiers(groups: list[Group]) -> list[str]:
    """Coherences by classifiers of another version of this program, which it would not give again."""
    used = {str(m.evaluation.settings.get("classifiers", "unknown"))
            for g in groups for m in g.members if m.evaluation.coherence}  # fmt: skip
    old = sorted(name for name in used if not name.endswith(f"version {CLASSIFIER_VERSION}"))
    return [f"coherence was measured by classifiers of another version ({', '.join(old)}; those of now: "
            f"{CLASSIFIER_VERSION}): evaluate again"] if old else []  # fmt: skip
