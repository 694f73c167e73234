"""Starting a study: run after run on this machine, or as one Slurm job array. No torch: every run is a process of its
own, so that one that diverges or dies leaves the others alone."""

import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mmvae_cli import recipe as recipes
from mmvae_cli.disk.files import write_atomic
from mmvae_cli.process import console, signals
from mmvae_cli.process.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_STOPPED, Failure, UsageProblem
from mmvae_cli.process.paths import make_folder
from mmvae_cli.run import prepare as needs
from mmvae_cli.run.layout import Run
from mmvae_cli.store import Store, of_recipe
from mmvae_cli.study import plan as study
from mmvae_cli.study.plan import PlannedRun

PROGRAM = [sys.executable, "-P", str(Path(__file__).parents[1] / "__main__.py")]
"""Starts the code that was called. With ``-m`` a clone in the current folder would be started instead; without ``-P``
a file random.py there would be taken for Python's own."""
POLL_SECONDS = 0.2
SLURM_FOLDER = Path("runs") / "slurm"


@dataclass(frozen=True)
class Options:
    """How every run of the study is started; ``flags`` as they stand on the command line."""

    data_dir: Path
    device: str = "auto"
    resume: str = "auto"
    verify: bool = True
    quiet: bool = False
    evaluate: bool = False

    def train_flags(self) -> list[str]:
        return self._common() + ([] if self.resume == "auto" else ["--resume", self.resume])

    def evaluate_flags(self) -> list[str]:
        return self._common()

    def _common(self) -> list[str]:
        switches = [] if self.verify else ["--no-verify"]
        switches += ["--quiet"] if self.quiet else []
        return ["--data-dir", str(self.data_dir), "--device", self.device, *switches]


@dataclass(frozen=True)
class Wish:
    """The study as it was asked for; ``folder`` is the option of a study of one run."""

    names: list[str]
    overrides: list[str]
    grid: list[str]
    seeds: str | None
    seed: int | None = None
    folder: Path | None = None

    def plan(self) -> list[PlannedRun]:
        """Every run, checked. Raises UsageProblem."""
        if self.seed is not None and self.seeds is not None:
            raise UsageProblem("--seed and --seeds contradict each other", "give one of them")
        seeds = str(self.seed) if self.seed is not None else self.seeds
        return study.plan(self.names, self.overrides, self.grid, seeds, self.folder)


