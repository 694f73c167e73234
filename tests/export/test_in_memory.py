"""Training on arrays in memory writes what the commands write, and goes on with it."""

import numpy as np
import pytest

import mmvae_cli
from mmvae_cli.process.errors import DataProblem, UsageProblem
from mmvae_cli.run.layout import Run
from mmvae_cli.store import Store

RECIPE = {
    "name": "mine", "dataset": {"name": "mine"}, "model": {"method": "mopoe", "latent_dim": 4},
    "modalities": {"photo": {"network": "conv", "width": 8}, "note": {"network": "text", "width": 8},
                   "lab": {"network": "mlp", "width": 8}},
    "training": {"epochs": 1, "batch_size": 8, "learning_rate": 0.001},
}  # fmt: skip


def arrays(count: int = 30) -> dict:
    rng = np.random.default_rng(0)
    return {"photo": rng.random((count, 8, 8)), "note": [f"n {i}" for i in range(count)],
            "lab": rng.normal(50, 5, (count, 2)), "labels": ["a", "b"] * (count // 2)}  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_store_and_a_run_are_written_and_the_run_is_opened(here):
    given = arrays()
    run = mmvae_cli.train(RECIPE, given, overrides=["training.seed=3"], device="cpu")
    assert str(run.folder) == "runs/mine-seed3"
    assert {name: spec.shape for name, spec in run.recipe.modalities.items()} == {
        "photo": (1, 8, 8), "note": (4,), "lab": (2,)
    }  # fmt: skip
    assert (run.recipe.modalities["note"].characters, run.recipe.training.seed) == (12, 3)
    assert Run(run.folder).status()["state"] == "finished"
    store = Store(here / "data" / "mine")
    assert (store.count("train"), store.count("test"), store.info.labels.names) == (27, 3, ("a", "b"))
    assert store.info.modalities["lab"].means is not None
    lab = np.concatenate([run.data(split)["lab"] for split in ("train", "test")])
    np.testing.assert_allclose(np.sort(lab[:, 0]), np.sort(given["lab"][:, 0]), rtol=1e-5)
    assert sorted(path.name for path in (here / "data").iterdir()) == ["mine"]


def test_arrays_with_holes_train_on_what_is_there(here):
    given = arrays()
    given["photo_present"] = [item % 3 > 0 for item in range(30)]
    given["note"][1] = ""
    given["lab"][2] = np.nan
    run = mmvae_cli.train(RECIPE, given, device="cpu")
    store = Store(here / "data" / "mine")
    present = [store.present(split, run.modalities) for split in ("train", "test")]
    assert np.concatenate(present).sum(0).tolist() == [20, 29, 29]
    assert run.latents("train", given="photo").items.tolist() == np.flatnonzero(present[0][:, 0]).tolist()


def test_the_same_arrays_again_go_on_and_others_are_refused(here):
    first = mmvae_cli.train(RECIPE, arrays(), device="cpu")
    longer = mmvae_cli.train(RECIPE, arrays(), overrides=["training.epochs=2"], run=first.folder, device="cpu")
    assert longer.step == 2 * first.step
    with pytest.raises(UsageProblem, match="holds other data than these arrays"):
        mmvae_cli.train(RECIPE, arrays(40), device="cpu")
    assert sorted(path.name for path in (here / "data").iterdir()) == ["mine"]


def test_data_that_were_damaged_since_are_told(here):
    mmvae_cli.train(RECIPE, arrays(), device="cpu")
    path = here / "data" / "mine" / "train" / "photo.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataProblem, match=r"train/photo\.npy does not match its checksum"):
        mmvae_cli.train(RECIPE, arrays(), run="other", device="cpu")


@pytest.mark.parametrize(("change", "message"), [
    ({"photo": None}, "no data of photo"),
    ({"foto": np.zeros(30)}, "'foto' is not one of photo, note, lab, labels, split"),
    ({"photo": np.full((30, 8, 8), 255.0)}, "numbers in"), ({"photo": np.zeros((30, 8))}, "are no pictures"),
    ({"lab": np.zeros((30, 3))}, "in every training item"),
    ({"photo_present": [1.0] * 30}, "photo_present: is no mask"),
    ({"note": ["x"] * 29}, r"^the arrays: every array has a row"),
])  # fmt: skip
def test_arrays_that_do_not_fit_the_recipe_are_refused_and_nothing_is_left(here, change, message):
    from mmvae_cli.process.errors import Failure

    given = {name: array for name, array in (arrays() | change).items() if array is not None}
    with pytest.raises(Failure, match=message):
        mmvae_cli.train(RECIPE, given, device="cpu")
    assert list((here / "data").iterdir()) == []
    assert not (here / "runs").exists()


def test_what_is_no_mapping_is_refused():
    with pytest.raises(UsageProblem, match="list is no mapping of modalities to data"):
        mmvae_cli.train(RECIPE, [np.zeros(3)], device="cpu")
    with pytest.raises(UsageProblem, match=r"modalities.photo: "):
        mmvae_cli.train(RECIPE | {"modalities": {"photo": "conv"}}, arrays(), device="cpu")
