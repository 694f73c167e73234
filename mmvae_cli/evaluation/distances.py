"""How far generated samples are from real ones, both as features (equations 6.6). Features are fp32, statistics
fp64."""

from typing import NamedTuple

import torch
from torch import Tensor

NEAREST_OF_PRECISION, NEAREST_OF_DENSITY = 3, 5
"""k of Kynkaanniemi et al. (2019), and of Naeem et al. (2020)."""
_ROWS_AT_ONCE = 1024
_ROUNDING = 2 * torch.finfo(torch.float32).eps
"""Distances that differ by less, as a share of the features' length, are equal: repeated samples lie on their balls."""


class Moments(NamedTuple):
    """Mean (F,) and covariance (F, F), divided by n - 1, in float64."""

    mean: Tensor
    covariance: Tensor


def moments(features: Tensor) -> Moments:
    """Of features (n, F); n is at least 2."""
    exact = features.double()
    return Moments(exact.mean(0), torch.cov(exact.t()).reshape(exact.shape[1], exact.shape[1]))


def frechet(one: Moments, other: Moments) -> float:
    """|m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^1/2. The last trace is the sum of the roots of the eigenvalues of
    R S2 R with R = S1^1/2: both are symmetric, so that nothing is ever complex (Heusel et al. 2017)."""
    values, vectors = torch.linalg.eigh(one.covariance)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.t()
    product = torch.linalg.eigvalsh(root @ other.covariance @ root)
    spread = one.covariance.trace() + other.covariance.trace() - 2 * product.clamp_min(0).sqrt().sum()
    return max(0.0, float((one.mean - other.mean).square().sum() + spread))  # rounding is no distance


class Neighbours(NamedTuple):
    """Of every point of a set the distance to its k-th nearest other one, for both k: the radii of its balls, (n,)."""

    of_precision: Tensor
    of_density: Tensor


def neighbours(features: Tensor) -> Neighbours:
    """Of features (n, F); n is above NEAREST_OF_DENSITY."""
    own = features.double()
    parts = []
    for rows in own.split(_ROWS_AT_ONCE):
        parts.append(torch.cdist(rows, own).topk(NEAREST_OF_DENSITY + 1, largest=False).values)  # itself first
    distances = torch.cat(parts)
    return Neighbours(distances[:, NEAREST_OF_PRECISION], distances[:, NEAREST_OF_DENSITY])


class Fidelity(NamedTuple):
    """``precision``: share of generated points inside any real ball; ``recall``: share of real points inside any
    generated ball (Kynkaanniemi et al. 2019). ``density``: mean number of real balls around a generated point, over k;
    ``coverage``: share of real balls with a generated point inside (Naeem et al. 2020)."""

    precision: float
    recall: float
    density: float
    coverage: float


def fidelity(generated: Tensor, real: Tensor, around: Neighbours) -> Fidelity:
    """Of features (n, F) and (m, F), both longer than NEAREST_OF_DENSITY; ``around``: the real points' balls."""
    points, truth, own = generated.double(), real.double(), neighbours(generated)
    slack = _ROUNDING * float(truth.norm(dim=1).max())
    precise, dense = (radii + slack for radii in around)
    inside, balls = 0.0, 0.0
    covered, filled = (torch.zeros(len(truth), dtype=torch.bool) for _ in range(2))
    for rows, radii in zip(points.split(_ROWS_AT_ONCE), own.of_precision.split(_ROWS_AT_ONCE), strict=True):
        distance = torch.cdist(rows, truth)
        inside += float((distance <= precise).any(1).sum())
        within = distance <= dense
        balls += float(within.sum())
        filled |= within.any(0)
        covered |= (distance <= radii[:, None] + slack).any(0)
    count = len(points)
    return Fidelity(inside / count, float(covered.double().mean()), balls / count / NEAREST_OF_DENSITY,
                    float(filled.double().mean()))  # fmt: skip
