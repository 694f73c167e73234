"""make-dataset mnist: a digit, and its label as a vector."""

from pathlib import Path

import numpy as np

from mmvae_cli import recipe as recipes
from mmvae_cli.datasets import mnist
from mmvae_cli.store import Store
from mmvae_cli.store.fitting import check_store


def test_every_digit_stands_beside_a_vector_with_a_single_one_at_its_label(tmp_path):
    mnist.build(tmp_path / "mnist", Path("nowhere"), digits="embedded", limit=200)
    store = Store(tmp_path / "mnist")
    labels, vectors = store.labels("train"), store.array("train", "label")[:]
    assert store.array("train", "image")[:].shape == (200, 1, 28, 28)
    assert np.array_equal(vectors.argmax(1), labels)
    assert (np.sort(vectors, 1) == np.array([0] * 9 + [1])).all()
    assert np.bincount(labels).min() >= 18, "labels in proportion"
    assert "at most 200 of each split" in store.info.stand_in
    check_store(store, recipes.load("mnist_label"))


def test_held_out_digits_are_a_split_of_their_own(tmp_path):
    mnist.build(tmp_path / "mnist", Path("nowhere"), digits="embedded", validation=100)
    assert {name: split.count for name, split in Store(tmp_path / "mnist").info.splits.items()} == {
        "train": 1342, "test": 355, "validation": 100}  # fmt: skip
