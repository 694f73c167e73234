"""``mmvae export`` on plain values: runs in, files of other programs out. No torch before a run is opened."""

from dataclasses import dataclass
from pathlib import Path

from mmvae_cli.comparison.collect import find_runs
from mmvae_cli.disk.files import require_writable, write_atomic
from mmvae_cli.export import table
from mmvae_cli.process import console
from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.process.paths import is_odd, make_folder
from mmvae_cli.run import shared
from mmvae_cli.run.layout import Run


@dataclass(frozen=True)
class Wish:
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


TRACKERS = ("tensorboard", "wandb", "mlflow")
OPTIONS = {
    "given": ("latents",), "split": ("latents",), "checkpoint": ("latents", "hub"), "code": ("latents", "hub"),
    "push": ("hub",), "follow": TRACKERS,
}  # fmt: skip
"""Options that mean something to some targets only."""


def run(runs: list[Path], wish: Wish, *, data_dir: Path, device: str) -> str:
    """Export ``runs``; returns what belongs on stdout, whose last line is the product."""
    for option, targets in OPTIONS.items():
        if getattr(wish, option) and wish.to not in targets:
            raise UsageProblem(f"--{option} has no effect with --to {wish.to}", f"it is for {', '.join(targets)}")
    if wish.to == "csv":
        return _csv(runs, wish)
    if wish.to in TRACKERS:
        return _tracked(runs, wish)
    if wish.to == "hub":
        return "\n".join(_shared(folder, wish, data_dir) for folder in _single(runs, wish))
    return "\n".join(str(path) for path in _latents(runs, wish, data_dir, device))


def _csv(runs: list[Path], wish: Wish) -> str:
    if wish.out is not None:
        refuse_existing(wish.out, wish.force)
    text = table.table(runs)
    if wish.out is None:
        return text.rstrip("\n")
    make_folder(wish.out.parent)
    write_atomic(wish.out, text.encode())
    return str(wish.out)


def refuse_existing(path: Path, force: bool) -> None:
    """Raise UsageProblem where ``path`` is there and ``force`` is not given."""
    if path.exists() and not force:
        raise UsageProblem(f"{path} exists", "give --force to replace it, or another --out")


def _latents(runs: list[Path], wish: Wish, data_dir: Path, device: str) -> list[Path]:
    """A file for each run: RUN/latents.SPLIT[.GIVEN].npz unless --out says another."""
    places = {folder: wish.out or _usual(Run(folder), wish) for folder in _single(runs, wish)}
    for path in places.values():
        if path.suffix not in (".npz", ".csv", ".h5ad"):
            raise UsageProblem(f"--out {path}: latents are written as .npz, .csv or .h5ad", "end it so")
        refuse_existing(path, wish.force)
    from mmvae_cli.export import latents
    from mmvae_cli.export.opened import OpenedRun

    for folder, path in places.items():
        opened = OpenedRun(folder, wish.checkpoint, data_dir, device, wish.code, verify=True)
        make_folder(path.parent)
        require_writable(path)
        found = opened.latents(wish.split, wish.given)
        latents.write(opened, found, path)
        console.say(f"{len(found.mean):,} items of {found.split} given {'+'.join(found.given)}: {path}")
    return list(places.values())


def _single(runs: list[Path], wish: Wish) -> list[Path]:
    """``runs``, each once. Raises UsageProblem where all of them would go to one place, or one is no run."""
    if len(set(runs)) > 1 and (wish.out is not None or wish.push is not None):
        option = f"--out {wish.out}" if wish.out is not None else f"--push {wish.push}"
        raise UsageProblem(f"{option} is one place, for one run", "leave it out, or give one run")
    for folder in runs:
        Run(folder).recipe()
    return list(dict.fromkeys(runs))


def _shared(folder: Path, wish: Wish, data_dir: Path) -> str:
    """A folder to share for each run, hub/NAME unless --out says another; uploaded with --push."""
    if wish.push is not None and not shared.REPOSITORY.fullmatch(wish.push):
        raise UsageProblem(f"--push {wish.push}: no name of a repository", "--push USER/NAME")
    out = wish.out or Path("hub") / folder.resolve().name
    from mmvae_cli.export import hub

    hub.write(folder, out, chosen=wish.checkpoint, data_dir=data_dir, force=wish.force, repository=wish.push,
              code=wish.code)  # fmt: skip
    console.say(f"written: {out}")
    return hub.push(out, wish.push) if wish.push is not None else str(out)


def _tracked(runs: list[Path], wish: Wish) -> str:
    """Runs, and the runs in folders. TensorBoard: each run's folder tensorboard, or OUT/NAME. W&B and MLflow: below the
    current folder, or OUT."""
    from mmvae_cli.export.tracked import Source, export
    from mmvae_cli.export.trackers import TRACKERS as KNOWN

    sources = [Source(Run(folder)) for folder in find_runs(runs)]
    for source in sources:
        source.run.recipe()

    def place(source: Source) -> Path:
        if wish.to != "tensorboard":
            return wish.out or Path()
        return source.run.folder / "tensorboard" if wish.out is None else wish.out / source.name

    for source in sources:
        odd = [path for path in (place(source), source.run.folder) if is_odd(str(path))]
        if odd and (odd[0] == place(source) or wish.to == "wandb"):
            raise UsageProblem(
                f"{wish.to} cannot take {odd[0]}, a name that is not UTF-8", "rename it; or another --out"
            )
        make_folder(place(source))
    export(sources, lambda source: KNOWN[wish.to](source, place(source)), follow=wish.follow)
    return "\n".join(dict.fromkeys(str(place(source)) for source in sources))


def _usual(run: Run, wish: Wish) -> Path:
    split = wish.split or run.recipe().evaluation.split
    given = f".{wish.given.replace(',', '+')}" if wish.given else ""
    return run.folder / f"latents.{split}{given}.npz"
