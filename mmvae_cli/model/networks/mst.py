"""Networks of MNIST-SVHN-Text (equations 8.2): fully connected for digits, convolutions for the rest.

An encoder's trunk stops at its features; the linear heads of mean and log-variance are added by ``vae.Encoder``.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmvae_cli.model.networks.residual import ResidualBlock
from mmvae_cli.recipe import ModalitySpec
from mmvae_cli.store.text import ALPHABET

VOCABULARY = len(ALPHABET)
_DROPOUT = 0.5


def digit_pair(spec: ModalitySpec, latent: int) -> tuple[nn.Module, nn.Module]:
    """Trunk and decoder of ``mnist``: 330,040 (with heads) and 322,784 parameters for a latent of 20."""
    return DigitTrunk(), DigitDecoder(latent)


def house_number_pair(spec: ModalitySpec, latent: int) -> tuple[nn.Module, nn.Module]:
    """Trunk and decoder of ``svhn``: 236,360 (with heads) and 233,763 parameters for a latent of 20."""
    return HouseNumberTrunk(), HouseNumberDecoder(latent)


def word_pair(spec: ModalitySpec, latent: int) -> tuple[nn.Module, nn.Module]:
    """Trunk and decoder of ``text8``: 145,704 (with heads) and 143,175 parameters for a latent of 20."""
    return WordTrunk(), WordDecoder(latent)


# --- MNIST -----------------------------------------------------------------------------------------------------------


class DigitTrunk(nn.Module):
    """Images (B, 1, 28, 28) -> features (B, 400)."""

    features = 400

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(784, self.features)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(self.linear(x.flatten(1)))


class DigitDecoder(nn.Module):
    """Latents (B, D) -> location (B, 1, 28, 28) between 0 and 1: the only image decoder that ends in a sigmoid."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(latent, 400), nn.Linear(400, 784)

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.linear2(F.relu_(self.linear1(z)))).unflatten(1, (1, 28, 28))


# --- SVHN ------------------------------------------------------------------------------------------------------------


class HouseNumberTrunk(nn.Module):
    """Images (B, 3, 32, 32) -> features (B, 128); the sizes are 16, 8, 4, 1."""

    features = 128

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4 = _house_number_convolutions()

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = F.relu_(conv(x))
        return x.flatten(1)


def _house_number_convolutions() -> list[nn.Conv2d]:
    """The four convolutions that the encoder and the classifier have alike."""
    return [nn.Conv2d(3, 32, 4, 2, 1), nn.Conv2d(32, 64, 4, 2, 1), nn.Conv2d(64, 64, 4, 2, 1), nn.Conv2d(64, 128, 4, 2)]


class HouseNumberDecoder(nn.Module):
    """Latents (B, D) -> unbounded location (B, 3, 32, 32); the sizes are 1, 4, 8, 16, 32."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.linear = nn.Linear(latent, 128)
        self.conv1 = nn.ConvTranspose2d(128, 64, 4, 1, 0)
        self.conv2 = nn.ConvTranspose2d(64, 64, 4, 2, 1)
        self.conv3 = nn.ConvTranspose2d(64, 32, 4, 2, 1)
        self.conv4 = nn.ConvTranspose2d(32, 3, 4, 2, 1)

    def forward(self, z: Tensor) -> Tensor:
        x = F.relu_(self.linear(z))[:, :, None, None]
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.relu_(conv(x))
        return self.conv4(x)


# --- text ------------------------------------------------------------------------------------------------------------


class WordTrunk(nn.Module):
    """Codes (B, 8), int64, -> features (B, 128); the lengths are 8, 4, 1."""

    features = 128

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(VOCABULARY, 128, 1)
        self.conv2 = nn.Conv1d(128, 128, 4, 2, 1)
        self.conv3 = nn.Conv1d(128, 128, 4, 2, 0)

    def forward(self, codes: Tensor) -> Tensor:
        # a convolution with kernel 1 over one-hot rows picks one row of its weights per character, so that its
        # output and the ReLU on it need to be known for the V characters only
        assert self.conv1.bias is not None
        table = F.relu_(self.conv1.weight[:, :, 0].t() + self.conv1.bias)  # (V, 128)
        x = F.relu_(self.conv2(F.embedding(codes, table).transpose(1, 2)))
        return F.relu_(self.conv3(x)).flatten(1)


class WordDecoder(nn.Module):
    """Latents (B, D) -> logits (B, 8, V). The released log-softmax at the end belongs to the likelihood here."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.linear = nn.Linear(latent, 128)
        self.conv1 = nn.ConvTranspose1d(128, 128, 4, 1, 0)
        self.conv2 = nn.ConvTranspose1d(128, 128, 4, 2, 1)
        self.conv3 = nn.Conv1d(128, VOCABULARY, 1)

    def forward(self, z: Tensor) -> Tensor:
        x = F.relu_(self.conv1(self.linear(z)[:, :, None]))  # no activation after the linear layer, as released
        return self.conv3(F.relu_(self.conv2(x))).transpose(1, 2)


# --- classifiers -----------------------------------------------------------------------------------------------------
# The released ones end in a sigmoid over the ten digits. It does not change which is largest; these return logits.


class MnistClassifier(nn.Module):
    """Images (B, 1, 28, 28) -> logits (B, labels); the sizes are 13, 5, 1. 165,866 parameters for 10 labels."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(1, 32, 4, 2), nn.Conv2d(32, 64, 4, 2), nn.Conv2d(64, 128, 4, 2)
        self.dropout, self.linear = nn.Dropout(_DROPOUT), nn.Linear(128, labels)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.relu_(conv(x))
        return self.linear(self.dropout(x.flatten(1)))


class HouseNumberClassifier(nn.Module):
    """Images (B, 3, 32, 32) -> logits (B, labels). 233,066 parameters for 10 labels.

    The encoder's convolutions, each followed by dropout of single elements, batch normalisation and ReLU.
    """

    def __init__(self, labels: int) -> None:
        super().__init__()
        stages = [(conv, nn.Dropout(_DROPOUT), nn.BatchNorm2d(conv.out_channels), nn.ReLU())
                  for conv in _house_number_convolutions()]  # fmt: skip
        self.stages = nn.Sequential(*(layer for stage in stages for layer in stage))
        self.linear = nn.Linear(128, labels)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.stages(x).flatten(1))


class WordClassifier(nn.Module):
    """Soft characters (B, 8, V), each row a distribution, -> logits (B, labels); the lengths are 8, 4, 1.

    459,850 parameters for 10 labels. Its blocks have no dropout and weigh the shortcut 1, unlike CelebA's.
    """

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(VOCABULARY, 128, 1)
        self.block1 = ResidualBlock(1, 128, 192, 4, 2, 1, dropout=0.0, shortcut_scale=1.0)
        self.block2 = ResidualBlock(1, 192, 128, 4, 2, 0, dropout=0.0, shortcut_scale=1.0)
        self.dropout, self.linear = nn.Dropout(_DROPOUT), nn.Linear(128, labels)

    def forward(self, text: Tensor) -> Tensor:
        x = self.block2(self.block1(self.conv(text.transpose(1, 2))))
        return self.linear(self.dropout(x.flatten(1)))
