"""The loss of a training step as one module. Its forward pass gives every term, too, so that DistributedDataParallel or
torch.compile can wrap it as a whole."""

import math
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor, nn

from mmvae_cli.compute import devices
from mmvae_cli.model import bound
from mmvae_cli.model.objective import Noise, Objective
from mmvae_cli.model.terms import Terms, elbo, weigh
from mmvae_cli.model.vae import Batch, MultimodalVAE
from mmvae_cli.recipe import TrainingSpec
from mmvae_cli.store.presence import Pattern

RESULTS = ("loss", "elbo")


class StepLoss(nn.Module):
    """Forward: batch and noise -> loss (scalar, nats per item), and the batch means of RESULTS and all terms (T,).

    Where rows differ in what they have, there is a noise for each of the ``patterns``; the means are over the rows that
    have a term, and a second row (2, T) says of how many."""

    def __init__(self, model: MultimodalVAE, objective: Objective, precision: str) -> None:
        super().__init__()
        self.model, self.precision = model, precision
        device = next(model.parameters()).device
        self.objective = objective
        if objective.spec.beta_warmup:
            self.objective = replace(objective, warmth=torch.ones((), device=device))

    def forward(
        self, batch: Batch, noise: Noise | list[Noise], patterns: list[Pattern] | None = None
    ) -> tuple[Tensor, Tensor]:
        if isinstance(noise, list):
            return self._by_pattern(batch, noise, patterns or [])
        networks = devices.autocast(self.precision, noise.shared[0].device)
        terms = bound.bound_terms(self.model, batch, self.objective, noise, networks)
        loss = weigh(terms).mean()
        values = torch.stack([elbo(terms), *(term.shown() for term in terms.values())]).detach()
        return loss, torch.cat([loss.detach()[None], values.mean(1)])

    def _by_pattern(self, batch: Batch, noises: list[Noise], patterns: list[Pattern]) -> tuple[Tensor, Tensor]:
        networks = devices.autocast(self.precision, noises[0].shared[0].device)
        if len(patterns) == 1:
            by_pattern = [bound.bound_terms(self.model, batch, self.objective, noises[0], networks)]
        else:
            by_pattern = bound.terms_by_pattern(self.model, batch, patterns, self.objective, noises, networks)
        losses = torch.cat([weigh(terms) for terms in by_pattern])
        values = [[losses], [elbo(terms) for terms in by_pattern]]
        values += [[terms[name].shown() for terms in by_pattern if name in terms] for name in self.terms]
        means = [torch.cat(parts).mean() if parts else losses.new_zeros(()) for parts in values]
        counts = [float(sum(map(len, parts))) for parts in values]
        return losses.mean(), torch.stack([torch.stack(means).detach(), losses.new_tensor(counts)])

    @cached_property
    def terms(self) -> Terms:
        """The terms of every step, as an outline."""
        return bound.outline(self.objective.recipe)

    def warm_up(self, step: int, per_epoch: int) -> None:
        """Set what beta is multiplied with in step ``step`` (from 0): a function of the step, as the rate is."""
        if self.objective.warmth is not None:
            self.objective.warmth.fill_(min(1.0, (step + 1) / (self.objective.spec.beta_warmup * per_epoch)))


def normalises(model: nn.Module) -> bool:
    """Whether batch normalisation is among its layers."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def learning_rate(settings: TrainingSpec, step: int, total: int) -> float:
    """The rate of step ``step`` (from 0) of ``total``: a function of the step, so that resuming keeps no state."""
    if settings.schedule == "constant":
        return settings.learning_rate
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * step / total))


def make_optimizer(model: nn.Module, learning_rate: float) -> torch.optim.Adam:
    """Adam with torch's defaults as in the paper; the fused kernel updates all parameters in one pass. The rate is a
    tensor of the type that the kernel reads, so that a recorded step can have another one every time."""
    device = next(model.parameters()).device
    if device.type == "cuda":
        rate = torch.tensor(learning_rate, dtype=torch.float, device=device)
        return torch.optim.Adam(model.parameters(), rate, fused=True, capturable=True)
    return torch.optim.Adam(model.parameters(), torch.tensor(learning_rate, dtype=torch.double), fused=True)
