"""Runs with random weights on random data, as sampling is tested on, and one on data of one's own."""

from pathlib import Path

import numpy as np
import pytest

from mmvae_cli import store
from mmvae_cli.store import text

from random_runs import DIGITS, digits_store, make_run

OWN = {
    "photo": {"network": "conv", "shape": [1, 8, 8], "width": 8},
    "note": {"network": "text8"},
    "lab": {"network": "mlp", "shape": [2], "width": 8},
}
AGE = (40.0, 12.5)
"""Mean and deviation by which the first number of lab was standardised."""


def own_store(folder: Path) -> Path:
    """A grey picture, a note, and two numbers that were standardised; no labels."""
    rng = np.random.default_rng(2)
    for split, count in (("train", 16), ("test", 9)):
        store.new_array(folder, f"{split}/photo.npy", (count, 1, 8, 8))[:] = rng.integers(0, 256, (count, 1, 8, 8))
        store.new_array(folder, f"{split}/note.npy", (count, 8))[:] = text.encode([f"n {i}" for i in range(count)], 8)
        store.new_array(folder, f"{split}/lab.npy", (count, 2), np.float32)[:] = rng.normal(size=(count, 2))
    modalities = {
        "photo": store.ModalityInfo(kind="image", shape=(1, 8, 8)),
        "note": store.ModalityInfo(kind="text", shape=(8,), alphabet=text.ALPHABET, fill=" "),
        "lab": store.ModalityInfo(kind="vector", shape=(2,), features=("age", "bmi"), means=(AGE[0], 25.0),
                                  deviations=(AGE[1], 4.0)),
    }  # fmt: skip
    splits = {"train": store.SplitInfo(count=16), "test": store.SplitInfo(count=9)}
    store.finish(folder, store.StoreInfo(name="own", modalities=modalities, splits=splits))
    return folder


def gappy_store(folder: Path) -> Path:
    """The digits, but every third test item lacks its word."""
    digits_store(folder)
    path = folder / "test/text.index.npy"
    index = np.load(path)
    index[::3] = -1
    np.save(path, index)
    store.finish(folder, store.Store(folder, verify=False).info, replace=True)
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    digits_store(folder / "digits")
    own_store(folder / "own")
    gappy_store(folder / "gappy")
    return folder


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    made = {method: make_run(folder / method, "digits", DIGITS, method) for method in ("mmvae", "mopoe")}
    made["private"] = make_run(folder / "private", "digits", DIGITS, private=2)
    made["gappy"] = make_run(folder / "gappy", "gappy", DIGITS, private=2)
    made["own"] = make_run(folder / "own", "own", OWN)
    return made
