"""Names that are not UTF-8, as old archives and file servers have them: what trains also goes on, evaluates, samples
and compares, and every file of ours is read back by its own reader."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from driving import few_steps, mmvae
from PIL import Image

from mmvae_cli import store
from mmvae_cli.comparison.content import plain
from mmvae_cli.disk import sealed
from mmvae_cli.process import paths
from mmvae_cli.process.errors import DataProblem
from mmvae_cli.study import slurm

ODD = os.fsdecode(b"r\xe9s")


@pytest.fixture
def odd(world):
    """The world in a folder of such a name, its data and its run under others."""
    root = world.root.rename(world.root.with_name(f"w{ODD}"))
    (root / "data").rename(root / ODD)
    (root / "runs" / "a").rename(root / "runs" / ODD)
    return root


def test_every_verb_knows_them(odd):
    run, data = f"runs/{ODD}", f"--data-dir={ODD}"
    shutil.copytree(odd / run, odd / f"new{ODD}")
    (odd / f"new{ODD}" / "evaluation.json").unlink()
    newest = sorted((odd / run / "checkpoints").iterdir())[-1]
    newest.unlink()
    for command in (
        ["train", "tiny.yaml", "--run", run, data],
        ["train", "tiny.yaml", "training.epochs=3", "--run", run, data],
        ["evaluate", "--ckpt", run, data, "--metrics", "latent,coherence", "--force"],
        ["sample", "--ckpt", run, data, "--kind", "prior", "--count", "1"],
        ["compare", run, f"new{ODD}", "--format", "html", "--out", ODD],
        *(["compare", run, f"new{ODD}", "--format", kind] for kind in ("md", "json")),
    ):  # fmt: skip
        found = mmvae(*command, cwd=odd, first=few_steps)
        assert found.code == 0, f"{command}: {found.err}"
        assert "damaged" not in found.err
    assert sealed.read_json(odd / run / "environment.json")["dataset"]["folder"] == f"{ODD}/tiny"
    assert r"newr\xe9s" in (odd / ODD / "comparison.html").read_text(encoding="utf-8")  # among those left out
    assert json.loads(found.out)["format"] == "mmvae-comparison"


def test_a_run_that_failed_says_so_and_can_be_taken_up_again(odd):
    run = odd / "runs" / ODD
    sealed.write_json(run / "status.json", {"state": "failed", "step": 6, "reason": f"cannot write {run}: full"})
    found = mmvae("train", "tiny.yaml", "--run", run, "--data-dir", ODD, cwd=odd)
    assert found.code == 0, found.err


def test_sources_of_datasets(tmp_path):
    home = tmp_path / ODD
    for split in ("train", "test"):
        (home / "tensors" / split).mkdir(parents=True)
        torch.save(torch.full((20, 3, 28, 28), 9, dtype=torch.uint8), home / "tensors" / split / "m0.pt")
        torch.save(torch.arange(20) % 10, home / "tensors" / split / "labels.pt")
    (home / ODD).mkdir()
    Image.fromarray(np.full((40, 40, 3), 7, np.uint8)).save(home / ODD / f"{ODD}.png")
    png = ["make-dataset", "polymnist", "--digits", "embedded", "--limit", "20", "--format", "png"]
    for command in (
        ["make-dataset", "polymnist", "--from", home / "tensors", "--out", home / "a"],
        [*png, "--backgrounds", home / ODD, "--out", home / f"b{ODD}"],
        ["make-dataset", "polymnist", "--from", home / f"b{ODD}" / "png" / "PolyMNIST", "--out", "c"],
        ["make-dataset", "celeba", "--source", "embedded", "--count", "30", "--out", home / "d"],
    ):
        found = mmvae(*command, cwd=tmp_path)
        assert found.code == 0, f"{command}: {found.err}"
    info = store.Store(home / f"b{ODD}").info
    assert r"not known to be the paper's: r\xe9s.png" in str(info.stand_in)
    assert list(info.provenance["backgrounds"]["sha256"]) == [r"r\xe9s.png"]


def test_a_script_gets_the_path_as_it_is_and_a_reader_its_bytes(tmp_path):
    code = f"from mmvae_cli.process import console; console.result({ODD!a}); console.warn({ODD!a})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60,
                          env=os.environ | {"PYTHONIOENCODING": "utf-8"})  # fmt: skip
    assert (done.stdout, done.stderr) == (b"r\xe9s\n", b"warning: r\\xe9s\n")


def test_a_recipe_holds_none_and_says_what_to_do(odd):
    recipe = odd / "own.yaml"
    recipe.write_text((odd / "tiny.yaml").read_text().replace("name: tiny", 'name: "./r\\udce9s/tiny"'))
    found = mmvae("train", "own.yaml", "--run", "x", cwd=odd)
    assert (found.code, "dataset.name: has to be text in UTF-8" in found.err) == (2, True), found.err
    found = mmvae("train", "tiny.yaml", f"dataset.name=./{ODD}/tiny", "--run", "x", cwd=odd)
    assert (found.code, "override dataset.name: a character that no YAML has" in found.complaint) == (2, True)
    assert "--data-dir" in found.err


def test_the_script_of_a_study_has_the_bytes(odd, monkeypatch):
    monkeypatch.chdir(odd)
    path = slurm._kept(os.fsencode(f"what=('{ODD}.yaml')"), "tiny", ".sbatch")
    assert path.read_bytes() == b"what=('r\xe9s.yaml')"


def test_other_halves_of_surrogates_are_refused_as_before(tmp_path):
    for half, fine in (("\\udce9", True), ("\\ud83d\\ude00", True), ("\\ud83d", False), ("\\udc00", False)):
        (tmp_path / "x.json").write_text(f'["{half}"]')
        if fine:
            sealed.read_json(tmp_path / "x.json")
        else:
            with pytest.raises(DataProblem, match="not valid JSON"):
                sealed.read_json(tmp_path / "x.json")
    assert plain(f"{ODD}\ud83d") == r"r\xe9s "
    assert paths.shown({ODD: [ODD, 1, ("é",)]}) == {r"r\xe9s": [r"r\xe9s", 1, ["é"]]}


def test_a_file_of_such_a_name_is_opened_by_another(tmp_path):
    (tmp_path / ODD).write_text("content")
    with paths.openable(tmp_path / ODD) as path:
        assert path.read_text() == "content"
        assert str(path).isascii()
    with paths.openable(Path("é")) as path:
        assert path == Path("é")
