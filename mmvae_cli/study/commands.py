"""The commands that a study starts: for every run those that a user would type for it alone. No torch."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from mmvae_cli.process import console
from mmvae_cli.study.plan import PlannedRun

PROGRAM = [sys.executable, "-P", str(Path(__file__).parents[1] / "__main__.py")]
"""Starts the code that was called. With ``-m`` a clone in the current folder would be started instead; without ``-P``
a file random.py there would be taken for Python's own."""


@dataclass(frozen=True)
class RunOptions:
    """How every run of the study is started; ``flags`` as they stand on the command line."""

    data_dir: Path
    device: str = "auto"
    resume: str = "auto"
    verify: bool = True
    quiet: bool = False
    evaluate: bool = False
    code: Path | None = None

    def train_flags(self) -> list[str]:
        return self.evaluate_flags() + ([] if self.resume == "auto" else ["--resume", self.resume])

    def evaluate_flags(self) -> list[str]:
        switches = [] if self.verify else ["--no-verify"]
        switches += ["--quiet"] if self.quiet else []
        switches += [] if self.code is None else ["--code", str(self.code)]
        return ["--data-dir", str(self.data_dir), "--device", self.device, *switches]


def of_run(one: PlannedRun, options: RunOptions) -> list[list[str]]:
    """What has to be run for one run of the study, each without the leading ``mmvae``."""
    commands = [["train", *one.arguments(), "--run", str(one.folder), *options.train_flags()]]
    if options.evaluate:
        commands.append(["evaluate", "--ckpt", str(one.folder), *options.evaluate_flags()])
    return commands


def say_what_next(planned: list[PlannedRun], options: RunOptions) -> None:
    folders = [str(one.folder) for one in planned]
    if not options.evaluate:
        listed = " ".join(map(shlex.quote, folders))
        data = shlex.join(["--data-dir", str(options.data_dir)])
        console.say(f'evaluate: for run in {listed}; do mmvae evaluate --ckpt "$run" {data}; done')
    console.say(f"compare: {shlex.join(['mmvae', 'compare', *folders])}")
