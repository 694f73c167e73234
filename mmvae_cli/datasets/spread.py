"""Parts of a dataset that keep its proportions: ``--limit``, held-out items."""

import numpy as np


def spread(count: int, limit: int | None) -> np.ndarray:
    """At most ``limit`` of ``count`` positions, evenly spread: tuples ordered by label keep their proportions."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.arange(limit) * count // limit


def ranks(labels: np.ndarray) -> np.ndarray:
    """How many items of the same label come before each one. (N,) -> int64 (N,)."""
    counted = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        counted[places] = np.arange(len(places))
    return counted
