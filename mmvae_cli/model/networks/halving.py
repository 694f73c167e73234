"""Convolutional networks for texts of any length over any alphabet (equations 8.7). Every convolution halves."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from mmvae_cli.recipe import ModalitySpec

SHORTEST, MOST = 4, 4
"""Positions that are left when halving ends; by how many times the ``width`` the channels grow."""


def text_pair(spec: ModalitySpec, latent: int) -> tuple[nn.Module, nn.Module]:
    """Trunk and decoder of ``text``: ``width`` channels for the characters, twice and four times as many deeper in."""
    assert spec.shape is not None
    assert spec.width is not None
    assert spec.characters is not None
    (length,), halvings = spec.shape, 0
    while SHORTEST << halvings < length:
        halvings += 1
    channels = [spec.width * min(2**level, MOST) for level in range(halvings + 1)]
    return Trunk(length, spec.characters, channels), Decoder(length, spec.characters, channels, latent)


class Trunk(nn.Module):
    """Codes (B, L) -> (B, F). A text that does not fill the ``SHORTEST`` times two to the halvings is filled up with
    zeros, which stand for no character."""

    def __init__(self, length: int, characters: int, channels: list[int]) -> None:
        super().__init__()
        self.fill = (SHORTEST << (len(channels) - 1)) - length
        self.characters = nn.Embedding(characters, channels[0])
        self.convolutions = nn.ModuleList(nn.Conv1d(*pair, 4, 2, 1) for pair in pairwise(channels))
        self.features = channels[-1] * SHORTEST

    def forward(self, codes: Tensor) -> Tensor:
        x = F.pad(self.characters(codes).transpose(1, 2), (0, self.fill))
        for convolution in self.convolutions:
            x = F.relu_(convolution(x))
        return x.flatten(1)


class Decoder(nn.Module):
    """Latents (B, D) -> logits (B, L, V): the mirror image, cut to the length."""

    def __init__(self, length: int, characters: int, channels: list[int], latent: int) -> None:
        super().__init__()
        deep = channels[::-1]
        self.length = length
        self.linear = nn.Linear(latent, deep[0] * SHORTEST)
        self.convolutions = nn.ModuleList(nn.ConvTranspose1d(*pair, 4, 2, 1) for pair in pairwise(deep))
        self.characters = nn.Conv1d(channels[0], characters, 1)

    def forward(self, z: Tensor) -> Tensor:
        x = F.relu_(self.linear(z)).unflatten(1, (-1, SHORTEST))
        for convolution in self.convolutions:
            x = F.relu_(convolution(x))
        logits: Tensor = self.characters(x[..., : self.length])
        return logits.transpose(1, 2)
