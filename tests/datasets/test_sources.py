import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from mmvae_cli.datasets import sources
from mmvae_cli.errors import DataProblem

NAMES = sources._IDX_NAMES


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, *, train: int = 40, test: int = 20, seed: int = 0, packed: bool = False) -> Path:
    """A folder of four IDX files; pixel (0, 0) and (0, 1) of an image hold its label and its number."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for (images_name, labels_name), count in zip((NAMES[:2], NAMES[2:]), (train, test), strict=True):
        images, labels = rng.integers(0, 256, (count, 28, 28)), np.arange(count) % 10
        images[:, 0, 0], images[:, 0, 1] = labels, np.arange(count)
        for name, array in ((images_name, images), (labels_name, labels)):
            content = idx(array)
            path = folder / (name + ".gz" if packed else name)
            path.write_bytes(gzip.compress(content) if packed else content)
    return folder


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", ["MNIST/raw", "MNIST", "."])
def test_mnist_is_found_under_the_data_dir(tmp_path, place, packed):
    write_idx(tmp_path / place, packed=packed)
    found = sources.digits("mnist", tmp_path)
    assert found.train_images.shape == (40, 28, 28)
    assert found.train_images.dtype == np.uint8
    assert found.test_labels.dtype == np.int64
    assert (found.train_images[:, 0, 0] == found.train_labels).all()
    assert (found.test_images[:, 0, 1] == np.arange(20)).all()


def test_digits_of_a_folder_say_that_they_are_not_mnist(tmp_path):
    found = sources.digits(str(write_idx(tmp_path / "kmnist")), Path("nowhere"))
    assert found.stand_in == "digits of the folder kmnist, not MNIST"
    assert set(found.provenance["sha256"]) == set(NAMES)


def test_the_other_usual_file_names(tmp_path):
    write_idx(tmp_path)
    for name in NAMES:
        (tmp_path / name).rename(tmp_path / name.replace("-idx", ".idx"))
    assert len(sources.digits(str(tmp_path), Path()).test_images) == 20


def damage(tmp_path: Path, name: str, change) -> str:
    path = write_idx(tmp_path) / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataProblem) as problem:
        sources.digits(str(tmp_path), Path())
    assert name in str(problem.value)
    return str(problem.value)


@pytest.mark.parametrize("name", NAMES)
def test_truncated_files_are_named(tmp_path, name):
    assert "is truncated" in damage(tmp_path, name, lambda content: content[:-3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c[:6], "is truncated"),
        (lambda c: b"", "is no IDX file"),
        (lambda c: b"<!DOCTYPE html><html>", "is no IDX file"),
        (lambda c: b"\0\0\x0d\x03" + c[4:], "is no IDX file"),
        (lambda c: c + b"x", "goes on after"),
        (lambda c: b"\0\0\x08\x03" + b"\xff" * 12, "its header says"),
        (lambda c: b"\0\0\x08\x03" + b"\0" * 12, "its header says"),
        (lambda c: b"\0\0\x08\x03" + struct.pack(">3I", 40, 32, 32) + bytes(40 * 32 * 32), "it holds 32x32"),
    ],
)
def test_damaged_images(tmp_path, change, message):
    assert message in damage(tmp_path, NAMES[0], change)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(40) % 11, "outside 0..9"),
        (np.zeros(39), "39 labels for the 40 images"),
        (np.zeros((40, 1)), "labels"),
    ],
)
def test_damaged_labels(tmp_path, labels, message):
    assert message in damage(tmp_path, NAMES[1], lambda _: idx(labels))


@pytest.mark.parametrize("change", [lambda c: c[:-10], lambda c: b"\x1f\x8b" + c[5:], lambda c: b"plain"])
def test_damaged_packed_files(tmp_path, change):
    path = write_idx(tmp_path, packed=True) / (NAMES[0] + ".gz")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataProblem, match=NAMES[0]):
        sources.digits(str(tmp_path), Path())


def test_a_missing_file_is_named(tmp_path):
    (write_idx(tmp_path) / NAMES[3]).unlink()
    with pytest.raises(DataProblem, match="t10k-labels-idx1-ubyte is missing"):
        sources.digits("mnist", tmp_path)


def test_a_missing_folder(tmp_path):
    with pytest.raises(DataProblem, match="no such folder"):
        sources.digits(str(tmp_path / "x"), tmp_path)


def test_a_failed_download_names_the_alternatives_and_leaves_nothing(tmp_path):
    def half(folder: Path) -> None:
        (folder / "MNIST" / "raw").mkdir(parents=True)
        (folder / "MNIST" / "raw" / NAMES[0]).write_bytes(b"half")
        raise RuntimeError("Error downloading train-labels")

    with pytest.raises(DataProblem, match="cannot be downloaded") as problem:
        sources._download_mnist(tmp_path, half)
    assert "--digits embedded" in problem.value.hint
    assert not any(tmp_path.iterdir())


def test_a_download_takes_its_place_complete(tmp_path):
    folder = sources._download_mnist(tmp_path, lambda target: write_idx(target / "MNIST" / "raw") and None)
    assert folder == tmp_path / "MNIST" / "raw"
    assert len(sources.digits("mnist", tmp_path).train_images) == 40


def test_embedded_digits_look_like_mnist_and_are_split_by_class():
    found = sources.digits("embedded", Path("nowhere"))
    assert len(found.train_labels) + len(found.test_labels) == 1797
    shares = np.bincount(found.test_labels) / (np.bincount(found.test_labels) + np.bincount(found.train_labels))
    assert (np.abs(shares - 0.2) < 0.01).all()
    train, test = ({image.tobytes() for image in images} for images in (found.train_images, found.test_images))
    assert not train & test
    assert 0.10 < (found.train_images > 128).mean() < 0.18  # MNIST: 0.13
    assert not found.train_images[:, :3].any()  # a frame stays black
    assert "not MNIST" in str(found.stand_in)
    assert np.array_equal(found.train_images, sources.digits("embedded", Path("nowhere")).train_images)


@pytest.mark.realdata
def test_the_real_mnist_is_recognised(request):
    import os

    if not os.environ.get("MMVAE_TEST_DATA"):
        pytest.skip("MMVAE_TEST_DATA names no folder with MNIST/raw")
    found = sources.digits("mnist", Path(os.environ["MMVAE_TEST_DATA"]))
    assert found.stand_in is None
    assert found.provenance["source"] == "MNIST"
    assert list(found.train_labels[:8]) == [5, 0, 4, 1, 9, 2, 1, 3]
    assert np.bincount(found.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
