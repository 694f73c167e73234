"""Training on incomplete rows: what is not there never matters, what is there trains as ever."""

import json

import numpy as np
import pytest
import torch
from tiny_recipes import of_method, tiny

from mmvae_cli.cli import app
from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.run import checkpoint
from mmvae_cli.run.layout import Run
from mmvae_cli.store import Store, presence
from mmvae_cli.store import folder as store
from mmvae_cli.training import loop
from mmvae_cli.training.engine import Way, way_of
from mmvae_cli.training.loop import Request, train

from stores import image_store

SHAPE = (3, 8, 8)
MISSING = {"rate": 0.4, "seed": 3}


def trained(recipe, dataset, run):
    train(recipe, Request(run, dataset, "cpu"))
    return [json.loads(line) for line in Run(run).metrics_path.read_text().splitlines()]


def losses(records):
    return [record["loss"] for record in records]


def with_holes(folder, name, absent, split="train"):
    """Takes a modality from the items ``absent`` (bool) of a store of pictures: they are no longer in it."""
    rows = np.load(folder / split / f"{name}.npy")
    np.save(folder / split / f"{name}.npy", rows[~absent])
    np.save(folder / split / f"{name}.index.npy", np.where(absent, -1, np.cumsum(~absent) - 1).astype(np.int32))
    store.finish(folder, Store(folder, verify=False).info, replace=True)
    return folder


@pytest.mark.parametrize("method", ["mopoe", "mvae_original", "mmvae_dreg", "mvtcae", "mmvaeplus"])
def test_what_was_taken_never_matters(method, tmp_path):
    """Bit for bit, whatever stands there; and a store without it gives the same losses."""
    recipe = of_method(method, shape=SHAPE, training__missing=MISSING, training__log_every=1)
    data = image_store(tmp_path / "tiny", shape=SHAPE)
    found = trained(recipe, data, tmp_path / "run")
    table = presence.of_training(Store(data), recipe).table
    for m in range(3):
        pictures = np.load(data / "train" / f"m{m}.npy")
        pictures[~table[:, m]] = 255 - pictures[~table[:, m]]
        np.save(data / "train" / f"m{m}.npy", pictures)
    store.finish(data, Store(data, verify=False).info, replace=True)
    assert losses(trained(recipe, data, tmp_path / "filled")) == losses(found)
    for m in range(3):
        with_holes(data, f"m{m}", ~table[:, m])
    holes = of_method(method, shape=SHAPE, training__log_every=1)
    assert losses(trained(holes, data, tmp_path / "holes")) == losses(found)
    shown = found[-1]
    assert 0 < shown["present.m1"] < 1
    assert all(np.isfinite(value) for value in shown.values())


@pytest.mark.parametrize("method", ["mopoe", "mvae", "mmvae_iwae"])
def test_a_modality_that_is_absent_everywhere_trains_like_a_model_without_it(method, tmp_path):
    data = image_store(tmp_path / "tiny", shape=SHAPE)
    equal = {"objective__likelihood_weights": "equal", "training__log_every": 1}
    without = of_method(method, 2, shape=SHAPE, **equal)
    expected = losses(trained(without, data, tmp_path / "without"))
    with_holes(data, "m2", np.ones(40, bool))
    recipe = of_method(method, 3, shape=SHAPE, **equal)
    found = trained(recipe, data, tmp_path / "run")
    assert losses(found) == expected
    assert found[0]["present.m2"] == 0.0
    assert "log_likelihood.m2" not in found[0]
    assert "log_likelihood.m1" in found[0]
    longer = of_method(method, 3, shape=SHAPE, training__epochs=3, **equal)
    assert len(trained(longer, data, tmp_path / "run")) == 15, "networks that never trained are no hindrance to go on"


