"""Digits that are turned, made smaller and put anywhere: the harder PolyMNIST (equations 7.1)."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from mmvae_cli.datasets.sources import SIDE

Mover = Callable[[np.ndarray, int], np.ndarray]


def mover(scale: float, degrees: float, count: int, rng: np.random.Generator) -> Mover:
    """A function of a digit (28, 28) and its number below ``count``: turned by an angle uniform in [-degrees, degrees],
    resized to ``scale`` of its side and put on black at a place uniform among all that hold it whole."""
    side = max(1, round(scale * SIDE))
    angles = rng.uniform(-degrees, degrees, count)
    places = rng.integers(0, SIDE - side + 1, (count, 2))

    def moved(digit: np.ndarray, number: int) -> np.ndarray:
        picture = Image.fromarray(digit)
        if degrees:
            picture = picture.rotate(angles[number], Image.Resampling.BILINEAR)
        if side == SIDE:
            return np.asarray(picture)
        field = np.zeros((SIDE, SIDE), np.uint8)
        top, left = places[number]
        small = picture.resize((side, side), Image.Resampling.BILINEAR)
        field[top : top + side, left : left + side] = np.asarray(small)
        return field

    return moved
