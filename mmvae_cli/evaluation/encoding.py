"""What all metrics share: the model, the data, and the experts of the evaluated items, encoded once."""

import math
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from mmvae_cli.compute import devices, ranks
from mmvae_cli.compute.ranks import ALONE, ProcessGroup
from mmvae_cli.compute.seeds import derive
from mmvae_cli.evaluation.protocol import Protocol, protocol_of
from mmvae_cli.model.distributions import Distribution, at, joined, placed
from mmvae_cli.model.mixture import Mixture
from mmvae_cli.model.vae import Encoded, MultimodalVAE
from mmvae_cli.process import console, signals
from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.recipe import MAX_SUBSETS, EvaluationSpec, Recipe
from mmvae_cli.recipe.families import Subset, powerset
from mmvae_cli.run.result import NotMeasured
from mmvae_cli.run.samplers import Latents
from mmvae_cli.store import UNLABELLED, LabelInfo, Store, batches

BLOCK = 256
"""Rows among which the block rule of mixture posteriors is applied, and the released code's batch (equations 6)."""
LIKELIHOOD_BLOCK = 64
_LATENTS_AT_ONCE = 1024
"""How many latents are decoded together on a CPU: the fastest number."""
_MOST_AT_ONCE, _LARGEST_LAYERS = 1 << 13, 4
"""On a GPU: the number from which on more together is no faster; and how many outputs of the largest layer are held
at the same time, in half of the memory that is left."""
NOBODY_HAS_ALL = NotMeasured("no item has all of it")
Thing = TypeVar("Thing")
T = TypeVar("T")


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: a trained model in eval mode, a dataset, a protocol, and the processes that share the work. What
    is drawn at random is a function of the seed and the block, so that it does not matter which of them draws it."""

    model: MultimodalVAE
    recipe: Recipe
    store: Store
    device: torch.device
    group: ProcessGroup = ALONE
    mixtures: dict[str, Mixture] = field(default_factory=dict)

    @property
    def latents(self) -> Latents:
        """Latents that come from no item."""
        return Latents(self.model, self.device, self.mixtures)

    @property
    def undrawn(self) -> NotMeasured | None:
        """Why no z can be drawn where nothing is given, if so."""
        why = self.recipe.has_no_likelihood if self.protocol.sampler == "prior" else ""
        return NotMeasured(f"{why}; a fitted mixture can be drawn from: --sampler gmm") if why else None

    @property
    def spec(self) -> EvaluationSpec:
        return self.recipe.evaluation

    @cached_property
    def protocol(self) -> Protocol:
        return protocol_of(self.spec)

    @property
    def labels(self) -> LabelInfo:
        return self.store.info.labels or UNLABELLED

    @cached_property
    def subsets(self) -> list[Subset]:
        """The non-empty subsets of the modalities, by size, the full set last: all of them, or as many of each size as
        ``subsets_per_size`` says, drawn by the evaluation's seed. Raises UsageProblem where all are too many."""
        everyone, most = len(self.model.names), self.spec.subsets_per_size
        if most is not None:
            return sampled_subsets(everyone, most, self.seed("subsets"))
        if 2**everyone - 1 > MAX_SUBSETS:
            raise UsageProblem(
                f"{everyone} modalities have {2**everyone - 1:,} subsets, too many to measure one by one",
                "measure some of each size: --subsets-per-size 10",
            )
        return powerset(range(everyone))

    @property
    def singles_and_all(self) -> list[Subset]:
        """Every single modality, and all of them together."""
        everyone = tuple(range(len(self.model.names)))
        return list(dict.fromkeys([*((m,) for m in everyone), everyone]))

    @cached_property
    def latents_at_once(self) -> int:
        """How many latents are decoded together."""
        if self.device.type == "cpu":
            return _LATENTS_AT_ONCE
        each = 4 * _LARGEST_LAYERS * self.model.largest_output()
        return max(1, min(_MOST_AT_ONCE, int(devices.memory_left(self.device) / 2 / each)))

    def subsets_at_once(self, count: int) -> int:
        """How many subsets of ``count`` rows are decoded together; in train mode batch norm and dropout of classifiers
        see one at a time, as in the released code."""
        return 1 if self.protocol.classifier_mode == "train" else max(1, self.latents_at_once // count)

    def posteriors(self, experts: "Experts", subsets: list[Subset]) -> Distribution:
        """q(z | X_A) for every subset A: (S, N, D), mixtures by the protocol's block rule."""
        return self.model.posteriors(experts.shared, subsets, spread=self.protocol.mixture_remainder == "spread")

    def measured(self, experts: "Experts", size: int = BLOCK) -> "Experts":
        """All rows, or those of complete blocks where the protocol drops incomplete ones; a single short block
        stays."""
        count = len(experts.items)
        dropped = self.protocol.incomplete_batches == "dropped" and count > size
        return experts.block(slice(0, count - count % size)) if dropped else experts

    def blocks(self, experts: "Experts", size: int = BLOCK) -> list["Experts"]:
        """Consecutive blocks of the rows that the protocol measures."""
        return list(self.measured(experts, size).blocks(size))

    def rows_having(self, experts: "Experts") -> dict[str, int]:
        """How many items have all of each subset; empty for complete data."""
        subsets = self.subsets if experts.present is not None else []
        return {self.name_of(subset): int(experts.has(subset).sum()) for subset in subsets}

    def labels_having(self, experts: "Experts") -> dict[str, Tensor]:
        """The labels of the items that have all of each subset, where any have; empty for complete data."""
        subsets = self.subsets if experts.present is not None else []
        found = {self.name_of(subset): experts.labels[experts.has(subset)] for subset in subsets}
        return {name: labels for name, labels in found.items() if len(labels)}

    def name_of(self, subset: Subset) -> str:
        return "+".join(self.model.names[m] for m in subset)

    def seed(self, purpose: str) -> int:
        return derive(self.spec.seed, "evaluation", purpose)

    def each(
        self, things: Iterable[Thing], work: Callable[[int, Thing], T], title: str = "", unit: str = "blocks"
    ) -> list[T]:
        """What ``work`` makes of the number of each thing and of the thing, in their order. The processes divide the
        things, and all have the same list in the end. With a ``title`` progress is shown."""
        mine, own = self.group.share(list(enumerate(things))), dict[int, T]()
        with console.progress(title, len(mine), unit) if title else nullcontext() as shown:
            for number, thing in mine:
                signals.leave_if_requested("no evaluation was written")
                own[number] = work(number, thing)
                if shown:
                    shown.advance()
        values = {number: value for part in ranks.gather(self.group, own) for number, value in part.items()}
        return [values[number] for number in sorted(values)]


def sampled_subsets(modalities: int, most: int, seed: int) -> list[Subset]:
    """At most ``most`` subsets of each size, ordered as the power set is; small sizes do not need it written out."""
    chosen: list[Subset] = []
    for size in range(1, modalities + 1):
        draw = random.Random(seed + size)
        wanted, drawn = min(most, math.comb(modalities, size)), set[Subset]()
        while len(drawn) < wanted:
            drawn.add(tuple(sorted(draw.sample(range(modalities), size))))
        chosen += sorted(drawn)
    return chosen


class Experts(NamedTuple):
    """Encoded items: shared (M, N, D), private (M, N, P) or None, labels (N,) or (N, A), and the items (N,).

    ``present`` bool (N, M): which modalities each item has, None where every item has all; experts of others are zeros,
    for nobody to read."""

    shared: Distribution
    private: Distribution | None
    labels: Tensor
    items: Tensor
    present: Tensor | None = None

    def block(self, rows: slice | Tensor) -> "Experts":
        """Some of the items, by a slice or bool (N,)."""
        every, has = slice(None), self.present
        private = self.private and at(self.private, (every, rows))
        return Experts(at(self.shared, (every, rows)), private, self.labels[rows], self.items[rows],
                       None if has is None else has[rows])  # fmt: skip

    def blocks(self, size: int) -> Iterator["Experts"]:
        """Consecutive items, ``size`` at a time."""
        for start in range(0, len(self.items), size):
            yield self.block(slice(start, start + size))

    def has(self, subset: Subset) -> Tensor:
        """bool (N,): whether an item has all of the subset."""
        if self.present is None:
            return torch.ones_like(self.items, dtype=torch.bool)
        return self.present[:, list(subset)].all(1)

    def having(self, subset: Subset) -> "Experts":
        """The items that have all of the subset."""
        return self if self.present is None else self.block(self.has(subset))


class ShuffledSplit(batches.Split):
    """A split in the evaluation's own shuffled order, so that the block rule of mixtures sees mixed labels."""

    def __init__(self, evaluation: Evaluation, split: str, purpose: str, limit: int | None = None) -> None:
        self.model = evaluation.model
        super().__init__(evaluation.store, split, self.model.names, evaluation.device, evaluation.spec.seed)
        generator = torch.Generator().manual_seed(evaluation.seed(f"order of {purpose}"))
        able = self.having(all_of_them=False)
        self.order = able[torch.randperm(len(able), generator=generator)][:limit]
        self.labels = torch.from_numpy(evaluation.store.labels(split).astype("int64"))

    @torch.no_grad()
    def encode(self, items: Tensor) -> Experts:
        """Every modality of ``items`` through its encoder, once."""
        shared, private, has = [], [], self.present
        for part in items.split(1024):
            signals.leave_if_requested("no evaluation was written")
            encoded = self.model.encode(self.batch(part)) if has is None else self._encode_rows(part)
            shared.append(encoded.shared)
            private.append(encoded.private)
        own = None if private[0] is None else joined([p for p in private if p is not None], 1)
        present = None if has is None else torch.from_numpy(has[items.numpy()])
        return Experts(joined(shared, 1), own, self.labels[items].to(self.device), items, present)

    def _encode_rows(self, items: Tensor) -> Encoded:
        """Rows that differ in what they have: zeros stand for what is not there."""
        order, patterns = self.by_pattern(items)
        encoded = self.model.encode_patterns(self.batch(items[order]), patterns)
        back, everyone = order.argsort().to(self.device), range(len(self.model.names))
        shared, private = (
            None if parts[0] is None
            else at(joined([placed(q, one.present, len(everyone)) for q, one in zip(parts, encoded, strict=True)], 1),
                    (slice(None), back))
            for parts in zip(*((one.shared, one.private) for one in encoded), strict=True)
        )  # fmt: skip
        return Encoded(tuple(everyone), shared, private)
