"""Residual networks for 28x28 pictures (equations 8.6): those that MMVAE+ and MMVM-VAE train on PolyMNIST."""

from torch import Tensor, nn
from torch.nn import functional as F

from mmvae_cli.recipe import ModalitySpec

SIZE, CHANNELS = 7, 256
"""Of the last map of the encoder and the first one of the decoder: pixels a side, and channels."""
FEATURES = CHANNELS * SIZE * SIZE
_SLOPE, _BRANCH_SCALE = 0.2, 0.1


def residual_pair(spec: ModalitySpec, latent: int) -> tuple[nn.Module, nn.Module]:
    """Trunk and decoder of ``resnet28``: 670,144 parameters without heads, and 1,485,251 for a latent of 64."""
    assert spec.shape is not None
    return ResidualTrunk(spec.shape[0]), ResidualDecoder(latent, spec.shape[0])


class Block(nn.Module):
    """``shortcut + 0.1 * branch``: (B, inside, H, W) -> (B, outside, H, W). The branch is leaky ReLU and a 3x3
    convolution, twice; the shortcut is the input itself, or a 1x1 convolution without bias where channels change."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        between = min(inside, outside)
        self.conv1 = nn.Conv2d(inside, between, 3, padding=1)
        self.conv2 = nn.Conv2d(between, outside, 3, padding=1)
        self.shortcut = nn.Conv2d(inside, outside, 1, bias=False) if inside != outside else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        branch = self.conv2(F.leaky_relu(self.conv1(F.leaky_relu(x, _SLOPE)), _SLOPE))
        return self.shortcut(x) + _BRANCH_SCALE * branch


class ResidualTrunk(nn.Module):
    """Images (B, C, 28, 28) -> features (B, 12544), without an activation at the end. The shared and the private
    posterior have a trunk each (``apart``)."""

    apart = True
    features = FEATURES

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 64, 3, padding=1), Block(64, 64), nn.AvgPool2d(3, 2, 1),
            Block(64, 128), nn.AvgPool2d(3, 2, 1), Block(128, CHANNELS), nn.Flatten(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ResidualDecoder(nn.Module):
    """Latents (B, latent) -> unbounded location (B, C, 28, 28)."""

    def __init__(self, latent: int, channels: int = 3) -> None:
        super().__init__()
        self.linear = nn.Linear(latent, FEATURES)
        self.layers = nn.Sequential(
            Block(CHANNELS, 128), nn.Upsample(scale_factor=2), Block(128, 64), nn.Upsample(scale_factor=2),
            Block(64, 64), nn.LeakyReLU(_SLOPE), nn.Conv2d(64, channels, 3, padding=1),
        )  # fmt: skip

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(self.linear(z).unflatten(1, (CHANNELS, SIZE, SIZE)))
