"""``mmvae export`` on plain values: runs in, files of other programs out. No torch before a run is opened."""

from dataclasses import dataclass
from pathlib import Path

from mmvae_cli.comparison.collect import find_runs
from mmvae_cli.disk.files import require_writable, short_name, write_atomic
from mmvae_cli.export import table
from mmvae_cli.export.trackers import TRACKERS
from mmvae_cli.process import console
from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.process.paths import is_odd, make_folder, refuse_existing
from mmvae_cli.run import shared
from mmvae_cli.run.layout import Run
from mmvae_cli.sampling.figures import chosen


@dataclass(frozen=True)
class ExportRequest:
    """What the command line asked for; None or False where it said nothing."""

    to: str
    out: Path | None = None
    given: str | None = None
    split: str | None = None
    checkpoint: Path | None = None
    force: bool = False
    push: str | None = None
    follow: bool = False
    code: Path | None = None
    device: str | None = None


OPTIONS = {
    "given": ("latents",), "split": ("latents",), "checkpoint": ("latents", "hub", "onnx"),
    "code": ("latents", "hub", "onnx"),
    "device": ("latents",), "push": ("hub",), "follow": tuple(TRACKERS),
}  # fmt: skip
"""Options that mean something to some targets only."""
_ANOTHER = "another --out"


def run(runs: list[Path], request: ExportRequest, *, data_dir: Path) -> str:
    """Export ``runs``; returns what belongs on stdout, whose last line is the product."""
    for option, targets in OPTIONS.items():
        if getattr(request, option) and request.to not in targets:
            raise UsageProblem(f"--{option} has no effect with --to {request.to}", f"it is for {', '.join(targets)}")
    if request.to == "csv":
        return _csv(runs, request)
    if request.to in TRACKERS:
        return _tracked(runs, request)
    if request.to == "hub":
        return "\n".join(_shared(folder, request, data_dir) for folder in _single(runs, request))
    write = _onnx if request.to == "onnx" else _latents
    return "\n".join(str(path) for path in write(runs, request, data_dir))


def _csv(runs: list[Path], request: ExportRequest) -> str:
    if request.out is not None:
        refuse_existing(request.out, request.force, _ANOTHER)
    text = table.table(runs)
    if request.out is None:
        return text.rstrip("\n")
    make_folder(request.out.parent)
    write_atomic(request.out, text.encode())
    return str(request.out)


def _latents(runs: list[Path], request: ExportRequest, data_dir: Path) -> list[Path]:
    """A file for each run: RUN/latents.SPLIT[.GIVEN].npz unless --out says another."""
    places = {folder: request.out or _usual(Run(folder), request) for folder in _single(runs, request)}
    for path in places.values():
        if path.suffix not in (".npz", ".csv", ".h5ad"):
            raise UsageProblem(f"--out {path}: latents are written as .npz, .csv or .h5ad", "end it so")
        refuse_existing(path, request.force, _ANOTHER)
    from mmvae_cli.export import latents
    from mmvae_cli.export.opened import OpenedRun

    for folder, path in places.items():
        opened = OpenedRun(folder, request.checkpoint, data_dir, request.device or "auto", request.code)
        make_folder(path.parent)
        require_writable(path)
        encoded = opened.latents(request.split, request.given)
        latents.write(opened, encoded, path)
        console.say(f"{len(encoded.mean):,} items of {encoded.split} given {'+'.join(encoded.given)}: {path}")
    return list(places.values())


def _onnx(runs: list[Path], request: ExportRequest, data_dir: Path) -> list[Path]:
    """A folder for each run, RUN/onnx unless --out says another."""
    places = {folder: request.out or folder / "onnx" for folder in _single(runs, request)}
    for place in places.values():
        refuse_existing(place, request.force, _ANOTHER)
    from mmvae_cli.export import networks
    from mmvae_cli.export.opened import OpenedRun

    for folder, place in places.items():
        opened = OpenedRun(folder, request.checkpoint, data_dir, "cpu", request.code)
        networks.write(opened, place)
    return list(places.values())


def _single(runs: list[Path], request: ExportRequest) -> list[Path]:
    """``runs``, each once. Raises UsageProblem where all of them would go to one place, or one is no run."""
    if len(set(runs)) > 1 and (request.out is not None or request.push is not None):
        option = f"--out {request.out}" if request.out is not None else f"--push {request.push}"
        raise UsageProblem(f"{option} is one place, for one run", "leave it out, or give one run")
    for folder in runs:
        Run(folder).recipe()
    return list(dict.fromkeys(runs))


def _shared(folder: Path, request: ExportRequest, data_dir: Path) -> str:
    """A folder to share for each run, hub/NAME unless --out says another; uploaded with --push."""
    if request.push is not None and not shared.REPOSITORY.fullmatch(request.push):
        raise UsageProblem(f"--push {request.push}: no name of a repository", "--push USER/NAME")
    out = request.out or Path("hub") / folder.resolve().name
    from mmvae_cli.export import hub

    hub.write(folder, out, chosen=request.checkpoint, data_dir=data_dir, force=request.force, repository=request.push,
              code=request.code)  # fmt: skip
    console.say(f"written: {out}")
    return hub.push(out, request.push) if request.push is not None else str(out)


def _tracked(runs: list[Path], request: ExportRequest) -> str:
    """Runs, and the runs in folders. TensorBoard: each run's folder tensorboard, or OUT/NAME. W&B and MLflow: below the
    current folder, or OUT."""
    from mmvae_cli.export.tracked import Source, export

    sources = [Source(Run(folder)) for folder in find_runs(runs)]
    for source in sources:
        source.run.recipe()

    def place(source: Source) -> Path:
        if request.to != "tensorboard":
            return request.out or Path()
        return source.run.folder / "tensorboard" if request.out is None else request.out / source.name

    for source in sources:
        odd = [path for path in (place(source), source.run.folder) if is_odd(str(path))]
        if odd and (odd[0] == place(source) or request.to == "wandb"):
            raise UsageProblem(
                f"{request.to} cannot take {odd[0]}, a name that is not UTF-8", "rename it; or another --out"
            )
        make_folder(place(source))
    export(sources, lambda source: TRACKERS[request.to](source, place(source)), follow=request.follow)
    return "\n".join(dict.fromkeys(str(place(source)) for source in sources))


def _usual(run: Run, request: ExportRequest) -> Path:
    recipe = run.recipe()
    names = chosen("--given", request.given, list(recipe.modalities))
    given = f".{short_name('+'.join(names))}" if names else ""
    return run.folder / f"latents.{request.split or recipe.evaluation.split}{given}.npz"
