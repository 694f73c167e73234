"""The training step: one module whose forward pass gives the loss and every term, so that it can be wrapped as a whole
by DistributedDataParallel or torch.compile."""

import math
from functools import cached_property

import torch
from torch import Tensor, nn

from mmvae_cli.compute import runtime
from mmvae_cli.model import objective
from mmvae_cli.model.objective import Noise, Objective, Terms
from mmvae_cli.model.vae import Batch, MultimodalVAE
from mmvae_cli.recipe import TrainingSpec

RESULTS = ("loss", "elbo")


class Step(nn.Module):
    """Forward: batch and noise -> loss (scalar, nats per item), and the batch means of RESULTS and all terms (T,)."""

    def __init__(self, model: MultimodalVAE, goal: Objective, precision: str) -> None:
        super().__init__()
        self.model, self.goal, self.precision = model, goal, precision

    def forward(self, batch: Batch, noise: Noise) -> tuple[Tensor, Tensor]:
        networks = runtime.autocast(self.precision, noise.shared[0].device)
        terms = objective.bound_terms(self.model, batch, self.goal, noise, networks)
        loss = objective.weigh(terms).mean()
        values = torch.stack([objective.elbo(terms), *(term.value for term in terms.values())]).detach()
        return loss, torch.cat([loss.detach()[None], values.mean(1)])

    @cached_property
    def terms(self) -> Terms:
        """The terms of every step, as an outline."""
        return objective.outline(self.goal.recipe)


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