def run(wish: Wish, options: Options, launcher: str, directives: list[str], *, dry_run: bool) -> None:
    """Plan the study and start what is not done: ``launcher`` is local or slurm, ``directives`` are sbatch's.

    Raises UsageProblem or DataProblem before anything is started; Failure with the worst exit code of the runs
    (local); Stopped after a signal that was passed on.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageProblem("a study starts its own processes", "give torchrun one run: a recipe and --seed")
    if directives and launcher != "slurm":
        raise UsageProblem("--slurm has no effect without --launch slurm", "leave it out, or give --launch slurm")
    wanted = parse_directives(directives)
    planned, todo = wish.plan(), []
    if launcher == "slurm" and options.resume == "never":
        raise UsageProblem("--resume never ends a preempted task that comes back", "leave it out with --launch slurm")
    _check_data(planned, options.data_dir)
    for one in planned:
        if study.is_done(one, evaluate=options.evaluate):
            console.say(f"{one.folder} is finished: skipped")
        else:
            todo.append(one)
    for one in todo:
        _check_needs(one, options.data_dir, dry_run=dry_run)
    if launcher == "slurm":
        _to_slurm(planned, todo, options, wanted, dry_run=dry_run)
    elif dry_run:
        for one in todo:
            console.result("\n".join(shlex.join(["mmvae", *command]) for command in _commands(one, options)))
    else:
        _here(planned, todo, options)


def _check_needs(one: PlannedRun, data_dir: Path, *, dry_run: bool) -> None:
    """What the run itself would refuse is refused now; a dry run does not need the data."""
    try:
        if not dry_run or (recipes.dataset_folder(one.recipe, data_dir) / "dataset.json").is_file():
            trained_on = Run(one.folder).trained_on()
            data = of_recipe(one.recipe, data_dir, verify=False, trained_on=trained_on)
            needs.check(one.recipe, data, one.folder)
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


def _commands(one: PlannedRun, options: Options) -> list[list[str]]:
    """What has to be run for one run of the study, each without the leading ``mmvae``."""
    commands = [["train", *one.arguments(), "--run", str(one.folder), *options.train_flags()]]
    if options.evaluate:
        commands.append(["evaluate", "--ckpt", str(one.folder), *options.evaluate_flags()])
    return commands


def _say_what_next(planned: list[PlannedRun], options: Options) -> None:
    folders = [str(one.folder) for one in planned]
    if not options.evaluate:
        listed = " ".join(map(shlex.quote, folders))
        data = shlex.join(["--data-dir", str(options.data_dir)])
        console.say(f'evaluate: for run in {listed}; do mmvae evaluate --ckpt "$run" {data}; done')
    console.say(f"compare: {shlex.join(['mmvae', 'compare', *folders])}")


# on this machine -----------------------------------------------------------------------------------------------------


def _here(planned: list[PlannedRun], todo: list[PlannedRun], options: Options) -> None:
    """One run after the other; the folders of all on stdout, then the worst exit code."""
    failed: dict[Path, int] = {}
    for number, one in enumerate(todo):
        state = f"{number} of {len(todo)} runs are through, the rest is left as it was"
        signals.leave_if_requested(state)
        console.say(f"run {number + 1} of {len(todo)}: {one.folder}")
        for command in _commands(one, options):
            if code := _child([*PROGRAM, *command]):
                failed[one.folder] = code
                break
        signals.leave_if_requested(state)
    for one in planned:
        console.result(str(one.folder))
    _say_what_next(planned, options)
    if failed:
        named = ", ".join(f"{folder} (exit {code})" for folder, code in failed.items())
        failure = Failure(f"{len(failed)} of {len(planned)} runs are not done: {named}", "the same command tries again")
        failure.code = max(failed.values())
        raise failure


def _child(command: list[str]) -> int:
    """Run one command to its end and return its exit code; a signal that this process receives is passed on once."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    passed_on = False
    while True:
        try:
            code = child.wait(POLL_SECONDS)
            return code if code in (*range(EXIT_STOPPED + 1), EXIT_INTERRUPTED) else EXIT_FAILED
        except subprocess.TimeoutExpired:
            if signals.requested() and not passed_on:
                passed_on = True
                child.send_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            child.send_signal(signal.SIGINT)  # at once: where a terminal's Ctrl-C has reached it, it is the same one
            child.wait()
            raise


# on a cluster --------------------------------------------------------------------------------------------------------


def _to_slurm(
    planned: list[PlannedRun], todo: list[PlannedRun], options: Options, directives: dict[str, str], *, dry_run: bool
) -> None:
    """Write the array script beside the runs and submit it; the job's number on stdout. Nothing to do: no job."""
    if not todo:
        console.say("every run is finished: nothing to submit")
        return _say_what_next(planned, options)
    script = array_script(todo, options, directives)
    if dry_run:
        return console.result(script.rstrip())
    if shutil.which("sbatch") is None:
        raise UsageProblem("--launch slurm: there is no sbatch on this machine", "use a login node, or --launch local")
    path = _write_script(script, todo[0].recipe.name)
    job = _submit(path)
    console.say(f"submitted {len(todo)} runs as job array {job}: {path}")
    _say_what_next(planned, options)
    console.result(job)


def _write_script(script: str, name: str) -> Path:
    path = SLURM_FOLDER / f"{name}-{hashlib.blake2b(os.fsencode(script), digest_size=4).hexdigest()}.sbatch"
    make_folder(path.parent)
    write_atomic(path, os.fsencode(script))
    return path


