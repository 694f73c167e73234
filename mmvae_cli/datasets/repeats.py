"""Test images that are training images too, found by what they hold: the same files given twice, above all."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmvae_cli.process import console, signals
from mmvae_cli.store import StoreInfo
from mmvae_cli.store.rows import Rows, parts

_A_HANDFUL = 0.01  # of all test images


def count(train: np.ndarray | Rows, test: np.ndarray | Rows) -> int:
    """How many rows of ``test`` (N, ...) are, byte for byte, among those of ``train`` (M, ...)."""
    known = set(_hashes(train))
    return sum(row in known for row in _hashes(test))


def _hashes(rows: np.ndarray | Rows) -> Iterator[int]:
    """64 bits of each row, enough to tell millions of them apart."""
    for part in parts(rows):
        signals.leave_if_requested("nothing was written")
        yield from (hash(row.tobytes()) for row in part)


def in_store(folder: Path, info: StoreInfo) -> list[str]:
    """Say how many there are in the arrays of ``folder``; what the dataset has to say of it, a sentence a split."""
    images = [name for name, known in info.modalities.items() if known.kind == "image"]
    notes = []
    for split in [split for split in info.splits if split != "train"]:
        arrays = {name: [Rows(folder / s / f"{name}.npy") for s in ("train", split)] for name in images}
        repeated = {name: count(*pair) for name, pair in arrays.items()}
        named = ", ".join(name for name, counts in repeated.items() if counts)
        total = sum(len(pair[1]) for pair in arrays.values())
        notes.append(tell(sum(repeated.values()), total, f"{split} images", f" ({named})"))
    return [note for note in notes if note]


def tell(repeated: int, total: int, what: str, where: str = "") -> str | None:
    """Say that ``repeated`` of ``total`` are training images too; the sentence, where the dataset has to say it as
    well. A warning only then: published sets have a handful of twins."""
    if not repeated:
        return None
    said = f"{repeated:,} of {total:,} {what} are training images too{where}"
    if repeated <= _A_HANDFUL * total:
        console.say(f"note: {said}")
        return None
    console.warn(f"{said}: what is measured on them says nothing about new ones")
    return said
