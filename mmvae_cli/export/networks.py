"""The networks of a run as ONNX: an encoder and a decoder for each modality, for programs without torch."""

import json
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from mmvae_cli.disk.files import hidden_folder, write_atomic
from mmvae_cli.export.opened import OpenedRun, log_variance
from mmvae_cli.model.distributions import posterior
from mmvae_cli.model.networks import zeros
from mmvae_cli.process import console
from mmvae_cli.process.errors import Failure, in_one_line, needing
from mmvae_cli.process.paths import make_folder


class Expert(nn.Module):
    """An encoder as x (N, *shape) -> mean and log-variance (N, D), and the private ones (N, P) where there are any."""

    def __init__(self, encoder: nn.Module, family: str, private: int) -> None:
        super().__init__()
        self.encoder, self.family, self.private = encoder, family, private

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        mean, raw, private_mean, private_raw = self.encoder(x)
        pairs = [(mean, raw), *([(private_mean, private_raw)] if self.private else [])]
        posteriors = [posterior(self.family, *pair) for pair in pairs]
        return tuple(part for q in posteriors for part in (q.mean, log_variance(q)))


class Generator(nn.Module):
    """A decoder as z (N, P + D), the private latent first, -> what the likelihood takes (N, *shape, ...)."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, z: Tensor) -> Tensor:
        output: Tensor = self.decoder(z)
        return output.float()


def write(run: OpenedRun, out: Path) -> None:
    """``encoder_NAME.onnx``, ``decoder_NAME.onnx`` and ``networks.json``, which says what they are, into the folder
    ``out``, or nothing. Raises UsageProblem without the package onnxscript, Failure for a network that ONNX has no
    words for."""
    model, recipe = run.model, run.recipe
    outputs = ["mean", "logvar", *(["private_mean", "private_logvar"] if model.private_dim else [])]
    z = torch.zeros(2, model.private_dim + model.latent_dim)
    with hidden_folder(out.parent / ".onnx") as folder:
        for name, spec in recipe.modalities.items():
            expert = Expert(model.encoders[name], model.latent_family, model.private_dim)
            _write(expert, "x", zeros(spec), outputs, folder / f"encoder_{name}.onnx")
            _write(Generator(model.decoders[name]), "z", z, ["output"], folder / f"decoder_{name}.onnx")
            console.say(f"{name}: {out / f'encoder_{name}.onnx'}, {out / f'decoder_{name}.onnx'}")
        modalities = {
            name: {"likelihood": recipe.modalities[name].likelihood} | known.model_dump(mode="json", exclude_none=True)
            for name, known in run.described.items()
        }
        about = run.about | {"latent_dim": model.latent_dim, "private_dim": model.private_dim, "modalities": modalities}
        write_atomic(folder / "networks.json", (json.dumps(about, indent=1) + "\n").encode())
        make_folder(out)
        for path in sorted(folder.iterdir()):
            os.replace(path, out / path.name)


def _write(network: nn.Module, name: str, rows: Tensor, outputs: list[str], path: Path) -> None:
    with needing("--to onnx", "onnxscript", "onnx"):
        import onnxscript  # noqa: F401 - torch asks for it in words of its own
    torch.backends.cudnn.allow_tf32 = False  # as it is; torch.export asks for it by this name alone
    try:
        program = torch.onnx.export(
            network.eval(), (rows,), dynamo=True, verbose=False, input_names=[name], output_names=outputs,
            dynamic_shapes=({0: torch.export.Dim("items")},),
        )  # fmt: skip
        assert program is not None
        program.save(path)
    except Exception as error:  # of torch, of its exporter, of a network of the user's own
        reason = in_one_line(error.__cause__ or error)
        raise Failure(f"{path.stem} cannot be said in ONNX ({reason})", "use a network of other layers") from error
