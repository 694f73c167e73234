"""Which generated samples quality compares (equations 6.6), and their features: taken while coherence classifies them,
so that nothing is decoded twice."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from mmvae_cli.evaluation import generation
from mmvae_cli.evaluation.encoding import BLOCK, Evaluation, Experts
from mmvae_cli.evaluation.features import Features
from mmvae_cli.evaluation.generation import NO_ITEM, Samples
from mmvae_cli.recipe.families import Subset
from mmvae_cli.run.result import NotMeasured

ITEMS = 10_000
"""How many evaluated items are looked at, at most."""
_Block = dict[tuple[int, int], Tensor]
"""(target's position, position of the subset or NO_ITEM) -> features (b, F)."""


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


class Seen:
    """The features of generated samples, block by block. Coherence passes what it generates through ``of_items`` and
    ``of_none``; ``features`` generates what was not passed.

    ``items``: the first ITEMS of the evaluated ones that have all modalities; ``usable``: the features of every
    modality that has some, by its position; ``pairs``: the (target, subset) that are looked at."""

    def __init__(self, evaluation: Evaluation, test: Experts, features: dict[str, Features | NotMeasured]) -> None:
        self.evaluation, self.rule, self.of_name = evaluation, RULES[evaluation.spec.pairs], features
        names, subsets = evaluation.model.names, evaluation.subsets
        self.usable = {m: own for m, name in enumerate(names) if isinstance(own := features[name], Features)}
        self.pairs = {(m, s) for m in self.usable for s, subset in enumerate(subsets)
                      if self.rule.wanted(m, subset, len(names))}  # fmt: skip
        self._test = evaluation.measured(test)
        has = self._test.has(tuple(range(len(names))))
        place = has.cumsum(0)
        self.items = evaluation.measured(self._test.block(has & (place <= ITEMS)))
        self._rows = (has & (place <= len(self.items.items))).split(BLOCK)
        self._given: dict[int, _Block] = {}
        self._free: dict[int, _Block] = {}

    def of_items(self, number: int, samples: Iterable[Samples]) -> Iterator[Samples]:
        """Hand through what is generated from block ``number`` of the evaluated items."""
        if not self._rows[number].any():
            return iter(samples)
        return self._handed(self._given.setdefault(number, {}), self._rows[number], samples)

    def of_none(self, number: int, samples: Iterable[Samples]) -> Iterator[Samples]:
        """Hand through what is generated from block ``number`` of the z that come from no item."""
        return self._handed(self._free.setdefault(number, {}), slice(None), samples)

    def _handed(self, block: _Block, rows: Tensor | slice, samples: Iterable[Samples]) -> Iterator[Samples]:
        for m, positions, means in samples:
            for s, mean in zip(positions, means, strict=True):
                if (m, s) in self.pairs or (s == NO_ITEM and m in self.usable):
                    block[m, s] = self.usable[m](self.form(m, mean[rows]))
            yield m, positions, means

    def form(self, m: int, x: Tensor) -> Tensor:
        """Generated or real samples of a modality as their features are taken of them."""
        image = self.evaluation.store.info.modalities[self.evaluation.model.names[m]].kind == "image"
        return (x.clamp(0, 1) * 255).round() / 255 if image and self.rule.rounded else x

    def features(self) -> _Block:
        """The features (n, F) of all blocks, those of other processes among them."""

        def given(number: int, part: Experts) -> _Block:
            if number not in self._given and self._rows[number].any():
                deque(
                    self.of_items(number, generation.conditional(self.evaluation, number, part, self.pairs)), maxlen=0
                )
            return self._given.get(number, {})

        def free(number: int, count: int) -> _Block:
            if number not in self._free:
                deque(self.of_none(number, generation.joint(self.evaluation, number, count)), maxlen=0)
            return self._free[number]

        of_items = self.evaluation.each(self.evaluation.blocks(self._test), given, "generated samples")
        of_none = self.evaluation.each(generation.joint_sizes(self.evaluation), free, "samples of no item")
        return joined(of_items) | joined(of_none)


def joined(parts: list[dict[Any, Tensor]]) -> dict[Any, Tensor]:
    """Blocks of features one after the other, by key; a block may have none."""
    parts = [part for part in parts if part]
    return {key: torch.cat([part[key] for part in parts]) for key in (parts[0] if parts else ())}
