"""Subset families as a recipe writes them: which subsets of the modalities are admitted (equations 2.1)."""

from collections.abc import Sequence
from itertools import combinations
from math import comb
from typing import Any, Literal, TypeVar

from pydantic import Field

from mmvae_cli.recipe.section import Section

MAX_SUBSETS = 4096
Thing = TypeVar("Thing")
Subset = tuple[int, ...]
"""Positions of modalities in the recipe."""


class SizeLimit(Section):
    max_size: int = Field(ge=1)


Subsets = Literal["full", "singletons", "full_and_singletons", "all"] | SizeLimit | tuple[tuple[str, ...], ...]


def of_a_row(subsets: Any, modalities: int) -> Any:
    """A family as a row of the table of methods has it, for so many modalities: {"max_size": 2} of one is 1."""
    return SizeLimit(max_size=min(subsets["max_size"], modalities)) if isinstance(subsets, dict) else subsets


def check(subsets: Subsets, names: list[str]) -> None:
    if isinstance(subsets, tuple):
        for subset in subsets:
            if unknown := [name for name in subset if name not in names]:
                raise ValueError(f"model.subsets: unknown modality {unknown[0]!r}; the recipe has {', '.join(names)}")
            if not subset or len(set(subset)) != len(subset):
                raise ValueError(f"model.subsets: {list(subset)} is empty or names a modality twice")
        if not subsets or len({frozenset(s) for s in subsets}) != len(subsets):
            raise ValueError("model.subsets: the list is empty or has the same subset twice")
        if missing := [name for name in names if not any(name in s for s in subsets)]:
            raise ValueError(f"model.subsets: {missing[0]!r} is in no subset, so its encoder would never be used")
    elif isinstance(subsets, SizeLimit) and subsets.max_size > len(names):
        raise ValueError(f"model.subsets: max_size {subsets.max_size} is more than the {len(names)} modalities")
    if (count := _count_subsets(subsets, len(names))) > MAX_SUBSETS:
        raise ValueError(
            f"model.subsets: {count:,} subsets of {len(names)} modalities are more than {MAX_SUBSETS:,}; "
            "limit their size, model.subsets={max_size: K}, or list them"
        )


def _count_subsets(subsets: Subsets, modalities: int) -> int:
    if isinstance(subsets, tuple):
        return len(subsets)
    if isinstance(subsets, SizeLimit):
        return sum(comb(modalities, k) for k in range(1, subsets.max_size + 1))
    counts = {"full": 1, "singletons": modalities, "all": 2**modalities - 1, "full_and_singletons": modalities + 1}
    return counts[subsets]


def subset_list(subsets: Subsets, names: list[str]) -> list[Subset]:
    """Resolve ``subsets`` to sorted tuples of positions in ``names``, ordered by size, then lexicographically. The full
    set and the only singleton of one modality are the same subset and still two components."""
    count = len(names)
    if isinstance(subsets, tuple):
        chosen = [tuple(sorted(names.index(name) for name in subset)) for subset in subsets]
        return sorted(chosen, key=lambda subset: (len(subset), subset))
    if subsets == "full":
        return [tuple(range(count))]
    if subsets == "full_and_singletons":
        return [*((m,) for m in range(count)), tuple(range(count))]
    top = subsets.max_size if isinstance(subsets, SizeLimit) else 1 if subsets == "singletons" else count
    return powerset(range(count), top)


def powerset(things: Sequence[Thing], most: int | None = None) -> list[tuple[Thing, ...]]:
    """All non-empty subsets, of ``most`` members at most: by size, then in the order of ``things``."""
    sizes = range(1, (len(things) if most is None else most) + 1)
    return [subset for size in sizes for subset in combinations(things, size)]
