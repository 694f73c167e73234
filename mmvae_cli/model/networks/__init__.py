"""Networks by the name a recipe uses. A trunk maps data to features (B, F); a decoder maps latents (B, D) to the
parameters of a likelihood. A new kind of network is one function here and one line in ``recipe.NETWORKS``."""

from collections.abc import Callable

from torch import nn

from mmvae_cli.model.networks import image
from mmvae_cli.recipe import ModalitySpec
from mmvae_cli.store import ModalityInfo

Builder = Callable[[ModalitySpec, int], tuple[nn.Module, nn.Module]]
"""(modality, latent size D + P) -> trunk with an attribute ``features``, decoder."""

BUILDERS: dict[str, Builder] = {
    "image28": image.conv_pair,
    "conv": image.conv_pair,
}


def build_classifier(info: ModalityInfo, labels: int) -> nn.Module:
    """The network that judges generated samples of a modality: images (B, C, H, W) or characters' probabilities
    (B, L, V) -> logits (B, labels). The paper's networks for the paper's modalities, a small general one otherwise."""
    return image.DigitClassifier(info.shape, labels)
