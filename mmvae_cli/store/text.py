"""Text as positions in an alphabet, and where a word stands in its string. numpy only; placement also runs on torch.

The arithmetic of :func:`uniforms`, :func:`starts` and :func:`move_words` is int64 operators and indexing alone, which
numpy arrays and torch tensors share and wrap alike: a batch reader on a GPU and a test in numpy see the same strings.
"""

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmvae_cli.process.errors import DataProblem

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789-,;.!?:'\"\\/|_@#$%^&*~`+-=<>()[]{} \n"
"""The 71 characters of the released code, index for index (equations 7.3). '-' is there twice; 36 is the one in use."""

FIXED_EPOCH = -1
"""The epoch to give to :func:`uniforms` where a text keeps its place: in evaluation, whatever was trained before."""

# splitmix64 (Steele, Lea & Flood 2014); its constants as the int64 with the same bits
_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)
_BITS = 31
"""Bits of a uniform: a product with a length below 2^32 stays inside int64."""


def plain(string: str) -> str:
    """As datasets hold texts of people: in small letters, a blank between words."""
    return " ".join(unicodedata.normalize("NFC", string).lower().split())


def encode(strings: Sequence[str], length: int, *, fill: str = " ", alphabet: str = ALPHABET) -> np.ndarray:
    """Strings to uint8 (N, length): each at the left end, the rest ``fill``. A character is its first occurrence.

    The released code drops unknown characters and cuts long strings; both lose data silently, so here they raise
    :class:`DataProblem` with the string and the character.
    """
    known = {character: index for index, character in reversed(list(enumerate(alphabet)))}
    rows = np.full((len(strings), length), known[fill], np.uint8)
    for row, string in zip(rows, strings, strict=True):
        if len(string) > length:
            raise DataProblem(f"text {string[:40]!r} has {len(string)} characters", f"{length} is the most it may have")
        if unknown := [character for character in string if character not in known]:
            raise DataProblem(
                f"text {string[:40]!r} has the character {unknown[0]!r}, which is not in the alphabet",
                f"write it in the alphabet's characters: {''.join(sorted({*alphabet}))!r}",
            )
        row[: len(string)] = [known[character] for character in string]
    return rows


def decode(rows: np.ndarray, *, alphabet: str = ALPHABET) -> list[str]:
    """Positions (N, L) back to N strings of L characters, fill included. Raises DataProblem outside the alphabet."""
    rows = np.asarray(rows)
    if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < len(alphabet):
        raise DataProblem(f"text has a position outside the alphabet of {len(alphabet)} characters")
    return ["".join(alphabet[index] for index in row) for row in rows.tolist()]


def word_lengths(rows: np.ndarray, *, fill: str = " ", alphabet: str = ALPHABET) -> np.ndarray:
    """int64 (N,): characters of each left-aligned row (N, L) up to its last one that is not ``fill``."""
    filled = np.asarray(rows) != alphabet.index(fill)
    return (filled * np.arange(1, filled.shape[1] + 1)).max(axis=1, initial=0).astype(np.int64)


def uniforms(seed: int, epoch: int, items: Any) -> Any:
    """Uniform int64 (B,) in [0, 2^31) as a function of (seed, epoch, item): no state, so a resumed run draws the same.

    ``items``: int64 (B,), an array or a tensor on any device; ``epoch``: a number, or :data:`FIXED_EPOCH`.
    """
    if not str(items.dtype).endswith("int64"):
        raise TypeError(f"items are int64, not {items.dtype}: narrower integers wrap elsewhere")
    key = _mix(_mix(np.array([seed], np.int64) + _GAMMA) + epoch)
    return _shift_right(_mix((items + 1) * _GAMMA + int(key[0])), 64 - _BITS)


def starts(lengths: Any, total: int, draws: Any) -> Any:
    """Start positions (B,), uniform over {0, ..., total - 1 - length} inclusive, so the last position stays free.

    ``lengths``: int64 (B,) characters of each word; ``draws``: from :func:`uniforms`. A word of ``total`` characters
    leaves no choice and starts at 0.
    """
    return (draws * (total - lengths)) >> _BITS


def move_words(rows: Any, first: Any) -> Any:
    """Left-aligned rows (B, L) moved to their start positions ``first`` int64 (B,); same type and device as ``rows``.

    A row is rotated: what leaves at the right end is fill, and comes in again at the left.
    """
    count, length = rows.shape
    columns = (_arange(first, length)[None, :] - first[:, None]) % length
    return rows[_arange(first, count)[:, None], columns]


def _mix(state: Any) -> Any:
    """The finalizer of splitmix64, int64 to int64."""
    state = (state ^ _shift_right(state, 30)) * _FIRST
    state = (state ^ _shift_right(state, 27)) * _SECOND
    return state ^ _shift_right(state, 31)


def _shift_right(state: Any, bits: int) -> Any:
    """A logical shift of int64, whose own ``>>`` copies the sign."""
    return (state >> bits) & ((1 << (64 - bits)) - 1)


def _arange(like: Any, count: int) -> Any:
    """0..count-1 as int64, of the kind and on the device of ``like``; made there, so a GPU need not wait."""
    return np.arange(count) if isinstance(like, np.ndarray) else like.new_ones(count).cumsum(0) - 1
