"""The rules of drawing: which posterior, which private latent, which items, and that the arrays say what was done."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmvae_cli.model.distributions import Gaussian
from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.sampling import generation
from mmvae_cli.sampling.figures import FigureRequest, choose_figures
from mmvae_cli.sampling.generation import ROWS, choose_items, draw
from mmvae_cli.sampling.latent_space import principal
from mmvae_cli.store import ModalityInfo, attribute_text, batches, text
from mmvae_cli.store.arrays import as_strings


def figures(sampler, **asked):
    kinds = {name: spec.kind for name, spec in sampler.recipe.modalities.items()}
    return choose_figures(FigureRequest(**asked), kinds, sampler.model.private_dim)


def one(sampler, count=8, **asked):
    (figure,) = figures(sampler, **asked)
    return draw(sampler, figure, count)


@torch.no_grad()
def decoded(sampler, arrays, name):
    """What the model makes of the latents in the arrays."""
    z = torch.from_numpy(arrays["z"])
    private = torch.from_numpy(arrays[f"private_{name}"]) if f"private_{name}" in arrays else None
    own = None if private is None else private.expand(*z.shape[:-1], -1)
    mean = sampler.model.decode(name, z, own)
    if sampler.info(name).kind == "text":
        return mean.argmax(-1).numpy()
    return mean.clamp(0, 1).mul(255).round().numpy()


def assert_decoded(sampler, arrays, name):
    """Batches of another size may differ in the last bit, which rounding shows in single pixels."""
    difference = np.abs(arrays[f"sample_{name}"].astype(int) - decoded(sampler, arrays, name))
    assert difference.max() <= (1 if sampler.info(name).kind == "image" else 0)


def test_items_are_one_of_each_class_in_turn(sampler):
    opened = sampler("mopoe")
    labels = opened.trained.store.labels("test")
    items = choose_items(opened, 30)
    assert sorted(items) == list(range(30))
    assert labels[items[:24]].tolist() == [0, 1, 2, 3] * 6
    assert choose_items(opened, 10).tolist() == items[:10].tolist()
    assert choose_items(sampler("mopoe", seed=1), 10).tolist() != items[:10].tolist()


@pytest.mark.parametrize(("name", "asked", "said"), [
    ("mmvae", {"kind": "reconstruction"}, "Each cell is encoded from a part of what is given, as the mixture has it."),
    ("mopoe", {"kind": "reconstruction"}, ""),
    ("faces", {"kind": "conditional", "given": "text"}, "Private latents come from the prior, one a row."),
    ("faces", {"kind": "reconstruction"}, "Each modality has its own private latent."),
    ("faces", {"kind": "prior"}, "Private latents come from the prior, one a column and modality."),
])  # fmt: skip
def test_a_figure_says_where_the_latents_come_from(sampler, name, asked, said):
    opened = sampler(name)
    assert {generation.remark(opened, figure) for figure in figures(opened, **asked)} == {said}


def test_more_items_than_there_are_are_refused(sampler):
    with pytest.raises(UsageProblem, match="the test split has 30 items"):
        choose_items(sampler("mopoe"), 31)


def test_items_of_incomplete_data_have_everything(sampler, monkeypatch):
    opened, table = sampler("mopoe"), np.ones((30, 3), bool)
    table[::2, 1] = False
    monkeypatch.setattr(opened.trained.store, "present", lambda split, names: table)
    assert sorted(choose_items(opened, 15)) == list(range(1, 30, 2))
    with pytest.raises(UsageProblem, match="--count 16: the test split has, complete, 15 items"):
        choose_items(opened, 16)
    table[:, 2] = False
    with pytest.raises(UsageProblem, match="no item of test has every modality"):
        choose_items(opened, 0)


def test_attributes_get_random_items_of_the_split(sampler):
    items = choose_items(sampler("faces"), 12)
    assert sorted(items) == list(range(12))
    assert items.tolist() != list(range(12))


@pytest.mark.parametrize("method", ["mvae", "mopoe", "private"])
@pytest.mark.parametrize("given", [("m1",), ("m0", "text"), ("m0", "m1", "text")])
def test_the_posterior_of_a_subset_is_the_one_that_is_evaluated(sampler, method, given):
    model = sampler(method).model
    batch = {"m0": torch.rand(5, 3, 8, 8), "m1": torch.rand(5, 3, 8, 8), "text": torch.randint(71, (5, 8))}
    with torch.no_grad():
        found = generation.posterior(model, {name: batch[name] for name in given}, given)
        subset = tuple(model.names.index(name) for name in given)
        wanted = model.posteriors(model.encode(batch).shared, [subset])
    torch.testing.assert_close(found.mean, wanted.mean[0])
    torch.testing.assert_close(found.logvar, wanted.logvar[0])


def test_every_part_of_a_mixture_is_drawn_from_for_every_item(sampler, monkeypatch):
    """MMVAE: each cell comes from one of the given experts, and over the rows a column sees all of them."""
    opened = sampler("mmvae")
    monkeypatch.setattr(Gaussian, "sample", lambda self, noise: self.mean)
    batch = {"m0": torch.rand(6, 3, 8, 8), "m1": torch.rand(6, 3, 8, 8)}
    with torch.no_grad():
        z = generation._content(opened, batch, ("m0", "m1"), 20)
        experts = opened.model.encode(batch).shared.mean
    from_first, from_second = (torch.isclose(z, expert, atol=1e-5).all(-1) for expert in experts)
    assert (from_first ^ from_second).all()
    assert from_first.any(0).all()
    assert from_second.any(0).all()


@pytest.mark.parametrize("method", ["mvae", "mmvae", "mopoe", "private"])
@pytest.mark.parametrize("asked", [{"kind": "prior"}, {"kind": "reconstruction"}, {"given": "m1,text", "target": "m0"}])
def test_samples_are_what_the_latents_beside_them_decode_to(sampler, method, asked):
    opened = sampler(method)
    arrays = one(opened, **asked)
    for key in list(arrays):
        if key.startswith("sample_"):
            assert_decoded(opened, arrays, key.removeprefix("sample_"))


def test_a_grid_has_ten_rows_that_differ(sampler):
    arrays = one(sampler("mopoe"), given="m1", target="m0")
    assert arrays["sample_m0"].shape == (ROWS, 8, 3, 8, 8)
    assert arrays["sample_m0"].dtype == np.uint8
    assert arrays["z"].shape == (ROWS, 8, 6)
    assert len(np.unique(arrays["z"].reshape(ROWS * 8, 6), axis=0)) == ROWS * 8


def test_the_inputs_are_the_items_of_the_store(sampler):
    opened = sampler("mopoe")
    arrays = one(opened, given="m1,text", target="m0")
    store = opened.trained.store
    assert (arrays["input_m1"] == store.array("test", "m1")[arrays["items"]]).all()
    assert arrays["string_input_text"].tolist() == ["one", "two", "three", "four"] * 2
    assert arrays["labels"].tolist() == [0, 1, 2, 3] * 2
    assert "input_m0" not in arrays, "the model does not see it"
    assert (arrays["true_m0"] == store.array("test", "m0")[arrays["items"]]).all()
    assert "true_m1" not in one(opened, given="m0,m1", target="m1")
    assert one(opened, given="m0", target="text")["string_true_text"].tolist() == arrays["string_input_text"].tolist()


def test_the_latent_space_is_the_principal_plane_of_all_means(sampler):
    opened = sampler("mopoe")
    arrays = one(opened, count=20, kind="latent")
    with torch.no_grad():
        store, items = opened.trained.store, torch.from_numpy(arrays["items"])
        batch = batches.Split(store, "test", ["m0", "m1", "text"], torch.device("cpu"), 0).batch(items)
        wanted = opened.model.posteriors(opened.model.encode(batch).shared, [(1,)]).mean[0]
    np.testing.assert_allclose(arrays["mean_m1"], wanted.numpy(), rtol=1e-4, atol=1e-5)
    means = np.concatenate([arrays[f"mean_{name}"] for name in ("m0", "m1", "text")]).astype(np.float64)
    points = np.concatenate([arrays[f"point_{name}"] for name in ("m0", "m1", "text")])
    variances = np.sort(np.linalg.eigvalsh(np.cov(means.T)))[::-1]
    np.testing.assert_allclose(np.cov(points.T), np.diag(variances[:2]), atol=1e-3)
    np.testing.assert_allclose(arrays["share"], variances[:2] / variances.sum(), rtol=1e-3)


def test_a_latent_of_one_dimension_lies_on_a_line():
    points, share = principal(np.array([[1.0], [2.0], [4.0]]))
    assert points[:, 1].tolist() == [0, 0, 0]
    assert share.tolist() == [1, 0]
    assert principal(np.zeros((4, 3)))[1].tolist() == [0, 0]


def test_a_row_shares_its_private_latent_when_generating(sampler):
    arrays = one(sampler("private"), given="m1", target="m0")
    assert arrays["private_m0"].shape == (ROWS, 1, 2)
    assert len(np.unique(arrays["private_m0"][:, 0], axis=0)) == ROWS


def test_private_latents_come_from_the_own_posterior_only_when_reconstructing(sampler):
    """An encoder that says private means of about 40 shows which distribution a latent was drawn from."""
    opened = sampler("private")
    with torch.no_grad():
        opened.model.encoders["m0"].head.bias[12:14] = 40.0  # 6 + 6 shared, then 2 private means
    assert (one(opened, kind="reconstruction")["private_m0"] > 20).all()
    observed = one(opened, given="m0,m1", target="m0")
    assert (np.abs(observed["private_m0"]) < 10).all()
    assert (np.abs(one(opened, kind="prior")["private_m0"]) < 10).all()


def test_a_swap_has_the_content_of_its_row_and_the_style_of_its_column(sampler):
    opened = sampler("private")
    arrays = one(opened, count=5, kind="swap", target="m0")
    batch = {"m0": torch.from_numpy(arrays["input_m0"]).float() / 255}
    with torch.no_grad():
        encoded = opened.model.encode(batch)
        z, style = encoded.shared.mean[0], encoded.private.mean[0]
        cell = opened.model.decode("m0", z[3][None], style[1][None])[0].clamp(0, 1).mul(255).round().numpy()
    assert np.abs(arrays["sample_m0"][3, 1].astype(int) - cell).max() <= 1
    assert_decoded(opened, arrays, "m0")


def test_typed_text_is_written_by_the_rule_of_the_dataset_and_encoded_alone(sampler):
    opened = sampler("faces")
    arrays = one(opened, texts=("smiling, Blond_Hair", "male"))
    assert arrays["string_input_text"].tolist() == ["blond hair, smiling", "male"]
    row = arrays["labels"][0]
    assert text.decode(arrays["input_text"])[0] == attribute_text.render(row, "blond hair, smiling", 0)
    assert [attribute_text.ATTRIBUTES[a] for a in np.flatnonzero(row)] == ["Blond_Hair", "Smiling"]
    assert arrays["sample_image"].shape == (ROWS, 2, 3, 64, 64)
    assert_decoded(opened, arrays, "image")


def test_typed_text_begins_where_the_texts_of_the_dataset_do(sampler, monkeypatch):
    opened = sampler("faces")
    store = opened.trained.store
    monkeypatch.setattr(store, "info", store.info.model_copy(update={"stand_in": f"a; {attribute_text.AT_FIRST}"}))
    arrays = one(opened, texts=("smiling",))
    assert text.decode(arrays["input_text"]) == ["smiling".ljust(256, "*")]


def test_typed_text_of_other_data_is_written_by_their_alphabet(sampler):
    opened = sampler("mopoe")

    def typed(*texts):
        kinds = {name: spec.kind for name, spec in opened.recipe.modalities.items()}
        (figure,) = choose_figures(FigureRequest(texts=texts, target="m0"), kinds, 0, ("one", "two"))
        return draw(opened, figure, 1)

    arrays = typed("Three", "one")
    assert arrays["string_input_text"].tolist() == ["three", "one"]
    assert arrays["sample_m0"].shape == (ROWS, 2, 3, 8, 8)
    assert_decoded(opened, arrays, "m0")
    with pytest.raises(
        UsageProblem, match="--text: text 'a\u00b5' has the character '\u00b5', which is not in"
    ) as caught:
        typed("a\u00b5")
    assert "0123456789" in caught.value.hint
    with pytest.raises(UsageProblem, match="--text: text 'much too long' has 13 characters"):
        typed("much too long")


def test_generated_text_is_its_likeliest_characters_without_padding(sampler):
    opened = sampler("mopoe")
    codes = text.encode(["  two   ", "        ", " a b"], 8)
    assert as_strings(codes, opened.info("text")) == ["two", "", "a b"]
    arrays = one(opened, kind="prior")
    assert arrays["sample_text"].shape == (1, 8, 8)
    assert arrays["string_sample_text"][0].tolist() == as_strings(arrays["sample_text"][0], opened.info("text"))


def test_standardised_numbers_stand_beside_in_their_own_unit():
    known = ModalityInfo(kind="vector", shape=(2,), means=(40.0, 25.0), deviations=(12.5, 4.0))
    sampler = SimpleNamespace(info=lambda name: known if name == "lab" else known.model_copy(update={"means": None}))
    rows = np.array([[[0.0, 1.0], [-2.0, 0.5]]], np.float32)
    arrays = generation._texts(sampler, {"sample_lab": rows, "true_lab": rows[0], "sample_counts": rows})
    assert arrays["measured_sample_lab"].tolist() == [[[40.0, 29.0], [15.0, 27.0]]]
    assert arrays["measured_true_lab"].tolist() == [[40.0, 29.0], [15.0, 27.0]]
    assert "measured_sample_counts" not in arrays


def test_a_single_item_works_with_every_family(sampler):
    for method in ("mvae", "mmvae", "mopoe"):
        arrays = one(sampler(method), count=1, given="m0,m1", target="text")
        assert arrays["sample_text"].shape == (ROWS, 1, 8)
