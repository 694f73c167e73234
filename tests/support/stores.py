"""Small dataset folders for tests, written with the public store functions."""

from pathlib import Path

import numpy as np

from mmvae_cli import store
from mmvae_cli.disk import files, sealed
from mmvae_cli.store import text


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
    content = sealed.read_json(folder / "dataset.json")
    for name in content["files"]:
        array = np.load(folder / name, mmap_mode="r")
        content["files"][name] = {
            "bytes": (folder / name).stat().st_size, "sha256": files.sha256(folder / name),
            "shape": array.shape, "dtype": str(array.dtype),
        }  # fmt: skip
    sealed.write_json(folder / "dataset.json", content)


def word_store(folder: Path, shape=(3, 8, 8)) -> Path:
    """Pictures and words of one to four letters that stand elsewhere in every epoch, the words as an index."""
    for split in ("train", "test"):
        pictures = store.new_array(folder, f"{split}/m0.npy", (32, *shape))
        pictures[:] = np.random.default_rng(0).integers(0, 256, (32, *shape))
        store.new_array(folder, f"{split}/word.npy", (4, 8))[:] = text.encode(["a", "bc", "def", "ghij"], 8)
        store.new_array(folder, f"{split}/word.index.npy", (32,), np.int32)[:] = np.arange(32) % 4
        store.new_array(folder, f"{split}/labels.npy", (32,), np.int64)[:] = np.arange(32) % 4
    word = store.ModalityInfo(kind="text", shape=(8,), alphabet=text.ALPHABET, placement="random", fill=" ")
    store.finish(folder, store.StoreInfo(
        name="words", modalities={"m0": store.ModalityInfo(kind="image", shape=shape), "word": word},
        splits={split: store.SplitInfo(count=32) for split in ("train", "test")},
        labels=store.LabelInfo(kind="class", names=("a", "b", "c", "d")),
    ))  # fmt: skip
    return folder
