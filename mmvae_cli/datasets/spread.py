"""``--limit``: a part of a dataset that keeps its proportions."""

import numpy as np


def spread(count: int, limit: int | None) -> np.ndarray:
    """At most ``limit`` of ``count`` positions, evenly spread: tuples ordered by label keep their proportions."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.arange(limit) * count // limit
