"""A data-parallel job ends with one clear line, and soon, when one of its processes dies, hangs or is told to stop."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny_recipes import tiny

from mmvae_cli.run import checkpoint
from mmvae_cli.run.layout import Run

from stores import image_store

pytestmark = pytest.mark.slow
SHAPE = (3, 8, 8)
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "mmvae_cli"]


class Job:
    """Two processes training for ever; ``ranks`` are their process ids."""

    def __init__(self, folder, *, log, **environment):
        if not (folder / "tiny").exists():
            image_store(folder / "tiny", shape=SHAPE)
        (folder / "tiny.yaml").write_text(tiny(3, shape=SHAPE, training__epochs=10**6).dump())
        self.run, self.log = Run(folder / "run"), log
        begun = self.last_step()
        command = [*TORCHRUN, "train", str(folder / "tiny.yaml"), f"dataset.name={folder / 'tiny'}", "--run-dir",
                   str(self.run.folder), "--device", "cpu"]  # fmt: skip
        with open(log, "wb") as file:
            self.process = subprocess.Popen(
                command, stdout=file, stderr=file, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment
            )
        self.wait_for(lambda: self.last_step() > begun, 120)
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True)
        pids = [int(pid) for pid in listed.stdout.split()]
        environ = {pid: Path(f"/proc/{pid}/environ").read_bytes() for pid in pids}
        self.ranks = {int(re.search(rb"\0RANK=(\d)", e)[1]): pid for pid, e in environ.items() if b"\0RANK=" in e}

    def last_step(self):
        lines = self.run.metrics_path.read_text().splitlines() if self.run.metrics_path.is_file() else []
        return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)

    def wait_for(self, condition, seconds):
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)

    def end(self, seconds):
        """The exit code and the lines that the program itself printed."""
        code = self.process.wait(seconds)
        return code, [line for line in self.log.read_text().splitlines() if line.startswith(("error:", "  hint:"))]


@pytest.fixture
def job(tmp_path):
    made = []

    def start(**environment):
        made.append(Job(tmp_path, log=tmp_path / "log", **environment))
        return made[-1]

    yield start
    for job in made:
        for pid in job.ranks.values():
            if job.process.poll() is None:
                os.kill(pid, signal.SIGKILL)
        job.process.kill()
        job.process.wait()


@pytest.mark.parametrize("told_to_stop", [False, True])
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_ends_the_job_with_a_clear_line(job, victim, told_to_stop):
    """Also where the launcher's SIGTERM reaches the other rank before it notices that it is alone."""
    running = job()
    if told_to_stop:
        os.kill(running.ranks[victim], signal.SIGSTOP)  # the other one now waits for it
        time.sleep(1)
        os.kill(running.ranks[1 - victim], signal.SIGTERM)
    os.kill(running.ranks[victim], signal.SIGKILL)
    code, lines = running.end(30)
    assert code != 0
    told = [line for line in lines if "another process of this job died, ended or stopped answering" in line]
    assert len(told) == 1, lines
    assert "mmvae_cli/training" not in running.log.read_text(), "no traceback of ours"
    if victim == 1:
        assert running.run.status()["state"] in ("failed", "running"), "running: torchrun's SIGTERM came first"
        assert not (running.run.folder / "lock").exists()


def test_a_rank_that_hangs_ends_the_job_when_patience_does(job):
    running = job(MMVAE_PATIENCE="4")
    os.kill(running.ranks[1], signal.SIGSTOP)
    running.wait_for(lambda: "stopped answering" in running.log.read_text(), 30)
    os.kill(running.ranks[1], signal.SIGKILL)  # torchrun waits 30 s before it does so itself
    assert running.end(60)[0] != 0


def test_a_signal_to_torchrun_stops_all_ranks_at_one_step_and_the_job_goes_on_from_there(job, tmp_path):
    running = job()
    running.process.terminate()
    _, lines = running.end(20)
    stopped = checkpoint.newest(running.run).position.step
    assert running.run.status() == running.run.status() | {"state": "stopped", "step": stopped}
    assert len([line for line in lines if f"checkpoint written at step {stopped}" in line]) == 1
    again = job()
    again.process.terminate()
    again.end(20)
    assert checkpoint.newest(again.run).position.step > stopped
    assert f"steps {stopped}.." in again.log.read_text()


def test_ranks_draw_their_own_dropout_masks():
    """The seed of a step's masks differs by the first row of a rank, so that no mask comes twice in a global batch."""
    from mmvae_cli.compute.ranks import ProcessGroup
    from mmvae_cli.compute.seeds import derive

    masks = []
    for rank in range(3):
        rows = ProcessGroup(rank, 3).rows(8)
        torch.manual_seed(derive(0, "step", 5, "rows from", rows.start))
        masks.append(torch.nn.functional.dropout(torch.ones(64), 0.5))
    assert not any(torch.equal(masks[i], masks[j]) for i in range(3) for j in range(i))
