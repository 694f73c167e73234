"""The Typer app: six verbs. Each parses, calls one function, prints. No torch at import time."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mmvae_cli import __version__
from mmvae_cli.datasets.commands import make_dataset
from mmvae_cli.process import console, cores, ending, environment, paths, signals
from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.process.named import Protocol, Sampler
from mmvae_cli.process.options import (
    DATA_DIR,
    Checkpoint,
    Code,
    DataDir,
    Debug,
    Device,
    FeaturesOption,
    FigureKind,
    Format,
    Items,
    LatentSamples,
    Launch,
    PairsOption,
    Paper,
    Quiet,
    Resume,
    Run,
    SamplerOption,
    Seed,
    SubsetsPerSize,
    Target,
    Verify,
    path_option,
)

_OfTheUser: Any = typer.BadParameter.__mro__[1]  # click's UsageError, wherever typer has it from


class _InOurWords(TyperGroup):
    """What is wrong with an option is said as what is wrong with a recipe is: typer passes pydantic's words on."""

    def invoke(self, ctx: Any) -> Any:
        words = list(ctx.args)
        try:
            return super().invoke(ctx)
        except _OfTheUser as problem:
            from mmvae_cli.recipe import mistyped

            mistyped.explain(str(ctx.invoked_subcommand), words, problem)
            raise


app = typer.Typer(
    name="mmvae", cls=_InOurWords, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True,
    add_completion=False,
    help="Train, measure and compare multimodal VAEs.\n\n"
    "Exit codes: 0 done, 1 failed, 2 wrong command or recipe, 3 data missing or damaged, 4 training diverged, "
    "75 stopped by a signal, 130 interrupted; training has written a checkpoint then (run the same command again).",
)  # fmt: skip
app.add_typer(make_dataset, name="make-dataset")


def _version(wanted: bool) -> None:
    if wanted:
        console.result(f"mmvae {__version__}")
        raise typer.Exit


def _list(wanted: bool) -> None:
    if wanted:
        from mmvae_cli.recipe import listing

        console.result(listing.text())
        raise typer.Exit


