import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmvae_cli.datasets.polymnist.build import PolymnistOptions, build, import_from
from mmvae_cli.process.errors import DataProblem, UsageProblem
from mmvae_cli.store import Store

SPLITS = ("train", "test")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "polymnist"
    build(PolymnistOptions(digits="embedded", views=3, limit=60), folder, Path("nowhere"), png=True)
    return Store(folder)


@pytest.fixture
def png(original, tmp_path):
    """A copy of the official folders that a test may spoil; the dataset goes to tmp_path / "out"."""
    return shutil.copytree(original.folder / "png" / "PolyMNIST", tmp_path / "PolyMNIST")


def zipped(folder: Path, target: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*"), reverse=True):
            archive.write(path, prefix + path.relative_to(folder).as_posix())
    return target


def assert_same(folder: Path, original: Store) -> None:
    read = Store(folder)
    for split in SPLITS:
        assert np.array_equal(read.labels(split), original.labels(split))
        for view in original.info.modalities:
            assert np.array_equal(read.array(split, view), original.array(split, view))


def problem(path: Path, out: Path, kind: type[Exception] = DataProblem, **options) -> str:
    before = set(out.parent.iterdir())
    with pytest.raises(kind) as raised:
        import_from(path, out, **options)
    assert set(out.parent.iterdir()) == before
    return str(raised.value)


# folders and zips ----------------------------------------------------------------------------------------------------


def test_official_names_start_again_for_every_label(original):
    for split in SPLITS:
        names = {p.name for p in (original.folder / "png" / "PolyMNIST" / split / "m1").iterdir()}
        counts = np.bincount(original.labels(split), minlength=10)
        assert names == {f"{i}.{label}.png" for label in range(10) for i in range(counts[label])}


@pytest.mark.parametrize("root", ["", "PolyMNIST", "MMNIST"])
def test_writing_and_importing_gives_the_same_arrays(original, png, tmp_path, root):
    shutil.copytree(png, tmp_path / "place" / root)
    import_from(tmp_path / "place", tmp_path / "out")
    assert_same(tmp_path / "out", original)
    assert Store(tmp_path / "out").info.stand_in == original.info.stand_in


@pytest.mark.parametrize("prefix", ["", "PolyMNIST/", "data/MMNIST/"])
def test_a_zip_gives_the_same_arrays(original, png, tmp_path, prefix):
    import_from(zipped(png, tmp_path / "a.zip", prefix), tmp_path / "out")
    assert_same(tmp_path / "out", original)
    assert Store(tmp_path / "out").info.stand_in == original.info.stand_in


def test_folders_without_a_word_about_themselves_are_judged_by_their_counts(png, tmp_path):
    (png / "stand_in.txt").unlink()
    import_from(png, tmp_path / "out")
    assert "not those of the official" in Store(tmp_path / "out").info.stand_in


def test_some_views_and_some_tuples(original, png, tmp_path):
    import_from(png, tmp_path / "out", views=2, limit=10)
    read = Store(tmp_path / "out")
    assert list(read.info.modalities) == ["m0", "m1"]
    assert np.array_equal(read.array("train", "m1"), original.array("train", "m1")[np.arange(10) * 6])
    assert "a subset of 10 train" in read.info.stand_in


def test_pairs_are_made_by_file_name_whatever_the_listing_order(original, png, tmp_path, monkeypatch):
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda self, pattern: reversed(list(glob(self, pattern))))
    import_from(png, tmp_path / "out")
    assert_same(tmp_path / "out", original)


def test_a_missing_picture_is_named(png, tmp_path):
    (png / "test" / "m2" / "1.3.png").unlink()
    assert "test/m2/1.3.png is missing" in problem(png, tmp_path / "out")


def test_a_picture_too_many_is_named(png, tmp_path):
    shutil.copy(png / "test" / "m2" / "1.3.png", png / "test" / "m2" / "99.3.png")
    assert "test/m0/99.3.png is missing, m2 has it" in problem(png, tmp_path / "out")


def test_a_missing_view_is_named(png, tmp_path):
    shutil.rmtree(png / "train" / "m1")
    assert "view m1 is missing in train" in problem(png, tmp_path / "out")
    import_from(png, tmp_path / "first", views=1)
    assert list(Store(tmp_path / "first").info.modalities) == ["m0"]
    shutil.rmtree(png / "train" / "m0")
    assert "no view m0" in problem(png, tmp_path / "out")


def test_too_many_views_asked_for(png, tmp_path):
    assert "has 3 views" in problem(png, tmp_path / "out", UsageProblem, views=4)


@pytest.mark.parametrize("name", ["12.png", "1.10.png", "a.1.png", "1.1.1.png"])
def test_other_names_are_refused(png, tmp_path, name):
    shutil.copy(png / "test" / "m0" / "0.0.png", png / "test" / "m0" / name)
    assert f"{name} is not named NUMBER.LABEL.png" in problem(png, tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + bytes(30)])
