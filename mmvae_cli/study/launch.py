"""Starting a study: run after run on this machine, or as one Slurm job array. No torch."""

import shlex
from pathlib import Path

from mmvae_cli import recipe as recipes
from mmvae_cli.process import console, environment
from mmvae_cli.process.errors import Failure, UsageProblem
from mmvae_cli.run import prepare
from mmvae_cli.run.layout import Run
from mmvae_cli.store import Store
from mmvae_cli.study import commands, here, slurm
from mmvae_cli.study import plan as study
from mmvae_cli.study.commands import RunOptions
from mmvae_cli.study.plan import PlannedRun


def run(
    planned: list[PlannedRun], options: RunOptions, launcher: str, directives: list[str], *, dry_run: bool,
    jobs: int | None = None,
) -> None:  # fmt: skip
    """Start what is not done of the study: ``launcher`` is local or slurm, ``directives`` are sbatch's, ``jobs``
    runs at a time.

    Raises UsageProblem or DataProblem before anything is started; Failure with the worst exit code of the runs
    (local); Stopped after a signal that was passed on.
    """
    if environment.rank_and_size()[1] > 1:
        raise UsageProblem("a study starts its own processes", "give torchrun one run: a recipe and --seed")
    if directives and launcher != "slurm":
        raise UsageProblem("--slurm has no effect without --launch slurm", "leave it out, or give --launch slurm")
    if jobs is not None and launcher == "slurm":
        raise UsageProblem("--jobs has no effect with --launch slurm", f"give --slurm array=%{jobs}")
    wanted, todo = slurm.parse_directives(directives), []
    if launcher == "slurm" and options.resume == "never":
        raise UsageProblem("--resume never ends a preempted task that comes back", "leave it out with --launch slurm")
    _check_data(planned, options.data_dir)
    for one in planned:
        if study.is_done(one, evaluate=options.evaluate):
            scores = Run(one.folder).evaluation_path(one.recipe.evaluation.protocol, one.recipe.evaluation.sampler)
            console.say(f"{one.folder} is finished: skipped" + (f"; scores: {scores}" if options.evaluate else ""))
        else:
            todo.append(one)
    for one in todo:
        _check_needs(one, options.data_dir, dry_run=dry_run)
    if launcher == "slurm":
        slurm.run(planned, todo, options, wanted, dry_run=dry_run)
    elif dry_run:
        for one in todo:
            console.result("\n".join(shlex.join(["mmvae", *command]) for command in commands.of_run(one, options)))
    else:
        here.run(planned, todo, options, jobs or 1)


def _check_needs(one: PlannedRun, data_dir: Path, *, dry_run: bool) -> None:
    """What the run itself would refuse is refused now."""
    try:
        prepare.data_of(one.recipe, one.folder, data_dir, dry_run=dry_run)
    except Failure as failure:
        failure.hint += "; nothing was started"
        raise


def _check_data(planned: list[PlannedRun], data_dir: Path) -> None:
    """A study is of one kind of data. Raises DataProblem for a run of another that is already there."""
    fingerprints: dict[Path, str] = {}
    for one in planned:
        run, folder = Run(one.folder), recipes.dataset_folder(one.recipe, data_dir)
        if run.environment_path.is_file() and (folder / "dataset.json").is_file():
            fingerprints[folder] = fingerprints.get(folder) or Store(folder, verify=False).fingerprint
            run.check_data(folder, fingerprints[folder])
