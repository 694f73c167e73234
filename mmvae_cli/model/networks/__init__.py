"""Networks by the name a recipe uses. A trunk maps data to features (B, F); a decoder maps latents (B, D) to the
parameters of a likelihood. A new kind of network is one function here and one line in ``recipe.NETWORKS``."""

from collections.abc import Callable

from torch import nn

from mmvae_cli.model.networks import image
from mmvae_cli.recipe import ModalitySpec

Builder = Callable[[ModalitySpec, int], tuple[nn.Module, nn.Module]]
"""(modality, latent size D + P) -> trunk with an attribute ``features``, decoder."""

BUILDERS: dict[str, Builder] = {
    "image28": image.conv_pair,
    "conv": image.conv_pair,
}
