"""Which generated samples are compared with which real ones: named rules, some of them papers' (equations 6.6). No
torch."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from mmvae_cli.recipe.families import Subset


class Rule(NamedTuple):
    """``wanted``: whether a target's position is generated from a subset of M modalities. ``reference``: the real
    samples, the evaluated items or all training items. ``rounded``: whether images are clipped to [0, 1] and rounded to
    8 bits, as a picture in a file is."""

    wanted: Callable[[int, Subset, int], bool]
    reference: Literal["evaluated", "train"] = "evaluated"
    rounded: bool = True


def _growing(target: int, subset: Subset, count: int) -> bool:
    """The first two modalities, each from the first others, one more at a time."""
    others = [m for m in range(count) if m != target]
    return target < 2 and subset == tuple(others[: len(subset)])


RULES = {
    "default": Rule(lambda target, subset, count: target not in subset and len(subset) in (1, count - 1)),
    "all": Rule(lambda target, subset, count: target not in subset),
    "mmvaeplus": Rule(lambda target, subset, count: len(subset) == 1),
    "mvtcae": Rule(_growing, "train"),
    "multivae": Rule(lambda target, subset, count: target == 0 and target not in subset, rounded=False),
}
"""``default``: every modality from each other one and from all others. ``all``: from every subset without it.
``mmvaeplus``: every modality from every one, itself included. ``mvtcae``: the first two from growing subsets, against
training items. ``multivae``: the first one from every subset of the others, raw decoder outputs."""
