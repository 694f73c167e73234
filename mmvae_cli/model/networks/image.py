"""Convolutional networks for images: PolyMNIST's (equations 8.1), and the same for any other size."""

from torch import Tensor, nn
from torch.nn import functional as F

from mmvae_cli.model.networks.fast_layers import BiasApart, Subpixel
from mmvae_cli.recipe import ModalitySpec

Size = tuple[int, int]


def conv_pair(spec: ModalitySpec, latent: int, *, normalised: bool = False) -> tuple[nn.Module, nn.Module]:
    """Trunk and decoder of ``image28`` and ``conv``: three stride-2 convolutions and their mirror image.

    ``normalised``: those of ``conv_bn``, with batch normalisation before every hidden ReLU of a convolution. They are
    not the paper's: for short runs, as they learn in fewer steps.
    """
    assert spec.shape is not None
    channels, height, width = spec.shape
    trunk = ConvTrunk(channels, (height, width), spec.width or latent, normalised)
    return trunk, ConvDecoder(channels, (height, width), latent, normalised)


def _stage(convolution: nn.Conv2d | nn.ConvTranspose2d, normalised: bool) -> nn.Module:
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels)) if normalised else convolution


def _halvings(size: Size) -> list[Size]:
    """The sizes that a stride-2, kernel-3, padding-1 convolution passes through: 28 -> 14 -> 7 -> 4."""
    sizes = [size]
    for _ in range(3):
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


class ConvTrunk(nn.Module):
    """(B, C, H, W) -> (B, F); ``hidden`` is the latent size in the released networks."""

    def __init__(self, channels: int, size: Size, hidden: int, normalised: bool = False) -> None:
        super().__init__()
        height, width = _halvings(size)[-1]
        self.conv1 = _stage(nn.Conv2d(channels, 32, 3, 2, 1), normalised)
        self.conv2 = _stage(nn.Conv2d(32, 64, 3, 2, 1), normalised)
        self.conv3 = _stage(nn.Conv2d(64, 128, 3, 2, 1), normalised)
        self.linear = nn.Linear(128 * height * width, hidden)
        self.features = hidden

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.conv1(x))
        x = F.relu_(self.conv2(x))
        x = F.relu_(self.conv3(x))
        return F.relu_(self.linear(x.flatten(1)))


class ConvDecoder(nn.Module):
    """(B, D) -> (B, C, H, W), unbounded location."""

    def __init__(self, channels: int, size: Size, latent: int, normalised: bool = False) -> None:
        super().__init__()
        sizes = _halvings(size)
        self.start = (128, *sizes[-1])
        self.linear = nn.Linear(latent, 128 * sizes[-1][0] * sizes[-1][1])
        self.conv1 = _stage(_double(128, 64, sizes[3], sizes[2]), normalised)
        self.conv2 = _stage(_double(64, 32, sizes[2], sizes[1]), normalised)
        self.conv3 = _double(32, channels, sizes[1], sizes[0])

    def forward(self, z: Tensor) -> Tensor:
        x = F.relu_(self.linear(z)).unflatten(1, self.start)
        x = F.relu_(self.conv1(x))
        x = F.relu_(self.conv2(x))
        return self.conv3(x)


def _double(inside: int, outside: int, small: Size, large: Size) -> nn.ConvTranspose2d:
    extra = (large[0] - 2 * small[0] + 1, large[1] - 2 * small[1] + 1)
    kind = BiasApart if inside >= 64 else Subpixel if outside <= 4 else nn.ConvTranspose2d
    return kind(inside, outside, 3, 2, 1, output_padding=extra)


class DigitClassifier(nn.Module):
    """PolyMNIST's released classifier (equations 8.4): logits (B, labels); 130,568 parameters for 3x28x28 and 10."""

    SMALLEST = 4  # pixels a side: what two strides of 2 make one of

    def __init__(self, shape: tuple[int, ...], labels: int) -> None:
        super().__init__()
        channels, height, width = shape
        self.conv1 = nn.Conv2d(channels, 10, 4, 2, 1)
        self.conv2 = nn.Conv2d(10, 20, 4, 2, 1)
        flat = 20 * (height // 4) * (width // 4)
        self.linear1, self.linear2 = nn.Linear(flat, 128), nn.Linear(128, labels)
        self.channel_dropout, self.dropout = nn.Dropout2d(0.5), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.channel_dropout(self.conv1(x)))
        x = F.relu_(self.channel_dropout(self.conv2(x)))
        x = F.relu_(self.dropout(self.linear1(x.flatten(1))))
        return self.linear2(x)
