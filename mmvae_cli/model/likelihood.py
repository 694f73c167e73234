"""Likelihoods p(x_m | z): log-density per item and mean, from a decoder's output. Sources: equations 4.2."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Likelihood:
    """One modality's likelihood, by its ``name``; ``scale`` is the scale of laplace and normal: a constant, or
    "learned".

    One with a parameter of its own (a learned scale, the dispersion of counts) has it from the decoder. The output is
    then (..., *shape, 2): what it is for others, and the parameter's logarithm (networks.WithParameter).
    """

    name: str
    scale: float | str | None = 0.75

    @property
    def has_parameter(self) -> bool:
        return self.scale == "learned" or self.name == "negative_binomial"

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """Sum over the data dimensions: output (Z, B, *shape), x (B, *shape) or text codes (B, L) -> (Z, B)."""
        if self.has_parameter:
            output, logarithm = output.unbind(-1)
            return _LOG_PROB[self.name](output, x, logarithm.exp())
        return _LOG_PROB[self.name](output, x, self.scale)

    def mean(self, output: Tensor) -> Tensor:
        """The mean of the distribution, which is what the protocol calls a generated sample: images (..., C, H, W)
        as they are; text as probabilities (..., L, V); vectors (..., F)."""
        output = output[..., 0] if self.has_parameter else output
        return _MEAN[self.name](output) if self.name in _MEAN else output


def _laplace(output: Tensor, x: Tensor, scale: float | Tensor) -> Tensor:
    if isinstance(scale, Tensor):
        return -((output - x).abs() / scale + scale.log() + math.log(2)).flatten(2).sum(-1)
    dims = x[0].numel()
    return -(output - x).abs().flatten(2).sum(-1) / scale - dims * math.log(2 * scale)


def _normal(output: Tensor, x: Tensor, scale: float | Tensor) -> Tensor:
    if isinstance(scale, Tensor):
        return -(0.5 * ((output - x) / scale).square() + scale.log() + 0.5 * math.log(2 * math.pi)).flatten(2).sum(-1)
    dims = x[0].numel()
    return -0.5 * ((output - x) / scale).square().flatten(2).sum(-1) - dims * math.log(scale * math.sqrt(2 * math.pi))


def _bernoulli(output: Tensor, x: Tensor, scale: float) -> Tensor:
    """``output``: logits; x in [0, 1]."""
    return (x * output - F.softplus(output)).sum(-1)


def _onehot(output: Tensor, x: Tensor, scale: float) -> Tensor:
    """One category of F, x (B, F) with a single 1; ``output``: logits."""
    return (x * F.log_softmax(output, -1)).sum(-1)


def _rate(output: Tensor) -> Tensor:
    """The mean of a count: positive, so that its logarithm is finite whatever a decoder says."""
    return F.softplus(output).clamp_min(_LEAST_RATE)


def _poisson(output: Tensor, x: Tensor, scale: float) -> Tensor:
    mean = _rate(output)
    return (x * mean.log() - mean - torch.lgamma(x + 1)).sum(-1)


def _negative_binomial(output: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """Counts of mean mu and variance mu + mu^2 / t: the inverse dispersion t > 0 is large where they are Poisson's."""
    mean = _rate(output)
    ways = torch.lgamma(x + t) - torch.lgamma(t) - torch.lgamma(x + 1)
    return (ways - t * torch.log1p(mean / t) + x * (mean.log() - torch.log(t + mean))).sum(-1)


def _categorical(name: str, output: Tensor, codes: Tensor) -> Tensor:
    logp = log_probabilities(name, output)  # (Z, B, L, V)
    picked = logp.gather(-1, codes.expand(logp.shape[:-1])[..., None])
    return picked[..., 0].sum(-1)


def log_probabilities(name: str, output: Tensor) -> Tensor:
    """Log-probabilities over the vocabulary (..., V). ``categorical_released`` repeats the authors' code: log-softmax
    values are taken for unnormalised probabilities, p_i = a_i / sum_j a_j with a = log_softmax (equations 4.2)."""
    a = F.log_softmax(output, -1)
    if name == "categorical":
        return a
    return torch.log((-a).clamp_min(torch.finfo(a.dtype).tiny)) - torch.log(-a.sum(-1, keepdim=True))


_LEAST_RATE = 1e-8
_MEAN: dict[str, Callable[[Tensor], Tensor]] = {
    "categorical": lambda output: log_probabilities("categorical", output).exp(),
    "categorical_released": lambda output: log_probabilities("categorical_released", output).exp(),
    "bernoulli": torch.sigmoid,
    "onehot": lambda output: torch.softmax(output, -1),
    "poisson": _rate,
    "negative_binomial": _rate,
}
_LOG_PROB: dict[str, Callable[..., Tensor]] = {
    "laplace": _laplace,
    "normal": _normal,
    "bernoulli": _bernoulli,
    "onehot": _onehot,
    "poisson": _poisson,
    "negative_binomial": _negative_binomial,
    "categorical": lambda output, x, scale: _categorical("categorical", output, x),
    "categorical_released": lambda output, x, scale: _categorical("categorical_released", output, x),
}
