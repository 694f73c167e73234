"""Test images that are training images too are counted, said, and written into the dataset's own description."""

import shutil

import numpy as np
import pytest
from PIL import Image
from test_sources import idx, write_idx
from test_svhn import write_mat

from mmvae_cli.datasets import repeats
from mmvae_cli.datasets.celeba import build as celeba
from mmvae_cli.datasets.idx import NAMES
from mmvae_cli.datasets.mnist_svhn_text import build as mnist_svhn_text
from mmvae_cli.datasets.polymnist import build as polymnist
from mmvae_cli.store import Store

import celeba_source


def test_rows_are_counted_by_content():
    train = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    test = np.stack([train[2], train[2] + 1, train[0], train[2]])
    assert repeats.count(train, test) == 3
    assert repeats.count(train, test.swapaxes(1, 2)) == 0


@pytest.fixture
def same_twice(tmp_path):
    """The training digits under the names of the test digits."""
    folder = write_idx(tmp_path / "digits", train=40)
    for part in (0, 1):
        shutil.copy(folder / NAMES[part], folder / NAMES[2 + part])
    return folder


def test_the_same_digits_twice_make_a_polymnist_that_says_so(same_twice, tmp_path, capsys):
    options = polymnist.PolymnistOptions(digits=str(same_twice), views=2)
    polymnist.build(options, tmp_path / "out", tmp_path)
    said = "40 of 40 test digits are training images too"
    assert f"warning: {said}" in capsys.readouterr().err
    assert said in Store(tmp_path / "out").info.stand_in


def test_digits_that_differ_are_not_spoken_of(tmp_path, capsys):
    folder = write_idx(tmp_path / "digits")
    polymnist.build(polymnist.PolymnistOptions(digits=str(folder), views=2), tmp_path / "out", tmp_path)
    assert "too" not in capsys.readouterr().err
    assert "too" not in Store(tmp_path / "out").info.stand_in


def test_a_handful_of_twins_is_a_note_and_no_stand_in(tmp_path, capsys):
    folder = write_idx(tmp_path / "digits", train=200, test=100)
    images = np.random.default_rng(9).integers(0, 256, (100, 28, 28))
    train = np.frombuffer((folder / NAMES[0]).read_bytes()[16:], np.uint8).reshape(200, 28, 28)
    images[7] = train[150]
    (folder / NAMES[2]).write_bytes(idx(images))
    polymnist.build(polymnist.PolymnistOptions(digits=str(folder), views=1), tmp_path / "out", tmp_path)
    said = capsys.readouterr().err
    assert "note: 1 of 100 test digits are training images too" in said
    assert "warning" not in said
    assert "too" not in Store(tmp_path / "out").info.stand_in


@pytest.mark.parametrize(
    ("twice", "counts"), [("mnist", "30 of 60"), ("svhn", "20 of 40"), ("mnist, svhn", "60 of 60")]
)
def test_the_same_sources_twice_make_an_mnist_svhn_text_that_says_so(tmp_path, twice, counts, capsys):
    digits = write_idx(tmp_path / "digits", train=30, test=20)
    write_mat(tmp_path / "train_32x32.mat", 30)
    write_mat(tmp_path / "test_32x32.mat", 31, labels=np.arange(31) % 10 + 1)
    if "mnist" in twice:
        for part in (0, 1):
            shutil.copy(digits / NAMES[part], digits / NAMES[2 + part])
    if "svhn" in twice:
        shutil.copy(tmp_path / "train_32x32.mat", tmp_path / "test_32x32.mat")
    mnist_svhn_text.build(tmp_path / "out", tmp_path, digits=str(digits), svhn_source=str(tmp_path), multiplier=1)
    said = f"{counts} test images are training images too ({twice})"
    assert f"warning: {said}: what is measured" in capsys.readouterr().err
    assert said in Store(tmp_path / "out").info.stand_in


def test_imported_pictures_that_are_in_both_splits_are_counted(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for view in ("m0", "m1"):
            folder = tmp_path / "PolyMNIST" / split / view
            folder.mkdir(parents=True)
            for label in range(10):
                if split == "test" and view == "m1" and label < 4:
                    shutil.copy(tmp_path / "PolyMNIST" / "train" / "m1" / f"0.{label}.png", folder)
                else:
                    Image.fromarray(rng.integers(0, 256, (28, 28, 3), np.uint8)).save(folder / f"0.{label}.png")
    polymnist.import_from(tmp_path, tmp_path / "out")
    assert "4 of 20 test images are training images too (m1)" in capsys.readouterr().err
    assert "4 of 20 test images are training images too (m1)" in Store(tmp_path / "out").info.stand_in


def test_faces_are_counted_in_every_split(tmp_path):
    source = celeba_source.write(tmp_path / "source")
    shutil.copy(source / "img_align_celeba" / "000001.jpg", source / "img_align_celeba" / "000015.jpg")  # validation
    celeba.build(tmp_path / "out", tmp_path, source=str(source))
    assert "1 of 3 validation images are training images too (image)" in Store(tmp_path / "out").info.stand_in