@pytest.mark.parametrize("method", ["mopoe", "mmvaeplus"])
def test_presence_of_all_is_the_complete_path(method, tmp_path, monkeypatch):
    data = image_store(tmp_path / "tiny", shape=SHAPE)
    recipe = of_method(method, shape=SHAPE, training__log_every=1)
    expected = losses(trained(recipe, data, tmp_path / "complete"))
    every = presence.Presence(np.arange(40), np.ones((40, 3), bool))
    assert every.needed is None, "and no presence is asked for"
    monkeypatch.setattr(presence.Presence, "needed", every.table)
    monkeypatch.setattr(loop, "of_training", lambda *asked: every)
    assert losses(trained(recipe, data, tmp_path / "present")) == expected


def test_means_are_over_the_rows_that_have_a_modality(tmp_path):
    """Of modalities with much the same pictures they are much the same, however few rows have one."""
    data = image_store(tmp_path / "tiny", shape=SHAPE)
    few = {"rate": 0.6, "keep": ["m0"]}
    recipe = tiny(3, shape=SHAPE, training__epochs=1, training__log_every=5, training__missing=few)
    (found,) = trained(recipe, data, tmp_path / "run")
    table = presence.of_training(Store(data), recipe).table
    assert found["present.m0"] == 1.0
    assert found["present.m2"] == pytest.approx(table[:, 2].mean())
    assert found["log_likelihood.m2"] == pytest.approx(found["log_likelihood.m0"], rel=0.3), (
        "an absent row would count 0"
    )


def test_complete_rows_only_train_as_any_complete_data(tmp_path):
    data = image_store(tmp_path / "tiny", shape=SHAPE)
    recipe = tiny(3, shape=SHAPE, training__missing={"rate": 0.2, "rows": "published"}, training__log_every=1)
    found = trained(recipe, data, tmp_path / "run")
    fewer = image_store(tmp_path / "fewer", shape=SHAPE, counts=(21, 24))  # ceil(0.8^3 40)
    used = presence.of_training(Store(data), recipe).items
    for m in range(3):
        pictures = np.load(data / "train" / f"m{m}.npy")[used]
        np.save(fewer / "train" / f"m{m}.npy", pictures)
    store.finish(fewer, Store(fewer, verify=False).info, replace=True)
    assert losses(found) == losses(trained(tiny(3, shape=SHAPE, training__log_every=1), fewer, tmp_path / "fewer run"))
    assert "present.m0" not in found[0]


def test_a_run_on_incomplete_rows_is_stopped_and_goes_on(tmp_path):
    data = image_store(tmp_path / "tiny", shape=SHAPE)
    recipe = tiny(3, shape=SHAPE, training__missing=MISSING, training__epochs=4)
    trained(recipe, data, tmp_path / "whole")
    trained(recipe.with_epochs(2), data, tmp_path / "parts")
    trained(recipe, data, tmp_path / "parts")
    one, other = (checkpoint.newest(Run(tmp_path / name)).tensors for name in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_steps_are_called_where_rows_differ(capsys):
    gpu = torch.device("cuda:0")
    settings = tiny(3).training
    assert way_of(gpu, settings, loop.ProcessGroup(0, 1), 100, on_device=True, complete=False) == Way()
    assert "incomplete data: each step is called, not recorded" in capsys.readouterr().err


def test_processes_do_not_share_incomplete_rows(tmp_path, monkeypatch):
    data = image_store(tmp_path / "tiny", shape=SHAPE)
    recipe = tiny(3, shape=SHAPE, training__missing=MISSING)
    with pytest.raises(UsageProblem, match="cannot share incomplete data"):
        loop.refuse_processes(presence.of_training(Store(data), recipe), loop.ProcessGroup(0, 2))
    loop.refuse_processes(presence.of_training(Store(data), recipe), loop.ProcessGroup(0, 1))


def test_a_dry_run_counts_what_is_trained_on(tmp_path, capsys):
    data = image_store(tmp_path / "tiny", shape=SHAPE)
    (tmp_path / "mine.yaml").write_text(tiny(3, shape=SHAPE, dataset__name=str(data)).dump())
    rows = ["training.missing.rate=0.5", "training.missing.keep=[m0]", "training.missing.rows=published"]
    assert app(["train", str(tmp_path / "mine.yaml"), *rows, "--dry-run"], standalone_mode=False) in (0, None)
    assert "(10 training items" in capsys.readouterr().err
