"""Diagonal distributions over a latent space, as tensors of their parameters."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

_LOG_2PI = 1.8378770664093453


class Gaussian(NamedTuple):
    """Diagonal Gaussians; ``mean`` and ``logvar`` have one shape (..., D)."""

    mean: Tensor
    logvar: Tensor

    def at(self, index: Any) -> "Gaussian":
        """Those at ``index``, as of a tensor (..., D)."""
        return Gaussian(self.mean[index], self.logvar[index])

    def placed(self, positions: tuple[int, ...], count: int) -> "Gaussian":
        """These (m, ...) at ``positions`` among ``count``; the other places hold zeros, for nobody to read."""
        parts = [part.new_zeros(count, *part.shape[1:]) for part in self]
        for part, own in zip(parts, self, strict=True):
            part[list(positions)] = own
        return Gaussian(*parts)

    def sample(self, noise: Tensor) -> Tensor:
        """Reparameterised sample; ``noise``, standard normal, broadcasts against (..., D)."""
        return self.mean + torch.exp(0.5 * self.logvar) * noise

    def log_prob(self, z: Tensor) -> Tensor:
        """log density summed over D: (..., D) -> (...)."""
        squared = (z - self.mean).square() * torch.exp(-self.logvar)
        return -0.5 * (squared + self.logvar + _LOG_2PI).sum(-1)

    def kl_to_prior(self) -> Tensor:
        """KL(q || N(0, I)) summed over D: (..., D) -> (...), closed form."""
        return 0.5 * (self.logvar.exp() + self.mean.square() - 1 - self.logvar).sum(-1)


def joined(parts: list[Gaussian], dim: int) -> Gaussian:
    """Several as one, along a dimension of (..., D)."""
    return Gaussian(*(torch.cat(same, dim) for same in zip(*parts, strict=True)))
