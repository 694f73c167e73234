"""The coherence classifiers: sizes, features, and a shortcut in evaluation that changes nothing."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmvae_cli.model.networks import build_coherence_classifier
from mmvae_cli.model.networks.classifiers import ImageClassifier, TextClassifier, _Stage
from mmvae_cli.store import ModalityInfo, text

CHARACTERS = len(text.ALPHABET)


def trained(network):
    """In eval mode, with running statistics that are not those of a new network."""
    torch.manual_seed(0)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    return network.eval()


@pytest.mark.parametrize(
    ("network", "parameters"),
    [(ImageClassifier(3, 10), 242_474), (ImageClassifier(1, 10), 241_898), (TextClassifier(71, 10), 211_338)],
)
def test_sizes(network, parameters):
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 1, 2), (2, 5, 3)])
def test_images_of_any_size_have_128_features_and_the_logits_of_all_labels(shape):
    network = build_coherence_classifier(ModalityInfo(kind="image", shape=shape), 7).eval()
    assert network.features(torch.rand(4, *shape)).shape == (4, 128)
    assert network(torch.rand(4, *shape)).shape == (4, 7)


@pytest.mark.parametrize("length", [1, 8, 256])
def test_texts_of_any_length_have_128_features_and_the_logits_of_all_labels(length):
    network = build_coherence_classifier(ModalityInfo(kind="text", shape=(length,), alphabet=text.ALPHABET), 7).eval()
    soft = torch.rand(4, length, CHARACTERS).softmax(-1)
    assert network.features(soft).shape == (4, 128)
    assert network(soft).shape == (4, 7)


def test_features_are_the_last_maps_means_and_the_labels_are_read_off_them():
    network, x = trained(ImageClassifier(3, 10)), torch.rand(4, 3, 28, 28)
    maps = network.stages(x)
    assert maps.shape == (4, 128, 4, 4)
    torch.testing.assert_close(network.features(x), maps.mean((2, 3)))
    torch.testing.assert_close(network(x), network.linear(network.features(x)))


@pytest.mark.parametrize(
    ("stage", "x"),
    [
        (_Stage(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)), torch.randn(4, 3, 9, 7)),
        (_Stage(nn.Conv1d(5, 8, 5, 2, 2, bias=False), nn.BatchNorm1d(8)), torch.randn(4, 5, 11)),
    ],
)
def test_a_folded_stage_is_convolution_and_normalisation(stage, x):
    trained(stage)
    plain = stage.norm(stage.convolution(x))
    torch.testing.assert_close(stage.folded(x), plain)
    torch.testing.assert_close(stage(x), plain.relu())


@pytest.mark.parametrize(
    ("network", "x"),
    [(ImageClassifier(3, 10), torch.rand(16, 3, 28, 28)), (TextClassifier(71, 10), torch.rand(16, 8, 71).softmax(-1))],
)
def test_every_parameter_learns(network, x):
    F.cross_entropy(network(x), torch.arange(16) % 10).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
