"""``mmvae export --to latents``: what is in the files, and what is refused."""

import csv
import json
import shutil

import numpy as np
import pytest

import mmvae_cli
from mmvae_cli.export import command
from mmvae_cli.export.command import ExportRequest
from mmvae_cli.process.errors import DataProblem, UsageProblem
from mmvae_cli.store import Store, finish


def export(data, *runs, **options):
    return command.run(list(runs), ExportRequest("latents", device="cpu", **options), data_dir=data)


def test_an_npz_of_a_run_lies_in_its_folder(runs, data):
    path = export(data, runs["private"], given="m1,m0", split="train", force=True)
    assert path == str(runs["private"] / "latents.train.m0+m1.npz")
    found = mmvae_cli.open_run(runs["private"], data_dir=data, device="cpu").latents("train", "m0,m1")
    with np.load(path, allow_pickle=False) as arrays:
        assert np.array_equal(arrays["mean"], found.mean)
        assert np.array_equal(arrays["logvar"], found.logvar)
        assert np.array_equal(arrays["private_mean_m1"], found.private_mean["m1"])
        assert arrays["items"].tolist() == list(range(8))
        assert arrays["label_names"][arrays["labels"]].tolist() == [found.label_names[i] for i in found.labels]
        about = json.loads(str(arrays["about"]))
    assert (about["split"], about["given"], about["checkpoint"]) == ("train", ["m0", "m1"], "step-00000004.safetensors")


def test_a_name_that_is_given_twice_counts_once(runs, data):
    path = export(data, runs["private"], given="m0, m0", split="train", force=True)
    assert path == str(runs["private"] / "latents.train.m0.npz")


def test_a_csv_has_a_row_for_each_item(runs, data, tmp_path):
    path = export(data, runs["mopoe"], out=tmp_path / "new" / "latents.csv", given="text")
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = mmvae_cli.open_run(runs["mopoe"], data_dir=data, device="cpu").latents("test", "text")
    assert list(rows[0]) == ["item", "label", *(f"{n}_{d}" for n in ("mean", "logvar") for d in range(6))]
    assert [float(row["mean_3"]) for row in rows] == found.mean[:, 3].tolist()
    assert [row["label"] for row in rows] == [found.label_names[i] for i in found.labels]


@pytest.fixture
def named(data, tmp_path):
    """The digits, whose test items have names of their own; no other bytes."""
    shutil.copytree(data / "digits", tmp_path / "digits")
    keys = np.array([f"Zoë {item}".encode() for item in range(30)])
    np.save(tmp_path / "digits/test/keys.npy", keys)
    finish(tmp_path / "digits", Store(data / "digits").info, replace=True)
    return tmp_path


def test_items_that_have_names_keep_them(runs, data, named):
    store, before = Store(named / "digits"), Store(data / "digits")
    assert (store.fingerprint, store.info.version, store.keys("train")) == (before.fingerprint, 1, None)
    path = export(named, runs["gappy"].with_name("mopoe"), given="m0", out=named / "latents.npz")
    with np.load(path) as arrays:
        assert arrays["keys"][arrays["items"] == 7].tolist() == ["Zoë 7"]
    path = export(named, runs["mopoe"], out=named / "latents.csv")
    with open(path, newline="", encoding="utf-8") as file:
        assert [row["key"] for row in csv.DictReader(file)] == store.keys("test").tolist()


def test_names_are_those_of_the_cells_in_an_h5ad(runs, named):
    anndata = pytest.importorskip("anndata", reason="the package anndata is not installed")
    read = anndata.read_h5ad(export(named, runs["mopoe"], out=named / "latents.h5ad"))
    assert read.obs_names.tolist() == [f"Zoë {item}" for item in range(30)]


def test_a_name_that_was_changed_is_told(runs, named):
    content = bytearray((named / "digits/test/keys.npy").read_bytes())
    content[-1] ^= 1
    (named / "digits/test/keys.npy").write_bytes(bytes(content))
    with pytest.raises(DataProblem, match=r"keys\.npy does not match its checksum"):
        export(named, runs["mopoe"], out=named / "latents.npz")


def test_an_h5ad_is_opened_by_anndata(runs, data, tmp_path):
    anndata = pytest.importorskip("anndata", reason="the package anndata is not installed")
    path = export(data, runs["private"], out=tmp_path / "latents.h5ad")
    found = mmvae_cli.open_run(runs["private"], data_dir=data, device="cpu").latents()
    read = anndata.read_h5ad(path)
    assert np.array_equal(read.X, found.mean)
    assert np.array_equal(read.obsm["logvar"], found.logvar)
    assert read.obsm["private_mean_text"].shape == (30, 2)
    assert read.obs["label"].tolist() == [found.label_names[i] for i in found.labels]
    assert json.loads(read.uns["about"])["dataset"] == "digits"


def test_h5ad_without_anndata_says_what_to_install(runs, data, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "anndata", None)
    with pytest.raises(UsageProblem, match="needs the package anndata") as caught:
        export(data, runs["mopoe"], out=tmp_path / "latents.h5ad")
    assert caught.value.hint == "pip install 'mmvae-cli[anndata]'"
    assert list(tmp_path.iterdir()) == []


def test_data_without_labels(runs, data, tmp_path):
    path = export(data, runs["own"], out=tmp_path / "latents.npz")
    with np.load(path) as arrays:
        assert set(arrays) == {"mean", "logvar", "items", "about"}


@pytest.mark.parametrize(("options", "message"), [
    ({"given": "m9"}, "given: no modality 'm9'"), ({"out": "latents.txt"}, r"as \.npz, \.csv or \.h5ad"),
    ({"split": "dev"}, "no split 'dev'"),
])  # fmt: skip
def test_what_is_refused(runs, data, tmp_path, monkeypatch, options, message):
    from pathlib import Path

    monkeypatch.chdir(tmp_path)
    options = {"out": Path(options["out"]) if "out" in options else tmp_path / "latents.npz"} | {
        key: value for key, value in options.items() if key != "out"
    }
    with pytest.raises((UsageProblem, DataProblem), match=message):
        export(data, runs["mopoe"], **options)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_and_one_file_for_two_runs_are_refused(runs, data, tmp_path):
    out = tmp_path / "latents.npz"
    out.write_bytes(b"mine")
    with pytest.raises(UsageProblem, match=r"latents\.npz exists"):
        export(data, runs["mopoe"], out=out)
    with pytest.raises(UsageProblem, match="is one place, for one run"):
        export(data, runs["mopoe"], runs["own"], out=out, force=True)
    assert out.read_bytes() == b"mine"


def test_data_that_are_gone_or_others_are_told(runs, data, tmp_path):
    with pytest.raises(DataProblem, match="no dataset at"):
        export(tmp_path, runs["mopoe"], out=tmp_path / "latents.npz")


def test_damaged_data_are_told_before_anything_is_written(runs, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    array = tmp_path / "data" / "digits" / "test" / "m0.npy"
    content = bytearray(array.read_bytes())
    content[-1] ^= 1
    array.write_bytes(bytes(content))
    with pytest.raises(DataProblem, match=r"m0.npy"):
        export(tmp_path / "data", runs["mopoe"], out=tmp_path / "latents.npz")
    assert not (tmp_path / "latents.npz").exists()