def _submit(script: Path) -> str:
    """The number of the submitted job. Raises Failure with what sbatch said."""
    done = subprocess.run(
        ["sbatch", "--parsable", str(script)], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode != 0:
        said = " ".join(line.removeprefix("sbatch: ") for line in done.stderr.strip().splitlines())
        raise Failure(f"sbatch refused {script}: {said or f'exit {done.returncode}'}", "change the --slurm directives")
    numbers = re.findall(r"^\s*(\d+)(?:;\S*)?\s*$", done.stdout, re.MULTILINE)
    if not numbers:  # a wrapper around sbatch may greet, and say something else besides
        raise Failure(f"sbatch took {script}, but said no job number: {done.stdout.strip()!r}", "squeue --me lists it")
    return numbers[-1]


def parse_directives(texts: list[str]) -> dict[str, str]:
    """What goes behind ``#SBATCH --``, by option: ``partition=gpu``, or ``exclusive``, which has no value."""
    found: dict[str, str] = {}
    for text in texts:
        key, _, value = text.removeprefix("--").partition("=")
        if not re.fullmatch(r"[a-z][a-z0-9-]*", key) or not value.isprintable() or '"' in value:
            raise UsageProblem(f"--slurm {text!r} is no sbatch option", "such as --slurm partition=gpu, one each")
        if key == "array" and not re.fullmatch(r"%[1-9]\d*", value):
            raise UsageProblem(f"--slurm {text!r}: the study numbers its tasks itself", "array=%N: N of them at a time")
        if key in ("chdir", "wrap", "parsable", "no-requeue"):
            raise UsageProblem(f"--slurm {key}: the study decides this itself", "leave it out")
        if key in found:
            raise UsageProblem(f"--slurm {key} is given twice", "give each once")
        found[key] = value
    return found


def array_script(todo: list[PlannedRun], options: Options, directives: dict[str, str]) -> str:
    """One job array, a task for each run, which asks for its requeue when a signal stopped it (exit 75)."""
    lines = {
        "job-name": todo[0].recipe.name, "ntasks": "1",
        "chdir": str(Path.cwd()), "output": f"{SLURM_FOLDER}/%A_%a.log", "open-mode": "append",
        "requeue": "", "signal": "TERM@120", **directives,
        "array": f"0-{len(todo) - 1}{directives.get('array', '')}",
    }  # fmt: skip
    header = [f"#SBATCH --{key}" + (f"={_directive(value)}" if value else "") for key, value in lines.items()]
    tasks = [f"  {number}) run={shlex.quote(str(one.folder))} what=({shlex.join(one.arguments())}) ;;"
             for number, one in enumerate(todo)]  # fmt: skip
    evaluation = _EVALUATE.format(flags=shlex.join(options.evaluate_flags())) if options.evaluate else ""
    return _SCRIPT.format(
        header="\n".join(header), tasks="\n".join(tasks), program=shlex.join(PROGRAM),
        train_flags=shlex.join(options.train_flags()), evaluation=evaluation,
    )  # fmt: skip


def _directive(value: str) -> str:
    return f'"{value}"' if re.search(r"\s", value) else value


_SCRIPT = """\
#!/bin/bash
{header}
# Compute nodes need no network: everything that does is done by mmvae make-dataset on the login node.

export SRUN_CPUS_PER_TASK=${{SLURM_CPUS_PER_TASK:-1}}
export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-${{SLURM_CPUS_PER_TASK:-1}}}}
mmvae=({program})
case $SLURM_ARRAY_TASK_ID in
{tasks}
esac

# Slurm signals the step that srun starts: mmvae writes a checkpoint and leaves with 75. scancel, and a requeue by Slurm
# itself, signal this shell too: it has no trap and ends then, or it would bring a cancelled job back.
srun "${{mmvae[@]}}" train "${{what[@]}}" --run "$run" {train_flags}
code=$?
{evaluation}
# By the number in the array: SLURM_JOB_ID of the last task is the array's, and would requeue every task.
if [ $code -eq 75 ]; then
  scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
fi
exit $code
"""

_EVALUATE = """\
if [ $code -eq 0 ]; then
  srun "${{mmvae[@]}}" evaluate --ckpt "$run" {flags}
  code=$?
fi
"""
