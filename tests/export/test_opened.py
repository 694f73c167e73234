"""A run as an object: the numbers of evaluate and sample, arrays as people have them, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import mmvae_cli
from mmvae_cli.evaluation import command as evaluate
from mmvae_cli.evaluation import latent
from mmvae_cli.evaluation.encoding import Evaluation
from mmvae_cli.process.errors import DataProblem, Failure, UsageProblem
from mmvae_cli.run import trained
from mmvae_cli.run.layout import Run
from mmvae_cli.sampling import command as sample
from mmvae_cli.sampling import generation
from mmvae_cli.sampling.figures import FigureRequest


@pytest.fixture
def opened(runs, data):
    return lambda name, **more: mmvae_cli.open_run(runs[name], data_dir=data, device="cpu", **more)


# the same numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mopoe", "mmvae"])
def test_latents_are_what_evaluate_classifies(runs, data, opened, tmp_path, name):
    """Its accuracy comes out where a regression is fitted on its training items and tested on our latents."""
    _, found = evaluate.run(runs[name], metrics=["latent"], protocol=None, chosen=None, data_dir=data, device="cpu",
                            force=False, verify=False, out=tmp_path)  # fmt: skip
    run = Run(runs[name])
    loaded = trained.load(run, run.recipe(), None, data_dir=data, device="cpu", verify=False)
    evaluation = Evaluation(loaded.model, run.recipe(), loaded.store, loaded.device)
    pool, test = latent.training_pool(evaluation), opened(name).latents("test", given="m0,m1")
    x = latent.posterior(evaluation, pool, (0, 1)).mean.double().numpy()
    fitted = LogisticRegression(max_iter=1000, random_state=0).fit(x, pool.labels.numpy())
    assert found.latent.values["m0+m1"] == pytest.approx(fitted.score(test.mean, test.labels))


def test_latents_stand_in_the_order_of_the_split(data, opened):
    run = opened("private")
    found, items = run.latents("test", given=["m1", "m0"]), run.data("test")
    assert (found.given, found.split, found.mean.shape) == (("m0", "m1"), "test", (30, 6))
    assert found.items.tolist() == list(range(30))
    assert found.labels.tolist() == np.load(data / "digits/test/labels.npy").tolist()
    again = run.encode({name: items[name] for name in ("m0", "m1")})
    np.testing.assert_allclose(found.mean, again.mean, atol=1e-5)
    np.testing.assert_allclose(found.logvar, again.logvar, atol=1e-5)
    np.testing.assert_allclose(found.private_mean["m1"], again.private_mean["m1"], atol=1e-5)
    assert found.private_logvar["m0"].shape == (30, 2)


@pytest.mark.parametrize("name", ["mopoe", "mmvae", "private"])
def test_what_is_generated_is_what_sample_draws(runs, data, opened, tmp_path, name):
    def drawn(request: FigureRequest, file: str, count: int) -> dict[str, np.ndarray]:
        sample.run(runs[name], request, count=count, seed=3, chosen=None, out=tmp_path, force=True, data_dir=data,
                   device="cpu", verify=False)  # fmt: skip
        with np.load(tmp_path / file) as arrays:
            return dict(arrays)

    run = opened(name)
    prior = run.generate(count=5, seed=3)
    there = drawn(FigureRequest(kind="prior"), "prior.npz", 5)
    assert np.array_equal(prior["m0"], there["sample_m0"][0])
    assert prior["text"].tolist() == there["string_sample_text"][0].tolist()
    there = drawn(FigureRequest(given="m0,m1", target="text"), "text_given_m0+m1.npz", 6)
    given = run.data("test", there["items"])
    ours = run.generate(given, given="m0,m1", target="text", count=10, seed=3)
    if name == "private":  # a row of the figure has one private latent for all items
        own = {"text": there["private_text"][0].repeat(6, 0)}
        ours = run.generate(z=there["z"][0], private=own, target="text")
        assert ours["text"].tolist() == there["string_sample_text"][0].tolist()
    else:
        assert ours["text"].tolist() == there["string_sample_text"].tolist()
    there = drawn(FigureRequest(kind="reconstruction"), "reconstruction.npz", 6)
    codes = given | {"text": there["input_text"]}  # where the words stand, too
    assert np.array_equal(run.reconstruct(codes, seed=3)["m1"], there["sample_m1"][0])


def test_a_latent_is_decoded_as_it_is(opened):
    run = opened("private")
    z, private = np.zeros((2, 6)), {"m0": np.ones((2, 2))}
    found = run.generate(z=z, private=private, target="m0")
    assert found["m0"].shape == (2, 3, 8, 8)
    assert np.array_equal(found["m0"][0], found["m0"][1])
    other = run.generate(z=z, private={"m0": -np.ones((2, 2))}, target="m0")
    assert not np.array_equal(found["m0"], other["m0"])


def test_of_incomplete_data_come_the_items_that_have_what_is_given(opened):
    run = opened("gappy")
    found = run.latents("test", given="m0,text")
    assert found.items.tolist() == [item for item in range(30) if item % 3]
    assert (found.mean.shape, found.private_mean["text"].shape, len(found.labels)) == ((20, 6), (20, 2), 20)
    whole = run.latents("test", given="m0")
    assert len(whole.items) == 30
    items = run.data("test")
    assert len(items["text"]) == 20
    np.testing.assert_allclose(run.encode(items, given="m0").mean, whole.mean[found.items], atol=1e-5)
    with pytest.raises(UsageProblem, match=r"(?s)item 3 of test lacks .*run.data\('test'\)"):
        run.data("test", [1, 3])


def damaged(array: Path) -> None:
    content = bytearray(array.read_bytes())
    content[-1] ^= 1
    array.write_bytes(bytes(content))


def test_a_wrong_number_in_the_data_is_told_whoever_reads_them(runs, data, tmp_path):
    shutil.copytree(data / "digits", tmp_path / "digits")
    damaged(tmp_path / "digits/test/m0.npy")
    run = mmvae_cli.open_run(runs["mopoe"], data_dir=tmp_path, device="cpu")
    assert len(run.latents("train").mean) == 8
    for use in (run.latents, run.data, lambda: run.latents("test", "text")):
        with pytest.raises(DataProblem, match=r"test/m0\.npy does not match its checksum"):
            use()


# arrays as people have them ------------------------------------------------------------------------------------------


def test_bytes_and_fractions_of_a_picture_are_the_same(opened):
    run = opened("own")
    photo = run.data("test", [0, 1])["photo"]
    one = run.encode({"photo": photo})
    for form in (photo / 255, (photo / 255).astype(np.float32)[:, 0], photo[:, 0]):
        np.testing.assert_allclose(run.encode({"photo": form}).mean, one.mean, atol=1e-5)


def test_numbers_go_in_and_come_out_in_their_unit(data, opened):
    run = opened("own")
    found = run.data("test")
    stored = np.load(data / "own/test/lab.npy")
    np.testing.assert_allclose(found["lab"][:, 0], stored[:, 0] * 12.5 + 40, rtol=1e-6)
    assert found["note"].tolist()[:2] == ["n 0", "n 1"]
    latents = run.latents("test", given="lab")
    np.testing.assert_allclose(run.encode({"lab": found["lab"]}).mean, latents.mean, atol=1e-4)
    assert latents.labels is None
    generated = run.generate({"note": ["n 1"]}, target="lab")["lab"]
    assert 10 < generated[0, 0] < 70  # an age


def test_the_evaluation_is_that_of_the_recipes_sampler(runs, data, tmp_path, monkeypatch):
    folder = shutil.copytree(runs["mopoe"], tmp_path / "run")
    recipe = Run(folder).recipe()
    spec = recipe.evaluation.model_copy(update={"sampler": "gmm"})
    run = mmvae_cli.open_run(folder, data_dir=data, device="cpu")
    run.recipe = recipe.model_copy(update={"evaluation": spec})
    monkeypatch.setattr("mmvae_cli.export.opened.result.load", lambda path: path.name)
    (folder / "evaluation.json").touch()
    (folder / "evaluation.gmm.json").touch()
    assert run.evaluation == "evaluation.gmm.json"


def test_the_object_says_what_it_is(runs, opened):
    run = opened("own")
    assert (run.modalities, run.label_names, run.step) == (("photo", "note", "lab"), (), 4)
    assert run.recipe.model.method == "mopoe"
    assert run.evaluation is None
    assert "mopoe of photo, note, lab, step 4" in repr(run)


def test_a_seed_leaves_torchs_own_generator_alone(opened):
    run = opened("mmvae")
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    run.generate(count=2, seed=5)
    run.encode(run.data("test", [0, 1]))
    assert torch.rand(1) == expected


# what is refused -----------------------------------------------------------------------------------------------------

PHOTO = np.zeros((2, 1, 8, 8), np.uint8)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("given", "message"), [
    ({}, "no modality is given"),
    ({"foto": PHOTO}, r"'foto' is not one of photo, note, lab \(did you mean 'photo'\?\)"),
    ({"photo": PHOTO[0, 0]}, r"\(8, 8\) is not image data \(N, 1, 8, 8\)"),
    ({"photo": PHOTO.transpose(0, 2, 3, 1)}, "transpose"),
    ({"photo": np.zeros((2, 3, 8, 8), np.uint8)}, r"\(2, 3, 8, 8\) is not image data"),
    ({"photo": PHOTO[:0]}, "no items"),
    ({"photo": np.full((2, 1, 8, 8), 255.0)}, r"numbers from 255 to 255; an image that is not uint8 has numbers in"),
    ({"photo": np.full((2, 1, 8, 8), np.nan)}, "numbers from nan"),
    ({"photo": [["a"]]}, "not image data"),
    ({"photo": PHOTO, "lab": np.zeros((3, 2))}, "different numbers of items: photo 2, lab 3"),
    ({"lab": [[1.0, np.inf]]}, "row 0, column 1: inf does not suit"),
    ({"lab": [[1.0], [1.0, 2.0]]}, "no array can be made of it"),
    ({"lab": [[1.0, 2.0, 3.0]]}, r"\(1, 3\) is not vector data \(N, 2\)"),
    ({"note": [1, 2]}, "is no text"),
    ({"note": np.full((1, 8), 200, np.uint8)}, "is no text"),
    ({"note": [None]}, "object .* is no text"), ({"note": [b"\xff"]}, "is no text"), ({3: PHOTO}, "'3' is not one of"),
    ({"lab": [[1e300, 0]]}, r"1e\+300 does not suit"), ({"lab": np.ma.masked_all((1, 2))}, "are masked"),
    ({"photo": np.full((2, 1, 8, 8), 1e300)}, "numbers from inf"),
    ("photo", "str is no mapping"),
])  # fmt: skip
def test_data_of_another_form_are_refused(opened, given, message):
    with pytest.raises(UsageProblem, match=message):
        opened("own").encode(given)


def test_one_item_without_the_first_dimension_is_told_how(opened):
    with pytest.raises(UsageProblem) as caught:
        opened("mopoe").encode({"m0": np.zeros((3, 8, 8), np.uint8)})
    assert caught.value.hint == "one item is given: array[None] makes it N = 1"
    assert caught.value.__notes__ == ["hint: one item is given: array[None] makes it N = 1"]  # Python shows it


def test_every_sample_has_a_private_latent_of_its_own(opened):
    """One for all items would be right for a figure, and wrong for whoever measures how samples spread."""
    run = opened("private")
    batch = run._batch({"m0": run.data("test")["m0"][:3]})
    with torch.no_grad():
        made = generation.conditional(run._sampler(0), batch, ("m0",), ("m1",), 2, styles=3)
        of_figure = generation.conditional(run._sampler(0), batch, ("m0",), ("m1",), 2)
    assert made["private_m1"].shape[:2] == (2, 3)
    assert len(np.unique(made["private_m1"].reshape(6, -1), axis=0)) == 6
    assert of_figure["private_m1"].shape[:2] == (2, 1)


def test_capital_letters_are_small_ones_where_the_data_have_no_others(opened):
    run = opened("own")
    small, large = (run.encode({"note": [note]}, "note").mean for note in ("n 1", " N  1"))
    assert (small == large).all()


@pytest.mark.parametrize(("note", "message"), [("far too long a note", "has 19 characters"), ("É", "not in the")])
def test_a_text_that_cannot_be_written_is_refused(opened, note, message):
    with pytest.raises(DataProblem, match=message):
        opened("own").encode({"note": [note]})


@pytest.mark.parametrize(("ask", "message"), [
    ({"data": {"photo": PHOTO}, "given": "note"}, "no data of note"),
    ({"data": {"photo": PHOTO}, "z": np.zeros((2, 6))}, "z and private stand for the data"),
    ({"z": np.zeros((2, 5))}, r"z: \(2, 5\) is not \(N, 6\)"),
    ({"z": np.full((2, 6), np.nan)}, "not finite"),
    ({"z": "zero"}, "no array of numbers"),
    ({"z": np.zeros((2, 6)), "count": 3}, "count=3 has no meaning"),
    ({"count": 0}, "count=0"),
    ({"count": 2.5}, "count=2.5 is no whole number"),
    ({"seed": None}, "seed=None is no whole number"),
    ({"seed": 2**70}, "or too large a one"),
    ({"target": 3}, "no modality '3'"),
    ({"z": np.zeros((2, 6), complex)}, "no array of numbers"), ({"z": [[None] * 6]}, "no array of numbers"),
    ({"z": torch.zeros(2, 6).to_sparse()}, "no array can be made of it"), ({"z": []}, r"\(0,\) is not \(N, 6\)"),
    ({"private": {"photo": np.zeros((2, 1))}}, "private belongs to a z"),
    ({"z": np.zeros((2, 6)), "private": 3}, "int is no mapping"),
    ({"target": "phot"}, "no modality 'phot'"),
    ({"z": np.zeros((2, 6)), "private": {"photo": np.zeros((2, 1))}}, "no private latents"),
])  # fmt: skip
def test_what_cannot_be_generated_is_refused(opened, ask, message):
    with pytest.raises(UsageProblem, match=message):
        opened("own").generate(**ask)


@pytest.mark.parametrize("items", [[0.7], [True, False], ["a"], [None], 3, [[0, 1]], [-1], [30], [[1], [1, 2]]])
def test_items_that_are_no_positions_are_refused(opened, items):
    with pytest.raises(UsageProblem, match=r"items: positions of test are whole numbers|items: no array"):
        opened("mopoe").data("test", items)


def test_memory_that_is_too_little_is_told_as_on_the_command_line(opened):
    with pytest.raises(Failure, match="this machine has too little memory"):
        opened("own").generate(count=10**15)


@pytest.mark.parametrize("call", [
    {"path": 3}, {"path": None}, {"path": b"x"}, {"path": ""}, {"path": "a\0b"}, {"data_dir": 3}, {"checkpoint": 3},
    {"code": 3}, {"device": 3}, {"path": "hf://a"},
])  # fmt: skip
def test_a_wrong_call_is_one_sentence(runs, data, call):
    with pytest.raises(UsageProblem, match=r"is no path|is empty|--device '3'|no address"):
        mmvae_cli.open_run(**({"path": runs["own"], "data_dir": data, "device": "cpu"} | call))


@pytest.mark.parametrize("split", [3, ["test"], "dev"])
def test_a_split_that_is_not_there_is_told(opened, split):
    for use in (opened("own").latents, opened("own").data):
        with pytest.raises(DataProblem, match="no split"):
            use(split)


def test_a_run_that_cannot_be_opened_says_why(runs, data, tmp_path):
    with pytest.raises(DataProblem, match="is no run"):
        mmvae_cli.open_run(tmp_path, data_dir=data)
    with pytest.raises(DataProblem, match="no dataset at"):
        mmvae_cli.open_run(runs["own"], data_dir=tmp_path)
    empty = Run(Path(tmp_path / "empty"))
    empty.prepare(Run(runs["own"]).recipe())
    with pytest.raises(DataProblem, match="has no checkpoint yet"):
        mmvae_cli.open_run(empty.folder, data_dir=data)
