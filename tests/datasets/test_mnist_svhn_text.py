"""make-dataset mnist-svhn-text: pairing, counts, the store, and the command as its users run it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from driving import completed
from scipy.io import savemat

from mmvae_cli.datasets import sources
from mmvae_cli.datasets.mnist_svhn_text import build as mst
from mmvae_cli.datasets.mnist_svhn_text import svhn
from mmvae_cli.process import signals
from mmvae_cli.process.errors import DataProblem, Stopped, UsageProblem
from mmvae_cli.store import Store, text

# Label counts of the digits 0..9: MNIST (equations 7.1), SVHN as published, and the tuples they make (equations 7.2)
MNIST = {
    "train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
}
SVHN = {
    "train": [4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659],
    "test": [1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595],
}
PAIRED = {
    "train": [4948, 6742, 5958, 6131, 5842, 5421, 5727, 5595, 5045, 4659],
    "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
}
TUPLES = {"train": 1_121_360, "test": 200_000}
SVHN_SMALL = {"train": 100, "test": 40}


def labels_of(counts, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(10), counts))


@pytest.fixture(scope="module")
def svhn_folder(tmp_path_factory) -> Path:
    """A small SVHN in the official layout, 10 + 4 images per digit in mixed order; image i is all byte i,
    from 200 on in the test set."""
    folder = tmp_path_factory.mktemp("svhn")
    for split, count in SVHN_SMALL.items():
        labels = labels_of([count // 10] * 10, count)
        pictures = np.broadcast_to(np.arange(count, dtype=np.uint8) + 200 * (split == "test"), (32, 32, 3, count))
        savemat(
            folder / svhn.FILES[split], {"X": pictures, "y": np.where(labels == 0, 10, labels)[:, None].astype("u1")}
        )
    return folder


@pytest.fixture(scope="module")
def built(svhn_folder, tmp_path_factory) -> Store:
    folder = tmp_path_factory.mktemp("built") / "mst"
    mst.build(folder, folder.parent, digits="embedded", svhn_source=str(svhn_folder), seed=3)
    return Store(folder)


# --- pairing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_complete_data_give_the_papers_counts(split):
    rows = mst.rows_per_digit({"mnist": labels_of(MNIST[split]), "svhn": labels_of(SVHN[split], 1)}, split)
    for found in rows.values():
        assert [len(part) for part in found] == PAIRED[split]
    assert sum(mst.MULTIPLIER * len(part) for part in rows["svhn"]) == TUPLES[split]


@pytest.mark.realdata
@pytest.mark.skipif("MMVAE_TEST_DATA" not in os.environ, reason="MMVAE_TEST_DATA names no folder of real data")
def test_real_mnist_with_the_label_counts_of_real_svhn_gives_the_papers_counts():
    digits = sources.digits("mnist", Path(os.environ["MMVAE_TEST_DATA"]))
    for split, counts in PAIRED.items():
        _, labels = digits.splits[split]
        assert np.bincount(labels).tolist() == MNIST[split]
        rows = mst.rows_per_digit({"mnist": labels, "svhn": labels_of(SVHN[split], 1)}, split)
        assert [len(part) for part in rows["mnist"]] == counts


def test_a_digits_first_rows_in_their_order_take_part():
    first, second = np.array([*range(10)] * 3), np.array([*range(9, -1, -1), *range(10)])
    rows = mst.rows_per_digit({"a": first, "b": second}, "train")
    assert [part.tolist() for part in rows["a"]] == [[digit, digit + 10] for digit in range(10)]
    assert [part.tolist() for part in rows["b"]] == [[9 - digit, 10 + digit] for digit in range(10)]


def test_no_more_than_ten_thousand_of_a_digit():
    rows = mst.rows_per_digit({"a": labels_of([10_050] + [2] * 9), "b": labels_of([10_001] + [3] * 9)}, "train")
    assert [len(part) for part in rows["b"]] == [10_000] + [2] * 9


def test_a_digit_that_one_source_lacks_is_named():
    lacking = labels_of([3, 3, 3, 3, 3, 3, 3, 0, 3, 3])
    with pytest.raises(DataProblem, match="test: no svhn image of the digit 7"):
        mst.rows_per_digit({"mnist": labels_of([1] * 10), "svhn": lacking}, "test")


def test_permutations_are_whole_fresh_and_a_function_of_the_key():
    drawn = mst.permutations(50, 130, [1, 2]).reshape(-1)
    assert sorted(drawn[:50]) == sorted(drawn[50:100]) == list(range(50))
    assert len(set(drawn[100:].tolist())) == 30
    assert not np.array_equal(drawn[:50], drawn[50:100])
    assert np.array_equal(drawn, mst.permutations(50, 130, [1, 2]))
    assert not np.array_equal(drawn, mst.permutations(50, 130, [1, 3]))


@pytest.mark.parametrize(
    ("available", "limit", "wanted"),
    [
        ([20] * 10, None, [20] * 10),
        ([20] * 10, 1000, [20] * 10),
        ([20] * 10, 10, [1] * 10),
        ([20] * 10, 13, [2, 2, 2, 1, 1, 1, 1, 1, 1, 1]),
        ([1, 100, 100], 61, [1, 30, 30]),
        ([100, 2, 5], 50, [43, 2, 5]),
    ],
)
def test_a_limit_is_shared_evenly_and_used_up(available, limit, wanted):
    assert mst.shares(available, limit) == wanted


# --- the store -------------------------------------------------------------------------------------------------------


def test_modalities_their_order_and_kinds(built):
    known = built.info.modalities
    assert list(known) == ["mnist", "svhn", "text"]
    assert [(m.kind, m.shape) for m in known.values()] == [
        ("image", (1, 28, 28)),
        ("image", (3, 32, 32)),
        ("text", (8,)),
    ]
    assert (known["text"].placement, known["text"].fill, known["text"].alphabet) == ("random", " ", text.ALPHABET)
    assert built.info.labels.names == tuple("0123456789")
    assert (built.folder / "preview.png").stat().st_size > 1000


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_modalities_of_every_item_name_its_label(built, svhn_folder, split):
    n = SVHN_SMALL[split] // 10
    labels = built.labels(split)
    assert built.count(split) == 10 * n * 20
    assert np.bincount(labels).tolist() == [n * 20] * 10
    digits, digit_labels = sources.digits("embedded", Path()).splits[split]
    pictures, picture_labels = svhn.read_mat(svhn_folder / svhn.FILES[split])
    for name, images, known in (("mnist", digits, digit_labels), ("svhn", pictures, picture_labels)):
        index = built.index(split, name)
        origin = np.load(built.folder / split / f"{name}.source.npy")
        assert np.array_equal(known[origin][index], labels)
        assert np.array_equal(
            built.array(split, name).reshape(len(origin), -1), images[origin].reshape(len(origin), -1)
        )
    words = text.decode(built.array(split, "text"))
    assert words == [word.ljust(8) for word in mst.WORDS]
    assert np.array_equal(built.index(split, "text"), labels)


def test_each_block_of_a_digit_is_a_permutation_and_the_two_sources_are_independent(built):
    starts = np.flatnonzero(np.diff(built.labels("train"), prepend=-1))
    same = 0
    for start in starts:
        mnist, numbers = (built.index("train", name)[start : start + 200].reshape(20, 10) for name in ("mnist", "svhn"))
        for block in [*mnist, *numbers]:
            assert len(set(block.tolist())) == 10
        assert len({tuple(block) for block in mnist}) == 20
        same += int(np.sum(mnist - mnist.min() == numbers - numbers.min()))
    assert 120 < same < 290  # of 2,000 pairs of independent permutations of ten: 200 +- 14


def test_same_seed_same_store_other_seed_other_pairs(built, svhn_folder, tmp_path):
    for name, seed in (("same", 3), ("other", 4)):
        mst.build(tmp_path / name, tmp_path, digits="embedded", svhn_source=str(svhn_folder), seed=seed)
    assert Store(tmp_path / "same").fingerprint == built.fingerprint
    other = Store(tmp_path / "other")
    assert np.array_equal(other.array("train", "svhn"), built.array("train", "svhn"))
    assert not np.array_equal(other.index("train", "svhn"), built.index("train", "svhn"))


def test_a_limit_makes_a_small_store_of_whole_items(svhn_folder, tmp_path):
    info = mst.build(tmp_path / "mst", tmp_path, digits="embedded", svhn_source=str(svhn_folder), limit=25)
    store = Store(tmp_path / "mst")
    assert np.bincount(store.labels("test")).tolist() == [3] * 5 + [2] * 5
    assert len(store.array("test", "svhn")) == len(store.array("train", "mnist")) == 25
    assert "a subset of 25 train and 25 test tuples" in info.stand_in


def test_pictures_held_out_make_a_split_of_their_own(svhn_folder, tmp_path):
    where = {"digits": "embedded", "svhn_source": str(svhn_folder), "multiplier": 2}
    info = mst.build(tmp_path / "mst", tmp_path, validation=20, **where)
    whole = mst.build(tmp_path / "whole", tmp_path, **where)
    assert 2 * 10 <= info.splits["validation"].count <= 2 * 20  # each digit as often as the scarcer source has it
    assert info.splits["train"].count < whole.splits["train"].count
    assert info.files["test/svhn.npy"] == whole.files["test/svhn.npy"]
    shown = {split: {row.tobytes() for row in Store(tmp_path / "mst").array(split, "svhn")} for split in info.splits}
    assert not shown["train"] & shown["validation"]


def test_other_multipliers_change_the_count_and_are_said(svhn_folder, tmp_path):
    info = mst.build(tmp_path / "mst", tmp_path, digits="embedded", svhn_source=str(svhn_folder), multiplier=3)
    assert (info.splits["train"].count, info.splits["test"].count) == (300, 120)
    assert "3 permutations per digit, not the paper's 20" in info.stand_in


def test_what_is_not_the_real_thing_is_said(built):
    assert built.info.stand_in == (
        "embedded digits of scikit-learn, not MNIST; "
        "SVHN files are not the complete official ones (100 train / 40 test images)"
    )
    assert built.info.provenance["tuples_per_digit"]["test"] == [80] * 10
    assert built.info.provenance["svhn"]["train"]["images"] == 100


@pytest.mark.parametrize("value", [-2, 10**6])
def test_an_index_that_points_outside_is_refused(svhn_folder, tmp_path, value):
    mst.build(tmp_path / "mst", tmp_path, digits="embedded", svhn_source=str(svhn_folder), limit=20)
    path = tmp_path / "mst" / "train" / "svhn.index.npy"
    index = np.load(path)
    index[7] = value
    np.save(path, index)
    store = Store(tmp_path / "mst", verify=False)
    with pytest.raises(DataProblem, match=r"svhn\.index\.npy points outside the 20 rows of svhn\.npy"):
        store.index("train", "svhn")
    with pytest.raises(DataProblem, match="does not match its checksum"):
        Store(tmp_path / "mst").index("train", "svhn")


@pytest.mark.parametrize("limit", [1, 9])
def test_a_limit_below_the_number_of_labels_is_refused(tmp_path, limit):
    with pytest.raises(UsageProblem, match=f"--limit {limit} is below the 10 digits"):
        mst.build(tmp_path / "mst", tmp_path, limit=limit)
    assert list(tmp_path.iterdir()) == []


def test_a_signal_leaves_nothing_behind(svhn_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(mst.placing, "finish", lambda *_: signals.leave_if_requested("nothing was written"))
    monkeypatch.setattr(signals, "_received", None)
    original = mst._index

    def then_signal(*arguments):
        signals._received = "SIGTERM"
        return original(*arguments)

    monkeypatch.setattr(mst, "_index", then_signal)
    with pytest.raises(Stopped, match="nothing was written"):
        mst.build(tmp_path / "mst", tmp_path, digits="embedded", svhn_source=str(svhn_folder))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_complete_store_is_below_400_mib(tmp_path, monkeypatch):
    """As many images as MNIST and SVHN have, with their label counts; what is on them does not matter here."""

    def blank(counts, shape):
        return sources.Digits({
            split: sources.Pictures(np.broadcast_to(np.uint8(shade), (sum(known), *shape)), labels_of(known))
            for (split, known), shade in zip(counts.items(), (9, 8), strict=True)
        })  # fmt: skip

    monkeypatch.setattr(sources, "digits", lambda *_: blank(MNIST, (28, 28)))
    monkeypatch.setattr(svhn, "svhn", lambda *_: blank(SVHN, (3, 32, 32)))
    info = mst.build(tmp_path / "mst", tmp_path)
    assert {name: split.count for name, split in info.splits.items()} == TUPLES
    for split in ("train", "test"):
        assert np.bincount(Store(tmp_path / "mst").labels(split)).tolist() == [20 * n for n in PAIRED[split]]
    assert info.stand_in is None
    assert sum(path.stat().st_size for path in (tmp_path / "mst").rglob("*")) < 400 << 20


# --- the command -----------------------------------------------------------------------------------------------------


def mmvae(*arguments, cwd, **environment) -> subprocess.CompletedProcess:
    """Run ``make-dataset mnist-svhn-text`` as a user does."""
    return completed("make-dataset", "mnist-svhn-text", *arguments, cwd=cwd, without="MMVAE_", **environment)


def test_the_command_prints_the_path_or_a_document(svhn_folder, tmp_path):
    done = mmvae("--digits", "embedded", "--svhn", svhn_folder, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["data/mnist-svhn-text"]
    assert "SVHN files are not the complete official ones" in done.stderr
    store = Store(tmp_path / "data" / "mnist-svhn-text")

    again = mmvae("--digits", "embedded", "--svhn", svhn_folder, cwd=tmp_path)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr.splitlines()[0] == "error: data/mnist-svhn-text exists"

    forced = mmvae("--digits", "embedded", "--svhn", svhn_folder, "--force", "--json", "--quiet", cwd=tmp_path)
    document = json.loads(forced.stdout)
    assert document["counts"] == {"train": 2000, "test": 800}
    assert document["fingerprint"] == store.fingerprint
    assert forced.stderr == ""


def test_a_truncated_mat_file_is_one_line_and_leaves_nothing(svhn_folder, tmp_path):
    for name in svhn.FILES.values():
        (tmp_path / name).write_bytes((svhn_folder / name).read_bytes())
    os.truncate(tmp_path / "test_32x32.mat", (tmp_path / "test_32x32.mat").stat().st_size // 2)
    done = mmvae("--digits", "embedded", "--data-dir", tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert "test_32x32.mat cannot be read: truncated" in errors[0]
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test_32x32.mat", "train_32x32.mat"]


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["--limit", "5"], 2, "--limit 5 is below the 10 digits"),
        (["--multiplier", "0"], 2, "Invalid value for '--multiplier'"),
        (["--seed", "-1"], 2, "Invalid value for '--seed'"),
        (["--digits", "embedded", "--svhn", "nowhere"], 3, "--svhn nowhere: no such folder"),
        (["--digits", "nowhere"], 3, "--digits nowhere: no such folder"),
    ],
)
def test_wrong_commands(tmp_path, arguments, code, part):
    done = mmvae(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.rglob("*.npy")) == []


def test_a_folder_that_cannot_be_written(svhn_folder, tmp_path):
    (tmp_path / "file").write_text("")
    done = mmvae("--digits", "embedded", "--svhn", svhn_folder, "--out", "file/mst", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2].startswith("error: cannot write file/mst")


@pytest.mark.slow
def test_a_node_without_a_network_gets_the_alternatives(tmp_path):
    done = mmvae("--digits", "embedded", cwd=tmp_path, http_proxy="http://127.0.0.1:9")
    assert (done.returncode, done.stdout) == (3, "")
    assert "cannot be downloaded" in done.stderr
    assert "--svhn embedded" in done.stderr
    assert list(tmp_path.rglob("*.mat")) == []


@pytest.mark.slow
def test_the_whole_experiment_offline_without_torch(tmp_path):
    code = (
        "import sys; from pathlib import Path; from mmvae_cli.datasets.mnist_svhn_text import build as mst;"
        "info = mst.build(Path('mst'), Path('.'), digits='embedded', svhn_source='embedded');"
        "print(info.splits['train'].count, info.stand_in); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("not MNIST; house numbers drawn by the program, not SVHN")
    assert int(done.stdout.split()[0]) == 28_840


@pytest.mark.slow
def test_sigterm_and_sigkill_leave_nothing_that_looks_finished(tmp_path):
    command = [sys.executable, "-m", "mmvae_cli", "make-dataset", "mnist-svhn-text", "--digits", "embedded", "--svhn",
               "embedded", "--data-dir", str(tmp_path)]  # fmt: skip
    random = np.random.default_rng(0)
    for number in [signal.SIGTERM, *[signal.SIGKILL] * 4, signal.SIGUSR1]:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(1.5 if number != signal.SIGKILL else random.uniform(0.5, 3.0))
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert not (tmp_path / mst.NAME).exists()
        if number == signal.SIGKILL:
            assert process.returncode == -number
        else:
            assert process.returncode == 75
            assert "nothing was written" in errors
    assert list(tmp_path.iterdir()) == []  # the last one swept up what the killed ones left
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == [mst.NAME]
