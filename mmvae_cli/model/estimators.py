"""K-sample bounds and the estimators of their gradients (equations 4.7 and 4.8).

``log_w`` (C, K, B) are the log weights of K samples of each of C components: the likelihoods, and what the sample costs
against the prior. An estimator gives the bound (B,); its value is the bound's, its gradient the estimator's own.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Weighed(NamedTuple):
    """Log weights, and what estimators need beside them. ``tight``: the mean over the components stands inside the
    logarithm, too. ``rest`` (C, K, B): densities at fixed samples, whose gradient does not go through the samples.
    ``path``: the :class:`Path` that the samples went through."""

    log_w: Tensor
    tight: bool
    rest: Tensor | float
    path: "Path"


def bound(w: Weighed) -> Tensor:
    """``mean over A of log 1/K sum_k w_Ak`` or, tight, ``log 1/(CK) sum_Ak w_Ak``: (C, K, B) -> (B,)."""
    log_w = w.log_w.flatten(0, 1)[None] if w.tight else w.log_w
    return (torch.logsumexp(log_w, 1) - math.log(log_w.shape[1])).mean(0)


def shares(w: Weighed) -> Tensor:
    """``wt``, the weights within each logarithm, which add up to 1 there, as constants: (C, K, B)."""
    log_w = w.log_w.detach()
    return torch.softmax(log_w.flatten(0, 1), 0).view_as(log_w) if w.tight else torch.softmax(log_w, 1)


def effective_samples(w: Weighed) -> Tensor:
    """``1 / sum wt^2`` (B,): near 1, K samples are worth one; of several logarithms the mean."""
    squared = shares(w).square()
    return 1 / squared.sum((0, 1)) if w.tight else (1 / squared.sum(1)).mean(0)


def iwae(w: Weighed) -> Tensor:
    """The gradient of the bound itself, ``sum wt dl`` (Burda et al. 2016)."""
    return bound(w)


def stl(w: Weighed) -> Tensor:
    """Sticking the landing, ``sum wt dl/dz dz/dphi``: the densities of q are constants (Roeder et al. 2017). Unbiased
    for one sample."""
    return _with_gradient(w, shares(w) * w.log_w)


def dreg(w: Weighed) -> Tensor:
    """Doubly reparameterised (Tucker et al. 2019), exact for samples of every component:
    ``sum wt^2 dl/dz dz/dphi + sum wt d/dphi [log q_A - log q](z)``, z held fixed in the second sum; decoders and
    priors get ``sum wt dl``. Published forms leave the second sum out, which is right for one component only."""
    wt = shares(w)
    w.path.share = wt.flatten(0, 1)[..., None]
    return _with_gradient(w, wt * (w.log_w + w.rest))


def _with_gradient(w: Weighed, surrogate: Tensor) -> Tensor:
    """The bound's value with the gradient of ``surrogate`` (C, K, B), summed within a logarithm, averaged over them."""
    total = surrogate.sum(1).sum(0) / (1 if w.tight else len(surrogate))
    return bound(w).detach() + total - total.detach()


class Path:
    """The identity on samples of q, on their way to decoders and densities. On the way back their gradient is
    multiplied by ``share`` (Z, B, 1), which is known by then."""

    share: Tensor

    def __call__(self, z: Tensor) -> Tensor:
        return _Through.apply(z, self)


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, path: Path) -> Tensor:
        ctx.path = path
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        return upstream[0] * ctx.path.share, None


ESTIMATORS: dict[str, Callable[[Weighed], Tensor]] = {"iwae": iwae, "stl": stl, "dreg": dreg}
"""Beside ``elbo``, the mean over single samples, where every term is weighed by itself."""
FIXED = ("stl", "dreg")
"""Estimators for which the densities of q are constants in ``log_w``."""
