"""A model whose every answer is known: its latents are the brightness of a picture, which says the label."""

import torch
from tiny_recipes import tiny
from torch import nn

from mmvae_cli.evaluation.encoding import Evaluation
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.store import Store

from stores import image_store

SHAPE = (3, 8, 8)


class Brightness(nn.Module):
    """An encoder that puts the picture's mean, and so the label, into every latent dimension."""

    def forward(self, x):
        mean = 20 * x.mean((1, 2, 3))[:, None].expand(-1, 6)
        return mean, torch.full_like(mean, -8.0), mean[:, :0], mean[:, :0]


class Flat(nn.Module):
    """A decoder that paints the first latent dimension; ``wrong`` ones paint black."""

    def __init__(self, wrong=False):
        super().__init__()
        self.wrong = wrong

    def forward(self, z):
        return (z[:, :1, None, None] / 20 * (not self.wrong)).expand(-1, *SHAPE)


class Classifier(nn.Module):
    """Reads the label back from the brightness, as the store wrote it: 20 + 50 label + 15 on average."""

    def forward(self, x):
        label = (255 * x.mean((1, 2, 3)) - 35) / 50
        return -(label[:, None] - torch.arange(4.0)).abs()


class Constant(nn.Module):
    """A classifier that always says label 1."""

    def forward(self, x):
        return torch.tensor([0.0, 1.0, 0.0, 0.0]).expand(len(x), 4)


def evaluation_of_brightness(folder, **changes):
    """What an evaluation works on: three modalities, of which m2 is always painted black."""
    recipe = tiny(3, shape=SHAPE, **changes)
    model = MultimodalVAE(recipe)
    for name in model.names:
        model.encoders[name], model.decoders[name] = Brightness(), Flat(wrong=name == "m2")
    return Evaluation(model.eval(), recipe, Store(image_store(folder, shape=SHAPE)), torch.device("cpu"))
