import json
import os
import shutil

import numpy as np
import pytest

from mmvae_cli.disk import files, sealed
from mmvae_cli.process.errors import DataProblem, UsageProblem
from mmvae_cli.store import LabelInfo, ModalityInfo, SplitInfo, Store, StoreInfo, rows
from mmvae_cli.store import folder as store

from stores import describe_anyway

INFO = StoreInfo(
    name="tiny",
    modalities={
        "photo": ModalityInfo(kind="image", shape=(1, 2, 3)),
        "word": ModalityInfo(kind="text", shape=(4,), alphabet="abc ", placement="random", fill=" "),
    },
    splits={"train": SplitInfo(count=5), "test": SplitInfo(count=2)},
    labels=LabelInfo(kind="class", names=("no", "yes")),
)


@pytest.fixture
def folder(tmp_path):
    for split, known in INFO.splits.items():
        store.new_array(tmp_path, f"{split}/photo.npy", (known.count, 1, 2, 3))[:] = 7
        store.new_array(tmp_path, f"{split}/word.npy", (2, 4))[:] = [[0, 1, 3, 3], [2, 2, 2, 3]]
        store.new_array(tmp_path, f"{split}/word.index.npy", (known.count,), np.int32)[:] = np.arange(known.count) % 2
        store.new_array(tmp_path, f"{split}/labels.npy", (known.count,), np.int64)[:] = np.arange(known.count) % 2
    store.finish(tmp_path, INFO)
    return tmp_path


def rewrite(folder, array, name):
    """Replace an array and describe the folder anew, as someone who writes a store of their own might."""
    np.save(folder / name, array)
    store.finish(folder, Store(folder).info, replace=True)


def test_what_was_written_is_read(folder):
    opened = Store(folder)
    assert opened.info.files["train/photo.npy"].shape == (5, 1, 2, 3)
    assert (opened.array("train", "photo") == 7).all()
    assert opened.array("test", "word").shape == (2, 4)
    assert list(opened.index("train", "word")) == [0, 1, 0, 1, 0]
    assert opened.index("train", "photo") is None
    assert list(opened.labels("test")) == [0, 1]
    assert (opened.count("train"), opened.name) == (5, "tiny")


def test_pictures_that_were_fractions_are_refused(folder):
    with pytest.raises(DataProblem, match="has no value above 1: pictures are bytes"):
        rewrite(folder, np.linspace(0, 1, 30).reshape(5, 1, 2, 3).astype(np.uint8), "train/photo.npy")


def test_the_fingerprint_depends_on_data_and_not_on_provenance(folder):
    before = Store(folder).fingerprint
    store.finish(folder, Store(folder).info.model_copy(update={"provenance": {"by": "me"}}), replace=True)
    assert Store(folder).fingerprint == before
    rewrite(folder, np.full((5, 1, 2, 3), 8, np.uint8), "train/photo.npy")
    assert Store(folder).fingerprint != before


def test_no_dataset_there(tmp_path):
    with pytest.raises(DataProblem, match="no dataset at") as problem:
        Store(tmp_path)
    assert "make-dataset" in problem.value.hint


def test_unknown_split(folder):
    with pytest.raises(DataProblem, match="no split 'val'"):
        Store(folder).count("val")


def test_missing_truncated_and_changed_files_are_named(folder, tmp_path_factory):
    target = folder / "train" / "photo.npy"
    content = target.read_bytes()
    target.write_bytes(content[:-1])
    with pytest.raises(DataProblem, match=r"photo\.npy has \d+ bytes, not"):
        Store(folder).array("train", "photo")
    target.write_bytes(content[:-1] + b"\x09")
    with pytest.raises(DataProblem, match=r"photo\.npy does not match its checksum"):
        Store(folder).array("train", "photo")
    Store(folder, verify=False).array("train", "photo")
    target.unlink()
    with pytest.raises(DataProblem, match=r"photo\.npy is missing"):
        Store(folder).array("train", "photo")


