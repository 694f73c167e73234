import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from mmvae_cli.datasets import idx as idx_files
from mmvae_cli.datasets import sources
from mmvae_cli.datasets.idx import NAMES
from mmvae_cli.process.errors import DataProblem


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
    assert found.splits["train"].images.shape == (40, 28, 28)
    assert found.splits["train"].images.dtype == np.uint8
    assert found.splits["test"].labels.dtype == np.int64
    assert (found.splits["train"].images[:, 0, 0] == found.splits["train"].labels).all()
    assert (found.splits["test"].images[:, 0, 1] == np.arange(20)).all()


def test_digits_of_a_folder_say_that_they_are_not_mnist(tmp_path):
    found = sources.digits(str(write_idx(tmp_path / "kmnist")), Path("nowhere"))
    assert found.stand_in == "digits of the folder kmnist, not MNIST"
    assert set(found.provenance["sha256"]) == set(NAMES)


def test_the_other_usual_file_names(tmp_path):
    write_idx(tmp_path)
    for name in NAMES:
        (tmp_path / name).rename(tmp_path / name.replace("-idx", ".idx"))
    assert len(sources.digits(str(tmp_path), Path()).splits["test"].images) == 20


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_packed_is_told_by_the_content_and_not_by_the_name(tmp_path, packed):
    """Browsers unpack a .gz and keep its name; ``gunzip -c`` and copies lose it."""
    write_idx(tmp_path, packed=packed)
    for name in NAMES:
        (tmp_path / (f"{name}.gz" if packed else name)).rename(tmp_path / (name if packed else f"{name}.gz"))
    assert len(sources.digits(str(tmp_path), Path()).splits["train"].images) == 40


def renamed(folder: Path, *names: str) -> sources.Digits:
    write_idx(folder)
    for old, new in zip(NAMES, names, strict=True):
        (folder / old).rename(folder / new)
    for other in ("._" + names[0], "notes.txt"):  # of a Mac, of a person
        (folder / other).write_bytes(b"\0\5\x16\7")
    return sources.digits(str(folder), Path())


@pytest.mark.parametrize(
    "names",
    [
        ("train-images-idx3-ubyte (1).gz", "train-labels-idx1-ubyte.gz.bin", "test-images.idx", "test_labels"),
        ("a", "b", "c", "d"),
        ("z-images", "a-labels", "y-images", "b-labels"),
        ("Training images", "Training labels", "test", "testlabels"),
    ],
)
def test_files_of_other_names_are_told_apart_by_content_and_count(tmp_path, names, capsys):
    found = renamed(tmp_path, *names)
    assert (len(found.splits["train"].images), len(found.splits["test"].images)) == (40, 20)
    assert (found.splits["train"].images[:, 0, 0] == found.splits["train"].labels).all()
    assert (found.splits["test"].images[:, 0, 1] == np.arange(20)).all()
    assert f"{tmp_path}: {', '.join(names)}" in capsys.readouterr().err, "said, as nobody named them"


def test_names_say_more_than_counts(tmp_path):
    found = renamed(tmp_path, "test-a", "p", "train-b", "q")
    assert (len(found.splits["train"].images), len(found.splits["test"].images)) == (20, 40)
    assert (found.splits["train"].images[:, 0, 0] == found.splits["train"].labels).all()


def test_nothing_that_tells_the_training_set_is_refused(tmp_path):
    for name, array in zip("abcd", (np.zeros((9, 28, 28)), np.zeros(9)) * 2, strict=True):
        (tmp_path / name).write_bytes(idx(array))
    with pytest.raises(DataProblem, match="nothing tells the training set from the test set among a and c"):
        sources.digits(str(tmp_path), Path())


def test_one_set_of_several_is_chosen_by_how_its_names_begin(tmp_path):
    for seed, name in enumerate(("letters", "digits")):
        write_idx(tmp_path, seed=seed, train=30 + seed)
        for old in NAMES:
            (tmp_path / old).rename(tmp_path / f"set-{name}-{old}")
    with pytest.raises(DataProblem, match="4 IDX files of images and 4 of labels") as problem:
        sources.digits(str(tmp_path), Path())
    assert "the beginning of their names" in problem.value.hint
    assert len(sources.digits(str(tmp_path / "set-digits"), Path()).splits["train"].images) == 31


