"""Fusions: how the experts of a subset become one distribution (Definition 1 and Eq. 4 of the paper).

Who is in a subset is data, a table of ones and zeros, so that the fusions of all subsets are sums that the table takes:
matrix products where the subsets are the same for every row, weighted sums where they differ from row to row.
"""

from typing import NamedTuple

from torch import Tensor

from mmvae_cli.model.distributions import Gaussian

EPS = 1e-8
"""Added once to every expert's variance: a product's precision stays finite however sharp an expert gets."""
_MAX_LOGVAR = 80.0


class Members(NamedTuple):
    """Who is in each product: ``inside`` (S, M) for all rows alike, or (..., B, M) row by row; ``prior``, (S,) or
    (..., B), the precision that the prior expert adds."""

    inside: Tensor
    prior: Tensor

    def sum(self, x: Tensor) -> Tensor:
        """Over the members: x (M, B, D) -> (S, B, D) or (..., B, D)."""
        return membership_product(self.inside, x) if self.inside.dim() == 2 else _weighted(self.inside, x)

    def precision_of_prior(self) -> Tensor:
        """(S, 1, 1) or (..., B, 1)."""
        return self.prior[:, None, None] if self.inside.dim() == 2 else self.prior[..., None]


def precision(experts: Gaussian) -> Tensor:
    """(M, B, D): 1 / (variance + EPS). An expert that has learned to say nothing has a variance that overflows: its
    precision is as good as 0 then, and its gradient must be 0, not the NaN of infinity over infinity."""
    return 1 / (experts.logvar.clamp(max=_MAX_LOGVAR).exp() + EPS)


def product(experts: Gaussian, members: Members) -> Gaussian:
    """Product of experts: ``t_A = sum t_m (+ prior)``, ``mu_A = sum t_m mu_m / t_A`` with precisions t: experts
    (M, B, D) -> (S, B, D) or, row by row, (..., B, D)."""
    weight = precision(experts)
    total = members.sum(weight) + members.precision_of_prior()
    return Gaussian(members.sum(weight * experts.mean) / total, -total.log())


def membership_product(members: Tensor, x: Tensor) -> Tensor:
    """members (S, M) times x (M, b, d) -> (S, b, d); not a matrix product on a GPU, where TF32 would round it."""
    return _weighted(members[:, None], x) if x.is_cuda else (members @ x.flatten(1)).unflatten(1, x.shape[1:])


def _weighted(members: Tensor, x: Tensor) -> Tensor:
    """members (..., B, M) times x (M, B, D) -> (..., B, D), by addition: exact where matrix products may be rounded."""
    total = members[..., 0, None] * x[0]
    for m in range(1, len(x)):
        total = total.addcmul(members[..., m, None], x[m])
    return total
