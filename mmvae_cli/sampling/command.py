"""``mmvae sample`` on plain values: one run in, figures and the arrays behind them out."""

import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from mmvae_cli import drawing
from mmvae_cli.disk.files import is_abandoned, own_mark, write_atomic
from mmvae_cli.process import console, signals
from mmvae_cli.process.errors import UsageProblem, cannot_write
from mmvae_cli.process.paths import refuse_dangling, shown
from mmvae_cli.run import trained
from mmvae_cli.run.layout import Run
from mmvae_cli.sampling import generation, layout, plan
from mmvae_cli.sampling.generation import NOTHING_WRITTEN, Sampler
from mmvae_cli.sampling.plan import Figure, Wish
from mmvae_cli.store import of_recipe
from mmvae_cli.store.attribute_text import ATTRIBUTES


def run(
    folder: Path, wish: Wish, *, count: int | None, seed: int, chosen: Path | None, out: Path | None, force: bool,
    data_dir: Path, device: str, verify: bool,
) -> dict[str, Any]:  # fmt: skip
    """Make the figures of ``wish`` for a run; returns what was made as plain JSON values.

    The same command makes the same bytes. Raises UsageProblem where a file exists and ``force`` is not given. Where
    anything goes wrong or a signal comes, nothing is written, so that the same command can be run again.
    """
    run_folder = Run(folder)
    recipe = run_folder.recipe()
    if count is not None and wish.texts:
        raise UsageProblem("--count has no effect with --text", "give --text once for every column")
    kinds = {name: spec.kind for name, spec in recipe.modalities.items()}
    known: tuple[str, ...] = ATTRIBUTES
    if wish.texts:
        known = of_recipe(recipe, data_dir, verify=False, trained_on=run_folder.trained_on()).info.labels.names
    figures = plan.plan(wish, kinds, recipe.model.private_dim, known)
    target = out or run_folder.figures
    _refuse_existing(target, figures, force)
    opened = trained.load(run_folder, recipe, chosen, data_dir=data_dir, device=device, verify=verify)
    sampler = Sampler(opened, recipe, seed)
    context = layout.Context(
        opened.store.info.modalities, opened.store.info.labels, sampler.split, _about(run_folder, sampler)
    )
    counts = {figure.name: count or len(figure.texts) or _default_count(sampler, figure) for figure in figures}
    with _staging(target) as folder, console.progress("sampling", len(figures), "figures") as shown:
        for figure in figures:
            _make(sampler, figure, counts[figure.name], context, folder)
            shown.advance()
    for figure in figures:
        part = layout.part(layout.SHOWN[figure.kind], counts[figure.name])
        more = f"{part}; all are in {target / figure.name}.npz" if part else ""
        console.say(f"{figure.kind}: {', '.join(str(target / f'{stem}.png') for stem in figure.pictures)}{more}")
    return _product(target, figures, sampler)


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A hidden folder inside ``target`` whose files move up when the block ends well; what is left of it vanishes."""
    folder, ours = target / f".sample.tmp-{own_mark()}", not target.exists()
    refuse_dangling(target)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in target.glob(".sample.tmp-*"):
            if is_abandoned(stale):
                shutil.rmtree(stale, ignore_errors=True)
        yield folder
        for path in sorted(folder.iterdir()):
            os.replace(path, target / path.name)
    except OSError as error:
        failure = cannot_write(target, error)
        failure.hint += "; --out FOLDER draws elsewhere"
        raise failure from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            if ours:
                target.rmdir()  # fails, as it should, where figures are in it


def _default_count(sampler: Sampler, figure: Figure) -> int:
    """The usual number, or as many test items as a small split has."""
    usual = plan.DEFAULT_COUNT[figure.kind]
    return usual if figure.kind == "prior" else min(usual, sampler.trained.store.count(sampler.split))


def _refuse_existing(target: Path, figures: list[Figure], force: bool) -> None:
    if target.exists() and not target.is_dir():
        raise UsageProblem(f"{target} is a file", "give --out a folder")
    wanted = [f"{stem}{end}" for figure in figures for stem, end in _files(figure)]
    there = [name for name in wanted if (target / name).exists()]
    if there and not force:
        more = f" (and {len(there) - 1} more of the files to be made)" if len(there) > 1 else ""
        raise UsageProblem(
            f"{target / there[0]} exists{more}", "give --force to replace it, or --out for another folder"
        )


def _files(figure: Figure) -> list[tuple[str, str]]:
    return [(figure.name, ".npz"), *((stem, ".png") for stem in figure.pictures)]


def _make(sampler: Sampler, figure: Figure, count: int, context: layout.Context, folder: Path) -> None:
    """Draw one figure and write its arrays and its pictures."""
    arrays = generation.draw(sampler, figure, count)
    arrays["about"] = np.array(json.dumps(_facts(sampler) | {"kind": figure.kind, "given": figure.given,
                                                             "target": figure.target}))  # fmt: skip
    images = layout.pictures(figure, arrays, context._replace(remark=generation.remark(sampler, figure)))
    signals.leave_if_requested(NOTHING_WRITTEN)
    write_atomic(folder / f"{figure.name}.npz", npz(arrays))
    for stem, image in images.items():
        drawing.save_png(image, folder / f"{stem}.png")


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


def _facts(sampler: Sampler) -> dict[str, Any]:
    """Where samples come from: enough to draw the same ones again."""
    found, recipe, store = sampler.trained.checkpoint, sampler.recipe, sampler.trained.store
    return {
        "recipe": recipe.name, "method": recipe.model.method, "training_seed": recipe.training.seed,
        "checkpoint": found.path.name, "epoch": found.position.epoch, "step": found.position.step,
        "dataset": store.name, "fingerprint": store.fingerprint, "stand_in": store.info.stand_in,
        "split": sampler.split, "seed": sampler.seed,
    }  # fmt: skip


def _about(run_folder: Run, sampler: Sampler) -> str:
    """The second line of a figure's title."""
    facts = _facts(sampler)
    note = f"; stand-in: {facts['stand_in']}" if facts["stand_in"] else ""
    name = shown(run_folder.folder.resolve().name)
    return f"{name} ({facts['method']}, recipe {facts['recipe']}), epoch {facts['epoch']}; {facts['dataset']}{note}"


def _product(target: Path, figures: list[Figure], sampler: Sampler) -> dict[str, Any]:
    made = [
        {
            "kind": figure.kind, "given": list(figure.given), "target": list(figure.target),
            "npz": str(target / f"{figure.name}.npz"),
            "png": [str(target / f"{stem}.png") for stem in figure.pictures],
        }
        for figure in figures
    ]  # fmt: skip
    return {"path": str(target), **_facts(sampler), "figures": made}
