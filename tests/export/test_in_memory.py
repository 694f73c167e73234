"""Training on arrays in memory writes what the commands write, and goes on with it."""

import numpy as np
import pytest
import torch

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


def test_networks_of_ones_own_are_run_kept_and_asked_for(here):
    (here / "nets.py").write_text(
        "from torch import nn\n\n"
        "class Trunk(nn.Linear):\n    features = 5\n\n"
        "def line(modality, latent):\n    return Trunk(2, 5), nn.Linear(latent, 2)\n"
    )
    recipe = RECIPE | {"modalities": {"lab": {"network": "own.line"}, "other": {"network": "mlp", "width": 8}}}
    given = {"lab": arrays()["lab"], "other": arrays()["lab"]}
    with pytest.raises(UsageProblem, match=r"own\.line"):
        mmvae_cli.train(recipe, given, device="cpu")
    run = mmvae_cli.train(recipe, given, device="cpu", code="nets.py")
    assert (run.recipe.modalities["lab"].shape, Run(run.folder).code_path.is_file()) == ((2,), True)
    assert run.encode({"lab": given["lab"]}).mean.shape == (30, 4)
    assert mmvae_cli.train(recipe, given, device="cpu", code="nets.py").folder == run.folder


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


def test_names_of_items_come_with_their_latents(here):
    given = arrays() | {"keys": [f"patient {i}" for i in range(30)]}
    run = mmvae_cli.train(RECIPE, given, device="cpu")
    found = [run.latents(split, given="lab") for split in ("train", "test")]
    assert sorted(np.concatenate([one.keys for one in found])) == sorted(given["keys"])
    photos = np.concatenate([run.data(split)["note"] for split in ("train", "test")]).tolist()
    names = np.concatenate([one.keys for one in found]).tolist()
    assert [note.replace("n", "patient") for note in photos] == names
    with pytest.raises(UsageProblem, match="holds other data than these arrays"):
        mmvae_cli.train(RECIPE, given | {"keys": range(30)}, device="cpu")


