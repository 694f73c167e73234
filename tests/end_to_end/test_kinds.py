"""A further kind of data: one entry in the table of kinds, one network, and it is stored, trained and measured."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from mmvae_cli import recipe as recipes
from mmvae_cli.disk import sealed
from mmvae_cli.model import networks
from mmvae_cli.model.bound import bound_terms
from mmvae_cli.model.likelihood import Likelihood
from mmvae_cli.model.objective import Objective, draw_noise
from mmvae_cli.model.terms import weigh
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.recipe import kinds
from mmvae_cli.recipe.kinds import KINDS, DataKind
from mmvae_cli.recipe.networks import Network
from mmvae_cli.store import ModalityInfo, batches
from mmvae_cli.store import folder as store
from mmvae_cli.store.fitting import check_store
from mmvae_cli.store.text import ALPHABET
from mmvae_cli.training import estimate


class Trunk(nn.Module):
    features = 16

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x).relu()


@pytest.fixture
def signals(monkeypatch):
    """What a contributor writes for signals (B, 5): a kind, a network's line and its builder."""
    kind = DataKind(
        ("length",), ("normal", "laplace"), lambda rows: rows.float(), lambda x, characters: x, dtype="float32"
    )
    monkeypatch.setitem(KINDS, "signal", kind)
    monkeypatch.setitem(recipes.NETWORKS, "mlp5", Network("signal", (5,)))
    monkeypatch.setitem(networks.BUILDERS, "mlp5", lambda spec, latent: (Trunk(), nn.Linear(latent, 5)))


def test_what_recipes_declare_is_what_is_built():
    assert set(recipes.NETWORKS) == set(networks.BUILDERS)
    assert {network.classifier for network in recipes.NETWORKS.values()} - {None} == set(networks.CLASSIFIERS)


def folder_of(path, alphabet=ALPHABET):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        store.new_array(path, f"{split}/gyro.npy", (12, 5), np.float32)[:] = rng.normal(size=(12, 5))
        store.new_array(path, f"{split}/word.npy", (12, 8))[:] = rng.integers(0, 71, (12, 8))
        store.new_array(path, f"{split}/labels.npy", (12,), np.int64)[:] = np.arange(12) % 3
    info = store.StoreInfo(
        name="tiny", splits={"train": {"count": 12}, "test": {"count": 12}},
        modalities={"gyro": {"kind": "signal", "shape": (5,)},
                    "word": {"kind": "text", "shape": (8,), "alphabet": alphabet}},
        labels={"kind": "class", "names": ("a", "b", "c")},
    )  # fmt: skip
    store.finish(path, info)
    return store.Store(path)


def recipe_of():
    return recipes.validate(
        {"name": "tiny", "dataset": {"name": "tiny"},
         "modalities": {"gyro": {"network": "mlp5"}, "word": {"network": "text8"}},
         "model": {"method": "mopoe", "latent_dim": 4},
         "training": {"epochs": 1, "batch_size": 6, "learning_rate": 1e-3}}, "tiny",
    )  # fmt: skip


def test_a_new_kind_is_stored_read_and_trained(signals, tmp_path):
    found, recipe = folder_of(tmp_path), recipe_of()
    assert [m.likelihood for m in recipe.modalities.values()] == ["normal", "categorical"]
    check_store(found, recipe)
    data = batches.Split(found, "train", ["gyro", "word"], torch.device("cpu"), 0).batch(torch.arange(6))
    np.testing.assert_array_equal(data["gyro"].numpy(), found.array("train", "gyro")[:6])
    model, objective = MultimodalVAE(recipe), Objective.of(recipe)
    loss = weigh(
        bound_terms(model, data, objective, draw_noise(model, objective, model.names, 6, slice(0, 6), "cpu"))
    ).mean()
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert any("memory" in line for line in estimate.describe(recipe, tmp_path, found))


def test_the_store_checks_the_kinds_own_type(signals, tmp_path):
    found = folder_of(tmp_path)
    assert found.array("train", "gyro").dtype == np.float32
    about = sealed.read_json(tmp_path / "dataset.json")
    about["modalities"]["word"] = {"kind": "signal", "shape": [8]}
    (tmp_path / "dataset.json").write_text(json.dumps(about))
    with pytest.raises(store.DataProblem, match=r"holds uint8 \(12, 8\), not float32"):
        store.Store(tmp_path).array("train", "word")


def test_a_kind_without_a_classifier_says_so(signals):
    with pytest.raises(UsageProblem, match=r"no classifier for signal of shape \[5\]"):
        networks.build_classifier(ModalityInfo(kind="signal", shape=(5,)), 3)
    with pytest.raises(UsageProblem, match=r"no classifier for signal of shape \[5\]"):
        networks.build_coherence_classifier(ModalityInfo(kind="signal", shape=(5,)), 3)


def test_an_alphabet_of_another_size_is_refused(signals, tmp_path):
    found = folder_of(tmp_path, ALPHABET + "äöü")
    with pytest.raises(UsageProblem, match=r"'word': .* has an alphabet of 74 characters"):
        check_store(found, recipe_of())


def test_unknown_kinds_and_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="kind 'audio' is not one of image, text"):
        ModalityInfo(kind="audio", shape=(5,))
    with pytest.raises(ValueError, match=r"image data have the shape \(channels, height, width\)"):
        ModalityInfo(kind="image", shape=(28, 28))
    with pytest.raises(ValueError, match="text data have an alphabet"):
        ModalityInfo(kind="text", shape=(8,))


def test_what_networks_and_classifiers_read():
    image, text = KINDS["image"], KINDS["text"]
    pixels = torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8)
    torch.testing.assert_close(image.read(pixels), torch.tensor([[[[0.0, 0.2, 1.0]]]]))
    codes = text.read(torch.tensor([[3, 0]], dtype=torch.uint8))
    assert codes.dtype == torch.int64
    assert torch.equal(text.as_mean(codes, 4), torch.tensor([[[0.0, 0, 0, 1], [1, 0, 0, 0]]]))
    assert image.as_mean(pixels, 0) is pixels


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_every_likelihood_of_a_kind_exists(kind):
    for family in KINDS[kind].likelihoods:
        x = torch.zeros(2, 3).long() if KINDS[kind].has_alphabet else torch.zeros(2, 3)
        found = Likelihood(family)
        last = (71,) if KINDS[kind].has_alphabet else (2,) if found.has_parameter else ()
        assert found.log_prob(torch.randn(1, 2, 3, *last), x).shape == (1, 2)


def test_the_table_loads_without_torch():
    import subprocess
    import sys

    code = "import sys, mmvae_cli.recipe.kinds, mmvae_cli.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
