"""Evaluation under torchrun: two and three processes find what one finds, and one of them writes it."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from driving import completed
from tiny_recipes import tiny

from mmvae_cli.training.loop import Request, train

from stores import image_store

SHAPE = (3, 8, 8)
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


@pytest.mark.slow
def test_one_two_and_three_processes_measure_the_same(tmp_path):
    """600 items are blocks of 256, 256 and 88, and ten of 64 or less: no count of processes divides them evenly."""
    image_store(tmp_path / "data" / "tiny", shape=SHAPE, counts=(200, 600))
    recipe = tiny(3, shape=SHAPE, training__epochs=1)
    train(recipe, Request(tmp_path / "run", tmp_path / "data" / "tiny"))
    found = {}
    for processes in (1, 2, 3):
        root = tmp_path / f"with{processes}"  # its own data, so that each trains its classifiers
        shutil.copytree(tmp_path / "data", root / "data")
        shutil.copytree(tmp_path / "run", root / "run")
        launcher = [sys.executable] if processes == 1 else [*TORCHRUN, str(processes)]
        for protocol in ("default", "released"):
            command = [*launcher, "-m", "mmvae_cli", "evaluate", "--ckpt", str(root / "run"), "--data-dir",
                       str(root / "data"), "--device", "cpu", "--protocol", protocol, "--force", "--quiet",
                       "--metrics", "latent,coherence,likelihood,quality"]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False,
                                  env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip
            assert done.returncode == 0, done.stderr
            path = root / "run" / ("evaluation.json" if protocol == "default" else "evaluation.released.json")
            assert done.stdout.strip().splitlines()[-1] == str(path)
            assert done.stdout.count(str(path)) == 1, "one process prints"
            found[processes, protocol] = json.loads(path.read_text())
    for (processes, protocol), one in found.items():
        alone = found[1, protocol]
        assert one["latent"] == alone["latent"], processes
        assert one["coherence"] == alone["coherence"], processes
        assert one["quality"] == alone["quality"], processes
        assert one["likelihood"]["count"] == alone["likelihood"]["count"]
        assert one["likelihood"]["joint"] == pytest.approx(alone["likelihood"]["joint"], rel=1e-6)
        for source, targets in one["likelihood"]["per_modality"].items():
            assert targets == pytest.approx(alone["likelihood"]["per_modality"][source], rel=1e-6)


@pytest.mark.parametrize("verb", [["sample", "--ckpt", "x"], ["compare", "x"], ["make-dataset", "polymnist"]])
def test_the_other_verbs_refuse_to_run_several_times_at_once(verb):
    done = completed(*verb, RANK="0", WORLD_SIZE="2")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {verb[0]} is the work of one process\n")
