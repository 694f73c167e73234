"""A CelebA that tests can afford: the real networks at width 2, and a small dataset whose pictures show the labels."""

from pathlib import Path
from typing import Any

import numpy as np

from mmvae_cli import recipe as recipes
from mmvae_cli import store
from mmvae_cli.disk import plain_yaml
from mmvae_cli.recipe import Recipe
from mmvae_cli.store import text

LABELS = ("bright", "red", "never")


def faces(**changes: Any) -> Recipe:
    """celeba_mopoe at width 2 with latents of 3 + 4; ``changes`` are dotted keys with ``__`` for the dots."""
    small = {
        "dataset.name": "faces", "modalities.image.width": 2, "modalities.text.width": 2,
        "model.latent_dim": 3, "model.private_dim": 4, "training.epochs": 2, "training.batch_size": 8,
        "training.checkpoint_every": 1, "training.log_every": 1, "evaluation.latent_samples": 24,
        "evaluation.importance_samples": 2, "evaluation.classifier_width": 2,
    } | {key.replace("__", "."): value for key, value in changes.items()}  # fmt: skip
    content = plain_yaml.parse(recipes.shipped()["celeba_mopoe"].read_text(), "celeba_mopoe")
    for key, value in small.items():
        *parts, last = key.split(".")
        place = content
        for part in parts:
            place = place[part]
        place[last] = value
    return recipes.validate(content, "faces")


def face_store(folder: Path, train: int = 32, other: int = 12) -> Path:
    """Pictures and texts of two attributes, and a third that nobody has."""
    rng = np.random.default_rng(1)
    for split, count in (("train", train), ("validation", other), ("test", other)):
        labels = np.zeros((count, 3), np.uint8)
        labels[:, :2] = rng.integers(0, 2, (count, 2))
        labels[:2, :2] = [[1, 0], [0, 1]]  # both kinds of both attributes everywhere
        pictures = rng.integers(0, 60, (count, 3, 64, 64)) + 120 * labels[:, 0, None, None, None]
        pictures[:, 0] += 70 * labels[:, 1, None, None]
        words = [", ".join(name for name, has in zip(LABELS, row, strict=True) if has) for row in labels]
        store.new_array(folder, f"{split}/image.npy", (count, 3, 64, 64))[:] = pictures
        store.new_array(folder, f"{split}/text.npy", (count, 256))[:] = text.encode(
            [word.ljust(256, "*") for word in words], 256
        )
        store.new_array(folder, f"{split}/labels.npy", (count, 3))[:] = labels
    info = store.StoreInfo(
        name="faces", labels=store.LabelInfo(kind="attributes", names=LABELS),
        modalities={"image": store.ModalityInfo(kind="image", shape=(3, 64, 64)),
                    "text": store.ModalityInfo(kind="text", shape=(256,), alphabet=text.ALPHABET, fill="*")},
        splits={s: store.SplitInfo(count=n) for s, n in (("train", train), ("validation", other), ("test", other))},
    )  # fmt: skip
    store.finish(folder, info)
    return folder
