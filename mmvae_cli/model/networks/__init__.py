"""Networks by the name a recipe uses. A trunk maps data to features (B, F); a decoder maps latents (B, D) to the
parameters of a likelihood. A new kind of network is one function here and one line in ``recipe.networks``."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from mmvae_cli.model.networks import classifiers, halving, image, mlp, mst, residual, residual28
from mmvae_cli.process.errors import UsageProblem, in_one_line, where_in_own_code
from mmvae_cli.process.words import did_you_mean, nearest
from mmvae_cli.recipe import ModalitySpec
from mmvae_cli.recipe.kinds import KINDS
from mmvae_cli.recipe.networks import made_for
from mmvae_cli.store import ModalityInfo

Builder = Callable[[ModalitySpec, int], tuple[nn.Module, nn.Module]]
"""(modality, latent size D + P) -> trunk with an attribute ``features``, decoder. A trunk that is ``apart`` is of one
posterior only: where there are private latents, the builder is asked for another."""

BUILDERS: dict[str, Builder] = {
    "image28": image.conv_pair,
    "conv": image.conv_pair,
    "conv_bn": partial(image.conv_pair, normalised=True),
    "resnet28": residual28.residual_pair,
    "mnist": mst.digit_pair,
    "svhn": mst.house_number_pair,
    "text8": mst.word_pair,
    "face64": residual.face_pair,
    "text256": residual.long_text_pair,
    "text": halving.text_pair,
    "mlp": mlp.mlp_pair,
}


OWN: dict[str, Builder] = {}
"""The user's own: functions of the file that the command line names (run/code.py)."""


def pair(spec: ModalitySpec, latent: int) -> tuple[nn.Module, nn.Module]:
    """Trunk and decoder of a modality for a latent of size D + P. Raises UsageProblem for a network of the user's own
    that is not there or does not fit."""
    if not spec.is_own:
        return BUILDERS[spec.network](spec, latent)
    if (build := OWN.get(spec.network.removeprefix("own."))) is None:
        raise unknown(spec.network)
    try:
        trunk, decoder = build(spec, latent)
        _try(trunk, decoder, spec, latent)
    except (Exception, SystemExit) as error:  # whatever a user's code raises, or leaves by
        raise UsageProblem(f"network {spec.network}: {in_one_line(error)}{where_in_own_code(error)}",
                           "it returns a trunk with the attribute features, (B, *shape) -> (B, features), and a "
                           "decoder, latents (B, D) -> (B, *shape)") from error  # fmt: skip
    return trunk, decoder


def unknown(network: str) -> UsageProblem:
    if not OWN:
        return UsageProblem(f"network {network}: no such function of your own is known",
                            "give the file that defines it: --code nets.py")  # fmt: skip
    own = [f"own.{name}" for name in OWN]
    return UsageProblem(f"network {network}: the file of --code has no such function",
                        f"{did_you_mean(nearest(network, own))}it has {', '.join(own)}")  # fmt: skip


def zeros(spec: ModalitySpec, rows: int = 2) -> Tensor:
    """Zeros (rows, *shape) as an encoder reads its modality: for a pass in which only shapes matter."""
    kind = KINDS[spec.kind]
    return kind.read(torch.zeros(rows, *spec.shape or (), dtype=getattr(torch, kind.dtype)))


def _try(trunk: nn.Module, decoder: nn.Module, spec: ModalitySpec, latent: int) -> None:
    """One pass of two rows, without a trace. Raises ValueError for an output of another shape."""
    shape = spec.shape or ()
    output = (*shape, spec.characters) if spec.kind == "text" else shape
    for network, x, wanted in ((trunk, zeros(spec), (int(trunk.features),)), (decoder, torch.zeros(2, latent), output)):  # type: ignore[arg-type]
        with torch.no_grad():
            result = network.eval()(x)
        network.train()
        if not result.is_floating_point():
            raise ValueError(f"gives {result.dtype}, not floating-point numbers")
        if tuple(result.shape) != (2, *wanted):
            raise ValueError(f"gives {tuple(result.shape)} for two rows, not {(2, *wanted)}")


class WithParameter(nn.Module):
    """A decoder whose likelihood has a parameter t > 0 of its own, the same for every item: (B, D) -> (B, *shape, 2),
    the decoder's output and log t. ``shape``: of t, () for one number for all data dimensions."""

    def __init__(self, decoder: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.decoder, self.logarithm = decoder, nn.Parameter(torch.zeros(shape))

    def forward(self, z: Tensor) -> Tensor:
        output: Tensor = self.decoder(z).float()
        return torch.stack([output, self.logarithm.expand_as(output)], -1)


Classifier = Callable[[ModalityInfo, int, int | None], nn.Module]
"""(modality, labels, width, where there is a choice; None is the paper's) -> one of the paper's classifiers."""

CLASSIFIERS: dict[str, Classifier] = {
    "digit": lambda info, labels, width: image.DigitClassifier(info.shape, labels),
    "mnist": lambda info, labels, width: mst.MnistClassifier(labels),
    "svhn": lambda info, labels, width: mst.HouseNumberClassifier(labels),
    "text8": lambda info, labels, width: mst.WordClassifier(labels),
    "face64": lambda info, labels, width: residual.FaceClassifier(width or residual.PAPER_WIDTH, labels),
    "text256": lambda info, labels, width: residual.LongTextClassifier(width or residual.PAPER_WIDTH, labels),
}


def build_coherence_classifier(info: ModalityInfo, labels: int) -> nn.Module:
    """The network that says what generated samples of a modality show: images (B, C, H, W) of any size, characters'
    probabilities (B, L, V) of any length, or vectors (B, F) -> logits (B, labels)."""
    if info.kind == "image":
        return classifiers.ImageClassifier(info.shape[0], labels)
    if info.kind == "text":
        return classifiers.TextClassifier(len(info.alphabet or ""), labels)
    if info.kind == "vector":
        return classifiers.VectorClassifier(info.shape[0], labels)
    raise UsageProblem(
        f"there is no classifier for {info.kind} of shape {list(info.shape)}",
        "measure what needs none: --metrics latent,likelihood",
    )


def build_classifier(info: ModalityInfo, labels: int, width: int | None = None) -> nn.Module:
    """The paper's network for the same purpose: of its own modalities, and PolyMNIST's for other images. ``width``
    matters to those that scale; None is the paper's."""
    network = made_for(info.kind, info.shape)
    name = network and network.classifier
    if name is None or (name == "digit" and min(info.shape[1:]) < image.DigitClassifier.SMALLEST):
        raise UsageProblem(
            f"the paper has no classifier for {info.kind} of shape {list(info.shape)}",
            "take the others: --classifiers default",
        )
    return CLASSIFIERS[name](info, labels, width)
