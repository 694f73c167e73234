"""Kinds of data: what an image or a text is in a store, to a network and to a classifier. No torch at import time.

A new kind is one entry of :data:`KINDS`. Its network is one file in ``model/networks`` and a line each in
``recipe/networks.py`` and ``model/networks/__init__.py``. A likelihood that is not there yet is one function and one
line in ``model/likelihood.py``. A picture of its own is a line in ``sampling/layout.py``, which prints numbers of
what it does not know.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DataKind:
    """One kind of data: its shapes, its likelihoods and how it is read. ``sides``: names of the shape's sides.
    ``likelihoods``: those that suit it, the usual one first.

    ``read``: stored rows (B, *shape), a tensor of ``dtype`` -> what encoders and likelihoods read. ``as_mean``: that,
    and how many characters the alphabet has -> what classifiers read. It has the form of a likelihood's mean, because
    classifiers read what decoders generate: a text is a table of probabilities.
    """

    sides: tuple[str, ...]
    likelihoods: tuple[str, ...]
    read: Callable[[Any], Any]
    as_mean: Callable[[Any, int], Any]
    dtype: str = "uint8"
    has_alphabet: bool = False
    scale: float = 0.75
    """The usual constant scale of a laplace or normal likelihood."""


def _one_hot(codes: Any, characters: int) -> Any:
    from torch.nn import functional as F

    return F.one_hot(codes, characters).float()


SCALED = ("laplace", "normal")
"""Likelihoods with a scale: a constant, or learned."""
COUNTS = ("poisson", "negative_binomial")
PROBABILITIES = ("bernoulli", "onehot")
"""Likelihoods whose means are probabilities."""
"""Likelihoods of counts: whole numbers from 0."""

KINDS: dict[str, DataKind] = {
    # (B, C, H, W): bytes in the store, numbers in [0, 1] elsewhere
    "image": DataKind(("channels", "height", "width"), ("laplace", "normal"),
                  lambda rows: rows.float().div_(255), lambda x, characters: x),
    # (B, L): positions in an alphabet; a classifier reads distributions over it, (B, L, V), as generated text is one
    "text": DataKind(("length",), ("categorical", "categorical_released"),
                 lambda rows: rows.long(), _one_hot, has_alphabet=True),
    # (B, F): numbers as they are
    "vector": DataKind(("features",), ("normal", "laplace", "bernoulli", "onehot", "poisson", "negative_binomial"),
                   lambda rows: rows.float(), lambda x, characters: x, dtype="float32", scale=1.0),
}  # fmt: skip
