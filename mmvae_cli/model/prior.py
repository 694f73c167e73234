"""p(z), the prior of the shared latent, and the priors of the private latents."""

import math

import torch
from torch import Tensor, nn

from mmvae_cli.model import distributions
from mmvae_cli.model.distributions import Latent, of_mean_one, scaled


class Prior(nn.Module):
    """N(0, I) or, where latents are Laplace, Laplace(0, 1). ``learned``: the scales of the ``size`` dimensions are
    learned, with a mean of 1 (Shi et al. 2019); the location stays 0."""

    def __init__(self, distribution: str, size: int, *, learned: bool = False) -> None:
        super().__init__()
        self.distribution = distribution
        self.raw = nn.Parameter(torch.zeros(size)) if learned else None

    def noise(self, *shape: int, device: torch.device | str, generator: torch.Generator | None = None) -> Tensor:
        """Standard noise of the latent distribution, from which posteriors and the prior draw their samples."""
        return distributions.NOISE[self.distribution](*shape, device=device, generator=generator)

    def sample(self, noise: Tensor) -> Tensor:
        """z ~ p(z): noise (..., D) -> (..., D)."""
        return noise if self.raw is None else noise * of_mean_one(self.raw)

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) summed over D: (..., D) -> (...)."""
        if self.raw is None:
            return _STANDARD[self.distribution](z)
        scale = of_mean_one(self.raw)
        return _STANDARD[self.distribution](z / scale) - scale.log().sum()

    def standardised(self, q: Latent) -> Latent:
        """``q`` with z divided by the prior's scale, so that the prior is the standard one."""
        return q if self.raw is None else scaled(q, 1 / of_mean_one(self.raw))

    def restored(self, q: Latent) -> Latent:
        """The inverse of :meth:`standardised`."""
        return q if self.raw is None else scaled(q, of_mean_one(self.raw))


_STANDARD = {
    "normal": lambda z: -0.5 * (z.square() + distributions.LOG_2PI).sum(-1),
    "laplace": lambda z: -(z.abs() + math.log(2)).sum(-1),
}


class AuxiliaryPriors(nn.Module):
    """The priors r_m of ``private: auxiliary``, one for every modality: location 0, learned scales (M, P) with a mean
    of 1. They stand for the private latents of modalities that a component does not contain (Palumbo et al. 2023)."""

    def __init__(self, modalities: int, size: int) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.zeros(modalities, size))

    def sample(self, modality: int, noise: Tensor) -> Tensor:
        """s_m ~ r_m: standard noise (..., P) -> (..., P)."""
        return noise * of_mean_one(self.raw[modality])
