"""In which features generated and real samples are compared (equations 6.6): the classifiers', or Inception's from a
file that the user has."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mmvae_cli.disk.files import require_readable, sha256
from mmvae_cli.disk.sealed import digest, reading_tensors
from mmvae_cli.evaluation import classifiers
from mmvae_cli.evaluation.classifiers import Classifiers
from mmvae_cli.evaluation.encoding import Evaluation
from mmvae_cli.model.networks.inception import Inception
from mmvae_cli.process import console
from mmvae_cli.process.errors import DataProblem
from mmvae_cli.run.result import NotMeasured
from mmvae_cli.store import ModalityInfo

SHA256, BYTES = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2", 95_628_359
"""Of the file pt_inception-2015-12-05, under whatever name."""
VARIABLE = "MMVAE_INCEPTION"


class Features(NamedTuple):
    """``of``: data in the form of a likelihood's mean (b, *shape) -> features (b, F), fp32; ``weights``: the beginning
    of their SHA-256; ``at_once``: how many items it takes together."""

    of: Callable[[Tensor], Tensor]
    weights: str
    at_once: int

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        return torch.cat([self.of(part).float().cpu() for part in x.split(self.at_once)])


def ready(
    evaluation: Evaluation, data_dir: Path, of_coherence: Callable[[], Classifiers], *, force: bool
) -> dict[str, Features | NotMeasured]:
    """The features of every modality, or why it has none; ``of_coherence`` gives the classifiers of coherence. Raises
    DataProblem where a file that is needed is missing or is not what it should be."""
    if evaluation.spec.features == "inception":
        return _inception(evaluation, data_dir, force=force)
    if evaluation.store.info.labels is None:
        why = NotMeasured("no labels, so no classifier to take features of; --features inception needs none")
        return dict.fromkeys(evaluation.model.names, why)
    default = evaluation.protocol.classifiers == "default"
    networks, weak = of_coherence() if default else classifiers.ready(_by_default_classifiers(evaluation), force=force)
    return {name: weak.get(name) or Features(network.features, _digest(network.state_dict()), 1024)  # type: ignore[arg-type]
            for name, network in networks.items()}  # fmt: skip


def _by_default_classifiers(evaluation: Evaluation) -> Evaluation:
    """The paper's own networks flatten their maps: only the default ones have a mean over all places."""
    spec = evaluation.spec.model_copy(update={"classifiers": "default", "protocol": "default"})
    return dataclasses.replace(evaluation, recipe=evaluation.recipe.model_copy(update={"evaluation": spec}))


def _digest(weights: dict[str, Tensor]) -> str:
    return digest({key: value.detach().cpu().contiguous() for key, value in weights.items()}, "")[:16]


def _inception(evaluation: Evaluation, data_dir: Path, *, force: bool) -> dict[str, Features | NotMeasured]:
    path = _file(data_dir)
    known = _recognised(path, force)
    network = Inception()
    try:
        network.load(_weights(path))
    except ValueError as problem:
        raise DataProblem(f"{path} is not the Inception of FID: {problem}", _WANTED) from problem
    network.to(evaluation.device)
    made = Features(lambda x: network(x.expand(-1, 3, -1, -1)), known[:16], 64)
    return {name: _unfit(info) or made for name, info in evaluation.store.info.modalities.items()
            if name in evaluation.model.names}  # fmt: skip


def _unfit(info: ModalityInfo) -> NotMeasured | None:
    if info.kind != "image":
        return NotMeasured(f"Inception sees images only, not {info.kind}")
    return None if info.shape[0] in (1, 3) else NotMeasured(f"Inception sees 1 or 3 channels, not {info.shape[0]}")


_WANTED = f"it is pt_inception-2015-12-05, {BYTES:,} bytes, SHA-256 {SHA256[:16]}...; official PolyMNIST.zip has it"


def _file(data_dir: Path) -> Path:
    """What MMVAE_INCEPTION names, else the file of the right size in DATA_DIR/inception. Raises DataProblem."""
    if named := os.environ.get(VARIABLE):
        if not Path(named).is_file():
            raise DataProblem(f"{VARIABLE} names no file: {named}", _WANTED)
        return Path(named)
    folder = data_dir / "inception"
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    if whole := [path for path in files if path.stat().st_size == BYTES]:
        return whole[0]
    raise DataProblem(
        f"no file of Inception's weights in {folder}", f"put it there, or name it by {VARIABLE}; {_WANTED}"
    )


def _recognised(path: Path, force: bool) -> str:
    """The file's SHA-256. Raises DataProblem where it is not the known one, unless ``force``."""
    require_readable(path)
    if (digest := sha256(path)) == SHA256:
        return digest
    message = f"{path} is not the file that FID is defined by: its SHA-256 is {digest[:16]}..."
    if not force:
        raise DataProblem(message, f"{_WANTED}; --force takes these weights, and says so beside the numbers")
    console.warn(f"{message}; what is measured is no FID")
    return digest


def _weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, nothing unpickled but them. Raises ValueError for anything else."""
    try:
        if path.suffix == ".safetensors":
            with reading_tensors(path) as (tensors, _):
                return tensors
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # whatever a file that is no such file makes torch say
        raise ValueError(str(problem).splitlines()[0][:100]) from problem
    if not (isinstance(weights, dict) and all(isinstance(value, Tensor) for value in weights.values())):
        raise ValueError("it holds no table of tensors")
    return weights