INCONSISTENT = [
    ("train/photo.npy", np.zeros((5, 1, 2, 3), np.float32), "not uint8"),
    ("train/photo.npy", np.zeros((5, 1, 3, 2), np.uint8), "not uint8"),
    ("train/photo.npy", np.zeros((5, 4), np.uint8), "not uint8"),
    ("train/photo.npy", np.full((5, 1, 2, 3), "a"), "not uint8"),
    ("test/photo.npy", np.zeros((1, 1, 2, 3), np.uint8), "1 rows for 2 items"),
    ("train/photo.npy", np.zeros((4, 1, 2, 3), np.uint8), "4 rows for 5 items"),
    ("train/photo.npy", np.zeros((0, 1, 2, 3), np.uint8), "0 rows for 5 items"),
    ("train/photo.npy", np.zeros((), np.uint8), "another shape or type|not uint8"),
    ("train/word.npy", np.full((2, 4), 4, np.uint8), "outside the alphabet"),
    ("train/word.index.npy", np.array([0, 1, 2, 0, 0], np.int32), "outside the 2 rows"),
    ("train/word.index.npy", np.array([0, 1, -2, 0, 0], np.int32), "outside the 2 rows"),
    ("train/word.index.npy", np.array([0, 1, 0], np.int32), r"holds int32 \(3,\), not int32 \(5,\)"),
    ("train/word.index.npy", np.zeros(5, np.int64), "not int32"),
    ("train/labels.npy", np.array([0, 1, 2, 0, 0]), r"outside 0\.\.1"),
    ("test/labels.npy", np.array([0, -1]), r"outside 0\.\.1"),
    ("train/labels.npy", np.array([0, 1]), "not int64"),
    ("train/labels.npy", np.zeros((5, 2), np.int64), "not int64"),
    ("train/labels.npy", np.zeros(5, np.uint8), "not int64"),
]


@pytest.mark.parametrize(("name", "array", "message"), INCONSISTENT)
@pytest.mark.parametrize("who", ["writer", "reader"])
def test_inconsistent_arrays_are_named_by_whoever_writes_or_reads_them(folder, who, name, array, message):
    np.save(folder / name, array)
    before = (folder / "dataset.json").read_bytes()
    with pytest.raises(DataProblem, match=message) as problem:
        store.finish(folder, INFO, replace=True) if who == "writer" else read(folder, *name.split("/"))
    assert name in str(problem.value)
    assert "store.finish" in problem.value.hint, "also for data that no make-dataset builds"
    assert who == "reader" or (folder / "dataset.json").read_bytes() == before


def test_an_index_marks_items_as_absent(folder):
    complete = Store(folder)
    assert (complete.info.version, complete.present("train", ["photo", "word"])) == (1, None)
    rewrite(folder, np.array([0, 1, -1, 0, -1], np.int32), "train/word.index.npy")
    opened = Store(folder)
    assert opened.info.version == 2, "readers of version 1 refuse it, in place of reading the last row"
    assert opened.present("train", ["word", "photo"]).tolist() == [[i not in (2, 4), True] for i in range(5)]
    assert opened.present("train", ["photo"]) is None
    assert opened.present("test", ["word", "photo"]) is None


def test_absent_items_in_data_of_version_1_are_damage(folder):
    np.save(folder / "train" / "word.index.npy", np.array([0, 1, -1, 0, 0], np.int32))
    describe_anyway(folder)
    with pytest.raises(
        DataProblem, match=r"word.index.npy marks items as absent \(-1\), which data of version 1 cannot"
    ):
        Store(folder).index("train", "word")


def test_a_modality_may_be_absent_everywhere_and_an_item_may_not(folder):
    np.save(folder / "train" / "word.npy", np.zeros((0, 4), np.uint8))
    rewrite(folder, np.full(5, -1, np.int32), "train/word.index.npy")
    assert Store(folder).array("train", "word").shape == (0, 4)
    np.save(folder / "train" / "photo.npy", np.zeros((4, 1, 2, 3), np.uint8))
    with pytest.raises(DataProblem, match="item 3 of train has no modality at all"):
        rewrite(folder, np.array([0, 1, 2, -1, 3], np.int32), "train/photo.index.npy")


def read(folder, split, file):
    describe_anyway(folder)
    opened = Store(folder)
    return opened.labels(split) if file == "labels.npy" else opened.array(split, file.split(".")[0])


