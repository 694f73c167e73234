"""Which items are for training and which for testing, and what their labels are."""

import unicodedata
from collections.abc import Sequence

import numpy as np

from mmvae_cli.process.errors import DataProblem, UsageProblem
from mmvae_cli.store import LabelInfo

_NAMES = {"train": "train", "training": "train", "test": "test", "testing": "test", "val": "validation",
          "valid": "validation", "validation": "validation", "dev": "validation"}  # fmt: skip
TEST_SHARE = 0.1
"""Of all items, where nothing is said."""
_LONG = 4300
"""Python refuses to read a number of more digits."""
Splits = dict[str, np.ndarray]
"""split -> int64 numbers of its items, in their order."""


def chosen(
    said: Sequence[str] | None, source: str, place: str, count: int, share: float | None, seed: int,
    codes: np.ndarray | None, groups: Sequence[str] | None = None,
) -> Splits:  # fmt: skip
    """What the ``place`` of a ``source`` has ``said``, else :func:`_drawn`. Raises UsageProblem where both are asked
    for."""
    if said is None:
        return _drawn(count, share, seed, codes, groups)
    if share is not None or groups is not None:
        asked = "--group" if share is None else "--test"
        raise UsageProblem(f"{asked} has no effect: {source} has {place}", "leave one of them out")
    return _named(said, f"{source}, {place}")


def _named(cells: Sequence[str], where: str) -> Splits:
    """The splits that a column says. Raises DataProblem for a word that is none, and without train or test."""
    known = [_NAMES.get(cell.lower()) for cell in cells]
    if None in known:
        row = known.index(None)
        raise DataProblem(f"{where}: {cells[row]!r} (item {row + 1}) is no split", "use train, test and validation")
    items_of = {split: np.flatnonzero([k == split for k in known]) for split in ("train", "validation", "test")}
    if missing := [split for split in ("train", "test") if not len(items_of[split])]:
        raise DataProblem(f"{where}: no item is in split {missing[0]}", "both train and test are needed")
    return {split: items for split, items in items_of.items() if len(items)}


def _drawn(
    count: int, share: float | None, seed: int, codes: np.ndarray | None, groups: Sequence[str] | None
) -> Splits:  # fmt: skip
    """``share`` of the items for testing, drawn by the seed: whole groups, else the same share of every label. Raises
    UsageProblem where a split would be empty."""
    share = TEST_SHARE if share is None else share
    if not 0 < share < 1:
        raise UsageProblem(f"--test {share:g}: a share between 0 and 1", "as --test 0.1")
    draw = np.random.default_rng(seed)
    test = np.zeros(count, bool)
    if groups is not None:
        _, members = np.unique(np.asarray(groups), return_inverse=True)
        sizes = np.bincount(members)
        order = draw.permutation(len(sizes))
        chosen = order[np.cumsum(sizes[order]) <= max(round(share * count), sizes[order[0]])]
        test = np.isin(members, chosen)
    else:
        order = draw.permutation(count)
        ranked = order if codes is None else order[np.argsort(codes[order], kind="stable")]
        wanted = np.arange(round(share * count))
        places = ((wanted + draw.random()) / share).astype(int)
        test[ranked[np.minimum(places, count - len(wanted) + wanted)]] = True  # each within, none twice
    if test.all() or not test.any():
        raise UsageProblem(f"--test {share:g}: of {count} items none would be left for training or for testing",
                           "give another share, or more items or groups")  # fmt: skip
    return {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}


def labels_of(cells: Sequence[str]) -> tuple[np.ndarray, LabelInfo]:
    """int64 (items,) classes and their names, sorted: numbers by their size. What reads alike is one class, however its
    accents are written."""
    cells = [unicodedata.normalize("NFC", cell) for cell in cells]
    names = sorted(
        set(cells), key=lambda name: (0, int(name), name) if name.isdecimal() and len(name) <= _LONG else (1, 0, name)
    )
    position = {name: number for number, name in enumerate(names)}
    return np.array([position[cell] for cell in cells], np.int64), LabelInfo(kind="class", names=tuple(names))
