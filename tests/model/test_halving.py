"""The network for texts of any length over any alphabet."""

import pytest
import torch

from mmvae_cli import recipe as recipes
from mmvae_cli.model.networks import BUILDERS, build_coherence_classifier
from mmvae_cli.model.objective import Objective, draw_noise
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.store import ModalityInfo
from mmvae_cli.training.step import StepLoss, make_optimizer


def noted(length=37, characters=30, **more):
    content = {
        "name": "noted", "dataset": {"name": "noted"}, "model": {"method": "mopoe", "latent_dim": 8},
        "modalities": {"note": {"network": "text", "shape": [length], "characters": characters, "width": 16} | more,
                       "other": {"network": "mlp", "shape": [3], "width": 16}},
        "training": {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3},
    }  # fmt: skip
    return recipes.validate(content, "noted")


@pytest.mark.parametrize("length", [1, 4, 5, 8, 37, 256, 1000])
@pytest.mark.parametrize("characters", [2, 256])
def test_any_length_and_any_alphabet(length, characters):
    trunk, decoder = BUILDERS["text"](noted(length, characters).modalities["note"], 8)
    codes = torch.randint(characters, (3, length))
    assert trunk(codes).shape == (3, trunk.features)
    assert trunk.features == 4 * 16 * min(4, 2 ** max(0, (length - 1).bit_length() - 2))
    assert decoder(torch.randn(3, 8)).shape == (3, length, characters)


def test_every_character_is_seen():
    trunk, _ = BUILDERS["text"](noted().modalities["note"], 8)
    codes = torch.zeros(37, 37, dtype=torch.long)
    with torch.no_grad():
        plain, changed = trunk(codes), trunk(codes + torch.eye(37).long())
    assert ((plain - changed).abs().sum(1) > 0).all()


def test_parameters_are_those_of_the_shape():
    trunk, decoder = BUILDERS["text"](noted(37, 30).modalities["note"], 8)  # 37 -> 64, 32, 16, 8, 4
    counts = [sum(p.numel() for p in part.parameters()) for part in (trunk, decoder)]
    halvings = [(16, 32), (32, 64), (64, 64), (64, 64)]
    assert counts[0] == 30 * 16 + sum(4 * a * b + b for a, b in halvings)
    assert counts[1] == 9 * 256 + sum(4 * a * b + a for a, b in halvings) + 17 * 30


def test_texts_are_learned():
    recipe = noted(20, 5)
    torch.manual_seed(0)
    model = MultimodalVAE(recipe)
    step, optimizer = StepLoss(model, Objective.of(recipe), "fp32"), make_optimizer(model, 3e-3)
    kinds = torch.randint(5, (2, 20))
    batch = {"note": kinds.repeat(16, 1), "other": torch.randn(32, 3)}
    found = []
    for _ in range(60):
        loss, _ = step(batch, draw_noise(model, step.objective, model.names, 32, slice(None), "cpu"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert sum(found[-5:]) < 0.6 * sum(found[:5])


def test_a_classifier_reads_any_text():
    info = ModalityInfo(kind="text", shape=(37,), alphabet="abc ")
    assert build_coherence_classifier(info, 5)(torch.rand(2, 37, 4).softmax(-1)).shape == (2, 5)


@pytest.mark.parametrize(("modality", "message"), [
    ({"network": "text256", "characters": 40, "shape": [256]}, "characters: only network 'text' takes one"),
    ({"characters": 257}, "characters: has to be 256 or less"),
    ({"shape": None}, "network 'text' needs one"), ({"depth": 2}, "depth: only network 'mlp' takes one, not 'text'"),
])  # fmt: skip
def test_what_does_not_go_together(modality, message):
    with pytest.raises(UsageProblem, match=message):
        noted(**modality)
