"""Small dataset folders for tests, written with the public store functions."""

from pathlib import Path

import numpy as np

from mmvae_cli import store
from mmvae_cli.disk import files


def image_store(
    folder: Path, views: int = 3, counts=(40, 24), shape=(3, 8, 8), classes: int = 4, seed: int = 0
) -> Path:
    """Views whose brightness and pattern follow the label, so that a tiny model can learn something."""
    rng = np.random.default_rng(seed)
    for split, count in zip(("train", "test"), counts, strict=True):
        labels = np.arange(count) % classes
        for view in range(views):
            base = (labels * (200 // classes) + 20)[:, None, None, None]
            noise = rng.integers(0, 30, (count, *shape))
            store.new_array(folder, f"{split}/m{view}.npy", (count, *shape))[:] = (base + noise).astype(np.uint8)
        store.new_array(folder, f"{split}/labels.npy", (count,), np.int64)[:] = labels
    info = store.StoreInfo(
        name="tiny", modalities={f"m{v}": store.ModalityInfo(kind="image", shape=shape) for v in range(views)},
        splits={"train": store.SplitInfo(count=counts[0]), "test": store.SplitInfo(count=counts[1])},
        labels=store.LabelInfo(kind="class", names=tuple(str(c) for c in range(classes))),
    )  # fmt: skip
    store.finish(folder, info)
    return folder


def describe_anyway(folder: Path) -> None:
    """Make dataset.json agree with the bytes, shapes and types of its files, right or wrong: what ``store.finish``
    refuses to write, another program may have written."""
    content = files.read_json(folder / "dataset.json")
    for name in content["files"]:
        array = np.load(folder / name, mmap_mode="r")
        content["files"][name] = {
            "bytes": (folder / name).stat().st_size, "sha256": files.sha256(folder / name),
            "shape": array.shape, "dtype": str(array.dtype),
        }  # fmt: skip
    files.write_json(folder / "dataset.json", content)
