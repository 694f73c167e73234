import pytest
import torch

from mmvae_cli import recipe as recipes
from mmvae_cli.datasets.polymnist.build import Options, build
from mmvae_cli.evaluation import classifiers
from mmvae_cli.evaluation.encoding import Setting
from mmvae_cli.model.networks import build_classifier
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.store import Store


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "small"
    build(Options(digits="embedded", limit=300), folder, folder.parent)
    recipe = recipes.load("quickstart", [])
    return Setting(MultimodalVAE(recipe).eval(), recipe, Store(folder), torch.device("cpu"))


@pytest.mark.parametrize(("enough", "rounds"), [(0.0, 1), (1.1, classifiers.ROUNDS)])
def test_rounds_end_when_the_training_items_are_known_well_enough(setting, monkeypatch, enough, rounds):
    monkeypatch.setattr(classifiers, "ROUND_STEPS", 2)
    monkeypatch.setattr(classifiers, "ENOUGH", enough)
    steps, original = [], classifiers._round

    def counted(name, network, optimizer, data, labels, setting, part, rate, shown):
        steps.extend(part)
        original(name, network, optimizer, data, labels, setting, part, rate, shown)

    monkeypatch.setattr(classifiers, "_round", counted)
    network = build_classifier(setting.store.info.modalities["m0"], 10)
    score = classifiers._train("m0", network, setting)
    assert steps == list(range(2 * rounds))
    assert 0 <= score.value <= 1
    assert not network.training


@pytest.mark.slow
def test_one_round_is_enough_for_digits_on_builtin_backgrounds(tmp_path, setting, monkeypatch):
    build(Options(digits="embedded", repeat=4), tmp_path / "p", tmp_path)
    full = Setting(setting.model, setting.recipe, Store(tmp_path / "p"), setting.device)
    monkeypatch.setattr(classifiers, "ROUNDS", 1)
    assert classifiers._train("m1", build_classifier(full.store.info.modalities["m1"], 10), full).value >= 0.95