@pytest.mark.parametrize("name", ["train/photo.npy", "test/word.npy", "test/labels.npy"])
def test_a_file_that_is_not_there_is_named_when_it_is_described(folder, name):
    (folder / name).unlink()
    with pytest.raises(DataProblem, match=f"{name} is missing"):
        store.finish(folder, INFO, replace=True)


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00v\x00{'descr': '|O', "])
def test_a_file_that_is_no_array_is_named_when_it_is_described(folder, content):
    (folder / "train" / "photo.npy").write_bytes(content)
    with pytest.raises(DataProblem, match=r"photo\.npy cannot be read"):
        store.finish(folder, INFO, replace=True)


def test_a_description_is_replaced_only_on_request(folder):
    before = (folder / "dataset.json").read_bytes()
    with pytest.raises(UsageProblem, match=r"dataset\.json exists") as problem:
        store.finish(folder, INFO.model_copy(update={"name": "other"}))
    assert "replace=True" in problem.value.hint
    assert (folder / "dataset.json").read_bytes() == before
    store.finish(folder, INFO.model_copy(update={"name": "other"}), replace=True)
    assert Store(folder).name == "other"


def test_what_a_mac_leaves_beside_the_arrays_is_no_array(folder):
    before = Store(folder).fingerprint
    (folder / "train" / "._photo.npy").write_bytes(b"\0\5\x16\7resource fork")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "x.npy").write_bytes(b"")
    assert store.finish(folder, INFO, replace=True).files.keys() == Store(folder).info.files.keys()
    assert Store(folder).fingerprint == before


