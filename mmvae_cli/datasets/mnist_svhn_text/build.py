"""MNIST-SVHN-Text: a handwritten digit, a house number and a word that name the same digit (the paper, section 4.1).

Pairing is that of Shi et al. (2019) with the paper's multiplier: per digit the first n images of each source, n the
smaller count, in ``multiplier`` fresh and independent permutations. Every picture is stored once; an item is an index.
"""

from pathlib import Path
from typing import Any

import numpy as np

from mmvae_cli import store
from mmvae_cli.datasets import building, placing, sources
from mmvae_cli.datasets.mnist_svhn_text import house_numbers, svhn
from mmvae_cli.datasets.sources import LABELS, Pictures
from mmvae_cli.process import console, signals
from mmvae_cli.process.errors import DataProblem, UsageProblem
from mmvae_cli.store import ModalityInfo, StoreInfo, text

NAME = "mnist-svhn-text"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEXT_LENGTH = 8
MOST_PER_LABEL = 10_000
"""max_d of the released pairing; the complete data stay below it."""
MULTIPLIER = 20
MODALITIES = {
    "mnist": ModalityInfo(kind="image", shape=(1, 28, 28)),
    "svhn": ModalityInfo(kind="image", shape=(3, 32, 32)),
    "text": ModalityInfo(
        kind="text", shape=(TEXT_LENGTH,), alphabet=text.ALPHABET, placement="random", fill=" "
    ),
}  # fmt: skip


def build(
    folder: Path, data_dir: Path, *, digits: str = "mnist", svhn_source: str = "auto", multiplier: int = MULTIPLIER,
    limit: int | None = None, validation: int = 0, seed: int = 0, force: bool = False,
) -> StoreInfo:  # fmt: skip
    """Build the store at ``folder``. ``limit``: at most so many tuples per split, evenly over the digits.
    ``validation``: so many training pictures of each source become a split of their own.

    ``digits`` and ``svhn_source``: see :func:`sources.digits` and :func:`svhn.svhn`; ``embedded`` house numbers are
    drawn. Raises UsageProblem for settings that make no dataset, DataProblem for sources that are missing or damaged.
    """
    if limit is not None and limit < len(WORDS):
        raise UsageProblem(f"--limit {limit} is below the {len(WORDS)} digits", "each digit needs at least one tuple")
    with building.dataset_folder(folder, force=force) as new:
        handwritten, drawn = sources.digits(digits, data_dir), svhn_source == "embedded"
        numbers = house_numbers.draw(data_dir, seed) if drawn else svhn.svhn(svhn_source, data_dir)
        pair = [source.hold_out(validation, seed) for source in (handwritten, numbers)]
        counts, complete = {}, True
        for number, split in enumerate(pair[0].splits):
            images = {"mnist": pair[0].splits[split], "svhn": pair[1].splits[split]}
            counts[split], all_of_them = _write_split(new, split, images, multiplier, limit, [seed, number])
            complete &= all_of_them
        items = {split: sum(tuples) for split, tuples in counts.items()}
        other = (
            None if multiplier == MULTIPLIER else f"{multiplier} permutations per digit, not the paper's {MULTIPLIER}"
        )
        notes = [pair[0].stand_in, pair[1].stand_in, other if complete else sources.part_of(items),
                 sources.held_out(validation)]  # fmt: skip
        return placing.finish(new, NAME, MODALITIES, items, LABELS, {
            "digits": pair[0].provenance, "svhn": pair[1].provenance,
            "options": {"multiplier": multiplier, "limit": limit, "validation": validation},
            "tuples_per_digit": counts,
        }, notes, seed=seed)  # fmt: skip


