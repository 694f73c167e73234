"""How like the original a reconstruction is, item by item (equations 6.6)."""

import torch
from torch import Tensor

_SIGMA, _REACH = 1.5, 5
"""The Gaussian window of the structural similarity, 11 pixels wide."""
_C1, _C2 = 0.01**2, 0.03**2


def structural(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) of images (b, C, H, W) in [0, 1]: mean over pixels and channels, (b,).
    Sides are longer than 5; borders are reflected."""
    x, y = x.double(), y.double()  # variances are differences of nearly equal numbers
    down, across = (_window(side).to(x.device) for side in x.shape[2:])

    def local(image: Tensor) -> Tensor:
        return down @ image @ across.t()

    mean_x, mean_y = local(x), local(y)
    var_x, var_y = local(x * x) - mean_x.square(), local(y * y) - mean_y.square()
    both = local(x * y) - mean_x * mean_y
    numerator = (2 * mean_x * mean_y + _C1) * (2 * both + _C2)
    return (numerator / ((mean_x.square() + mean_y.square() + _C1) * (var_x + var_y + _C2))).flatten(1).mean(1)


def _window(side: int) -> Tensor:
    """The window along one side as a matrix (side, side), whose rows are the weights of every place's neighbourhood."""
    offset = torch.arange(-_REACH, _REACH + 1)
    line = torch.exp(-offset.double().square() / (2 * _SIGMA**2))
    near = (torch.arange(side)[:, None] + offset).abs()
    near = torch.where(near < side, near, 2 * (side - 1) - near)  # reflected
    return torch.zeros(side, side).double().scatter_add_(1, near, (line / line.sum()).expand(side, -1))


def scores(kind: str, mean: Tensor, x: Tensor) -> dict[str, Tensor]:
    """What stands for the likeness of reconstructions ``mean`` and data ``x``, by name, (b,) each. Images: mean squared
    error per pixel and channel, and ``ssim``; texts, probabilities (b, L, V) and codes (b, L): the share of right
    characters, and whether all are right; vectors: mean squared error per feature."""
    if kind == "text":
        correct = mean.argmax(-1) == x
        return {"characters": correct.double().mean(1), "strings": correct.all(1).double()}
    values = {"mse": (mean - x).square().flatten(1).double().mean(1)}
    if kind == "image" and min(x.shape[2:]) > _REACH:
        values["ssim"] = structural(mean, x)
    return values
