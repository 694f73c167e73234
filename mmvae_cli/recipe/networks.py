"""Networks by the name that a recipe uses. What builds them stands under the same names in ``model/networks``."""

from typing import NamedTuple


class Network(NamedTuple):
    """``shape``: of the data that it is made for; None: the recipe says it. ``takes_width``: it comes in several sizes:
    hidden units of image28, conv and conv_bn (null: as many as latent dimensions, as in the released code), channels
    after the first convolution of face64 and text256 (null: the paper's 128), channels of the characters of text,
    hidden units of each layer of mlp.
    ``classifier``: the name of the paper's classifier for the same data, and whether that takes a width."""

    kind: str
    shape: tuple[int, ...] | None = None
    takes_width: bool = False
    classifier: str | None = None
    classifier_takes_width: bool = False


NETWORKS: dict[str, Network] = {
    "image28": Network("image", (3, 28, 28), takes_width=True, classifier="digit"),
    "conv": Network("image", takes_width=True, classifier="digit"),
    "conv_bn": Network("image", takes_width=True, classifier="digit"),
    "resnet28": Network("image", (3, 28, 28), classifier="digit"),
    "mnist": Network("image", (1, 28, 28), classifier="mnist"),
    "svhn": Network("image", (3, 32, 32), classifier="svhn"),
    "text8": Network("text", (8,), classifier="text8"),
    "face64": Network("image", (3, 64, 64), takes_width=True, classifier="face64", classifier_takes_width=True),
    "text256": Network("text", (256,), takes_width=True, classifier="text256", classifier_takes_width=True),
    "text": Network("text", takes_width=True),
    "mlp": Network("vector", takes_width=True),
}
MLP = {"width": 512, "depth": 2, "dropout": 0.0, "layer_norm": False}
"""What the network mlp is where the recipe does not say it; depth, dropout and layer_norm are its alone."""
TEXT = {"width": 64, "characters": 71}
"""The same of the network text; characters is its alone."""


def made_for(kind: str, shape: tuple[int, ...]) -> Network | None:
    """The first network for data of this shape, else the first one for data of this kind and any shape."""
    fitting = [network for network in NETWORKS.values() if network.kind == kind and network.shape in (shape, None)]
    return max(fitting, key=lambda network: network.shape is not None, default=None)
