"""A small world to be hostile to: two datasets, and two runs trained and evaluated on one of them."""

import os
import socket

import pytest
from tiny_recipes import tiny

from mmvae_cli.evaluation import classifier_training

from fuzzing import mmvae
from stores import image_store

SHAPE = (3, 8, 8)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """``data/tiny``, ``tiny.yaml``, ``runs/a`` and ``runs/b`` (two seeds, trained and evaluated)."""
    root = tmp_path_factory.mktemp("fuzz")
    image_store(root / "data" / "tiny", views=2, shape=SHAPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier_training, "MOST", 5)  # what they say is of no interest here
        _make_runs(root)
    return root


def _make_runs(root):
    recipe = tiny(2, shape=SHAPE, training__epochs=1, evaluation__latent_samples=20, evaluation__items=12)
    (root / "tiny.yaml").write_text(recipe.dump())
    for seed, name in enumerate("ab"):
        for command in (
            ["train", root / "tiny.yaml", f"training.seed={seed}", "--run", root / "runs" / name],
            ["evaluate", "--ckpt", root / "runs" / name, "--force"],
        ):
            done = mmvae(*command, "--data-dir", root / "data", "--device", "cpu")
            assert done.code == 0, done.stderr
    return root


@pytest.fixture(autouse=True)
def _apart(tmp_path, monkeypatch):
    """Relative paths end in a folder of the test's own, and nothing reaches the internet."""
    inside = tmp_path / "a" / "b" / "c"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    for name in [name for name in os.environ if name.startswith("MMVAE_")]:
        monkeypatch.delenv(name)

    def unreachable(*arguments, **options):
        raise socket.gaierror("no network in the tests")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