def rows_per_digit(labels: dict[str, np.ndarray], split: str) -> dict[str, list[np.ndarray]]:
    """Per modality and digit the rows that take part: the first n by a stable sort, n common to the modalities."""
    by_digit = {name: [np.flatnonzero(known == digit) for digit in range(10)] for name, known in labels.items()}
    for name, rows in by_digit.items():
        if empty := [digit for digit in range(10) if not len(rows[digit])]:
            raise DataProblem(
                f"{split}: no {name} image of the digit {empty[0]}", "each digit needs one of each source"
            )
    common = [min(MOST_PER_LABEL, *(len(rows[digit]) for rows in by_digit.values())) for digit in range(10)]
    return {name: [rows[:n] for rows, n in zip(per, common, strict=True)] for name, per in by_digit.items()}


def shares(available: list[int], limit: int | None) -> list[int]:
    """Tuples per digit: all, or ``limit`` in total with the smallest differences that ``available`` allows."""
    if limit is None or sum(available) <= limit:
        return available
    taken, left = [0] * len(available), limit
    scarcest_first = sorted(range(len(available)), key=lambda digit: (available[digit], -digit))
    for place, digit in enumerate(scarcest_first):
        taken[digit] = min(available[digit], left // (len(available) - place))
        left -= taken[digit]
    return taken


def permutations(count: int, length: int, key: list[int]) -> np.ndarray:
    """int64 (length,): fresh permutations of 0..count-1 one after the other, the last cut; a function of ``key``."""
    random = np.random.default_rng(key)
    return np.concatenate([random.permutation(count) for _ in range(-(-length // count))])[:length]


def _write_split(
    folder: Path, split: str, images: dict[str, Pictures], multiplier: int, limit: int | None,
    key: list[int],
) -> tuple[list[int], bool]:  # fmt: skip
    """Write all arrays of one split; returns the tuples per digit, and whether these are all that there are."""
    rows = rows_per_digit({name: labels for name, (_, labels) in images.items()}, split)
    available = [multiplier * len(of_digit) for of_digit in rows["mnist"]]
    tuples = shares(available, limit)
    for number, (name, (pictures, _)) in enumerate(images.items()):
        index, used = _index(rows[name], tuples, [*key, number])
        _write(folder, f"{split}/{name}.index.npy", index)
        _write(folder, f"{split}/{name}.source.npy", used)
        _copy(folder, f"{split}/{name}.npy", pictures, used, MODALITIES[name].shape)
    labels = np.repeat(np.arange(10), tuples)
    _write(folder, f"{split}/text.npy", text.encode(WORDS, TEXT_LENGTH))
    _write(folder, f"{split}/text.index.npy", labels.astype(np.int32))
    _write(folder, f"{split}/labels.npy", labels.astype(np.int64))
    return tuples, tuples == available


def _index(rows: list[np.ndarray], tuples: list[int], key: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The stored row of every item, int32 (items,), and the source's row of every stored row, int32 (rows,).

    Only pictures that some item uses are stored (``--limit`` makes a small store), digit by digit.
    """
    index, used, start = [], [], 0
    for digit, (of_digit, count) in enumerate(zip(rows, tuples, strict=True)):
        signals.leave_if_requested("nothing was written")
        needed, inverse = np.unique(permutations(len(of_digit), count, [*key, digit]), return_inverse=True)
        index.append(inverse + start)
        used.append(of_digit[needed])
        start += len(needed)
    return np.concatenate(index).astype(np.int32), np.concatenate(used).astype(np.int32)


def _write(folder: Path, name: str, content: np.ndarray) -> None:
    store.new_array(folder, name, content.shape, content.dtype)[...] = content


def _copy(folder: Path, name: str, pictures: np.ndarray, used: np.ndarray, shape: tuple[int, ...]) -> None:
    """The ``used`` rows of ``pictures`` into a new array, block by block."""
    array: Any = store.new_array(folder, name, (len(used), *shape))
    with console.progress(f"writing {name}", len(used), "images") as shown:
        building.fill(array, lambda rows: pictures[rows].reshape(-1, *shape), used, shown)
