"""MNIST with the label of a digit as a modality: the pair of JMVAE (Suzuki et al. 2016) and MVAE (Wu and Goodman
2018). Pixels keep their grey values; those papers draw black and white ones by them."""

from pathlib import Path

import numpy as np

from mmvae_cli.datasets import building, placing, sources
from mmvae_cli.datasets.sources import LABELS, SIDE
from mmvae_cli.datasets.spread import spread
from mmvae_cli.store import ModalityInfo, StoreInfo, new_array

NAME = "mnist"
MODALITIES = {
    "image": ModalityInfo(kind="image", shape=(1, SIDE, SIDE)),
    "label": ModalityInfo(kind="vector", shape=(10,), features=LABELS.names),
}


def build(
    out: Path, data_dir: Path, *, digits: str = "mnist", validation: int = 0, limit: int | None = None, seed: int = 0,
    force: bool = False,
) -> StoreInfo:  # fmt: skip
    """Build the store at ``out``: every digit, and a vector with a single 1 at its label. ``limit``: at most so many of
    each split, labels in proportion. Raises UsageProblem, DataProblem or Failure; then nothing is written."""
    with building.dataset_folder(out, force=force) as folder:
        source = sources.digits(digits, data_dir).hold_out(validation, seed)
        counts = {split: _write(folder, split, *pictures, limit) for split, pictures in source.splits.items()}
        notes = [source.stand_in, sources.held_out(validation), f"at most {limit:,} of each split" if limit else None]
        provenance = {"digits": source.provenance, "limit": limit, "validation": validation}
        return placing.finish(folder, NAME, MODALITIES, counts, LABELS, provenance, notes, seed=seed)


def _write(folder: Path, split: str, images: np.ndarray, labels: np.ndarray, limit: int | None) -> int:
    """One split's arrays, ordered by label; returns the number of items."""
    rows = np.argsort(labels, kind="stable")
    rows = rows[spread(len(rows), limit)]
    pictures = new_array(folder, f"{split}/image.npy", (len(rows), 1, SIDE, SIDE))
    building.fill(pictures, lambda some: images[some][:, None], rows)
    new_array(folder, f"{split}/label.npy", (len(rows), 10), np.float32)[:] = np.eye(10)[labels[rows]]
    new_array(folder, f"{split}/labels.npy", (len(rows),), np.int64)[:] = labels[rows]
    return len(rows)
