"""A study on this machine. Every run is a process of its own, so that one that fails does not end the others."""

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

from mmvae_cli.process import console, cores, signals
from mmvae_cli.process.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_STOPPED, EXIT_USAGE, Failure
from mmvae_cli.run.layout import Run
from mmvae_cli.study import commands
from mmvae_cli.study.commands import PROGRAM, RunOptions
from mmvae_cli.study.plan import PlannedRun

POLL_SECONDS = 0.2
_STDERR = 2
_LAST_WORDS = 2.0
"""Seconds for what a process said last; one of its own helpers may hold its stderr open for longer."""


@dataclass
class Going:
    """A run under way: the process of one of its commands, and those that wait. ``environment`` says which part of the
    machine is its own; with a ``name`` it shares the terminal with others, and every line of it bears the name."""

    waiting: list[list[str]]
    folder: Path
    environment: dict[str, str]
    name: str = ""
    child: subprocess.Popen[bytes] = field(init=False)
    reader: Thread | None = None

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin the next command. What evaluating prints, the scores, is a message of the study."""
        command = self.waiting.pop(0)
        ours, theirs = os.pipe() if self.name else (None, _STDERR)
        shown = command[0] == "evaluate" and "--quiet" not in command
        self.child = subprocess.Popen(
            [*PROGRAM, *command], stdin=subprocess.DEVNULL, stdout=theirs if shown else subprocess.DEVNULL,
            stderr=theirs, env=os.environ | self.environment,
        )  # fmt: skip
        if ours is not None:
            os.close(theirs)
            self.reader = Thread(target=self._pass_on, args=(ours,), daemon=True)
            self.reader.start()

    def _pass_on(self, pipe: int) -> None:
        with os.fdopen(pipe, encoding="utf-8", errors="backslashreplace") as lines:
            for line in lines:
                console.tell(f"{self.name}: {line.rstrip()}")

    def wait(self, seconds: float) -> int | None:
        """The exit code where the run is through within ``seconds``; the next command begins by itself."""
        try:
            code = self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        if self.reader:
            self.reader.join(_LAST_WORDS)
        if code == 0 and self.waiting:
            if signals.requested():
                return EXIT_STOPPED
            self.start()
            return None
        return code if code in (*range(EXIT_STOPPED + 1), EXIT_INTERRUPTED) else EXIT_FAILED


def run(planned: list[PlannedRun], todo: list[PlannedRun], options: RunOptions, jobs: int = 1) -> None:
    """``jobs`` runs at a time; the folders of all on stdout. Raises Failure with the worst exit code, Stopped where a
    signal came, which is passed on."""
    codes = _codes(todo, options, _places(min(jobs, len(todo)), options.device))
    through = sum(code not in (EXIT_STOPPED, EXIT_INTERRUPTED) for code in codes.values())
    signals.leave_if_requested(f"{through} of {len(todo)} runs are through, the rest is left as it was")
    for one in planned:
        console.result(str(one.folder))
    commands.say_what_next(planned, options)
    if failed := {folder: code for folder, code in codes.items() if code}:
        named = ", ".join(f"{folder} (exit {code})" for folder, code in failed.items())
        failure = Failure(f"{len(failed)} of {len(planned)} runs are not done: {named}", "the same command tries again")
        failure.code = max(failed.values())
        raise failure


def _codes(todo: list[PlannedRun], options: RunOptions, places: list[dict[str, str]]) -> dict[Path, int]:
    """The exit code of every run that was begun, one at a time in each of ``places``. A signal begins no more."""
    waiting, going, codes = [*todo], dict[int, Going](), dict[Path, int]()
    code, passed_on = _content(options.code), False
    try:
        while going or (waiting and not signals.requested()):
            for place, environment in enumerate(places):
                if place not in going and waiting and not signals.requested():
                    one = waiting.pop(0)
                    edited = [] if one.is_as_planned() else [one.name]
                    edited += [] if _content(options.code) == code else [str(options.code)]
                    if edited:
                        console.warn(f"{one.folder} is not started: {edited[0]} was edited after the study began")
                        codes[one.folder] = EXIT_USAGE
                        continue
                    console.say(f"run {len(todo) - len(waiting)} of {len(todo)}: {one.folder}")
                    name = one.folder.name if len(places) > 1 else ""
                    own = _kept_threads(environment, one.folder)
                    going[place] = Going(commands.of_run(one, options), one.folder, own, name)
            if signals.requested() and not passed_on:
                passed_on = True
                _send(going, signal.SIGTERM)
            for place, run in list(going.items()):
                if (ended := run.wait(POLL_SECONDS / len(going))) is not None:
                    codes[run.folder] = ended
                    del going[place]
    except KeyboardInterrupt:
        _send(going, signal.SIGINT)  # at once: where a terminal's Ctrl-C has reached them, it is the same one
        for run in going.values():
            run.child.wait()
        raise
    return codes


def _content(code: Path | None) -> bytes:
    """Of the file of one's own networks; nothing of one that cannot be read, which each run refuses by itself."""
    with suppress(OSError):
        return b"" if code is None else code.read_bytes()
    return b""


def _send(going: dict[int, Going], number: int) -> None:
    for run in going.values():
        run.child.send_signal(number)


def _places(jobs: int, device: str) -> list[dict[str, str]]:
    """What each of ``jobs`` processes at a time is told of its part of the machine: a GPU each, in turn, where there
    are any, else its share of the cores."""
    if jobs < 2:
        return [{}]
    if gpus := _gpus(device):
        if jobs > len(gpus):
            console.say(f"{jobs} runs at a time on {len(gpus)} GPU(s): some share one")
        return [{"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)]} for place in range(jobs)]
    return [{} if cores.told() else {"OMP_NUM_THREADS": str(cores.share(jobs))}] * jobs


def _kept_threads(environment: dict[str, str], folder: Path) -> dict[str, str]:
    """The environment without a number of threads, for a run that goes on: it keeps the number it has trained with."""
    begun = Run(folder).environment_path.is_file()
    return {name: value for name, value in environment.items() if not (begun and name == "OMP_NUM_THREADS")}


def _gpus(device: str) -> list[str]:
    """The GPUs that ``device`` allows, as CUDA_VISIBLE_DEVICES names them. torch is not asked: it would take some
    memory of each."""
    if device not in ("auto", "cuda"):
        return []
    if (chosen := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1")]
    try:
        asked = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.split()
