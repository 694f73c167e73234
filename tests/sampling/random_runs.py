"""Datasets of random pixels and runs with random weights: what can be asked of a trained run, without training."""

from pathlib import Path

import numpy as np
import torch

from mmvae_cli import recipe as recipes
from mmvae_cli import store
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.run import checkpoint
from mmvae_cli.run.layout import Run
from mmvae_cli.store import attribute_text, text

WORDS = ("one", "two", "three", "four")


def digits_store(folder: Path) -> Path:
    """Two image modalities and a word; 4 classes, 30 test items."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 30)):
        labels = np.sort(rng.permutation(count) % 4)
        for name in ("m0", "m1"):
            store.new_array(folder, f"{split}/{name}.npy", (count, 3, 8, 8))[:] = rng.integers(0, 256, (count, 3, 8, 8))
        store.new_array(folder, f"{split}/text.npy", (4, 8))[:] = text.encode(WORDS, 8)
        store.new_array(folder, f"{split}/text.index.npy", (count,), np.int32)[:] = labels
        store.new_array(folder, f"{split}/labels.npy", (count,), np.int64)[:] = labels
    image = store.ModalityInfo(kind="image", shape=(3, 8, 8))
    word = store.ModalityInfo(kind="text", shape=(8,), alphabet=text.ALPHABET, placement="random", fill=" ")
    store.finish(folder, store.StoreInfo(
        name="digits", modalities={"m0": image, "m1": image, "text": word}, stand_in="random pixels",
        splits={"train": store.SplitInfo(count=8), "test": store.SplitInfo(count=30)},
        labels=store.LabelInfo(kind="class", names=WORDS),
    ))  # fmt: skip
    return folder


def faces_store(folder: Path) -> Path:
    """Random 64x64 images and the texts of random attributes; 12 items a split."""
    rng = np.random.default_rng(1)
    for split in ("train", "test"):
        labels = rng.integers(0, 2, (12, 40)).astype(np.uint8)
        strings = [attribute_text.render(row, f"{number}.jpg", 0) for number, row in enumerate(labels)]
        store.new_array(folder, f"{split}/image.npy", (12, 3, 64, 64))[:] = rng.integers(0, 256, (12, 3, 64, 64))
        store.new_array(folder, f"{split}/text.npy", (12, 256))[:] = text.encode(strings, 256)
        store.new_array(folder, f"{split}/labels.npy", (12, 40))[:] = labels
    store.finish(folder, store.StoreInfo(
        name="faces", splits={"train": store.SplitInfo(count=12), "test": store.SplitInfo(count=12)},
        modalities={
            "image": store.ModalityInfo(kind="image", shape=(3, 64, 64)),
            "text": store.ModalityInfo(kind="text", shape=(256,), alphabet=text.ALPHABET, fill="*"),
        },
        labels=store.LabelInfo(kind="attributes", names=attribute_text.ATTRIBUTES),
    ))  # fmt: skip
    return folder


DIGITS = {
    "m0": {"network": "conv", "shape": [3, 8, 8]},
    "m1": {"network": "conv", "shape": [3, 8, 8]},
    "text": {"network": "text8", "likelihood": "categorical"},
}
FACES = {
    "image": {"network": "face64", "width": 4},
    "text": {"network": "text256", "width": 4, "likelihood": "categorical"},
}


def make_run(folder: Path, dataset: str, modalities: dict, method: str = "mopoe", private: int = 0) -> Path:
    """A run folder with one checkpoint of random weights."""
    recipe = recipes.validate({
        "name": f"{dataset}_{method}", "dataset": {"name": dataset}, "modalities": modalities,
        "model": {"method": method, "latent_dim": 6, "private_dim": private},
        "training": {"epochs": 3, "batch_size": 8, "learning_rate": 1e-3},
    }, "test")  # fmt: skip
    run = Run(folder)
    run.prepare(recipe)
    torch.manual_seed(0)
    model = MultimodalVAE(recipe)
    with torch.no_grad():
        for encoder in model.encoders.values():
            encoder.head.bias += torch.randn(encoder.head.bias.shape)  # experts that differ
    checkpoint.save(run.checkpoint_path(4), model, torch.optim.Adam(model.parameters()), checkpoint.Position(4, 3))
    return folder
