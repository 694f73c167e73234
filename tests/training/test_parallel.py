"""Data parallel training gives the losses of one process: torchrun with gloo on this machine's CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from recipes import tiny
from stores import image_store

SHAPE = (3, 8, 8)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mvae", "mmvae", "mopoe"])
def test_one_two_and_three_processes_give_the_same_losses(method, tmp_path):
    """50 steps of batch 8, which 3 does not divide: parts of 3, 3 and 2 rows."""
    image_store(tmp_path / "tiny", shape=SHAPE, counts=(200, 24))
    recipe = tiny(3, name=method, shape=SHAPE, model__method=method, dataset__name=str(tmp_path / "tiny"),
                  training__log_every=1)  # fmt: skip
    (tmp_path / "tiny.yaml").write_text(recipe.dump())
    losses = {}
    for processes in (1, 2, 3):
        folder = tmp_path / f"run{processes}"
        launcher = [sys.executable, "-m", "mmvae_cli"]
        if processes > 1:
            torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
            launcher = [*torchrun, str(processes), "--no-python", str(Path(sys.executable).with_name("mmvae"))]
        command = [*launcher, "train", str(tmp_path / "tiny.yaml"), "--run-dir", str(folder), "--device", "cpu"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=240, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip().splitlines() == [str(folder)], "rank 0 alone prints the product"
        losses[processes] = [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(losses[1]) == 50
    assert losses[2] == pytest.approx(losses[1], rel=1e-5)
    assert losses[3] == pytest.approx(losses[1], rel=1e-5)
