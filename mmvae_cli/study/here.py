"""A study on this machine. Every run is a process of its own, so that one that diverges or dies leaves the others
alone."""

import signal
import subprocess
from pathlib import Path

from mmvae_cli.process import console, signals
from mmvae_cli.process.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_STOPPED, Failure
from mmvae_cli.study import commands
from mmvae_cli.study.commands import PROGRAM, Options
from mmvae_cli.study.plan import PlannedRun

POLL_SECONDS = 0.2


def run(planned: list[PlannedRun], todo: list[PlannedRun], options: Options) -> None:
    """One run after the other; the folders of all on stdout, then the worst exit code."""
    failed: dict[Path, int] = {}
    for number, one in enumerate(todo):
        state = f"{number} of {len(todo)} runs are through, the rest is left as it was"
        signals.leave_if_requested(state)
        console.say(f"run {number + 1} of {len(todo)}: {one.folder}")
        for command in commands.of_run(one, options):
            if code := _child([*PROGRAM, *command]):
                failed[one.folder] = code
                break
        signals.leave_if_requested(state)
    for one in planned:
        console.result(str(one.folder))
    commands.say_what_next(planned, options)
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
