"""Likelihoods p(x_m | z): log-density per item and mean, from a decoder's output. Sources: equations 4.2."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Likelihood:
    """One modality's likelihood family; ``scale`` is the constant scale of laplace and normal."""

    family: str
    scale: float = 0.75

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """Sum over the data dimensions: output (Z, B, *shape), x (B, *shape) or text codes (B, L) -> (Z, B)."""
        return _LOG_PROB[self.family](output, x, self.scale)

    def mean(self, output: Tensor) -> Tensor:
        """The mean of the distribution, which is what the protocol calls a generated sample: images (..., C, H, W)
        as they are; text as probabilities (..., L, V)."""
        return log_probabilities(self.family, output).exp() if self.family in _OVER_CHARACTERS else output


def _laplace(output: Tensor, x: Tensor, scale: float) -> Tensor:
    dims = x[0].numel()
    return -(output - x).abs().flatten(2).sum(-1) / scale - dims * math.log(2 * scale)


def _normal(output: Tensor, x: Tensor, scale: float) -> Tensor:
    dims = x[0].numel()
    return -0.5 * ((output - x) / scale).square().flatten(2).sum(-1) - dims * math.log(scale * math.sqrt(2 * math.pi))


def _categorical(family: str, output: Tensor, codes: Tensor) -> Tensor:
    logp = log_probabilities(family, output)  # (Z, B, L, V)
    picked = logp.gather(-1, codes.expand(logp.shape[:-1])[..., None])
    return picked[..., 0].sum(-1)


def log_probabilities(family: str, output: Tensor) -> Tensor:
    """Log-probabilities over the vocabulary (..., V). ``categorical_released`` repeats the authors' code: log-softmax
    values are taken for unnormalised probabilities, p_i = a_i / sum_j a_j with a = log_softmax (equations 4.2)."""
    a = F.log_softmax(output, -1)
    if family == "categorical":
        return a
    return torch.log((-a).clamp_min(torch.finfo(a.dtype).tiny)) - torch.log(-a.sum(-1, keepdim=True))


_OVER_CHARACTERS = ("categorical", "categorical_released")
_LOG_PROB = {
    "laplace": _laplace,
    "normal": _normal,
    "categorical": lambda output, x, scale: _categorical("categorical", output, x),
    "categorical_released": lambda output, x, scale: _categorical("categorical_released", output, x),
}
