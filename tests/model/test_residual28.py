"""The residual networks of MMVAE+ and MMVM-VAE: parameters and sizes of equations 8.6, a trunk for each posterior."""

import pytest
import torch
from tiny_recipes import tiny
from torch.nn import functional as F

from mmvae_cli import recipe as recipes
from mmvae_cli.model.networks.residual28 import Block, ResidualDecoder, ResidualTrunk
from mmvae_cli.model.vae import MultimodalVAE, parameter_counts


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("build", "expected"), [
    (lambda: Block(64, 64), 73_856), (lambda: Block(64, 128), 118_976), (lambda: Block(128, 256), 475_520),
    (lambda: Block(256, 128), 475_392), (lambda: Block(128, 64), 118_912), (ResidualTrunk, 670_144),
    (lambda: ResidualDecoder(64), 1_485_251), (lambda: ResidualDecoder(512), 7_104_963),
])  # fmt: skip
def test_parameters_are_those_of_the_released_networks(build, expected):
    with torch.device("meta"):
        assert parameters(build()) == expected


@pytest.mark.parametrize(("recipe", "encoder", "total"), [
    ("polymnist_mmvaeplus", 2_946_048, 22_156_655), ("polymnist_mmvm", 13_516_224, 5 * (13_516_224 + 7_104_963)),
])  # fmt: skip
def test_whole_models_have_the_parameters_of_the_released_ones(recipe, encoder, total):
    with torch.device("meta"):
        counts = parameter_counts(MultimodalVAE(recipes.load(recipe)))
    assert (counts["encoder.m0"], counts["total"]) == (encoder, total)


@pytest.mark.parametrize(("inside", "outside"), [(4, 4), (3, 5)])
def test_a_block_is_its_shortcut_and_a_tenth_of_its_branch(inside, outside):
    block, x = Block(inside, outside), torch.randn(2, inside, 6, 6)
    branch = F.leaky_relu(x, 0.2)
    for conv in (block.conv1, block.conv2):
        branch = F.conv2d(F.leaky_relu(branch, 0.2) if conv is block.conv2 else branch, conv.weight, conv.bias,
                          padding=1)  # fmt: skip
    shortcut = x if inside == outside else F.conv2d(x, block.shortcut.weight)
    torch.testing.assert_close(block(x), shortcut + 0.1 * branch)


def test_sizes_are_halved_and_doubled_twice():
    trunk, decoder = ResidualTrunk(), ResidualDecoder(6)
    x, sizes = torch.rand(1, 3, 28, 28), []
    for layer in trunk.layers:
        x = layer(x)
        sizes.append(tuple(x.shape[1:]))
    assert sizes == [(64, 28, 28), (64, 28, 28), (64, 14, 14), (128, 14, 14), (128, 7, 7), (256, 7, 7), (12544,)]
    assert decoder(torch.randn(1, 6)).shape == (1, 3, 28, 28)


def test_shared_and_private_posteriors_have_nothing_in_common():
    torch.manual_seed(0)
    model = MultimodalVAE(tiny(1, modalities__m0__network="resnet28", model__latent_dim=3, model__private_dim=2))
    mean, _, private_mean, private_raw = model.encoders["m0"](torch.rand(2, 3, 28, 28))
    assert (mean.shape, private_mean.shape, private_raw.shape) == ((2, 3), (2, 2), (2, 2))
    private_mean.sum().backward()
    assert all(p.grad is None for p in model.encoders["m0"].shared.parameters())
    first, second = (
        part.trunk.layers[0].weight for part in (model.encoders["m0"].shared, model.encoders["m0"].private)
    )
    assert not torch.equal(first, second)
