"""One figure of a run, from its draw to its files."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from mmvae_cli.drawing import grids
from mmvae_cli.disk.files import write_atomic
from mmvae_cli.process import signals
from mmvae_cli.process.paths import shown
from mmvae_cli.sampling import generation, layout, plan
from mmvae_cli.sampling.generation import NOTHING_WRITTEN, Sampler
from mmvae_cli.sampling.plan import Figure


def usual_count(sampler: Sampler, figure: Figure) -> int:
    """The usual number, or as many test items as a small split has."""
    usual = plan.DEFAULT_COUNT[figure.kind]
    return usual if figure.kind == "prior" else min(usual, len(generation.complete_items(sampler)))


def make(sampler: Sampler, figure: Figure, count: int, run: Path, folder: Path) -> None:
    """Draw one figure of ``run`` and write its arrays and its pictures into ``folder``."""
    info, remark = sampler.trained.store.info, generation.remark(sampler, figure)
    context = layout.Context(info.modalities, info.labels, sampler.split, _about(run, sampler), remark)
    arrays = generation.draw(sampler, figure, count)
    arrays["about"] = np.array(json.dumps(facts(sampler) | {"kind": figure.kind, "given": figure.given,
                                                             "target": figure.target}))  # fmt: skip
    images = layout.pictures(figure, arrays, context)
    signals.leave_if_requested(NOTHING_WRITTEN)
    write_atomic(folder / f"{figure.name}.npz", npz(arrays))
    for stem, image in images.items():
        grids.save_png(image, folder / f"{stem}.png")


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    """A compressed .npz that depends on the arrays alone: members carry no date."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(arrays):
            member = zipfile.ZipInfo(f"{name}.npy")
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(arrays[name]), allow_pickle=False)
    return buffer.getvalue()


def facts(sampler: Sampler) -> dict[str, Any]:
    """Where samples come from: enough to draw the same ones again."""
    found, recipe, store = sampler.trained.checkpoint, sampler.recipe, sampler.trained.store
    return {
        "recipe": recipe.name, "method": recipe.model.method, "training_seed": recipe.training.seed,
        "checkpoint": found.path.name, "epoch": found.position.epoch, "step": found.position.step,
        "dataset": store.name, "fingerprint": store.fingerprint, "stand_in": store.info.stand_in,
        "split": sampler.split, "seed": sampler.seed, "sampler": "gmm" if sampler.latents.mixtures else "prior",
    }  # fmt: skip


def _about(run: Path, sampler: Sampler) -> str:
    """The second line of a figure's title."""
    known = facts(sampler)
    note = f"; stand-in: {known['stand_in']}" if known["stand_in"] else ""
    name = shown(run.resolve().name)
    return f"{name} ({known['method']}, recipe {known['recipe']}), epoch {known['epoch']}; {known['dataset']}{note}"
