"""Vectors: their network, what it is shaped by, parameters of a likelihood, and data that a likelihood refuses."""

import numpy as np
import pytest
import torch

from mmvae_cli import recipe as recipes
from mmvae_cli import store
from mmvae_cli.model.bound import bound_terms
from mmvae_cli.model.networks import build_coherence_classifier
from mmvae_cli.model.objective import Objective, draw_noise
from mmvae_cli.model.terms import weigh
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.process.errors import DataProblem, UsageProblem
from mmvae_cli.store import ModalityInfo, batches
from mmvae_cli.store.fitting import check_store


def recipe_of(**lab):
    return recipes.validate(
        {"name": "tiny", "dataset": {"name": "tiny"},
         "modalities": {"lab": {"network": "mlp", "shape": [5], **lab}, "other": {"network": "mlp", "shape": [3]}},
         "model": {"method": "mopoe", "latent_dim": 4},
         "training": {"epochs": 1, "batch_size": 6, "learning_rate": 1e-2}}, "tiny",
    )  # fmt: skip


def folder_of(path, lab, **about):
    for split in ("train", "test"):
        store.new_array(path, f"{split}/lab.npy", lab.shape, np.float32)[:] = lab
        store.new_array(path, f"{split}/labels.npy", (len(lab),), np.int64)[:] = np.arange(len(lab)) % 2
        store.new_array(path, f"{split}/other.npy", (len(lab), 3), np.float32)[:] = 0.5
    return store.finish(path, store.StoreInfo(
        name="tiny", splits={split: store.SplitInfo(count=len(lab)) for split in ("train", "test")},
        modalities={"lab": ModalityInfo(kind="vector", shape=(lab.shape[1],), **about),
                    "other": ModalityInfo(kind="vector", shape=(3,))},
        labels=store.LabelInfo(kind="class", names=("a", "b")),
    ))  # fmt: skip


def test_what_is_usual():
    spec = recipe_of().modalities["lab"]
    assert (spec.likelihood, spec.scale, spec.width, spec.depth, spec.dropout) == ("normal", 1.0, 512, 2, 0.0)
    model = MultimodalVAE(recipe_of())
    assert sum(p.numel() for p in model.decoders["lab"].parameters()) == 4 * 512 + 512 + 512 * 512 + 512 + 512 * 5 + 5


def test_depth_dropout_and_norm_are_built():
    model = MultimodalVAE(recipe_of(width=7, depth=3, dropout=0.1, layer_norm=True))
    kinds = [type(layer).__name__ for layer in model.decoders["lab"]]
    assert kinds == ["Linear", "LayerNorm", "ReLU", "Dropout"] * 3 + ["Linear"]
    linear = MultimodalVAE(recipe_of(depth=0))
    assert sum(p.numel() for p in linear.decoders["lab"].parameters()) == 4 * 5 + 5
    assert linear.encode({"lab": torch.randn(2, 5)}).shared.mean.shape == (1, 2, 4)


def test_the_encoder_reads_counts_as_logarithms():
    torch.manual_seed(0)
    trunk = MultimodalVAE(recipe_of(likelihood="poisson")).encoders["lab"].trunk
    x = torch.tensor([[0.0, 1, 10, 100, 1000]])
    torch.testing.assert_close(trunk(x), trunk.layers(torch.log(x + 1)))


LIKELIHOODS = {
    "normal": {}, "laplace": {"likelihood": "laplace", "scale": "learned"}, "learned": {"scale": "learned"},
    "bernoulli": {"likelihood": "bernoulli"}, "onehot": {"likelihood": "onehot"}, "poisson": {"likelihood": "poisson"},
    "negative_binomial": {"likelihood": "negative_binomial"},
}  # fmt: skip


@pytest.mark.parametrize("case", LIKELIHOODS)
def test_every_likelihood_learns(case, tmp_path):
    torch.manual_seed(0)
    lab = np.eye(5, dtype=np.float32)[np.arange(12) % 5]
    folder_of(tmp_path, lab)
    recipe, found = recipe_of(width=16, **LIKELIHOODS[case]), store.Store(tmp_path)
    check_store(found, recipe)
    data = batches.Split(found, "train", ["lab", "other"], torch.device("cpu"), 0).batch(torch.arange(12))
    assert torch.equal(data["lab"], torch.from_numpy(lab))
    model, objective = MultimodalVAE(recipe), Objective.of(recipe)
    noise = draw_noise(model, objective, model.names, 12, slice(0, 12), "cpu")
    optimiser, losses = torch.optim.Adam(model.parameters(), 1e-2), []
    for _ in range(30):
        optimiser.zero_grad()
        loss = weigh(bound_terms(model, data, objective, noise)).mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.likelihoods["lab"].mean(model.decode("lab", torch.zeros(2, 4))).shape == (2, 5)


