"""Fully connected networks for vectors: measurements, counts, fractions."""

from torch import Tensor, nn

from mmvae_cli.recipe import ModalitySpec
from mmvae_cli.recipe.kinds import COUNTS


def mlp_pair(spec: ModalitySpec, latent: int) -> tuple[nn.Module, nn.Module]:
    """Trunk and decoder of ``mlp``: ``depth`` hidden layers of ``width`` units each, in either. The trunk reads counts
    as log(1 + x); the decoder's output is unbounded, (B, F)."""
    assert spec.shape is not None
    assert spec.width is not None
    (features,) = spec.shape
    last = spec.width if spec.depth else latent
    return Trunk(features, spec), nn.Sequential(*_hidden(latent, spec), nn.Linear(last, features))


class Trunk(nn.Module):
    """(B, F) -> (B, width)."""

    def __init__(self, size: int, spec: ModalitySpec) -> None:
        super().__init__()
        self.counts = spec.likelihood in COUNTS
        self.layers = nn.Sequential(*_hidden(size, spec))
        self.features = spec.width if spec.depth else size

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.log1p() if self.counts else x)


def _hidden(size: int, spec: ModalitySpec) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for _ in range(spec.depth or 0):
        layers.append(nn.Linear(size, size := spec.width or size))
        layers += [nn.LayerNorm(size)] if spec.layer_norm else []
        layers.append(nn.ReLU())
        layers += [nn.Dropout(spec.dropout)] if spec.dropout else []
    return layers
