"""The training step: one module whose forward pass gives the loss and every term, so that it can be wrapped as a whole
by DistributedDataParallel or torch.compile."""

import math

import torch
from torch import Tensor, nn

from mmvae_cli import runtime
from mmvae_cli.model import objective
from mmvae_cli.model.objective import Noise, Objective
from mmvae_cli.model.vae import Batch, MultimodalVAE
from mmvae_cli.recipe import TrainingSpec


class Step(nn.Module):
    """Forward: batch and noise -> loss (scalar, nats per item) and the batch means of all terms (T,)."""

    def __init__(self, model: MultimodalVAE, goal: Objective, precision: str) -> None:
        super().__init__()
        self.model, self.goal, self.precision = model, goal, precision
        self.components = ["+".join(model.names[m] for m in subset) for subset in model.family.subsets]

    def forward(self, batch: Batch, noise: Noise) -> tuple[Tensor, Tensor]:
        networks = runtime.autocast(self.precision, noise.shared.device)
        terms = objective.bound_terms(self.model, batch, self.goal, noise, networks)
        loss = objective.weigh(terms, self.goal).mean()
        means = terms.means(self.components)
        return loss, torch.stack([loss.detach(), *(value.detach() for value in means.values())])

    def term_names(self) -> list[str]:
        """The names of the T terms, in the order of the forward pass's second result."""
        model, private = self.model, self.model.private_dim > 0
        names = ["loss", *(f"log_likelihood.{name}" for name in model.names), "kl.shared"]
        names += [f"kl.private.{name}" for name in model.names if private]
        if self.goal.unimodal_elbos:
            names += [f"unimodal.log_likelihood.{name}" for name in model.names]
            names += [f"unimodal.kl.{name}" for name in model.names]
        return names + [f"kl.{name}" for name in self.components]


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
