"""CelebA's residual networks: the counts and shapes of equations 8.3, and the block against its definition."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmvae_cli.model.networks.residual import (
    FaceClassifier,
    FaceDecoder,
    FaceEncoder,
    LongTextClassifier,
    LongTextDecoder,
    LongTextEncoder,
    ResidualBlock,
    one_hot,
)

HEADS = 4 * (640 * 32 + 32)  # style mean and log-variance, content mean and log-variance
FACE, TEXT = (2, 3, 64, 64), (2, 256)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def buffers(module: nn.Module) -> int:
    return sum(b.numel() for b in module.buffers())


@pytest.mark.parametrize(
    ("build", "heads", "expected", "expected_buffers"),
    [
        (FaceEncoder, HEADS, 21_559_040, 8_716),
        (lambda: FaceDecoder(64), 0, 21_912_323, 9_740),
        (LongTextEncoder, HEADS, 13_250_816, 16_402),
        (lambda: LongTextDecoder(64), 0, 13_604_039, 17_426),
        (FaceClassifier, 0, 21_502_632, 8_716),
        (LongTextClassifier, 0, 16_261_544, 17_682),
    ],
)
def test_parameters_and_buffers_are_those_of_the_released_networks(build, heads, expected, expected_buffers):
    with torch.device("meta"):
        module = build()
    assert parameters(module) + heads == expected
    assert buffers(module) == expected_buffers


def test_the_whole_model_has_70_326_218_parameters():
    with torch.device("meta"):
        parts = [FaceEncoder(), FaceDecoder(64), LongTextEncoder(), LongTextDecoder(64)]
    assert sum(map(parameters, parts)) + 2 * HEADS == 70_326_218


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize(("inside", "outside"), [(3, 5), (8, 8)])
def test_block_parameters_follow_the_formulas(inside, outside, up):
    flat = ResidualBlock(1, inside, outside, 4, 2, 1, up=up)
    assert parameters(flat) == inside**2 + 8 * inside * outside + 5 * inside + 4 * outside
    square = ResidualBlock(2, inside, outside, 4, 2, 1, up=up)
    assert parameters(square) == inside**2 + 32 * inside * outside + 4 * inside + 3 * outside


def sizes(module: nn.Module, x: torch.Tensor) -> list[tuple[int, ...]]:
    """Shapes without batch after the first layer, after each block and at the end."""
    seen: list[tuple[int, ...]] = []
    for part in (module.first, *module.blocks):
        part.register_forward_hook(lambda _part, _inputs, output: seen.append(tuple(output.shape[1:])))
    seen.append(tuple(module.eval()(x).shape[1:]))
    return seen


@pytest.mark.parametrize(
    ("module", "x", "expected"),
    [
        (FaceEncoder(2), torch.rand(FACE), [(2, 33, 33), (4, 16, 16), (6, 8, 8), (8, 4, 4), (10, 1, 1), (10,)]),
        (
            FaceDecoder(7, 2),
            torch.randn(2, 7),
            [(10,), (8, 4, 4), (6, 8, 8), (4, 16, 16), (2, 32, 32), (3, 64, 64)],
        ),
        (
            LongTextEncoder(2),
            torch.randint(0, 71, TEXT),
            [(2, 128), (4, 64), (6, 32), (8, 16), (10, 8), (10, 4), (10, 1), (10,)],
        ),
        (
            LongTextDecoder(7, 2),
            torch.randn(2, 7),
            [(10,), (10, 4), (10, 8), (8, 16), (6, 32), (4, 64), (2, 128), (256, 71)],
        ),
        (
            LongTextClassifier(2),
            torch.randint(0, 71, TEXT),
            [(2, 128), (4, 64), (6, 32), (8, 16), (10, 8), (12, 4), (14, 1), (40,)],
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_every_layer_has_the_size_of_the_table(module, x, expected):
    assert sizes(module, x) == expected


@pytest.mark.parametrize("width", [1, 8, 32])
def test_features_tell_the_width_of_the_trunk(width):
    for trunk, x in ((FaceEncoder(width), torch.rand(FACE)), (LongTextEncoder(width), torch.zeros(TEXT).long())):
        assert trunk.eval()(x).shape == (2, trunk.features)


@pytest.mark.parametrize("up", [False, True])
def test_a_block_in_evaluation_is_its_definition(up):
    torch.manual_seed(0)
    block = ResidualBlock(2, 3, 5, 4, 2, 1, up=up)
    for _ in range(3):  # statistics of its own, so that the normalisation is not the identity
        block(torch.randn(16, 3, 8, 8))
    norm1, _, conv1, drop1, norm2, _, conv2, drop2 = block.eval().branch
    conv, norm = block.shortcut
    assert (conv1.bias is None, conv2.bias is None, conv.bias is None) == (True, True, False)
    assert isinstance(drop1, nn.Dropout2d)
    assert (drop1.p, drop2.p) == (0.5, 0.5)

    def normalise(layer, x):
        mean, variance = layer.running_mean[:, None, None], layer.running_var[:, None, None]
        return (x - mean) / (variance + 1e-5).sqrt() * layer.weight[:, None, None] + layer.bias[:, None, None]

    convolve = F.conv_transpose2d if up else F.conv2d
    x = torch.randn(2, 3, 8, 8)
    inner = F.conv2d(F.relu(normalise(norm1, x)), conv1.weight)
    branch = convolve(F.relu(normalise(norm2, inner)), conv2.weight, stride=2, padding=1)
    shortcut = normalise(norm, convolve(x, conv.weight, conv.bias, stride=2, padding=1))
    torch.testing.assert_close(block(x), 2.0 * shortcut + 0.3 * branch)


def test_dropout_takes_whole_channels_in_2d_and_elements_in_1d():
    torch.manual_seed(0)
    square, flat = ResidualBlock(2, 4, 64, 4, 2, 1), ResidualBlock(1, 4, 64, 4, 2, 1)
    zero = square.branch(torch.randn(8, 4, 16, 16)) == 0
    assert torch.equal(zero.all((2, 3)), zero.any(3).any(2))
    assert 0.4 < zero.all((2, 3)).float().mean() < 0.6
    zero = flat.branch(torch.randn(8, 4, 64)) == 0
    assert not zero.all(2).any()
    assert 0.4 < zero.float().mean() < 0.6


def test_codes_and_their_one_hot_rows_are_the_same_text():
    torch.manual_seed(0)
    codes = torch.randint(0, 71, (2, 256))
    for module in (LongTextEncoder(2).eval(), LongTextClassifier(2).eval()):
        torch.testing.assert_close(module(codes), module(F.one_hot(codes, 71).float()))
        assert torch.equal(module(codes), module(codes.to(torch.uint8)))
    assert torch.equal(one_hot(codes, 71, torch.zeros(1)), F.one_hot(codes, 71).transpose(1, 2).float())


@pytest.mark.parametrize("build", [FaceEncoder, LongTextEncoder, FaceClassifier, LongTextClassifier])
def test_every_parameter_of_an_encoder_learns(build):
    torch.manual_seed(0)
    module = build(4)
    x = torch.rand(4, 3, 64, 64) if "Face" in build.__name__ else torch.randint(0, 71, (4, 256))
    (module(x) ** 3).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())
    first = module.trunk.first if isinstance(module, FaceClassifier) else module.first
    assert first.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("build", [FaceDecoder, LongTextDecoder])
def test_every_parameter_of_a_decoder_learns(build):
    torch.manual_seed(0)
    module = build(6, 4)
    (module(torch.randn(4, 6)) ** 3).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())
    assert module.first.weight.grad.abs().sum() > 0


@pytest.mark.slow
def test_a_small_text_classifier_learns_to_read():
    """A word anywhere in the string is found: 40 labels from strings made as CelebA's are."""
    import numpy as np

    from mmvae_cli.store import text
    from mmvae_cli.store.attribute_text import LENGTH, render

    torch.manual_seed(0)
    labels = (np.random.default_rng(0).random((768, 40)) < 0.2).astype(np.uint8)
    codes = torch.from_numpy(text.encode([render(row, f"{i}.jpg", 0) for i, row in enumerate(labels)], LENGTH)).long()
    target, module = torch.from_numpy(labels).float(), LongTextClassifier(16)
    optimizer = torch.optim.Adam(module.parameters(), 2e-3)
    for step in range(150):
        rows = slice(256 * (step % 3), 256 * (step % 3) + 256)
        loss = F.binary_cross_entropy_with_logits(module(codes[rows]), target[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        last = F.binary_cross_entropy_with_logits(module.eval()(codes), target).item()
    assert last < 0.45  # 0.50 is the entropy of the labels' frequency, all there is without reading
