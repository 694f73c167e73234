"""A model whose evidence is known: x_m = w_m * z + noise, per dimension, with z ~ N(0, I).

Experts are the exact likelihood messages (precision w^2/s^2, mean x/w), so that a product with the prior expert is the
exact posterior; ``blur`` spoils them to make the bounds strict.
"""

import torch
from tiny_recipes import tiny
from torch import Tensor, nn

from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.recipe import Recipe

SLOPES = (1.0, -0.7, 0.4)
SCALE = 0.5
SIZE = 4


class Message(nn.Module):
    """``shift`` and ``width``, 0 at first, are what an encoder can learn."""

    def __init__(self, slope: float, blur: float, private: int = 0) -> None:
        super().__init__()
        self.slope, self.blur, self.private = slope, blur, private
        self.shift, self.width = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        flat = x.flatten(1)
        logvar = torch.full_like(flat, 2 * torch.log(torch.tensor(SCALE / abs(self.slope))).item() + self.blur)
        private = flat[:, :1].expand(-1, self.private)
        mean = flat / self.slope + 0.3 * self.blur + self.shift
        return mean, logvar + self.width, 0.5 * private + self.shift, 0 * private - 0.2 + self.width


class Line(nn.Module):
    """``slope`` is what a decoder can learn; it reads the last dimensions, which are the shared ones."""

    def __init__(self, slope: float, size: int = SIZE) -> None:
        super().__init__()
        self.slope, self.size = nn.Parameter(torch.tensor(slope)), size

    def forward(self, z: Tensor) -> Tensor:
        private = z[:, : -self.size].sum(-1, keepdim=True)
        return (self.slope * z[:, -self.size :] + 0.3 * private).unflatten(1, (1, 1, self.size))


def linear_model(blur: float = 0.0, size: int = SIZE, **changes) -> tuple[Recipe, MultimodalVAE]:
    settings = {f"modalities__m{i}": {"network": "conv", "shape": [1, 1, size], "likelihood": "normal", "scale": SCALE}
                for i in range(3)}  # fmt: skip
    recipe = tiny(3, shape=(1, 1, size), model__latent_dim=size, **settings, **changes)
    model = MultimodalVAE(recipe)
    for i, name in enumerate(model.names):
        model.encoders[name] = Message(SLOPES[i], blur, model.private_dim)
        model.decoders[name] = Line(SLOPES[i], size)
    return recipe, model


def data(count: int, seed: int = 0, size: int = SIZE) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(count, size, generator=generator)
    return {f"m{i}": (slope * z + SCALE * torch.randn(count, size, generator=generator)).view(count, 1, 1, size)
            for i, slope in enumerate(SLOPES)}  # fmt: skip


def evidence(batch: dict[str, Tensor], names: tuple[str, ...] = ("m0", "m1", "m2")) -> Tensor:
    """log p(X) per item (B,), or of the named modalities: every dimension is a vector with covariance
    w w^T + s^2 I."""
    w = torch.tensor([SLOPES[int(name[1])] for name in names], dtype=torch.float64)
    covariance = torch.outer(w, w) + SCALE**2 * torch.eye(len(w), dtype=torch.float64)
    normal = torch.distributions.MultivariateNormal(torch.zeros(len(w), dtype=torch.float64), covariance)
    return normal.log_prob(torch.stack([batch[name].flatten(1).double() for name in names], -1)).sum(-1)