@pytest.mark.parametrize(("change", "message"), [
    ({"keys": ["a"] * 30}, "'a' names item 1 and item 2"), ({"keys": [""] * 30}, "'' cannot name item 1"),
    ({"keys": [0.5] * 30}, "are no names of items"), ({"keys": ["x" * 1001] * 30}, "cannot name item 1"),
    ({"keys": ["\ud800"] * 30}, "cannot name item 1"), ({"keys": ["a\0b"] * 30}, "cannot name item 1"),
    ({"photo": None}, "no data of photo"),
    ({"foto": np.zeros(30)}, "'foto' is not one of photo, note, lab, labels, split"),
    ({"photo": np.full((30, 8, 8), 255.0)}, "numbers in"), ({"photo": np.zeros((30, 8))}, "are no pictures"),
    ({"lab": np.zeros((30, 3))}, "in every training item"),
    ({"photo_present": [1.0] * 30}, "photo_present: is no mask"),
    ({"note": ["x"] * 29}, r"^the arrays: every array has a row"),
    ({"note": ["x"] * 29 + [None]}, "note: object .* is no text"), ({"note": [1] * 30}, "note: int64 .* is no text"),
    ({"note": [["x"]] * 30}, "is no text"), ({"note": ["\ud800"] * 30}, "half a character"),
    ({"note": [b"\xff"] * 30}, "is no text"), ({"note": [""] * 30}, "no training item has note"),
    ({"lab": np.zeros((30, 0))}, r"array lab: \(30, 0\) holds nothing"),
    ({"lab": np.ones((30, 2), complex)}, "no data of a known kind"), ({"lab": np.ones((30, 2, 2))}, "of a known kind"),
    ({"lab": np.full((30, 2), None)}, "of a known kind"), ({"lab": [[1.0], [1.0, 2.0]]}, "no array can be made of it"),
    ({"lab": torch.empty(30, 2, device="meta")}, "no array can be made of it"),
    ({"lab": np.ma.masked_less(np.arange(60.0).reshape(30, 2), 3)}, "lab: some of its values are masked"),
    ({"lab": np.full((30, 2), np.inf)}, "inf is not finite"), ({"lab": (x for x in range(30))}, "lab 0"),
    ({"photo": np.zeros((30, 0, 8, 8), np.uint8)}, "array photo: .* holds nothing"), ({"photo": 3}, "are no pictures"),
    ({"photo": ["a"] * 30}, "are no pictures"), ({"photo": np.zeros((30, 8, 8), complex)}, "is no image"),
    ({"labels": [0.5] * 30}, "are no classes"), ({"split": ["x"] * 30}, "is no split"),
    ({"split": ["train"] * 30}, "no item is in split test"), ({1: np.zeros(30)}, "'1' is not one of"),
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


def with_setting(key: str, value) -> dict:
    section, _, name = key.partition(".")
    return RECIPE | {section: RECIPE.get(section, {}) | {name: value}}


def circle() -> dict:
    content = dict(RECIPE)
    content["model"] = content
    return content


@pytest.mark.parametrize(("call", "message"), [
    ({"recipe": None}, "the recipe: NoneType is no recipe"), ({"recipe": [RECIPE]}, "list is no recipe"),
    ({"recipe": "nonesuch"}, "no recipe 'nonesuch'"), ({"recipe": {}}, "the recipe: 5 error"),
    ({"recipe": with_setting("model.method", object())}, "the recipe: model.method: object is no value of a recipe"),
    ({"recipe": with_setting("model.subsets", {"a"})}, "model.subsets: set is no value"),
    ({"recipe": with_setting("model.method", b"mopoe")}, "bytes is no value"),
    ({"recipe": with_setting("training.learning_rate", 1j)}, "learning_rate: complex is no value"),
    ({"recipe": with_setting("training.learning_rate", np.float64("nan"))}, "learning_rate: has to be a finite number"),
    ({"recipe": RECIPE | {1: 2}}, "the recipe: the key 1 is no text"), ({"recipe": circle()}, "too many levels"),
    ({"recipe": with_setting("dataset.name", "..")}, "cannot name a dataset"),
    ({"recipe": with_setting("modalities.labels", {"network": "mlp"})}, "modalities.labels: the name stands for"),
    ({"overrides": [3]}, r"overrides: \[3\] is no list of texts"), ({"overrides": None}, "None is no list of texts"),
    ({"overrides": {"training.epochs": 1}}, "is no list of texts"), ({"overrides": [b"a=1"]}, "is no list of texts"),
    ({"overrides": "epochs"}, "is not KEY=VALUE"), ({"run": 3}, "run: '3' is no path"), ({"run": ""}, "path is empty"),
    ({"data_dir": None}, "data_dir: 'None' is no path"), ({"data_dir": "a\0b"}, "data_dir: .* is no path"),
    ({"device": None}, "--device 'None': use auto"), ({"arrays": 3}, "int is no mapping"),
    ({"arrays": {name: array[:2] for name, array in arrays().items()}}, "^of 2 items none would be left"),
])  # fmt: skip
def test_a_wrong_call_is_one_sentence(here, call, message):
    with pytest.raises(UsageProblem, match=message) as caught:
        mmvae_cli.train(**({"recipe": RECIPE, "arrays": arrays(), "device": "cpu"} | call))
    assert "--raw" not in caught.value.hint
    assert not (here / "runs").exists()


def test_numbers_of_numpy_and_the_recipe_of_another_run_are_taken(here):
    training = {"epochs": np.int64(1), "batch_size": torch.tensor(8), "learning_rate": np.float64(0.001)}
    recipe = RECIPE | {"training": training, "dataset": {"name": np.str_("mine")}}
    given = arrays() | {"note": [b"n %d" % i for i in range(30)], "lab": torch.tensor(arrays()["lab"]).bfloat16()}
    run = mmvae_cli.train(recipe, given, device="cpu")
    assert (run.recipe.training.batch_size, run.recipe.training.learning_rate) == (8, 0.001)
    assert run.data("train")["note"][0].startswith("n ")
    assert mmvae_cli.train(run.recipe, given, run="again", device="cpu").step == run.step
