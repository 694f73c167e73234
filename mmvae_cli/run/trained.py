"""A trained run ready for use: what evaluating it and sampling from it have in common."""

from dataclasses import dataclass
from pathlib import Path

import torch

from mmvae_cli.compute import devices
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.process.errors import DataProblem
from mmvae_cli.recipe import Recipe
from mmvae_cli.run import checkpoint, prepare, shared
from mmvae_cli.run import code as own
from mmvae_cli.run.checkpoint import Checkpoint
from mmvae_cli.run.layout import Run
from mmvae_cli.store import Store


@dataclass(frozen=True)
class Trained:
    """``model`` is in eval mode on ``device``, with the weights of ``checkpoint``; ``store`` is the run's dataset."""

    model: MultimodalVAE
    checkpoint: Checkpoint
    store: Store
    device: torch.device


def load(
    run: Run, recipe: Recipe, chosen: Path | None, *, data_dir: Path, device: str, verify: bool = True,
    code: Path | None = None, needs_data: bool = True,
) -> Trained:  # fmt: skip
    """The run's model with its ``chosen`` or newest valid checkpoint; ``code``: the file of its own networks.
    ``verify``: arrays of the dataset are compared with their checksums as they are read.

    A shared run does without its data where they are not at hand, unless it ``needs_data``. Raises DataProblem for a
    checkpoint or dataset that is missing or damaged, UsageProblem for a dataset, device or code that does not fit."""
    if shared.is_shared(run.folder):
        shared.check(run.folder)
    own.of_run(run, recipe, code)
    loaded = checkpoint.needed(run, chosen)
    store = prepare.data_of_run(run, recipe, data_dir, verify=verify, needs_data=needs_data)
    torch_device = devices.pick_device(device)
    devices.use_threads(torch_device, run.environment(), choose=False)
    devices.set_precision("fp32")  # what is reported is computed with exact products, whatever training used
    model = MultimodalVAE(recipe)
    loaded.load_model(model)
    if odd := [name for name, weight in model.state_dict().items() if not weight.isfinite().all()]:
        raise DataProblem(
            f"{loaded.path} has weights that are not finite ({odd[0]})", "choose another one with --checkpoint"
        )
    return Trained(model.to(torch_device).eval(), loaded, store, torch_device)
