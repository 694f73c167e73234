"""The same command gives the same bytes, and a run says what would have to be the same."""

import hashlib
import json
import sys

import pytest
from tiny_recipes import tiny

from mmvae_cli import __version__, recipe
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.run import checkpoint
from mmvae_cli.run.layout import Run
from mmvae_cli.store import Store

from fuzzing import mmvae
from stores import image_store

SHAPE = (3, 8, 8)


@pytest.fixture(scope="module", params=["mopoe", "mmvae"])
def world(request, tmp_path_factory):
    """A dataset and one trained run. Three test items for four modalities: too few rows for all components."""
    root = tmp_path_factory.mktemp("reproducible")
    image_store(root / "data" / "tiny", views=4, shape=SHAPE, counts=(40, 3))
    made = tiny(4, shape=SHAPE, model__method=request.param, training__epochs=1, evaluation__latent_samples=3)
    (root / "tiny.yaml").write_text(made.dump())
    trained(root, root / "tiny.yaml", root / "run")
    return root


def trained(root, recipe_path, run):
    done = mmvae("train", recipe_path, "--run", run, "--data-dir", root / "data", "--device", "cpu")
    assert done.code == 0, done.stderr
    return run


def weights(run):
    model = MultimodalVAE(Run(run).recipe())
    checkpoint.newest(Run(run)).load_model(model)
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def digests(folder):
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(folder.rglob("*")) if p.is_file()}  # fmt: skip


def test_training_from_the_recipe_of_a_run_gives_its_weights(world, tmp_path):
    again = trained(world, world / "run" / "recipe.yaml", tmp_path / "again")
    assert weights(again) == weights(world / "run")
    assert (again / "recipe.yaml").read_bytes() == (world / "run" / "recipe.yaml").read_bytes()


def test_evaluating_twice_gives_the_same_bytes(world, monkeypatch):
    from mmvae_cli.evaluation import classifier_training

    monkeypatch.setattr(classifier_training, "MOST", 3)
    path, found = world / "run" / "evaluation.json", []
    for _ in range(2):
        path.unlink(missing_ok=True)
        done = mmvae("evaluate", "--ckpt", world / "run", "--data-dir", world / "data", "--force", "--json")
        assert done.code == 0, done.stderr
        found.append((path.read_bytes(), done.stdout))
    assert found[0] == found[1]


def test_sampling_twice_gives_the_same_bytes(world, tmp_path):
    for name in "ab":
        done = mmvae("sample", "--ckpt", world / "run", "--data-dir", world / "data", "--count", 2,
                     "--out", tmp_path / name)  # fmt: skip
        assert done.code == 0, done.stderr
    assert digests(tmp_path / "a") == digests(tmp_path / "b") != {}
    assert any(name.endswith(".npz") for name in digests(tmp_path / "a"))


def test_comparing_twice_gives_the_same_bytes(world, tmp_path):
    mmvae("evaluate", "--ckpt", world / "run", "--data-dir", world / "data", "--metrics", "latent,likelihood")
    for kind in ("json", "html", "csv"):
        for name in "ab":
            done = mmvae("compare", world / "run", "--format", kind, "--out", tmp_path / kind / name)
            assert done.code == 0, done.stderr
        assert digests(tmp_path / kind / "a") == digests(tmp_path / kind / "b") != {}


def test_the_environment_says_what_made_the_run(world):
    import torch

    found = Run(world / "run").environment()
    resolved = Run(world / "run").recipe()
    assert found["mmvae"] == __version__
    assert (found["commit"] is None) != (found["commit_unknown_because"] is None)
    assert found["packages"]["torch"] == torch.__version__.partition("+")[0] or "+" in torch.__version__
    assert (found["device"], found["cuda"]) == ("cpu", torch.version.cuda)
    assert found["threads"] == torch.get_num_threads()
    assert found["command"][1:3] == ["train", str(world / "tiny.yaml")]
    print_of = resolved.fingerprint
    assert found["recipe"] == {"name": "tiny", "fingerprint": print_of, "began_as": print_of}
    assert found["dataset"]["fingerprint"] == Store(world / "data" / "tiny").fingerprint
    assert found["processes"] == 1
    assert found["earlier"] == []
    assert sys.version.startswith(found["python"])


def test_a_recipe_has_another_fingerprint_with_every_other_setting():
    every = {tiny(2, **{key: value}).fingerprint for key, value in (
        ("objective__beta", 2.0), ("training__seed", 3), ("name", "other"), ("evaluation__items", 4))}  # fmt: skip
    assert len(every | {tiny(2).fingerprint}) == 5
    again = recipe.validate(tiny(2).model_dump(mode="json"), "again")
    assert again.fingerprint == tiny(2).fingerprint


def test_a_run_that_went_on_elsewhere_remembers_where_it_was(world, tmp_path, monkeypatch):
    from mmvae_cli.process import signals
    from mmvae_cli.training import loop

    real, calls = loop.batches.Split.batch, [0]

    def counted(self, items, **keys):
        calls[0] += 1
        if calls[0] == 2:
            monkeypatch.setattr(signals, "_received", "SIGTERM")
        return real(self, items, **keys)

    monkeypatch.setattr(loop.batches.Split, "batch", counted)
    command = ["train", world / "tiny.yaml", "--run", tmp_path / "run", "--data-dir", world / "data", "--device", "cpu"]
    assert mmvae(*command).code == 75
    monkeypatch.setattr(signals, "_received", None)
    path = tmp_path / "run" / "environment.json"
    Run(tmp_path / "run").set_environment(json.loads(path.read_text()) | {"host": "elsewhere", "threads": 7})
    assert mmvae(*command).code == 0
    (before,) = Run(tmp_path / "run").environment()["earlier"]
    assert (before["up_to_step"], before["host"], before["threads"]) == (2, "elsewhere", 7)