def test_pickled_arrays_are_never_loaded(folder):
    name = "train/photo.npy"
    np.save(folder / name, np.array([{"a": 1}] * 5, dtype=object), allow_pickle=True)
    content = sealed.read_json(folder / "dataset.json")
    content["files"][name] |= {"bytes": (folder / name).stat().st_size, "sha256": store.sha256(folder / name)}
    (folder / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DataProblem, match="cannot be read"):
        Store(folder).array("train", "photo")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["version"], 3),
        (["format"], "other"),
        (["name"], "../x"),
        (["splits"], {"train": {"count": 5}}),
        (["splits", "train", "count"], 0),
        (["labels", "names"], []),
        (["labels", "kind"], "regression"),
        (["modalities"], {}),
        (["modalities", "photo", "shape"], [1, 2]),
        (["modalities", "photo", "shape"], [1, 0, 2]),
        (["modalities", "word", "alphabet"], None),
        (["modalities", "word", "fill"], "#"),
        (["modalities", "../evil"], {"kind": "image", "shape": [1, 2, 3]}),
        (["files", "../../x.npy"], {"bytes": 1, "sha256": "0" * 64, "shape": [1], "dtype": "uint8"}),
        (["extra"], 1),
    ],
)
def test_a_wrong_description_is_refused_with_its_place(folder, path, value):
    content = sealed.read_json(folder / "dataset.json")
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (folder / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DataProblem, match=r"dataset\.json"):
        Store(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": NaN}', '{"name": 1, "name": 2}', "[" * 100_000, "\x00"])
def test_a_dataset_json_that_is_none(folder, text):
    (folder / "dataset.json").write_text(text)
    with pytest.raises(DataProblem, match=r"dataset\.json"):
        Store(folder)


def test_a_store_moves(folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("other") / "moved"
    shutil.copytree(folder, target)
    assert Store(target).fingerprint == Store(folder).fingerprint


def test_a_full_disk_is_met_before_the_array_is_filled(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        store.new_array(tmp_path, "train/x.npy", (10, 1, 2, 2))


def test_where_no_call_reserves_the_disk_the_array_is_written_once(tmp_path, monkeypatch):
    """macOS has no posix_fallocate."""
    monkeypatch.delattr(os, "posix_fallocate")
    monkeypatch.setattr(files, "_PIECE", 1000)
    array = store.new_array(tmp_path, "train/x.npy", (50, 1, 20, 20))
    assert array.flags.writeable
    assert not array.any()
    state = (tmp_path / "train" / "x.npy").stat()
    assert state.st_blocks * 512 >= state.st_size == array.nbytes + array.offset


def test_what_was_checked_is_what_is_used(folder):
    """A file that is cut or rewritten while a command runs changes nothing for it."""
    opened = Store(folder)
    photo = opened.array("train", "photo")
    with open(folder / "train" / "photo.npy", "r+b") as file:
        file.truncate(64)
    assert (photo == 7).all()


@pytest.fixture
def on_disk(folder, monkeypatch):
    """The folder, its files counted as too large for memory."""
    monkeypatch.setattr(store, "IN_MEMORY", 100)
    monkeypatch.setattr(rows, "_PART", 100)  # a few rows at a time
    return folder


def test_large_files_stay_on_the_disk_and_are_checked_like_small_ones(on_disk):
    opened = Store(on_disk)
    photo = opened.array("train", "photo")
    assert isinstance(photo, rows.Rows)
    assert photo[:].shape == photo.shape == photo[np.arange(len(photo))].shape
    assert (photo[:] == 7).all()
    assert opened.array("test", "word").shape == (2, 4)
    flip(on_disk / "test" / "photo.npy")
    with pytest.raises(DataProblem, match="checksum"):
        opened.array("test", "photo")


def test_rows_come_in_any_order(tmp_path):
    values = np.arange(5 * 3 * 2, dtype=np.uint8).reshape(5, 3, 2)
    np.save(tmp_path / "x.npy", values)
    read = rows.Rows(tmp_path / "x.npy")
    for wanted in (np.array([4, 0, 4]), np.array([], np.int64), slice(1, 4), slice(3, 99), slice(4, 2)):
        np.testing.assert_array_equal(read[wanted], values[wanted])
    np.testing.assert_array_equal(np.concatenate(list(rows.parts(read))), values)


@pytest.mark.parametrize("change", ["cut", "emptied", "rewritten"])
def test_a_large_file_that_changes_while_in_use_is_an_error_and_no_signal(on_disk, change):
    photo = Store(on_disk).array("train", "photo")
    path = on_disk / "train" / "photo.npy"
    if change == "rewritten":
        flip(path)
        os.utime(path, ns=(1, 1))  # the clock of a file system can be coarse
    else:
        os.truncate(path, 0 if change == "emptied" else path.stat().st_size - 1)
    with pytest.raises(DataProblem, match="changed while it was in use"):
        photo[np.array([0])]


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LabelInfo(kind="clas", names=("a",)), "kind: 'clas' is not one of class, attributes"),
        (lambda: SplitInfo(count=0), "count: has to be 1 or more, not 0"),
        (lambda: INFO.model_validate(INFO.model_dump() | {"seed": "x"}), "seed: has to be a whole number, not 'x'"),
        (lambda: StoreInfo(**INFO.model_dump() | {"labels": {"kind": "class"}}), "labels.names: is required"),
        (lambda: StoreInfo(**INFO.model_dump() | {"name": "a/b"}), "name: has to be of the form"),
    ],
)
def test_a_wrong_description_in_a_script_is_told_in_our_words(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert message in str(caught.value)


def test_a_wrong_dataset_json_is_told_in_our_words(folder):
    content = sealed.read_json(folder / "dataset.json")
    content["modalities"]["photo"]["shape"][1] = "wide"
    sealed.write_json(folder / "dataset.json", content)
    with pytest.raises(
        DataProblem, match=r"dataset.json: modalities.photo.shape.1: has to be a whole number, not 'wide'"
    ):
        Store(folder)


def test_data_may_have_no_labels(tmp_path):
    for split in ("train", "test"):
        store.new_array(tmp_path, f"{split}/lab.npy", (4, 2), np.float32)[:] = 1
    splits = {"train": {"count": 4}, "test": {"count": 4}}
    lab = ModalityInfo(kind="vector", shape=(2,))
    store.finish(tmp_path, store.StoreInfo(name="x", splits=splits, modalities={"lab": lab}))
    found = store.Store(tmp_path)
    assert found.info.labels is None
    assert found.labels("test").tolist() == [0, 0, 0, 0]
