"""From arrays without labels to numbers and figures, and a table's recipe trained as it is written."""

import json

import numpy as np
from typer.testing import CliRunner

from mmvae_cli.cli import app


def run(*words):
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, f"{done.output}{done.exception!r}"
    return done


def test_data_without_labels_are_trained_measured_and_drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez("cells.npz", rna=rng.poisson(3, (60, 6)), protein=rng.normal(size=(60, 3)))
    run("make-dataset", "arrays", "cells.npz", "--raw", "rna", "--recipe", "mine.yaml")
    run("train", "mine.yaml", "training.epochs=1", "--run", "run", "--device", "cpu")
    said = run("evaluate", "--ckpt", "run", "--device", "cpu").output
    assert "not measured: latent, coherence: no labels" in said
    assert "alignment of modalities, 6 items" in said
    found = json.loads((tmp_path / "run/evaluation.json").read_text())
    assert found["latent"] is found["coherence"] is found["chance"] is None
    assert np.isfinite(list(found["likelihood"]["joint"].values())).all()
    run("sample", "--ckpt", "run", "--device", "cpu")
    assert (tmp_path / "run/figures/reconstruction.png").is_file()
    drawn = np.load(tmp_path / "run/figures/prior.npz")["sample_rna"]
    assert (drawn > 0).all()


def test_a_tables_recipe_trains_as_it_is_and_its_vectors_are_judged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    means = rng.normal(size=(3, 4))
    rows = [[*(means[i % 3] + 0.1 * rng.normal(size=4)).round(4), "abc"[i % 3]] for i in range(240)]
    lines = ["a,b,c,d,label", *(",".join(map(str, row)) for row in rows)]
    (tmp_path / "items.csv").write_text("\n".join(lines))
    run("make-dataset", "table", "items.csv", "--modality", "left=vector:a,b", "--modality", "right=vector:c,d",
        "--recipe", "mine.yaml")  # fmt: skip
    run("train", "mine.yaml", "training.epochs=3", "--run", "run", "--device", "cpu")
    run("evaluate", "--ckpt", "run", "--metrics", "coherence", "--device", "cpu", "--force")
    found = json.loads((tmp_path / "run/evaluation.json").read_text())["coherence"]
    assert min(found["classifiers"].values()) > 0.9
