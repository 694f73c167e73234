"""``mmvae sample`` on plain values: one run in, figures and the arrays behind them out. No torch until it is known
that they can be made."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmvae_cli.disk.files import hidden_folder
from mmvae_cli.drawing.plots import PAPER
from mmvae_cli.process import console
from mmvae_cli.process.errors import UsageProblem, cannot_write
from mmvae_cli.process.paths import refuse_dangling, refuse_existing, require_folder
from mmvae_cli.run import prepare
from mmvae_cli.run.layout import Run
from mmvae_cli.sampling import layout
from mmvae_cli.sampling.figures import ON_PAPER, Figure, FigureRequest, choose_figures


def run(
    folder: Path, request: FigureRequest, *, count: int | None, seed: int, chosen: Path | None, out: Path | None,
    force: bool, data_dir: Path, device: str, verify: bool, drawn_from: str | None = None,
    code: Path | None = None, paper: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Make the figures of ``request`` for a run; returns what was made as plain JSON values. ``drawn_from``: prior or
    gmm, in place of the recipe's ``evaluation.sampler``; ``paper``: for so many columns of a paper too.

    The same command makes the same bytes. Raises UsageProblem where a file exists and ``force`` is not given. Where
    anything goes wrong or a signal comes, nothing is written, so that the same command can be run again.
    """
    run_folder = Run(folder)
    recipe = run_folder.recipe()
    if count is not None and request.texts:
        raise UsageProblem("--count has no effect with --text", "give --text once for every column")
    if drawn_from is not None and request.kind not in (None, "prior"):
        raise UsageProblem(f"--sampler has no effect with --kind {request.kind}", "use it with --kind prior")
    kinds = {name: spec.kind for name, spec in recipe.modalities.items()}
    needs_data = request.kind != "prior" or (drawn_from or recipe.evaluation.sampler) != "prior"
    labels = prepare.data_of_run(run_folder, recipe, data_dir, verify=False, needs_data=needs_data).info.labels
    figures = choose_figures(request, kinds, recipe.model.private_dim, labels.names if labels else ())
    target = out or run_folder.figures
    endings = ("png", *ON_PAPER) if paper else ("png",)
    _refuse_existing(target, figures, endings, force)
    from mmvae_cli.run import samplers, trained
    from mmvae_cli.sampling import making

    opened = trained.load(run_folder, recipe, chosen, data_dir=data_dir, device=device, verify=verify, code=code,
                          needs_data=needs_data)  # fmt: skip
    spec = recipe.evaluation.model_copy(update={"sampler": drawn_from} if drawn_from else {})
    if all(figure.kind != "prior" for figure in figures):
        spec = spec.model_copy(update={"sampler": "prior"})  # nothing to be drawn from a mixture
    latents = samplers.of_run(run_folder, opened, spec)
    sampler = making.Sampler(opened, recipe, seed, latents)
    counts = {figure.name: count or len(figure.texts) or making.usual_count(sampler, figure) for figure in figures}
    with _staging(target) as folder, console.progress("sampling", len(figures), "figures") as shown:
        for figure in figures:
            making.make(sampler, figure, counts[figure.name], run_folder.folder, folder, PAPER.get(paper or 0))
            shown.advance()
    for figure in figures:
        part = layout.part(layout.SHOWN.get(figure.kind, counts[figure.name]), counts[figure.name])
        more = f"; {part}; all are in {target / figure.name}.npz" if part else ""
        console.say(f"{figure.kind}: {', '.join(str(target / f'{stem}.png') for stem in figure.pictures)}{more}")
    if paper:
        console.say(f"beside each PNG a PDF and an SVG for a paper, {PAPER[paper].width} inches wide")
    return _product(target, figures, endings, making.facts(sampler))


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A hidden folder inside ``target`` whose files move up when the block ends well; what is left of it vanishes."""
    ours = not target.exists()
    refuse_dangling(target)
    try:
        with hidden_folder(target / ".sample") as folder:
            yield folder
            for path in sorted(folder.iterdir()):
                os.replace(path, target / path.name)
    except OSError as error:
        failure = cannot_write(target, error)
        failure.hint += "; --out FOLDER draws elsewhere"
        raise failure from error
    finally:
        with suppress(OSError):
            if ours:
                target.rmdir()  # fails, as it should, where figures are in it


def _refuse_existing(target: Path, figures: list[Figure], endings: tuple[str, ...], force: bool) -> None:
    require_folder(target)
    wanted = [target / name for figure in figures for name in _files(figure, endings)]
    if there := [path for path in wanted if path.exists()]:
        more = f" (and {len(there) - 1} more of the files to be made)" if len(there) > 1 else ""
        refuse_existing(there[0], force, more=more)


def _files(figure: Figure, endings: tuple[str, ...]) -> list[str]:
    return [f"{figure.name}.npz", *(f"{stem}.{ending}" for ending in endings for stem in figure.pictures)]


def _product(target: Path, figures: list[Figure], endings: tuple[str, ...], facts: dict[str, Any]) -> dict[str, Any]:
    made = [
        {"kind": figure.kind, "given": list(figure.given), "target": list(figure.target),
         "npz": str(target / f"{figure.name}.npz"),
         **{ending: [str(target / f"{stem}.{ending}") for stem in figure.pictures] for ending in endings}}
        for figure in figures
    ]  # fmt: skip
    return {"path": str(target), **facts, "figures": made}
