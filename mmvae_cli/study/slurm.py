"""A study as one Slurm job array: the script, what sbatch is told, and what it answers."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from mmvae_cli import recipe as recipes
from mmvae_cli.disk.files import reading, short_name, write_atomic
from mmvae_cli.process import console
from mmvae_cli.process.errors import Failure, UsageProblem
from mmvae_cli.process.paths import expanded, make_folder
from mmvae_cli.study import commands
from mmvae_cli.study.commands import PROGRAM, RunOptions
from mmvae_cli.study.plan import PlannedRun

SLURM_FOLDER = Path("runs") / "slurm"


def run(
    planned: list[PlannedRun], todo: list[PlannedRun], options: RunOptions, directives: dict[str, str], *, dry_run: bool
) -> None:
    """Write the array script beside the runs and submit it; the job's number on stdout. Nothing to do: no job."""
    if not todo:
        console.say("every run is finished: nothing to submit")
        return commands.say_what_next(planned, options)
    if dry_run:
        return console.result(array_script(todo, options, directives).rstrip())
    if shutil.which("sbatch") is None:
        raise UsageProblem("--launch slurm: there is no sbatch on this machine", "use a login node, or --launch local")
    script = os.fsencode(array_script(*_with_copies(todo, options), directives))
    path = _kept(script, todo[0].recipe.name, ".sbatch")
    job = _submit(path)
    console.say(f"submitted {len(todo)} runs as job array {job}: {path}")
    commands.say_what_next(planned, options)
    console.result(job)


def _with_copies(todo: list[PlannedRun], options: RunOptions) -> tuple[list[PlannedRun], RunOptions]:
    """The same with copies of recipes and code beside the script: a job reads them when it starts, and what is edited
    while it waits is another experiment. A run's name comes from the recipe's content and its overrides, so it stays.
    """
    copies = {name: str(_copy(recipes.find(name))) for name in dict.fromkeys(one.name for one in todo)}
    code = options.code and _copy(options.code)
    return [replace(one, name=copies[one.name]) for one in todo], replace(options, code=code)


def _copy(path: Path) -> Path:
    with reading(path):
        content = path.read_bytes()
    return _kept(content, short_name(path.stem), path.suffix)


def _kept(content: bytes, name: str, suffix: str) -> Path:
    """The file of this content beside the runs: another content has another name, as a job may read it yet."""
    path = SLURM_FOLDER / f"{name}-{hashlib.blake2b(content, digest_size=4).hexdigest()}{suffix}"
    make_folder(path.parent)
    write_atomic(path, content)
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
    known: dict[str, str] = {}
    for text in texts:
        key, _, value = text.removeprefix("--").partition("=")
        if not re.fullmatch(r"[a-z][a-z0-9-]*", key) or not value.isprintable():
            raise UsageProblem(f"--slurm {text!r} is no sbatch option", "such as --slurm partition=gpu, one each")
        if key == "array" and not re.fullmatch(r"%[1-9]\d*", value):
            raise UsageProblem(f"--slurm {text!r}: the study numbers its tasks itself", "array=%N: N of them at a time")
        if key in ("chdir", "wrap", "parsable", "no-requeue"):
            raise UsageProblem(f"--slurm {key}: the study decides this itself", "leave it out")
        if key in known:
            raise UsageProblem(f"--slurm {key} is given twice", "give each once")
        known[key] = str(expanded(value)) if value.startswith("~/") else value  # Slurm takes it for a folder's name
    return known


def array_script(todo: list[PlannedRun], options: RunOptions, directives: dict[str, str]) -> str:
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
    """A value as sbatch reads it: it knows quotes and the backslash as a shell does, and ``#`` for a comment. Raises
    UsageProblem for what no line can say."""
    if not value.isprintable():
        raise UsageProblem(f"{value!r}: this cannot stand in a #SBATCH line", "give the command in another folder")
    return value if re.fullmatch(r"[\w./:,%=@+-]*", value) else '"' + re.sub(r'([\\"])', r"\\\1", value) + '"'


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
