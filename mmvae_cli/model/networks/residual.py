"""CelebA's residual networks (equations 8.3): 64x64 faces by 2-D blocks, strings of 256 characters by 1-D blocks.

``width`` is the number of channels after the first convolution; all others are its multiples. 128 is the paper's and
gives its parameter counts, 32 or less makes a model to try on a laptop. Dropout and batch normalisation are active in
training, in encoders and decoders alike, and off in evaluation.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mmvae_cli.recipe import ModalitySpec

PAPER_WIDTH = 128
VOCABULARY, ATTRIBUTES = 71, 40
_DROPOUT = 0.5
_SHORTCUT_SCALE, _BRANCH_SCALE = 2.0, 0.3  # the released code's; both differ from a usual residual block's 1

Stage = tuple[int, int, int, int]
"""Channels out in widths, kernel, stride, padding."""
_HALVE = (4, 2, 1)
_FACE_DOWN: tuple[Stage, ...] = ((2, *_HALVE), (3, *_HALVE), (4, *_HALVE), (5, 4, 2, 0))
_FACE_UP: tuple[Stage, ...] = ((4, 4, 1, 0), (3, *_HALVE), (2, *_HALVE), (1, *_HALVE))
_TEXT_DOWN: tuple[Stage, ...] = ((2, *_HALVE), (3, *_HALVE), (4, *_HALVE), (5, *_HALVE), (5, *_HALVE), (5, 4, 2, 0))
_TEXT_UP: tuple[Stage, ...] = ((5, 4, 1, 0), (5, *_HALVE), (4, *_HALVE), (3, *_HALVE), (2, *_HALVE), (1, *_HALVE))
_TEXT_CLASSES: tuple[Stage, ...] = ((2, *_HALVE), (3, *_HALVE), (4, *_HALVE), (5, *_HALVE), (6, *_HALVE), (7, 4, 2, 0))


def face_pair(spec: ModalitySpec, latent: int) -> tuple[nn.Module, nn.Module]:
    """Trunk and decoder of ``face64``: 21,559,040 (with heads) and 21,912,323 parameters for latents of 32 + 32."""
    width = spec.width or PAPER_WIDTH
    return FaceEncoder(width), FaceDecoder(latent, width)


def long_text_pair(spec: ModalitySpec, latent: int) -> tuple[nn.Module, nn.Module]:
    """Trunk and decoder of ``text256``: 13,250,816 (with heads) and 13,604,039 parameters for latents of 32 + 32."""
    width = spec.width or PAPER_WIDTH
    return LongTextEncoder(width), LongTextDecoder(latent, width)


class ResidualBlock(nn.Module):
    """``2.0 * shortcut + 0.3 * branch``: (B, inside, *size) -> (B, outside, *new size).

    branch: BN, ReLU, conv k1, dropout, BN, ReLU, conv, dropout; shortcut: conv, BN. ``up`` makes both ``conv``
    transposed ones. In 2-D the branch has no biases and drops whole channels; in 1-D it has biases and drops elements.
    The classifier of MNIST-SVHN-Text's words has the same block with other ``dropout`` and ``shortcut_scale``.
    """

    def __init__(
        self, dimensions: int, inside: int, outside: int, kernel: int, stride: int, padding: int, *, up: bool = False,
        dropout: float = _DROPOUT, shortcut_scale: float = _SHORTCUT_SCALE,
    ) -> None:  # fmt: skip
        super().__init__()
        self.shortcut_scale = shortcut_scale
        flat = dimensions == 1
        norm: Callable[[int], nn.Module] = nn.BatchNorm1d if flat else nn.BatchNorm2d
        drop: Callable[[float], nn.Module] = nn.Dropout if flat else nn.Dropout2d
        self.branch = nn.Sequential(
            norm(inside),
            nn.ReLU(),
            _conv(dimensions, inside, inside, 1, 1, 0, bias=flat),
            drop(dropout),
            norm(inside),
            nn.ReLU(),
            _conv(dimensions, inside, outside, kernel, stride, padding, bias=flat, up=up),
            drop(dropout),
        )
        self.shortcut = nn.Sequential(
            _conv(dimensions, inside, outside, kernel, stride, padding, bias=True, up=up), norm(outside)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut_scale * self.shortcut(x) + _BRANCH_SCALE * self.branch(x)


def _conv(
    dimensions: int, inside: int, outside: int, kernel: int, stride: int, padding: int, *, bias: bool, up: bool = False
) -> nn.Module:
    if up:
        transposed = nn.ConvTranspose1d if dimensions == 1 else nn.ConvTranspose2d
        return transposed(inside, outside, kernel, stride, padding, bias=bias)
    plain = nn.Conv1d if dimensions == 1 else nn.Conv2d
    return plain(inside, outside, kernel, stride, padding, bias=bias)


def _blocks(dimensions: int, inside: int, width: int, steps: Sequence[Stage], *, up: bool = False) -> nn.Sequential:
    """One block per step, the first with ``inside`` channels in."""
    blocks = []
    for multiple, *geometry in steps:
        blocks.append(ResidualBlock(dimensions, inside, multiple * width, *geometry, up=up))
        inside = multiple * width
    return nn.Sequential(*blocks)


def one_hot(text: Tensor, vocabulary: int, like: Tensor) -> Tensor:
    """Codes (B, L) of any integer type, or soft characters (B, L, V), -> (B, V, L) in the type of ``like``."""
    if text.dim() == 3:
        return text.transpose(1, 2).to(like.dtype)
    rows, length = text.shape
    zeros = torch.zeros(rows, vocabulary, length, dtype=like.dtype, device=text.device)
    return zeros.scatter_(1, text.long().unsqueeze(1), 1.0)


# --- encoders and decoders -------------------------------------------------------------------------------------------


class FaceEncoder(nn.Module):
    """Images (B, 3, 64, 64) -> features (B, 5 width), the trunk that the heads of mean and log-variance stand on.

    The sizes are 33 (a padding of 2, as released), 16, 8, 4, 1. 21,559,040 parameters with four heads of 32.
    """

    def __init__(self, width: int = PAPER_WIDTH) -> None:
        super().__init__()
        self.features = 5 * width
        self.first = nn.Conv2d(3, width, 3, 2, 2, bias=False)
        self.blocks = _blocks(2, width, width, _FACE_DOWN)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.first(x)).flatten(1)


class FaceDecoder(nn.Module):
    """Latents (B, latent) -> unbounded location (B, 3, 64, 64). 21,912,323 parameters for a latent of 64."""

    def __init__(self, latent: int, width: int = PAPER_WIDTH) -> None:
        super().__init__()
        self.first = nn.Linear(latent, 5 * width)
        self.blocks = _blocks(2, 5 * width, width, _FACE_UP, up=True)
        self.last = nn.ConvTranspose2d(width, 3, 3, 2, 1, output_padding=1)

    def forward(self, z: Tensor) -> Tensor:
        return self.last(self.blocks(self.first(z)[:, :, None, None]))


class LongTextEncoder(nn.Module):
    """Codes (B, 256), or soft characters (B, 256, V), -> features (B, 5 width).

    The sizes are 128, 64, 32, 16, 8, 4, 1. 13,250,816 parameters with four heads of 32.
    """

    def __init__(self, width: int = PAPER_WIDTH) -> None:
        super().__init__()
        self.features = 5 * width
        self.first = nn.Conv1d(VOCABULARY, width, 4, 2, 1)
        self.blocks = _blocks(1, width, width, _TEXT_DOWN)

    def forward(self, text: Tensor) -> Tensor:
        x = one_hot(text, VOCABULARY, self.first.weight)
        return self.blocks(self.first(x)).flatten(1)


class LongTextDecoder(nn.Module):
    """Latents (B, latent) -> logits (B, 256, V). 13,604,039 parameters for a latent of 64.

    The released network ends in a log-softmax, which belongs to the likelihood here.
    """

    def __init__(self, latent: int, width: int = PAPER_WIDTH) -> None:
        super().__init__()
        self.first = nn.Linear(latent, 5 * width)
        self.blocks = _blocks(1, 5 * width, width, _TEXT_UP, up=True)
        self.last = nn.ConvTranspose1d(width, VOCABULARY, 4, 2, 1)

    def forward(self, z: Tensor) -> Tensor:
        return self.last(self.blocks(self.first(z)[:, :, None])).transpose(1, 2)


# --- attribute classifiers -------------------------------------------------------------------------------------------


class FaceClassifier(nn.Module):
    """Images (B, 3, 64, 64) -> logits of the attributes (B, 40). 21,502,632 parameters.

    The released classifiers end in a sigmoid. Logits rank alike, and their cross-entropy does not saturate.
    """

    def __init__(self, width: int = PAPER_WIDTH, attributes: int = ATTRIBUTES) -> None:
        super().__init__()
        self.trunk = FaceEncoder(width)
        self.head = nn.Sequential(nn.Dropout(_DROPOUT), nn.Linear(self.trunk.features, attributes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x))


class LongTextClassifier(nn.Module):
    """Codes (B, 256), or soft characters (B, 256, V), -> logits of the attributes (B, 40). 16,261,544 parameters."""

    def __init__(self, width: int = PAPER_WIDTH, attributes: int = ATTRIBUTES) -> None:
        super().__init__()
        self.first = nn.Conv1d(VOCABULARY, width, 3, 2, 1)
        self.blocks = _blocks(1, width, width, _TEXT_CLASSES)
        self.head = nn.Sequential(nn.Dropout(_DROPOUT), nn.Linear(7 * width, attributes))

    def forward(self, text: Tensor) -> Tensor:
        x = one_hot(text, VOCABULARY, self.first.weight)
        return self.head(self.blocks(self.first(x)).flatten(1))