@app.command(short_help="Train a recipe, or a study of many runs.")
def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a shipped recipe, or a .yaml file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE|KEY=VALUE]...", help="More recipes; settings, such as objective.beta=5.")
    ] = None,
    run: Annotated[Path | None, path_option("--run", "--run-dir", help="Folder; default: runs/NAME-seedN.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Same as training.seed=N.")] = None,
    device: Device = "auto",
    resume: Annotated[
        Resume, typer.Option(help="auto: begin a run, or continue it; never: only begin; must: only continue.")
    ] = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train nothing; print all settings and sizes, or a study's commands.")
    ] = False,
    listed: Annotated[
        bool, typer.Option("--list", callback=_list, is_eager=True,
                           help="List recipes, methods, networks, likelihoods and keys.")
    ] = False,
    seeds: Annotated[str | None, typer.Option(metavar="SEEDS", help="A run for each, such as 0-4 or 0,2,7.")] = None,
    grid: Annotated[
        list[str] | None, typer.Option(metavar="KEY=V1,V2,...", help="A run for each value; may be repeated.")
    ] = None,
    launch: Annotated[
        Launch | None, typer.Option(help="A study runs here [default], or as a Slurm job array.")
    ] = None,
    slurm: Annotated[
        list[str] | None, typer.Option(metavar="OPTION=VALUE", help="For sbatch: partition=gpu, say; may be repeated.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=64, help="How many runs of a study train at a time here [1], each on a "
                                 "GPU or a share of the cores.", show_default=False)
    ] = None,
    evaluate_too: Annotated[bool, typer.Option("--evaluate", help="Evaluate each run after its training.")] = False,
    verify: Verify = True, code: Code = None, data_dir: DataDir = DATA_DIR, quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Train a recipe into a run folder; the same command continues a stopped run. Several recipes, seeds or grid
    points are a study: a run for each combination.

    \b
    mmvae train polymnist_mopoe --seed 1
    mmvae train my.yaml objective.beta=5 --run runs/mine
    mmvae train polymnist_mopoe polymnist_mvae --seeds 0-4 --grid objective.beta=1,2.5 --launch slurm
    """
    from mmvae_cli.study import plan as study

    names, changes = study.split_words([recipe, *(overrides or [])])
    if len(names) > 1 or seeds is not None or grid or launch or slurm or evaluate_too or jobs:
        from mmvae_cli.study import launch as launcher

        options = launcher.RunOptions(data_dir, device, resume, verify, quiet, evaluate_too, code)
        planned = study.plan(names, changes, grid or [], seeds, run, seed)
        return launcher.run(planned, options, launch or "local", slurm or [], dry_run=dry_run, jobs=jobs)
    from mmvae_cli.training import command

    console.result(command.run(
        recipe, changes, run=run, seed=seed, data_dir=data_dir, device=device, resume=resume,
        dry_run=dry_run, verify=verify, code=code,
    ))  # fmt: skip


@app.command(short_help="Measure a run.")
def evaluate(
    ckpt: Run,
    metrics: Annotated[str, typer.Option(help="latent,coherence,likelihood,quality.")] = "latent,coherence,likelihood",
    protocol: Annotated[
        Protocol | None, typer.Option(help="released: as the authors' code measures. Default: the recipe's.")
    ] = None,
    subsets_per_size: SubsetsPerSize = None,
    classifiers: Annotated[
        Protocol | None, typer.Option(help="Coherence classifiers: default, or released, the paper's. Default: "
                                      "the recipe's, or the protocol's.", show_default=False)
    ] = None,
    items: Items = None,
    sampler: SamplerOption = None, latent_samples: LatentSamples = None,
    features: FeaturesOption = None, pairs: PairsOption = None,
    out: Annotated[
        Path | None, path_option("--out", help="File (.json) or folder of the result, for a read-only run; default: "
                                 "the run's folder.")
    ] = None,
    checkpoint: Checkpoint = None,
    force: Annotated[bool, typer.Option("--force", help="Accept coherence classifiers that are too weak.")] = False,
    device: Device = "auto", verify: Verify = True, code: Code = None, data_dir: DataDir = DATA_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Print evaluation.json instead of tables.")] = False,
    quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Measure a run: its latent representation, coherence and log-likelihood; with quality in --metrics also how close
    its samples are to real ones.

    \b
    mmvae evaluate --ckpt runs/polymnist_mopoe-seed0
    mmvae evaluate --ckpt runs/polymnist_mopoe-seed0 --metrics latent --json
    mmvae evaluate --ckpt runs/polymnist_mopoe-seed0 --metrics coherence,quality --sampler gmm
    """
    from mmvae_cli.run import result, shared
    from mmvae_cli.run.layout import Run

    ckpt, wanted = shared.folder_of(ckpt), result.metrics(metrics)
    Run(ckpt).recipe()  # what is mistyped is refused before torch is loaded, which takes seconds
    from mmvae_cli.evaluation import command, report

    path, outcome = command.run(
        ckpt, metrics=wanted, protocol=protocol, chosen=checkpoint, data_dir=data_dir,
        device=device, force=force, verify=verify, subsets_per_size=subsets_per_size,
        classifiers=classifiers, items=items, out=out, sampler=sampler, features=features, pairs=pairs,
        latent_samples=latent_samples, code=code,
    )  # fmt: skip
    console.result(json.dumps(outcome.model_dump(mode="json")) if as_json else f"{report.text(outcome)}\n\n{path}")