def test_a_learned_scale_is_one_number_and_the_dispersion_one_a_feature():
    assert MultimodalVAE(recipe_of(scale="learned")).decoders["lab"].logarithm.shape == ()
    assert MultimodalVAE(recipe_of(likelihood="negative_binomial")).decoders["lab"].logarithm.shape == (5,)


def test_a_learned_scale_finds_the_noise():
    """With nothing but noise of deviation 0.3 around the output, the scale becomes 0.3."""
    torch.manual_seed(0)
    likelihood, logarithm, x = (
        MultimodalVAE(recipe_of(scale="learned")).likelihoods["lab"],
        torch.zeros((), requires_grad=True),
        0.3 * torch.randn(4000, 5),
    )
    optimiser = torch.optim.Adam([logarithm], 0.05)
    for _ in range(150):
        optimiser.zero_grad()
        output = torch.stack([torch.zeros_like(x), logarithm.expand_as(x)], -1)[None]
        (-likelihood.log_prob(output, x).mean()).backward()
        optimiser.step()
    assert logarithm.exp().item() == pytest.approx(0.3, rel=0.03)


@pytest.mark.parametrize(("change", "message"), [
    ({"likelihood": "categorical"}, "categorical"),
    ({"likelihood": "poisson", "scale": "learned"}, "scale: would do nothing: likelihood 'poisson' has none"),
    ({"network": "conv", "shape": [3, 8, 8], "depth": 3}, "only network 'mlp' takes one, not 'conv'"),
    ({"shape": [5, 5]}, r"\[features\] for vector data"),
    ({"shape": None}, r"network 'mlp' needs one, such as \[3\] \(features\)"),
    ({"scale": "learnt"}, "scale"), ({"dropout": 1.0}, "dropout"),
])  # fmt: skip
def test_recipes_that_say_nothing_sensible(change, message):
    with pytest.raises(UsageProblem, match=message):
        recipe_of(**change)


@pytest.mark.parametrize(("likelihood", "value"), [
    ("poisson", 0.5), ("negative_binomial", -1.0), ("bernoulli", 1.5), ("onehot", 1.0),
])  # fmt: skip
def test_data_outside_a_likelihood_are_named(likelihood, value, tmp_path):
    lab = np.zeros((6, 5), np.float32)
    lab[:, 0], lab[3, 2] = 1, value
    folder_of(tmp_path, lab, features=("a", "b", "crp", "d", "e"))
    with pytest.raises(UsageProblem, match=f"modalities.lab.likelihood: {likelihood} does not suit .* in train"):
        check_store(store.Store(tmp_path), recipe_of(likelihood=likelihood))


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    lab = np.zeros((6, 5), np.float32)
    lab[2, 2] = np.nan
    with pytest.raises(DataProblem, match=r"train/lab.npy has a number that is not finite"):
        folder_of(tmp_path, lab)


def test_features_are_one_for_each_number():
    with pytest.raises(ValueError, match="features: one for each number of a vector"):
        ModalityInfo(kind="vector", shape=(3,), features=("a", "b"))
    with pytest.raises(ValueError, match="means: one for each number of a vector"):
        ModalityInfo(kind="image", shape=(3, 8, 8), means=(0.0,) * 3)


def test_other_datasets_keep_their_fingerprints():
    """What only vectors have is not in the description of an image."""
    assert set(ModalityInfo(kind="image", shape=(3, 8, 8)).model_dump()) == {
        "kind",
        "shape",
        "alphabet",
        "placement",
        "fill",
    }
    assert ModalityInfo(kind="vector", shape=(1,), features=("a",)).model_dump()["features"] == ("a",)


def test_the_classifier_reads_vectors_of_any_size():
    torch.manual_seed(0)
    classifier = build_coherence_classifier(ModalityInfo(kind="vector", shape=(7,)), 4).eval()
    x = torch.randn(5, 7)
    assert classifier.features(x).shape == (5, 128)
    torch.testing.assert_close(classifier(x), classifier.linear(classifier.features(x)))