def test_damaged_pictures_are_named(png, tmp_path, content):
    (png / "train" / "m1" / "0.0.png").write_bytes(content)
    assert "train/m1/0.0.png is no PNG of PolyMNIST" in problem(png, tmp_path / "out")


def test_truncated_and_wrongly_sized_pictures_are_named(png, tmp_path):
    target = png / "train" / "m1" / "0.0.png"
    target.write_bytes(target.read_bytes()[:60])
    assert "train/m1/0.0.png is no PNG" in problem(png, tmp_path / "out")
    Image.new("RGB", (32, 32)).save(target)
    assert "32x32 pixels, not 28x28" in problem(png, tmp_path / "out")
    target.write_bytes(bytes(2 << 20))
    assert "more than" in problem(png, tmp_path / "out")


def test_grey_pictures_are_converted_and_foreign_files_ignored(original, png, tmp_path):
    Image.new("L", (28, 28), 9).save(png / "train" / "m0" / "0.0.png")
    (png / "train" / "m0" / ".DS_Store").write_text("x")
    (png / "train" / "m0" / "._0.0.png").write_text("x")
    (png / "train" / "notes.txt").write_text("x")
    import_from(png, tmp_path / "out")
    assert (Store(tmp_path / "out").array("train", "m0")[0] == 9).all()


def test_a_picture_that_lies_on_its_side_is_turned(original, png, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    first = original.array("train", "m0")[0].transpose(1, 2, 0)
    name = min(path.name for path in (png / "train" / "m0").iterdir())
    Image.fromarray(np.ascontiguousarray(first[::-1, ::-1])).save(png / "train" / "m0" / name, exif=exif)
    import_from(png, tmp_path / "out")
    assert_same(tmp_path / "out", original)


def test_nothing_there(tmp_path):
    assert "no such file" in problem(tmp_path / "x", tmp_path / "out")
    assert "no train and test folders" in problem(tmp_path, tmp_path / "out")
    (tmp_path / "page.zip").write_text("<!DOCTYPE html>")
    assert "is no readable zip file" in problem(tmp_path / "page.zip", tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    assert "holds no train and test" in problem(tmp_path / "empty.zip", tmp_path / "out")


def test_a_zip_with_backslashes_dots_and_a_macs_additions_gives_the_same_arrays(original, png, tmp_path):
    (png / "train" / "._m0").write_bytes(b"resource fork")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in sorted(png.rglob("*")):
            name = path.relative_to(png).as_posix()
            parts = ("PolyMNIST", *name.split("/"), *([""] if path.is_dir() else []))
            archive.writestr("\\".join(parts), b"" if path.is_dir() else path.read_bytes())
        archive.writestr("__MACOSX\\PolyMNIST\\train\\m0\\._0.0.png", b"resource fork")
    import_from(tmp_path / "a.zip", tmp_path / "out")
    assert_same(tmp_path / "out", original)
    assert Store(tmp_path / "out").info.stand_in == original.info.stand_in, "the file beside train and test is found"
    import_from(zipped(png, tmp_path / "b.zip", "./"), tmp_path / "dotted")
    assert_same(tmp_path / "dotted", original)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [(10, 9, "is packed with Deflate64"), (10, 77, "is packed with method 77"), (8, 1, "is encrypted")],
)
def test_a_zip_that_python_cannot_unpack_is_named_with_what_to_do(png, tmp_path, at, value, message):
    """``at``: where the central directory keeps a file's flags and its packing."""
    path = zipped(png, tmp_path / "a.zip")
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + at] = value
    path.write_bytes(content)
    with pytest.raises(DataProblem, match=message) as raised:
        import_from(path, tmp_path / "out")
    assert "7-Zip, and give the folder" in raised.value.hint


@pytest.mark.parametrize(("mode", "packed_by"), [("w", "tar"), ("w:gz", "gzip"), ("w:bz2", "bzip2"), ("w:xz", "XZ")])
def test_another_archive_than_a_zip_is_named_with_what_to_do(png, tmp_path, mode, packed_by):
    with tarfile.open(tmp_path / "PolyMNIST.zip", mode) as archive:
        archive.add(png, "PolyMNIST")
    with pytest.raises(DataProblem, match=f"is packed by {packed_by}, it is no zip") as raised:
        import_from(tmp_path / "PolyMNIST.zip", tmp_path / "out")
    assert "unpack it" in raised.value.hint


def test_a_zip_cannot_write_outside(original, png, tmp_path):
    archive_path = zipped(png, tmp_path / "a.zip")
    with zipfile.ZipFile(archive_path, "a") as archive:
        archive.writestr("../../escaped.txt", "x")
        archive.writestr("/tmp/escaped-absolute.txt", "x")
        archive.writestr("train/m0/../../../escaped.png", "x")
        archive.writestr("__MACOSX/train/m0/0.0.png", "x")
    before = set(tmp_path.parent.rglob("escaped*"))
    import_from(archive_path, tmp_path / "out")
    assert_same(tmp_path / "out", original)
    assert set(tmp_path.parent.rglob("escaped*")) == before
    assert not Path("/tmp/escaped-absolute.txt").exists()