@app.command(short_help="Draw a run's samples and latent space.")
def sample(
    ckpt: Run,
    kind: Annotated[
        FigureKind | None, typer.Option(help="Which figures; default: all that the run allows.", show_default=False)
    ] = None,
    given: Annotated[
        str | None, typer.Option(help="Observed modalities, comma-separated [all but the target].", metavar="NAMES")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Generated modalities, a figure each [all that are not given].", metavar="NAMES")
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help='A text to generate from; of CelebA attributes, as "smiling, blond hair". '
                                            "May be repeated, a column each.", metavar="TEXT")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Samples of the prior [100], or test items [10; latent 500].",
                                 show_default=False)
    ] = None,
    sampler: SamplerOption = None, seed: Seed = 0,
    out: Annotated[Path | None, path_option(help="Folder of the figures; default: RUN/figures.")] = None,
    paper: Paper = None, checkpoint: Checkpoint = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing figures.")] = False,
    device: Device = "auto", verify: Verify = True, code: Code = None, data_dir: DataDir = DATA_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the folder.")] = False,
    quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Draw a run's samples and its latent space as PNG, and beside each figure its arrays as .npz.

    \b
    mmvae sample --ckpt runs/polymnist_mopoe-seed0
    mmvae sample --ckpt runs/polymnist_mopoe-seed0 --paper 2 --out figures
    mmvae sample --ckpt runs/polymnist_mopoe-seed0 --given m1,m2 --target m0
    mmvae sample --ckpt runs/celeba_mopoe-seed0 --text "smiling, blond hair" --text "male, eyeglasses"
    """
    from mmvae_cli.run import shared
    from mmvae_cli.sampling import command
    from mmvae_cli.sampling.figures import FigureRequest

    request = FigureRequest(kind, given, target, tuple(text or ()))
    made = command.run(
        shared.folder_of(ckpt), request, count=count, seed=seed, chosen=checkpoint, out=out, force=force,
        data_dir=data_dir, device=device, verify=verify, drawn_from=sampler, code=code, paper=paper,
    )  # fmt: skip
    console.result(json.dumps(made) if as_json else made["path"])


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    environment.check(several=context.invoked_subcommand in ("train", "evaluate"))
    if ending.rank_of_many() is not None and context.invoked_subcommand not in ("train", "evaluate"):
        raise UsageProblem(f"{context.invoked_subcommand} is the work of one process", "start it without torchrun")


@app.command("compare", short_help="Put runs side by side.")
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", parser=paths.expanded, help="Run folders, folders of runs, or what "
                                   "evaluate --out wrote.")
    ],
    out: Annotated[
        Path | None, path_option(help="Write into this folder, with the plots as PNG and SVG [reports with html or "
                                 "--paper].")
    ] = None,
    format: Annotated[Format | None, typer.Option(help="Default: table.", show_default=False)] = None,
    protocol: Annotated[
        Protocol | None, typer.Option(show_default=False, help="Evaluations by this protocol [default, where there are "
                                      "any].")
    ] = None,
    sampler: Annotated[
        Sampler | None, typer.Option(show_default=False, help="Evaluations with samples of the prior or of gmm [prior, "
                                     "where there are any].")
    ] = None,
    any_epoch: Annotated[bool, typer.Option("--any-epoch", help="Also evaluations of earlier epochs.")] = False,
    paper: Paper = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing comparison.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
    quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Put runs side by side, each dataset by itself: mean and deviation over seeds, and the paper's numbers where the
    setting matches.

    \b
    mmvae compare runs
    mmvae compare runs/polymnist_* --format html --out reports
    mmvae compare runs/polymnist_* --paper 2 --out figures
    """
    from mmvae_cli.comparison import compare as comparison

    if as_json and format not in (None, "json"):
        raise UsageProblem(f"--json and --format {format} contradict each other", "give one of them")
    kind = "json" if as_json else format or "table"
    console.result(comparison.compare(runs, kind, out, force, protocol, sampler, paper, any_epoch=any_epoch))


@app.command("export")
def export(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", parser=paths.expanded, help="Run folders, or hf://USER/NAME; for csv "
                                   "and trackers also folders of runs.")
    ],
    to: Annotated[
        Target, typer.Option("--to", help="latents: the posteriors of a split; csv: a row for each run; tensorboard, "
                             "wandb, mlflow: curves, scores and figures; hub: a folder to share; onnx: the networks.")
    ],
    out: Annotated[
        Path | None, path_option(help="What to write. latents: an .npz, .csv or .h5ad [RUN/latents.SPLIT.npz]; csv: a "
                                 "file [standard output]; tensorboard [RUN/tensorboard], wandb and mlflow [here], hub "
                                 "[hub/NAME], onnx [RUN/onnx]: a folder.")
    ] = None,
    given: Annotated[
        str | None, typer.Option(help="latents: observed modalities, comma-separated [all].", metavar="NAMES")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="latents: train, test or validation; default: the recipe's.", show_default=False)
    ] = None,
    push: Annotated[
        str | None, typer.Option(metavar="USER/NAME", help="hub: upload the folder to this repository.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="tensorboard, wandb, mlflow: go on while a run is being trained.")
    ] = False,
    checkpoint: Checkpoint = None, code: Code = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    device: Annotated[str | None, typer.Option(help="latents: auto, cpu, cuda or cuda:N [auto].")] = None,
    data_dir: DataDir = DATA_DIR, quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Take runs to other programs.

    \b
    mmvae export runs/polymnist_mopoe-seed0 --to latents --given m0,m1 --out latents.csv
    mmvae export runs --to csv --out runs.csv
    mmvae export runs/polymnist_mopoe-seed0 --to tensorboard --follow
    mmvae export runs/polymnist_mopoe-seed0 --to hub --push USER/NAME
    """
    from mmvae_cli.export import command
    from mmvae_cli.run import shared

    request = command.ExportRequest(to, out, given, split, checkpoint, force, push, follow, code, device)
    console.result(command.run([shared.folder_of(run) for run in runs], request, data_dir=data_dir))


def main() -> None:
    """Run the app and end with one documented exit code."""
    os.environ["PYTHONSAFEPATH"] = "1"  # no helper process takes a random.py in the current folder for Python's own
    console.open_closed_streams()
    signals.install()
    cores.limit()
    cores.keep_memory()
    console.set_rank(ending.rank_of_many() or 0)
    ending.leave(ending.outcome(app, debug="--debug" in sys.argv or environment.debug()))
