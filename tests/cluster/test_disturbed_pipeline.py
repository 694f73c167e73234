"""Thirty random SIGTERMs and SIGKILLs over a whole pipeline in a shell script: its comparison is the undisturbed one.

As on a cluster: signals go to all processes of the job, and the job is simply started again.
"""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from tiny_recipes import tiny

from comparisons import assert_same

SCRIPT = """
set -e
mmvae() { "$PYTHON" -m mmvae_cli "$@"; }
[ -f data/polymnist/dataset.json ] || mmvae make-dataset polymnist --digits embedded --views 2 --limit 300
for method in mopoe mmvae; do
  mmvae train $method.yaml --run runs/$method
  [ -f runs/$method/evaluation.json ] || mmvae evaluate --ckpt runs/$method --force
done
[ -f runs/mopoe/figures/prior.png ] || mmvae sample --ckpt runs/mopoe --kind prior --count 4 --force
mmvae compare runs --format json > comparison.json.new
mv comparison.json.new comparison.json
"""
SIGNALS = 30


def prepared(folder):
    folder.mkdir()
    for method in ("mopoe", "mmvae"):
        recipe = tiny(2, name=f"tiny_{method}", dataset__name="polymnist", model__method=method,
                      training__epochs=4, training__batch_size=32, training__checkpoint_every=1,
                      evaluation__likelihood_items=32)  # fmt: skip
        (folder / f"{method}.yaml").write_text(recipe.dump())
    return folder


def start(folder, log):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHON": sys.executable}
    return subprocess.Popen(
        ["sh", "-c", SCRIPT], cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
    )


@pytest.mark.slow
def test_the_comparison_after_thirty_signals_is_the_undisturbed_one(tmp_path):
    with open(tmp_path / "undisturbed.log", "wb") as log:
        began = time.monotonic()
        assert start(prepared(tmp_path / "whole"), log).wait(600) == 0, (tmp_path / "undisturbed.log").read_text()
        whole_seconds = time.monotonic() - began
    folder, log_path = prepared(tmp_path / "parts"), tmp_path / "disturbed.log"
    rng, sent, rounds, signalled = random.Random(0), 0, 0, {signal.SIGTERM: 0, signal.SIGKILL: 0}
    with open(log_path, "wb") as log:
        while sent < SIGNALS:
            job, number = start(folder, log), rng.choice([signal.SIGTERM, signal.SIGKILL])
            try:
                code = job.wait(rng.uniform(0.02, 0.25) * whole_seconds)
            except subprocess.TimeoutExpired:
                os.killpg(job.pid, number)
                sent, signalled[number] = sent + 1, signalled[number] + 1
                log.write(f"--- signal {sent}: {number.name}\n".encode())
                log.flush()
                job.wait(30)
                wait_until_gone(job.pid)
                continue
            assert code == 0, log_path.read_text()
            assert_same(folder, tmp_path / "whole")
            rounds += 1
            folder = prepared(tmp_path / f"parts{rounds}")
        assert start(folder, log).wait(600) == 0, log_path.read_text()
    assert_same(folder, tmp_path / "whole")
    text = log_path.read_text()
    assert "Traceback" not in text
    assert "this is a bug" not in text
    assert min(signalled.values()) >= 5, signalled


def wait_until_gone(group, seconds=30.0):
    """A job is started again when nothing of it runs any more, as Slurm sees to it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not runs(group):
            return
        time.sleep(0.05)
    raise AssertionError(f"processes of the job outlive the signal by {seconds:.0f} s")


def runs(group):
    """Whether a process of the group still does anything; one that is dead and not yet reaped does not."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                return True
    return False