def test_emnist_is_turned_upright_and_this_is_said(tmp_path, capsys):
    upright = renamed(tmp_path / "a", *(f"mine-{name}" for name in NAMES))
    assert "turned upright" not in capsys.readouterr().err
    turned = renamed(tmp_path / "b", *(f"emnist-mnist-{name}" for name in NAMES))
    assert "turned upright" in capsys.readouterr().err
    assert np.array_equal(turned.splits["train"].images, upright.splits["train"].images.swapaxes(1, 2))
    assert np.array_equal(turned.splits["test"].images, upright.splits["test"].images.swapaxes(1, 2))
    assert np.array_equal(turned.splits["train"].labels, upright.splits["train"].labels)
    assert (turned.provenance["transposed"], upright.provenance["transposed"]) == (True, False)


def test_transposed_digits_of_other_names_are_noticed():
    known = sources.digits("embedded", Path())
    assert not sources._look_transposed(known.splits["train"].images, known.splits["train"].labels)
    assert sources._look_transposed(known.splits["train"].images.swapaxes(1, 2), known.splits["train"].labels)
    assert not sources._look_transposed(np.zeros((1000, 28, 28), np.uint8), np.zeros(1000, np.int64))


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    path = write_idx(tmp_path) / NAMES[0]

    def refuse(*_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(idx_files, "_open", refuse)
    with pytest.raises(DataProblem, match="Permission denied") as problem:
        idx_files.read(path)
    assert problem.value.hint == "check its permissions, and those of the folders above it"


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


def test_a_failed_download_names_the_alternatives_and_leaves_nothing(tmp_path, monkeypatch):
    def half(folder: Path) -> None:
        (folder / "MNIST" / "raw").mkdir(parents=True)
        (folder / "MNIST" / "raw" / NAMES[0]).write_bytes(b"half")
        raise RuntimeError("Error downloading train-labels")

    monkeypatch.setattr(sources, "_fetch", half)
    with pytest.raises(DataProblem, match="cannot be downloaded") as problem:
        sources._download_mnist(tmp_path)
    assert "--digits embedded" in problem.value.hint
    assert not any(tmp_path.iterdir())


def test_a_download_takes_its_place_complete(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_fetch", lambda target: write_idx(target / "MNIST" / "raw"))
    folder = sources._download_mnist(tmp_path)
    assert folder == tmp_path / "MNIST" / "raw"
    assert len(sources.digits("mnist", tmp_path).splits["train"].images) == 40


def test_embedded_digits_look_like_mnist_and_are_split_by_class():
    found = sources.digits("embedded", Path("nowhere"))
    assert len(found.splits["train"].labels) + len(found.splits["test"].labels) == 1797
    shares = np.bincount(found.splits["test"].labels) / (
        np.bincount(found.splits["test"].labels) + np.bincount(found.splits["train"].labels)
    )
    assert (np.abs(shares - 0.2) < 0.01).all()
    train, test = (
        {image.tobytes() for image in images} for images in (found.splits["train"].images, found.splits["test"].images)
    )
    assert not train & test
    assert 0.10 < (found.splits["train"].images > 128).mean() < 0.18  # MNIST: 0.13
    assert not found.splits["train"].images[:, :3].any()  # a frame stays black
    assert "not MNIST" in str(found.stand_in)
    assert np.array_equal(
        found.splits["train"].images, sources.digits("embedded", Path("nowhere")).splits["train"].images
    )


@pytest.mark.realdata
def test_the_real_mnist_is_recognised(request):
    import os

    if not os.environ.get("MMVAE_TEST_DATA"):
        pytest.skip("MMVAE_TEST_DATA names no folder with MNIST/raw")
    found = sources.digits("mnist", Path(os.environ["MMVAE_TEST_DATA"]))
    assert found.stand_in is None
    assert found.provenance["source"] == "MNIST"
    assert list(found.splits["train"].labels[:8]) == [5, 0, 4, 1, 9, 2, 1, 3]
    assert np.bincount(found.splits["test"].labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
