"""SVHN's .mat files read strictly, downloads that fail, and the drawn stand-in."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from mmvae_cli.datasets.mnist_svhn_text import house_numbers, svhn
from mmvae_cli.process import signals
from mmvae_cli.process.errors import DataProblem, Stopped


def write_mat(path: Path, count: int = 30, *, labels=None, compress: bool = True, **replaced) -> None:
    """A file in the official layout: X uint8 (32, 32, 3, N), y uint8 (N, 1), the digit 0 labelled 10."""
    random = np.random.default_rng(count)
    labels = np.arange(count) % 10 + 1 if labels is None else labels
    content = {
        "X": random.integers(0, 256, (32, 32, 3, count), dtype=np.uint8),
        "y": np.asarray(labels, np.uint8)[:, None],
    }
    content |= replaced
    savemat(path, {key: value for key, value in content.items() if value is not None}, do_compression=compress)


@pytest.fixture
def folder(tmp_path):
    write_mat(tmp_path / "train_32x32.mat", 30)
    write_mat(tmp_path / "test_32x32.mat", 20)
    return tmp_path


def test_images_and_labels_keep_their_places(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    write_mat(tmp_path / "a.mat", labels=[10, 1, 9, 2], X=pictures)
    images, labels = svhn.read_mat(tmp_path / "a.mat")
    assert images.dtype == np.uint8
    assert images.shape == (4, 3, 32, 32)
    assert images[2, 1, 5, 7] == pictures[5, 7, 1, 2]  # row 5, column 7, green, image 2
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, 1, 9, 2]


def test_a_folder_of_other_files_is_a_stand_in_with_its_counts(folder):
    read = svhn.svhn(str(folder), folder)
    assert len(read.splits["train"].labels) == 30
    assert len(read.splits["test"].images) == 20
    assert read.stand_in == "SVHN files are not the complete official ones (30 train / 20 test images)"
    assert read.provenance["test"]["images"] == 20
    assert read.provenance["train"]["md5"] == hashlib.md5((folder / "train_32x32.mat").read_bytes()).hexdigest()


def test_the_official_files_are_no_stand_in(folder, monkeypatch):
    sums = {split: svhn.md5(folder / name) for split, name in svhn.FILES.items()}
    monkeypatch.setattr(svhn, "OFFICIAL_MD5", sums)
    assert svhn.read_folder(folder).stand_in is None


def test_official_checksums_are_torchvisions():
    datasets = pytest.importorskip("torchvision.datasets")
    for split in ("train", "test"):
        url, name, digest = datasets.SVHN.split_list[split]
        assert (url, name, digest) == (svhn._URL + name, svhn.FILES[split], svhn.OFFICIAL_MD5[split])


@pytest.mark.parametrize("place", ["svhn", "."])
def test_files_under_the_data_folder_are_found(folder, place, tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    (data / place).mkdir(exist_ok=True)
    for name in svhn.FILES.values():
        (folder / name).rename(data / place / name)
    assert len(svhn.svhn("auto", data).splits["train"].labels) == 30


def empty(shape, dtype=np.uint8):
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ({"labels": [0, 1, 2]}, "has the label 0; SVHN's labels are 1..10"),
        ({"labels": [1, 11, 2]}, "has the label 11; SVHN's labels are 1..10"),
        ({"count": 3, "y": None}, "has no array 'y' (it has: X)"),
        ({"count": 3, "X": None}, "has no array 'X' (it has: y)"),
        ({"X": empty((28, 28, 3, 30))}, "X is uint8 (28, 28, 3, 30), not uint8 (32, 32, 3, N)"),
        ({"X": empty((32, 32, 3, 30), float)}, "X is double (32, 32, 3, 30), not uint8"),
        ({"X": empty((32, 32, 3))}, "X is uint8 (32, 32, 3), not uint8 (32, 32, 3, N)"),
        ({"X": np.array([{"a": 1}], object)}, "X is cell"),
        ({"y": empty((29, 1))}, "y is uint8 (29, 1), not uint8 (30, 1)"),
        ({"y": np.ones((30, 1))}, "y is double (30, 1), not uint8 (30, 1)"),
        ({"y": "a label"}, "y is char"),
    ],
)
def test_other_content_is_refused_by_name(tmp_path, wrong, part):
    if labels := wrong.get("labels"):
        wrong = wrong | {"X": empty((32, 32, 3, len(labels)))}
    write_mat(tmp_path / "train_32x32.mat", **wrong)
    with pytest.raises(DataProblem) as caught:
        svhn.read_mat(tmp_path / "train_32x32.mat")
    assert part in str(caught.value)
    assert "train_32x32.mat" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("kept", [0, 1, 100, 127, 128, 140, 200, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_damaged_wherever_it_is_cut(tmp_path, kept, compress):
    path = tmp_path / "train_32x32.mat"
    write_mat(path, compress=compress)
    os.truncate(path, kept if isinstance(kept, int) else int(path.stat().st_size * kept))
    with pytest.raises(DataProblem, match=r"train_32x32\.mat (cannot be read: truncated|has no array)"):
        svhn.read_mat(path)


def test_any_single_damaged_byte_is_read_or_refused_but_never_crashes(tmp_path):
    path = tmp_path / "train_32x32.mat"
    write_mat(path, 3)
    whole, random = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for position in [*range(124, 200), *random.integers(200, len(whole), 60).tolist()]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        try:
            images, labels = svhn.read_mat(path)
            assert images.shape == (3, 3, 32, 32)
            assert labels.shape == (3,)
        except DataProblem:
            refused += 1
    assert refused > 60


@pytest.mark.parametrize("before", [b"", b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(384)])
def test_matlab_7_3_is_named_with_how_to_save_otherwise(tmp_path, before):
    (tmp_path / "train_32x32.mat").write_bytes(before + b"\x89HDF\r\n\x1a\n" + bytes(600))
    with pytest.raises(DataProblem, match=r"train_32x32\.mat is a file of MATLAB 7\.3") as caught:
        svhn.read_mat(tmp_path / "train_32x32.mat")
    assert "-v7" in caught.value.hint


@pytest.mark.parametrize("content", [b"<html>not found</html>" * 50, b"\x89HDF" + bytes(600)])
def test_something_else_under_that_name_is_refused(tmp_path, content):
    (tmp_path / "train_32x32.mat").write_bytes(content)
    with pytest.raises(DataProblem, match=r"train_32x32\.mat"):
        svhn.read_mat(tmp_path / "train_32x32.mat")


def test_a_header_that_promises_too_much_costs_no_memory(tmp_path):
    headers = {"X": ((32, 32, 3, 50_000_000), "uint8"), "y": ((50_000_000, 1), "uint8")}
    write_mat(tmp_path / "a.mat", 3)
    with pytest.raises(DataProblem, match="promises 50,000,000 images"):
        svhn._check_headers(tmp_path / "a.mat", headers)


@pytest.mark.parametrize("source", ["auto", "PATH"])
def test_half_of_the_files_is_reported_not_passed_over(folder, source):
    (folder / "test_32x32.mat").unlink()
    with pytest.raises(DataProblem, match=r"test_32x32\.mat is missing") as caught:
        svhn.svhn(source if source == "auto" else str(folder), folder)
    assert "--svhn embedded" in caught.value.hint


def test_a_path_that_is_no_folder(tmp_path):
    with pytest.raises(DataProblem, match="no such folder"):
        svhn.svhn(str(tmp_path / "nowhere"), tmp_path)


# --- fetching --------------------------------------------------------------------------------------------------------


def test_a_download_takes_its_place_when_complete(tmp_path, monkeypatch):
    def fetch(split, folder):
        assert not (tmp_path / "svhn" / svhn.FILES[split]).exists()
        write_mat(folder / svhn.FILES[split])

    monkeypatch.setattr(svhn, "_fetch", fetch)
    assert svhn.download(tmp_path / "svhn") == tmp_path / "svhn"
    assert sorted(p.name for p in (tmp_path / "svhn").iterdir()) == sorted(svhn.FILES.values())


@pytest.mark.parametrize("error", [OSError("no route"), RuntimeError("File not found\nor corrupted"), ValueError()])
def test_a_failed_download_leaves_nothing_and_names_the_alternatives(tmp_path, error, monkeypatch):
    def fetch(split, folder):
        (folder / svhn.FILES[split]).write_bytes(b"half")
        raise error

    monkeypatch.setattr(svhn, "_fetch", fetch)
    with pytest.raises(DataProblem, match="cannot be downloaded") as caught:
        svhn.download(tmp_path / "svhn")
    assert "--svhn PATH" in caught.value.hint
    assert "--svhn embedded" in caught.value.hint
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_without_any_files_auto_downloads(tmp_path, monkeypatch):
    asked = []

    def fetch(split, folder):
        asked.append(split)
        write_mat(folder / svhn.FILES[split])

    monkeypatch.setattr(svhn, "_fetch", fetch)
    assert len(svhn.svhn("auto", tmp_path).splits["train"].labels) == 30
    assert asked == ["train", "test"]
    assert len(svhn.svhn("auto", tmp_path).splits["train"].labels) == 30
    assert asked == ["train", "test"]


# --- the drawn stand-in ----------------------------------------------------------------------------------------------

SMALL = {"train": 60, "test": 20}


@pytest.fixture(scope="module")
def drawn():
    return house_numbers.draw(Path("unused"), 0, SMALL)


def test_drawn_house_numbers_are_balanced_pictures_and_labelled_as_a_stand_in(drawn):
    assert drawn.splits["train"].images.shape == (60, 3, 32, 32)
    assert drawn.splits["train"].images.dtype == np.uint8
    assert np.bincount(drawn.splits["train"].labels).tolist() == [6] * 10
    assert np.bincount(drawn.splits["test"].labels).tolist() == [2] * 10
    assert drawn.stand_in == "house numbers drawn by the program, not SVHN"
    assert drawn.splits["train"].images.std(axis=(2, 3)).mean() > 15  # something is on every picture
    assert len({image.tobytes() for image in [*drawn.splits["train"].images, *drawn.splits["test"].images]}) == 80


def test_drawing_is_a_function_of_seed_split_and_item(drawn):
    again = house_numbers.draw(Path("unused"), 0, SMALL)
    fewer = house_numbers.draw(Path("unused"), 0, {"train": 30, "test": 20})
    other = house_numbers.draw(Path("unused"), 1, SMALL)
    assert np.array_equal(again.splits["train"].images, drawn.splits["train"].images)
    assert np.array_equal(again.splits["test"].images, drawn.splits["test"].images)
    assert np.array_equal(fewer.splits["train"].images, drawn.splits["train"].images[:30])
    assert not np.array_equal(other.splits["train"].images, drawn.splits["train"].images)
    assert not np.array_equal(drawn.splits["test"].images, drawn.splits["train"].images[:20])


def test_handwriting_of_the_two_splits_is_disjoint(monkeypatch):
    seen = []
    monkeypatch.setattr(house_numbers, "_handwritten", lambda images, labels: seen.append((images, labels)))
    monkeypatch.setattr(house_numbers, "draw_split", lambda *arguments: (np.zeros(1), np.zeros(1)))
    house_numbers.draw(Path("unused"), 0, SMALL)
    (train, _), (test, _) = seen
    assert len(train) + len(test) == 1797
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in test}


def test_the_digit_in_the_middle_is_the_label():
    """Without its colours, clutter and neighbours, a picture shows the printed digit that its label names."""
    printed = house_numbers._printed()
    pages = [house_numbers._place(masks[0], 24, 0, 0, np.array([16, 16])) for masks in printed]
    for digit in range(10):
        slanted = house_numbers._place(printed[digit][1], 23, 0.06, 0.03, np.array([16, 16]))
        likeness = [np.corrcoef(slanted.ravel(), page.ravel())[0, 1] for page in pages]
        assert int(np.argmax(likeness)) == digit


def test_a_signal_stops_the_drawing(monkeypatch):
    monkeypatch.setattr(signals, "_received", "SIGTERM")
    with pytest.raises(Stopped, match="nothing was written"):
        house_numbers.draw(Path("unused"), 0, SMALL)


@pytest.mark.slow
def test_the_task_is_learnable_but_not_by_a_linear_model():
    """A small convolutional network reads most digits after three epochs (0.87 measured); pixels alone say little."""
    torch = pytest.importorskip("torch")
    from sklearn.linear_model import RidgeClassifier

    drawn = house_numbers.draw(Path("unused"), 0)
    (images, labels), (others, truth) = (drawn.splits[split] for split in ("train", "test"))
    linear = RidgeClassifier(alpha=100.0).fit(images.reshape(len(images), -1) / 255.0, labels)
    assert linear.score(others.reshape(len(others), -1) / 255.0, truth) < 0.5

    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine several threads wait for one another for minutes
    inputs, targets = torch.from_numpy(images).float() / 255, torch.from_numpy(labels)
    layers = [torch.nn.Conv2d(3, 24, 5, 2, 2), torch.nn.ReLU()]
    for width in (24, 48):
        layers += [torch.nn.Conv2d(width, 2 * width, 3, 2, 1), torch.nn.BatchNorm2d(2 * width), torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(96 * 16, 10))
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(4):
        for chosen in torch.randperm(len(inputs)).split(64):
            loss = torch.nn.functional.cross_entropy(network(inputs[chosen]), targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    network.eval()
    with torch.no_grad():
        found = network(torch.from_numpy(others).float() / 255).argmax(1).numpy()
    torch.set_num_threads(threads)
    assert 0.7 < np.mean(found == truth) < 0.97
