"""A mixture of Gaussians over latents, from which z is drawn in place of the prior (equations 6.5)."""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

_TOGETHER = 16
"""torch draws numbers in groups of 16: of complete groups the first rows are the same, however many rows there are."""


class Mixture(NamedTuple):
    """k components over D numbers: ``weights`` (k,), ``means`` (k, D), and ``factors`` (k, D, D), the lower triangular
    Cholesky factors of the covariances. All float64."""

    weights: Tensor
    means: Tensor
    factors: Tensor

    def draw(self, count: int, seed: int) -> Tensor:
        """``count`` samples (count, D), float32 on the CPU; row r is a function of the seed and r."""
        rows = -(-count // _TOGETHER) * _TOGETHER
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(rows, self.means.shape[1], dtype=torch.double, generator=generator)[:count]
        uniform = torch.rand(rows, dtype=torch.double, generator=generator.manual_seed(seed + 1))[:count]
        component = torch.searchsorted(self.weights.cumsum(0), uniform).clamp(max=len(self.weights) - 1)
        drawn = torch.empty_like(noise)
        for c in component.unique():
            own = component == c
            drawn[own] = self.means[c] + noise[own] @ self.factors[c].t()
        return drawn.float()


def fit(latents: Tensor, components: int, seed: int) -> Mixture:
    """The mixture that scikit-learn's EM algorithm fits to encoded items (N, D).

    Covariances are full; with fewer than D + 1 items a component they are one for all components. Fewer items than
    components make one component each. Raises ValueError for fewer than two items and for numbers that are not finite.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    count, size = latents.shape
    if count < 2 or not latents.isfinite().all():
        raise ValueError(
            "needs two training items that have all of it" if count < 2 else "encoded items are not finite"
        )
    components = min(components, count)
    kind = "full" if count >= components * (size + 1) else "tied"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 100 steps, or equal items: what was found is used
        fitted = GaussianMixture(components, covariance_type=kind, random_state=seed % 2**32)
        fitted.fit(latents.double().numpy())
    covariances = torch.from_numpy(fitted.covariances_).expand(components, size, size)
    weights, means = torch.from_numpy(fitted.weights_), torch.from_numpy(fitted.means_)
    return Mixture(weights, means, torch.linalg.cholesky(covariances))
