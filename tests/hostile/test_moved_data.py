"""Data that were moved after a run was trained on them, where the recipe names a path: a run's commands take them from
--data-dir, known by their fingerprint, and nothing else in their place."""

import shutil

import pytest
from driving import mmvae

from mmvae_cli.disk import sealed
from mmvae_cli.run.layout import Run
from mmvae_cli.store import Store

from stores import image_store


@pytest.fixture
def moved(world):
    """``r``: trained for one epoch on the path there/tiny, which then went to here/tiny."""
    (world.root / "data").rename(world.root / "there")
    path = f"dataset.name={world.root}/there/tiny"
    assert mmvae("train", "tiny.yaml", path, "training.epochs=1", "--run", "r", cwd=world.root).code == 0
    (world.root / "there").rename(world.root / "here")
    world.path = path
    return world


def commands(world):
    yield "evaluate", "--ckpt", "r", "--metrics", "latent"
    yield "sample", "--ckpt", "r", "--kind", "prior", "--count", "1", "--force"
    yield "train", "tiny.yaml", world.path, "--run", "r"


def test_a_run_finds_its_data_under_the_data_dir(moved):
    for command in commands(moved):
        found = mmvae(*command, cwd=moved.root)
        assert (found.code, "no dataset at" in found.complaint) == (3, True), found.err
        assert "--data-dir, which holds tiny" in found.err
    for command in commands(moved):
        found = mmvae(*command, "--data-dir", "here", cwd=moved.root)
        assert found.code == 0, f"{command}: {found.err}"
    environment = sealed.read_json(moved.root / "r" / "environment.json")
    assert environment["dataset"] == {
        "folder": "here/tiny",
        "fingerprint": Store(moved.root / "here" / "tiny").fingerprint,
    }
    assert Run(moved.root / "r").status()["epoch"] == 2


def test_also_where_other_data_lie_at_the_old_place(moved):
    image_store(moved.root / "there" / "tiny", views=2, counts=(24, 12), classes=3, seed=5)
    for command in commands(moved):
        found = mmvae(*command, cwd=moved.root)
        assert (found.code, "was trained on other data" in found.complaint) == (3, True), found.err
        assert mmvae(*command, "--data-dir", "here", cwd=moved.root).code == 0
    shutil.rmtree(moved.root / "here")
    image_store(moved.root / "here" / "tiny", views=2, counts=(24, 12), classes=3, seed=6)
    found = mmvae("evaluate", "--ckpt", "r", "--data-dir", "here", "--metrics", "latent", cwd=moved.root)
    assert (found.code, f"{moved.root}/there/tiny now holds" in found.complaint) == (3, True), found.err


def test_a_new_run_never_takes_other_data_than_its_recipe_names(moved):
    """A path that was mistyped is no reason to train on something of the same name."""
    found = mmvae("train", "tiny.yaml", moved.path, "--run", "new", "--data-dir", "here", cwd=moved.root)
    assert (found.code, "no dataset at" in found.complaint) == (3, True)
    found = mmvae("train", "tiny.yaml", moved.path, "--seeds", "0", "--data-dir", "here", cwd=moved.root)
    assert (found.code, "no dataset at" in found.complaint) == (3, True)
    assert not (moved.root / "new").exists()
