"""Diagonal distributions over a latent space, as tensors of their parameters."""

import math
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

LOG_2PI = 1.8378770664093453
SCALE_FLOOR = 1e-6
"""What the released code of Shi et al. (2019) adds to every scale of a Laplace posterior."""


class Gaussian(NamedTuple):
    """Diagonal Gaussians; ``mean`` and ``logvar`` have one shape (..., D)."""

    mean: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Reparameterised sample; ``noise``, standard normal, broadcasts against (..., D)."""
        return self.mean + torch.exp(0.5 * self.logvar) * noise

    def log_prob(self, z: Tensor) -> Tensor:
        """log density summed over D: (..., D) -> (...)."""
        squared = (z - self.mean).square() * torch.exp(-self.logvar)
        return -0.5 * (squared + self.logvar + LOG_2PI).sum(-1)

    def kl_to_prior(self) -> Tensor:
        """KL(q || N(0, I)) summed over D: (..., D) -> (...), closed form."""
        return 0.5 * (self.logvar.exp() + self.mean.square() - 1 - self.logvar).sum(-1)


class Laplace(NamedTuple):
    """Diagonal Laplace distributions; ``mean`` and ``scale`` have one shape (..., D)."""

    mean: Tensor
    scale: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Reparameterised sample; ``noise``, of Laplace(0, 1), broadcasts against (..., D)."""
        return self.mean + self.scale * noise

    def log_prob(self, z: Tensor) -> Tensor:
        """log density summed over D: (..., D) -> (...)."""
        return -((z - self.mean).abs() / self.scale + self.scale.log() + math.log(2)).sum(-1)

    def kl_to_prior(self) -> Tensor:
        """KL(q || Laplace(0, 1)) summed over D: (..., D) -> (...): ``|m| + b exp(-|m|/b) - 1 - ln b``."""
        far = self.mean.abs()
        return (far + self.scale * torch.exp(-far / self.scale) - 1 - self.scale.log()).sum(-1)


Distribution = Gaussian | Laplace
Latent = TypeVar("Latent", bound=Gaussian | Laplace)


def at(q: Latent, index: Any) -> Latent:
    """The distributions at ``index``, which is used as for a tensor (..., D)."""
    return _of_parts(q, [part[index] for part in q])


def detached(q: Latent) -> Latent:
    """The same distributions; no gradient reaches their parameters."""
    return _of_parts(q, [part.detach() for part in q])


def scaled(q: Latent, factor: Tensor) -> Latent:
    """The distribution of ``factor`` times z; ``factor`` (D,) is positive."""
    spread = q.logvar + 2 * factor.log() if isinstance(q, Gaussian) else q.scale * factor
    return _of_parts(q, [q.mean * factor, spread])


def joined(parts: list[Latent], dim: int) -> Latent:
    """Several as one, concatenated along a dimension of (..., D)."""
    return _of_parts(parts[0], [torch.cat(same, dim) for same in zip(*parts, strict=True)])


def placed(q: Latent, positions: tuple[int, ...], count: int) -> Latent:
    """``q`` (m, ...) at ``positions`` among ``count``. The other places hold zeros, which nothing reads."""
    parts = [part.new_zeros(count, *part.shape[1:]) for part in q]
    for part, own in zip(parts, q, strict=True):
        part[list(positions)] = own
    return _of_parts(q, parts)


def _of_parts(like: Latent, parts: list[Tensor]) -> Latent:
    return type(like)(*parts)


def kl(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) of Gaussians summed over D: shapes (..., D) that broadcast -> (...), closed form. It is computed from
    the ratio of the variances, which stays exact where two narrow distributions agree."""
    log_ratio = q.logvar - p.logvar
    distance = (q.mean - p.mean).square() * torch.exp(-p.logvar)
    return 0.5 * (torch.expm1(log_ratio) - log_ratio + distance).sum(-1)


def of_mean_one(raw: Tensor) -> Tensor:
    """Positive numbers (..., D) whose mean over D is 1: ``D softmax(raw)`` (Shi et al. 2019)."""
    return raw.shape[-1] * torch.softmax(raw, -1)


def _laplace_noise(*shape: int, device: torch.device | str, generator: torch.Generator | None = None) -> Tensor:
    """Noise of Laplace(0, 1): the difference of two exponential variables, which needs no logarithm of 0."""
    first, second = torch.empty(2, *shape, device=device).exponential_(generator=generator)
    return first - second


NOISE: dict[str, Any] = {"normal": torch.randn, "laplace": _laplace_noise}
"""Standard noise of each latent distribution: sizes, ``device`` and ``generator`` to a tensor."""


def posterior(distribution: str, mean: Tensor, raw: Tensor) -> Distribution:
    """What an encoder's two outputs (..., D) say of a latent distribution, by its name; all in fp32."""
    if distribution == "laplace":
        return Laplace(mean.float(), of_mean_one(raw.float()) + SCALE_FLOOR)
    return Gaussian(mean.float(), raw.float())
