"""p(z), the prior of the shared latent, which is also that of every private one: the only place that knows it."""

import torch
from torch import Tensor, nn

from mmvae_cli.model.distributions import Gaussian


class Prior(nn.Module):
    """N(0, I)."""

    def noise(self, *shape: int, device: torch.device | str, generator: torch.Generator | None = None) -> Tensor:
        """Standard noise of the latent family, from which posteriors and the prior draw their samples."""
        return torch.randn(*shape, device=device, generator=generator)

    def sample(self, noise: Tensor) -> Tensor:
        """z ~ p(z): noise (..., D) -> (..., D)."""
        return noise

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) summed over D: (..., D) -> (...)."""
        return Gaussian(torch.zeros_like(z), torch.zeros_like(z)).log_prob(z)
