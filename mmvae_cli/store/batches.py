"""From a store to batches: uint8 on the device (or in host memory where it does not fit), items by index."""

import numpy as np
import torch
from torch import Tensor

from mmvae_cli.compute import devices
from mmvae_cli.compute.seeds import derive
from mmvae_cli.recipe.kinds import KINDS
from mmvae_cli.store import ModalityInfo, Store, text
from mmvae_cli.store.presence import Pattern, Presence, by_pattern
from mmvae_cli.store.rows import Rows, parts

DEVICE_SHARE = 0.6
"""Data stay in host memory when they would take more than this share of the device's free memory."""


class Split:
    """One split of a store, which gives batches of the wanted modalities on ``device``.

    ``data_device``: where the data lie. Keep item numbers there, too: a batch of numbers fetched from a GPU makes the
    host wait. ``seed``: says, with the epoch, where randomly placed words stand.

    ``present`` bool (items, M): which of the modalities each item has; None where every item has all. ``used`` (n,):
    the items that are trained on, None for all; a ``presence`` other than the store's own says both."""

    def __init__(
        self, store: Store, split: str, names: list[str], device: torch.device, seed: int, data_on: str = "auto",
        presence: Presence | None = None,
    ) -> None:  # fmt: skip
        self.count, self.device, self._seed = store.count(split), device, seed
        self.info: dict[str, ModalityInfo] = {name: store.info.modalities[name] for name in names}
        arrays = {name: store.array(split, name) for name in names}
        size = sum(array.nbytes for array in arrays.values())
        self.on_device = (
            device.type == "cpu"
            or data_on == "device"
            or (data_on == "auto" and size < DEVICE_SHARE * devices.memory_left(device))
        )
        data_device = self.data_device = device if self.on_device else torch.device("cpu")
        self._rows = {name: _rows(array, data_device) for name, array in arrays.items()}
        indices = {name: store.index(split, name) for name in names}
        self._index = {name: torch.from_numpy(i.astype(np.int64)).to(data_device) for name, i in indices.items()
                       if i is not None}  # fmt: skip
        self._lengths = {name: _word_lengths(arrays[name], info, data_device) for name, info in self.info.items()
                         if info.placement == "random"}  # fmt: skip
        self.present = store.present(split, names) if presence is None else presence.needed
        self.used = None if presence is None else torch.from_numpy(presence.items).to(data_device)
        self._starts = {name: torch.zeros(self.count, dtype=torch.int64, device=data_device) for name in self._lengths}
        self.begin(text.FIXED_EPOCH)

    def begin(self, epoch: int) -> None:
        """Set where the words of all items stand in ``epoch``: a function of (seed, epoch, item). Before the first call
        they stand as in evaluation. The starts are written into the same tensors, so that a batch only looks them
        up."""
        for name, starts in self._starts.items():
            items = torch.arange(self.count, device=self.data_device)
            rows = self._index.get(name, items).clamp(min=0)  # where an item has none, its start is never asked for
            lengths = self._lengths[name][rows] if len(self._lengths[name]) else torch.zeros_like(items)
            draws = text.uniforms(derive(self._seed, "text", name), epoch, items)
            starts.copy_(text.starts(lengths, self.info[name].shape[0], draws))

    def batch(self, items: Tensor) -> dict[str, Tensor]:
        """The ``items`` (B,) int64 as images (B, C, H, W) in [0, 1], text codes (B, L) int64, vectors (B, F). Of a
        modality those that have it, in their order; one that none of them has is left out."""
        if self.present is None:
            items = items.to(self.data_device)
            return {name: self._modality(name, items) for name in self.info}
        has = torch.from_numpy(self.present[items.cpu().numpy()])
        theirs = {name: items[has[:, m].to(items.device)].to(self.data_device) for m, name in enumerate(self.info)}
        return {name: self._modality(name, own) for name, own in theirs.items() if len(own)}

    def by_pattern(self, items: Tensor) -> tuple[Tensor, list[Pattern]]:
        """Of ``items`` (B,) of incomplete data: the order (B,) in which rows of one pattern stand together, and the
        patterns."""
        assert self.present is not None
        order, patterns = by_pattern(self.present[items.cpu().numpy()])
        return torch.from_numpy(order).to(items.device), patterns

    def having(self, *, all_of_them: bool) -> Tensor:
        """int64 (n,): the items that have all, or any, of the modalities."""
        if self.present is None:
            return torch.arange(self.count)
        return torch.from_numpy(np.flatnonzero(self.present.all(1) if all_of_them else self.present.any(1)))

    def _modality(self, name: str, items: Tensor) -> Tensor:
        rows = self._index[name][items] if name in self._index else items
        source = self._rows[name]
        data = source[rows] if isinstance(source, Tensor) else torch.from_numpy(source[rows.numpy()])
        if name in self._lengths:
            data = text.move_words(data, self._starts[name][items])
        data = data.to(self.device, non_blocking=True)
        return KINDS[self.info[name].kind].read(data)


def _rows(array: np.ndarray | Rows, device: torch.device) -> Tensor | Rows:
    """The array on ``device``. On the CPU a large one stays on the disk: data may be larger than the memory."""
    return array if isinstance(array, Rows) and device.type == "cpu" else torch.from_numpy(array[:]).to(device)


def _word_lengths(array: np.ndarray | Rows, info: ModalityInfo, device: torch.device) -> Tensor:
    fill, alphabet = info.fill or " ", info.alphabet or text.ALPHABET
    lengths = [text.word_lengths(part, fill=fill, alphabet=alphabet) for part in parts(array)]
    return torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *lengths])).to(device)


def permutation(count: int, seed: int, epoch: int, device: torch.device) -> Tensor:
    """The order (count,) of the items in an epoch: a function of (seed, epoch), so resuming needs no sampler state."""
    generator = torch.Generator().manual_seed(derive(seed, "order", epoch))
    return torch.randperm(count, generator=generator).to(device)
