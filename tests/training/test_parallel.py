"""Data parallel training gives the losses of one process: torchrun with gloo on this machine's CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_recipes import tiny

from stores import image_store

SHAPE = (3, 8, 8)
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mvae", "mmvae", "mopoe"])
def test_one_two_and_three_processes_give_the_same_losses(method, tmp_path):
    """50 steps of batch 8, which 3 does not divide: parts of 3, 3 and 2 rows."""
    image_store(tmp_path / "tiny", shape=SHAPE, counts=(200, 24))
    recipe = tiny(3, name=method, shape=SHAPE, model__method=method, dataset__name=str(tmp_path / "tiny"),
                  training__log_every=1)  # fmt: skip
    (tmp_path / "tiny.yaml").write_text(recipe.dump())
    alone = losses([sys.executable, "-m", "mmvae_cli"], tmp_path, "run1")
    assert len(alone) == 50
    for processes in (2, 3):
        launcher = [*TORCHRUN, str(processes), "--no-python", str(Path(sys.executable).with_name("mmvae"))]
        assert losses(launcher, tmp_path, f"run{processes}") == pytest.approx(alone, rel=1e-5)


def losses(launcher, folder, name):
    """Those of every step of the recipe in ``folder``, trained by the command that ``launcher`` starts."""
    command = [*launcher, "train", str(folder / "tiny.yaml"), "--run-dir", str(folder / name), "--device", "cpu"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines() == [str(folder / name)], "rank 0 alone prints the product"
    return [json.loads(line)["loss"] for line in (folder / name / "metrics.jsonl").read_text().splitlines()]


COMPILED = """
from functools import cache, partial
import torch
from mmvae_cli import cli
from mmvae_cli.training import engine, loop
loop.way_of = lambda *ignored, **more: engine.Way(compiled=True)
engine._compiled = cache(partial(torch.compile, backend="aot_eager", dynamic=False, fullgraph=True))
cli.main()
"""
"""The command as it is on several GPUs, its networks compiled by region; the kernels are the CPU's own."""


@pytest.mark.slow
def test_regions_are_compiled_under_data_parallel_too(tmp_path):
    image_store(tmp_path / "tiny", shape=SHAPE)
    recipe = tiny(3, name="tiny", shape=SHAPE, dataset__name=str(tmp_path / "tiny"), training__log_every=1)
    (tmp_path / "tiny.yaml").write_text(recipe.dump())
    (tmp_path / "compiled.py").write_text(COMPILED)
    alone = losses([sys.executable, "-m", "mmvae_cli"], tmp_path, "run1")
    together = losses([*TORCHRUN, "2", str(tmp_path / "compiled.py")], tmp_path, "run2")
    assert together == pytest.approx(alone, rel=1e-5)
