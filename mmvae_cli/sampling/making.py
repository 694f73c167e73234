"""Makes one figure of a run: draws it and writes its files."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from mmvae_cli.disk.files import write_atomic
from mmvae_cli.drawing.plots import Page
from mmvae_cli.process import signals
from mmvae_cli.process.paths import shown
from mmvae_cli.recipe.kinds import PROBABILITIES
from mmvae_cli.sampling import figures, generation, layout
from mmvae_cli.sampling.figures import ON_PAPER, Figure
from mmvae_cli.sampling.generation import NOTHING_WRITTEN, Sampler


def usual_count(sampler: Sampler, figure: Figure) -> int:
    """The usual number, or as many test items as a small split has."""
    usual, store = figures.DEFAULT_COUNT[figure.kind], sampler.trained.store
    return usual if figure.kind == "prior" else min(usual, len(store.complete(sampler.split, sampler.model.names)))


def make(sampler: Sampler, figure: Figure, count: int, run: Path, folder: Path, page: Page | None = None) -> None:
    """Draw one figure of ``run`` and write its arrays and its pictures into ``folder``, for a ``page`` of a paper
    too."""
    info, remark = sampler.trained.store.info, generation.remark(sampler, figure)
    likelihoods = {name: one.likelihood for name, one in sampler.recipe.modalities.items()}
    shares = frozenset(name for name, kind in likelihoods.items() if kind in PROBABILITIES)
    prior = "N(0, I): this method has no prior of z" if sampler.recipe.has_no_likelihood else "the prior"
    source = "a fitted mixture" if sampler.latents.mixtures else prior
    context = layout.Context(info.modalities, info.labels, sampler.split, _origin(run, sampler), remark, source, shares)
    arrays = generation.draw(sampler, figure, count)
    arrays["about"] = np.array(json.dumps(facts(sampler) | {"kind": figure.kind, "given": figure.given,
                                                             "target": figure.target}))  # fmt: skip
    pictures = layout.pictures(figure, arrays, context)
    files = {f"{stem}.png": picture.png() for stem, picture in pictures.items()}
    if page:
        files |= {f"{stem}.{ending}": pictures[stem].paper(page, ending) for stem in pictures for ending in ON_PAPER}
    signals.leave_if_requested(NOTHING_WRITTEN)
    write_atomic(folder / f"{figure.name}.npz", npz(arrays))
    for name, content in files.items():
        write_atomic(folder / name, content)


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    """A compressed .npz that depends on the arrays alone: members carry no date."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: arrays[name] for name in sorted(arrays)})  # type: ignore[arg-type]
    return buffer.getvalue()


def facts(sampler: Sampler) -> dict[str, Any]:
    """Where samples come from: enough to draw the same ones again."""
    checkpoint, recipe, store = sampler.trained.checkpoint, sampler.recipe, sampler.trained.store
    return {
        "recipe": recipe.name, "method": recipe.model.method, "training_seed": recipe.training.seed,
        "checkpoint": checkpoint.path.name, "epoch": checkpoint.position.epoch, "step": checkpoint.position.step,
        "dataset": store.name, "fingerprint": store.fingerprint, "stand_in": store.info.stand_in,
        "split": sampler.split, "seed": sampler.seed, "sampler": "gmm" if sampler.latents.mixtures else "prior",
    }  # fmt: skip


def _origin(run: Path, sampler: Sampler) -> str:
    known = facts(sampler)
    note = f"; stand-in: {known['stand_in']}" if known["stand_in"] else ""
    name = shown(run.resolve().name)
    return f"{name} ({known['method']}, recipe {known['recipe']}), epoch {known['epoch']}; {known['dataset']}{note}"