def test_a_bomb_in_a_zip_is_refused_without_unpacking_it(png, tmp_path):
    target = png / "train" / "m0" / "0.0.png"
    target.unlink()
    archive_path = zipped(png, tmp_path / "a.zip")
    with zipfile.ZipFile(archive_path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/m0/0.0.png", bytes(64 << 20))
    assert "train/m0/0.0.png has more than 1,048,576 bytes" in problem(archive_path, tmp_path / "out")


def test_a_damaged_encrypted_or_ambiguous_zip(png, tmp_path):
    path = zipped(png, tmp_path / "a.zip")
    content = bytearray(path.read_bytes())
    spot = content.find(b"IDAT") + 20
    content[spot : spot + 8] = b"\0" * 8
    path.write_bytes(content)
    assert "cannot be read" in problem(path, tmp_path / "out")
    path.write_bytes(content[: len(content) // 2])
    assert "is no readable zip file" in problem(path, tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        for root in ("PolyMNIST", "MMNIST"):
            for split in SPLITS:
                archive.writestr(f"{root}/{split}/m0/0.0.png", b"x")
    assert "several datasets (MMNIST/, PolyMNIST/)" in problem(tmp_path / "two.zip", tmp_path / "out")


# tensors -------------------------------------------------------------------------------------------------------------


def tensors(original: Store, folder: Path, *, floats: bool = True, legacy: bool = False) -> Path:
    import torch

    for split in SPLITS:
        (folder / split).mkdir(parents=True)
        for view in original.info.modalities:
            images = torch.from_numpy(np.array(original.array(split, view)))
            images = images.float() / 255 if floats else images
            torch.save(images, folder / split / f"{view}.pt", _use_new_zipfile_serialization=not legacy)
        torch.save(torch.from_numpy(np.array(original.labels(split))), folder / split / "labels.pt")
    return folder


@pytest.mark.parametrize(("floats", "legacy"), [(True, False), (False, False), (True, True)])
def test_tensors_give_the_same_arrays(original, tmp_path, floats, legacy):
    tensors(original, tmp_path / "x" / "MMNIST", floats=floats, legacy=legacy)
    import_from(tmp_path / "x", tmp_path / "out")
    assert_same(tmp_path / "out", original)
    assert Store(tmp_path / "out").info.provenance["layout"] == "tensors"


def test_a_zip_of_tensors_gives_the_same_arrays_and_leaves_no_copy(original, tmp_path):
    tensors(original, tmp_path / "x")
    import_from(zipped(tmp_path / "x", tmp_path / "a.zip", "PolyMNIST/MMNIST/"), tmp_path / "out")
    assert_same(tmp_path / "out", original)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["dataset.json", "preview.png", "test", "train"]


class Evil:
    def __reduce__(self):
        return (os.system, ("touch evil-was-here",))


def test_nothing_is_ever_unpickled_freely(original, tmp_path, monkeypatch):
    import pickle

    import torch

    monkeypatch.chdir(tmp_path)
    folder = tensors(original, tmp_path / "x")
    for save in (lambda path: torch.save(Evil(), path), lambda path: path.write_bytes(pickle.dumps(Evil()))):
        save(folder / "train" / "m1.pt")
        assert "train/m1.pt" in problem(folder, tmp_path / "out")
    assert not (tmp_path / "evil-was-here").exists()


def test_damaged_tensors_are_named(original, tmp_path):
    import torch

    folder = tensors(original, tmp_path / "x")
    target = folder / "test" / "m0.pt"
    content = target.read_bytes()
    cases = {
        content[:1000]: "is no file of one tensor",
        b"": "is no file of one tensor",
        saved({"a": 1}): "holds dict",
        saved(torch.zeros(60, 28, 28, 3)): r"not (60, 3, 28, 28)",
        saved(torch.full((60, 3, 28, 28), 7.0)): "outside [0, 1]",
        saved(torch.full((60, 3, 28, 28), float("nan"))): "outside [0, 1]",
    }
    for damaged, message in cases.items():
        target.write_bytes(damaged)
        text = problem(folder, tmp_path / "out")
        assert message in text
        assert "test/m0.pt" in text
    target.write_bytes(content)
    labels = folder / "train" / "labels.pt"
    for damaged, message in {
        saved(torch.full((60,), 11)): "outside 0..9",
        saved(torch.full((60,), 0.5)): "no list of labels",
        saved(torch.zeros(60, 10)): "no list of labels",
        saved(torch.zeros(59)): "not (59, 3, 28, 28)",
    }.items():
        labels.write_bytes(damaged)
        assert message in problem(folder, tmp_path / "out")
    labels.unlink()
    assert "labels.pt is missing" in problem(folder, tmp_path / "out")


def saved(value) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()
