"""The plain implementation that the engine is measured against: what one writes from the paper's formulas with a
DataLoader, a Python loop over the subsets and eager PyTorch. Same networks, same numbers, nothing clever."""

from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from mmvae_cli.model.vae import MultimodalVAE

EPS = 1e-8


class PlainMoPoE(nn.Module):
    """MoPoE-VAE over the given model's networks (shared weights, so that losses can be compared)."""

    def __init__(self, model: MultimodalVAE, beta: float) -> None:
        super().__init__()
        self.encoders, self.decoders, self.beta = model.encoders, model.decoders, beta
        count = len(model.names)
        self.subsets = [s for size in range(1, count + 1) for s in combinations(range(count), size)]

    def posterior(self, means: list[Tensor], logvars: list[Tensor]) -> tuple[Tensor, Tensor]:
        if len(means) == len(self.encoders):
            means, logvars = [*means, torch.zeros_like(means[0])], [*logvars, torch.zeros_like(logvars[0])]
        precisions = 1 / (torch.exp(torch.stack(logvars)) + EPS)
        mean = (torch.stack(means) * precisions).sum(0) / precisions.sum(0)
        return mean, torch.log(1 / precisions.sum(0))

    def forward(self, views: list[Tensor], noise: Tensor) -> Tensor:
        encoded = [encoder(x) for encoder, x in zip(self.encoders.values(), views, strict=True)]
        posteriors = [self.posterior([encoded[m][0] for m in s], [encoded[m][1] for m in s]) for s in self.subsets]
        kls = [-0.5 * torch.sum(1 + lv - mu.pow(2) - lv.exp(), 1).mean() for mu, lv in posteriors]
        rows = len(noise) // len(posteriors)
        parts = [(i * rows, (i + 1) * rows if i + 1 < len(posteriors) else len(noise)) for i in range(len(posteriors))]
        mean = torch.cat([mu[a:b] for (mu, _), (a, b) in zip(posteriors, parts, strict=True)])
        logvar = torch.cat([lv[a:b] for (_, lv), (a, b) in zip(posteriors, parts, strict=True)])
        z = mean + torch.exp(0.5 * logvar) * noise
        loss = self.beta * torch.stack(kls).mean()
        for decoder, x in zip(self.decoders.values(), views, strict=True):
            density = torch.distributions.Laplace(decoder(z), torch.tensor(0.75))
            loss = loss - density.log_prob(x).sum((1, 2, 3)).mean()
        return loss


class PngFolders(Dataset[list[Tensor]]):
    """The official layout {split}/m{v}/{i}.{label}.png, decoded at each access."""

    def __init__(self, folder: Path, views: int) -> None:
        self.names = sorted(path.name for path in (folder / "m0").glob("*.png"))
        self.folder, self.views = folder, views

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> list[Tensor]:
        pictures = [np.asarray(Image.open(self.folder / f"m{v}" / self.names[i])) for v in range(self.views)]
        return [torch.from_numpy(p.copy()).permute(2, 0, 1).float() / 255 for p in pictures]


def memory_loader(arrays: list[np.ndarray], batch: int) -> "DataLoader[tuple[Tensor, ...]]":
    floats = [torch.from_numpy(np.array(a)).float() / 255 for a in arrays]
    return DataLoader(TensorDataset(*floats), batch, shuffle=True, drop_last=True)
