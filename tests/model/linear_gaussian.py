"""A model whose evidence is known: x_m = w_m * z + noise, per dimension, with z ~ N(0, I).

Experts are the exact likelihood messages (precision w^2/s^2, mean x/w), so that a product with the prior expert is the
exact posterior; ``blur`` spoils them to make the bounds strict.
"""

import torch
from torch import Tensor, nn

from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.recipe import Recipe

from recipes import tiny

SLOPES = (1.0, -0.7, 0.4)
SCALE = 0.5
SIZE = 4


class Message(nn.Module):
    def __init__(self, slope: float, blur: float) -> None:
        super().__init__()
        self.slope, self.blur = slope, blur

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        flat = x.flatten(1)
        logvar = torch.full_like(flat, 2 * torch.log(torch.tensor(SCALE / abs(self.slope))).item() + self.blur)
        return flat / self.slope + 0.3 * self.blur, logvar, flat[:, :0], flat[:, :0]


class Line(nn.Module):
    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, z: Tensor) -> Tensor:
        return (self.slope * z).unflatten(1, (1, 1, SIZE))


def linear_model(blur: float = 0.0, **changes) -> tuple[Recipe, MultimodalVAE]:
    settings = {f"modalities__m{i}": {"network": "conv", "shape": [1, 1, SIZE], "likelihood": "normal", "scale": SCALE}
                for i in range(3)}  # fmt: skip
    recipe = tiny(3, shape=(1, 1, SIZE), model__latent_dim=SIZE, **settings, **changes)
    model = MultimodalVAE(recipe)
    for i, name in enumerate(model.names):
        model.encoders[name], model.decoders[name] = Message(SLOPES[i], blur), Line(SLOPES[i])
    return recipe, model


def data(count: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(count, SIZE, generator=generator)
    return {f"m{i}": (slope * z + SCALE * torch.randn(count, SIZE, generator=generator)).view(count, 1, 1, SIZE)
            for i, slope in enumerate(SLOPES)}  # fmt: skip


def evidence(batch: dict[str, Tensor]) -> Tensor:
    """log p(X) per item (B,): every dimension is a 3-vector with covariance w w^T + s^2 I."""
    w = torch.tensor(SLOPES, dtype=torch.float64)
    covariance = torch.outer(w, w) + SCALE**2 * torch.eye(3, dtype=torch.float64)
    normal = torch.distributions.MultivariateNormal(torch.zeros(3, dtype=torch.float64), covariance)
    return normal.log_prob(torch.stack([x.flatten(1).double() for x in batch.values()], -1)).sum(-1)
