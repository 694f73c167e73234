"""What all metrics share: the model, the data, and the experts of the evaluated items, encoded once."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mmvae_cli import batches, signals
from mmvae_cli.model import fusion
from mmvae_cli.model.fusion import Gaussian, Subset
from mmvae_cli.model.vae import Batch, MultimodalVAE
from mmvae_cli.recipe import EvaluationSpec, Recipe
from mmvae_cli.runtime import derive
from mmvae_cli.store import LabelInfo, Store

BLOCK = 256
"""Rows among which the block rule of mixture posteriors is applied, and the released code's batch (facts 4)."""
LIKELIHOOD_BLOCK = 64


@dataclass(frozen=True)
class Setting:
    """One evaluation: a trained model in eval mode, a dataset, a protocol."""

    model: MultimodalVAE
    recipe: Recipe
    store: Store
    device: torch.device

    @property
    def spec(self) -> EvaluationSpec:
        return self.recipe.evaluation

    @property
    def released(self) -> bool:
        return self.spec.protocol == "released"

    @property
    def labels(self) -> LabelInfo:
        return self.store.info.labels

    @property
    def subsets(self) -> list[Subset]:
        """Every non-empty subset of the modalities, by size; the full set last."""
        return fusion.powerset(len(self.model.names))

    def name_of(self, subset: Subset) -> str:
        return "+".join(self.model.names[m] for m in subset)

    def seed(self, purpose: str) -> int:
        return derive(self.spec.seed, "evaluation", purpose)


class Experts(NamedTuple):
    """Encoded items: shared (M, N, D), private (M, N, P) or None, labels (N,) or (N, A), and the items (N,)."""

    shared: Gaussian
    private: Gaussian | None
    labels: Tensor
    items: Tensor

    def block(self, rows: slice) -> "Experts":
        private = self.private and Gaussian(self.private.mean[:, rows], self.private.logvar[:, rows])
        shared = Gaussian(self.shared.mean[:, rows], self.shared.logvar[:, rows])
        return Experts(shared, private, self.labels[rows], self.items[rows])


class Data:
    """A split in the evaluation's own shuffled order, so that the block rule of mixtures sees mixed labels."""

    def __init__(self, setting: Setting, split: str, purpose: str, limit: int | None = None) -> None:
        self.setting = setting
        self.split = batches.Split(setting.store, split, setting.model.names, setting.device)
        generator = torch.Generator().manual_seed(setting.seed(f"order of {purpose}"))
        self.order = torch.randperm(self.split.count, generator=generator)[:limit]
        self.labels = torch.from_numpy(setting.store.labels(split).astype("int64"))

    def batch(self, items: Tensor) -> Batch:
        return self.split.batch(items, seed=self.setting.spec.seed)

    @torch.no_grad()
    def encode(self, items: Tensor) -> Experts:
        """Every modality of ``items`` through its encoder, once."""
        shared, private = [], []
        for part in items.split(1024):
            signals.leave_if_requested("no evaluation was written")
            encoded = self.setting.model.encode(self.batch(part))
            shared.append(encoded.shared)
            private.append(encoded.private)
        own = None if private[0] is None else _concatenated([p for p in private if p is not None])
        return Experts(_concatenated(shared), own, self.labels[items].to(self.setting.device), items)


def _concatenated(parts: list[Gaussian]) -> Gaussian:
    return Gaussian(torch.cat([p.mean for p in parts], 1), torch.cat([p.logvar for p in parts], 1))


def blocks(experts: Experts, size: int, *, drop_last: bool) -> Iterator[Experts]:
    """Consecutive blocks of rows; the released code drops a last short one."""
    for start in range(0, len(experts.items), size):
        if start + size <= len(experts.items) or not drop_last or start == 0:
            yield experts.block(slice(start, start + size))
