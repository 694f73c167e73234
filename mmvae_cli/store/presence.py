"""Which modalities an item has: as the store has it, and as ``training.missing`` leaves it. numpy only.

Presence is a property of an item. The rows of a batch are put in order by their pattern, the set of modalities that
they have, so that rows of one pattern stand together: each such part is a batch of a model of these modalities alone.
"""

import hashlib
import math
from typing import Any, NamedTuple

import numpy as np

from mmvae_cli.recipe import MissingSpec, Recipe
from mmvae_cli.recipe.families import Subset
from mmvae_cli.store.folder import Store
from mmvae_cli.store.text import uniforms

_ONCE = 0
"""In place of an epoch: what an item lacks, it lacks in every epoch."""
_TOP = 1 << 31


class Presence(NamedTuple):
    """``items`` int64 (n,): those of a split that are used. ``table`` bool (items, M): which modalities each item of
    the split has, used or not."""

    items: np.ndarray
    table: np.ndarray

    @property
    def needed(self) -> np.ndarray | None:
        """The table, or None where every item that is used has every modality."""
        return None if self.table[self.items].all() else self.table


class Pattern(NamedTuple):
    """So many ``rows``, one after the other, that have the modalities at the positions ``present`` and no others."""

    present: Subset
    rows: int


def by_pattern(table: np.ndarray) -> tuple[np.ndarray, list[Pattern]]:
    """``table`` bool (B, M): the order (B,) in which rows of one pattern stand together, and the patterns."""
    patterns, of_row, counts = np.unique(table, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(of_row.reshape(-1), kind="stable")
    distinct = [Pattern(tuple(np.flatnonzero(one).tolist()), int(n)) for one, n in zip(patterns, counts, strict=True)]
    return order, distinct


def of_training(store: Store, recipe: Recipe) -> Presence | None:
    """What a recipe trains on; None where that is every item, with every modality. An item that has none of the
    recipe's modalities is not used."""
    names, missing = list(recipe.modalities), recipe.training.missing
    table, count = store.present("train", names), store.count("train")
    if table is None and missing is None:
        return None
    full = np.ones((count, len(names)), bool) if table is None else table
    if missing is None or missing.rows == "published":
        used = np.arange(count) if missing is None else _published(count, len(names), missing)
        return Presence(used[full[used].any(1)], full)
    left = thinned(full, names, missing)
    return Presence(np.flatnonzero(left.all(1) if missing.rows == "drop" else left.any(1)), left)


def _published(count: int, modalities: int, missing: MissingSpec) -> np.ndarray:
    """int64 (n,), ascending: ``n = ceil((1 - rate)^k N)`` items for k modalities that may be missing, as many as are
    expected to be complete. They are drawn by the seed, for stores are ordered by label."""
    expected = (1 - missing.rate) ** (modalities - len(missing.keep)) * count
    wanted = math.ceil(round(expected, 6))  # 0.8^4 60,000 is 24,576 and a rounding error
    return np.sort(np.argsort(_drawn(missing.seed, "published", count), kind="stable")[:wanted])


def thinned(table: np.ndarray, names: list[str], missing: MissingSpec) -> np.ndarray:
    """What ``missing`` leaves of ``table`` (items, M): each modality that is not kept is taken from an item with
    probability ``rate``, a function of seed, modality and item. Of an item that would lose everything, the modality
    stays that came nearest to staying."""
    drawn = np.stack([_drawn(missing.seed, name, len(table)) for name in names], 1)
    stays = drawn >= missing.rate * _TOP
    stays[:, [name in missing.keep for name in names]] = True
    left: np.ndarray = table & stays
    bare = np.flatnonzero(table.any(1) & ~left.any(1))
    left[bare, np.where(table[bare], drawn[bare], -1).argmax(1)] = True
    return left


def _drawn(seed: int, modality: str, count: int) -> Any:
    """int64 (items,), uniform in [0, 2^31)."""
    own = hashlib.sha256(f"{seed}/missing/{modality}".encode()).digest()
    return uniforms(int.from_bytes(own[:8], "big") >> 1, _ONCE, np.arange(count, dtype=np.int64))
