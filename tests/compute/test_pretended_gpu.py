"""Whether all tensors of a step, an evaluation and of samples lie on the GPU, and a step waits for none: by a GPU that
is pretended (support/pretended_gpu.py), in a process of its own. It has the CPU's numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_recipes import of_method, tiny, words

import mmvae_cli
from mmvae_cli.compute import devices
from mmvae_cli.compute.ranks import ALONE
from mmvae_cli.evaluation import command as evaluation
from mmvae_cli.model.objective import Objective
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.recipe import METHODS
from mmvae_cli.store import Store
from mmvae_cli.store.batches import Split
from mmvae_cli.training import engine
from mmvae_cli.training.loop import Request, train
from mmvae_cli.training.step import StepLoss, make_optimizer

from faces import face_store, faces
from pretended_gpu import GPU, pretended_gpu
from stores import image_store, word_store

SHAPE, CPU = (3, 8, 8), torch.device("cpu")
STEPS = {
    **{name: lambda name=name: of_method(name, shape=SHAPE) for name in METHODS},
    "faces": faces,
    "words": lambda: words(SHAPE, epochs=1),
    "learned scale": lambda: tiny(3, shape=SHAPE, modalities__m0__scale="learned"),
    "normalised": lambda: tiny(3, shape=SHAPE, modalities__m0__network="conv_bn"),
    "private": lambda: tiny(3, shape=SHAPE, model__private_dim=2),
    "random": lambda: tiny(3, shape=SHAPE, objective__component_choice="random"),
    "mixture": lambda: tiny(3, shape=SHAPE, objective__kl="mixture"),
    "warm": lambda: tiny(3, shape=SHAPE, objective__beta_warmup=2, training__schedule="cosine"),
    "stl": lambda: of_method("mmvae_dreg", shape=SHAPE, objective__estimator="stl"),
}
RUNS = {
    "a run of mopoe": ("latent,coherence,likelihood,quality", {}),
    "a run of mopoe, as released": ("latent,coherence,likelihood", {"protocol": "released"}),
    "a run of mmvaeplus": ("latent,coherence,likelihood,quality", {"sampler": "gmm"}),
    "a run of faces": ("latent,coherence,likelihood,quality", {}),
}


def first_step(name, device, folder, gpu=None):
    """The loss of the first step of a case on a device, and for what the host waited meanwhile. Of its gradients, which
    a pretended GPU lacks, all are 1."""
    recipe, make = STEPS[name](), {"faces": face_store, "words": word_store}
    data = folder / recipe.dataset.name
    store = Store(data if data.exists() else make.get(recipe.dataset.name, image_store)(data))
    torch.manual_seed(0)
    model = MultimodalVAE(recipe).to(device)
    step, split = StepLoss(model, Objective.of(recipe), "fp32"), Split(store, "train", model.names, device, 0, "device")
    made = engine.Engine(
        step, make_optimizer(model, 1e-3), split, recipe.training, ALONE, engine.Way(), start=0, total=99
    )  # fmt: skip

    def backward(loss):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)

    torch.Tensor.backward = backward
    made._prepare(0)
    before = len(gpu.waits) if gpu else 0
    made._one()
    return made.meter._sum[0].item(), gpu.waits[before:-1] if gpu else []


def trained(name, folder):
    """A run that was trained on the CPU."""
    method = name.removeprefix("a run of ").split(",")[0]
    if method == "faces":
        recipe, data = faces(training__epochs=1, dataset__name=str(folder / "faces")), face_store(folder / "faces")
    else:
        changes = {"dataset__name": str(folder / "tiny"), "training__epochs": 1, "evaluation__gmm_components": 2}
        recipe = of_method(method, shape=SHAPE, **changes)
        data = folder / "tiny"
        data = data if data.exists() else image_store(data, shape=SHAPE, counts=(80, 300))
    return train(recipe, Request(folder / name, data, "cpu"))


def measured(name, run):
    """Every number of its evaluation and of the samples of a notebook."""
    metrics, asked = RUNS[name]
    _, found = evaluation.run(run, metrics=metrics.split(","), chosen=None, data_dir=run.parent, device="cpu",
                              force=True, verify=True, **asked)  # fmt: skip
    numbers = flat(found.model_dump(mode="json"))
    opened = mmvae_cli.open_run(run, data_dir=run.parent, device="cpu")
    some = {name: rows[:12] for name, rows in opened.data().items()}
    made = {"encode": vars(opened.encode(some)), "latents": vars(opened.latents()),
            "reconstruct": opened.reconstruct(some), "prior": opened.generate(count=3),
            "conditional": opened.generate(some, given=opened.modalities[0])}  # fmt: skip
    for what, arrays in made.items():
        numbers |= {f"{what}.{key}": float(np.asarray(value, float).mean()) for key, value in arrays.items()
                    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu"}  # fmt: skip
    return numbers


def flat(content, prefix=""):
    if isinstance(content, dict):
        return {key: value for name, own in content.items() for key, value in flat(own, f"{prefix}{name}.").items()}
    return {prefix: content} if type(content) in (int, float) else {}


def mistakes(gpu):
    """How many of them are refused, and for what the host waits in others."""
    here, there, refused = torch.ones(3), torch.ones(3, device=GPU), 0
    for mistake in (lambda: here + there, lambda: torch.cat([there, here]), lambda: here[there.long()]):
        try:
            mistake()
        except RuntimeError:
            refused += 1
    for wait in (lambda: there.sum().item(), lambda: there.cpu(), lambda: here.to(GPU), lambda: there.nonzero(),
                 lambda: there[here.long()], lambda: there.copy_(here), lambda: there[there > 0]):  # fmt: skip
        wait()
    return refused, gpu.waits


def main(folder: Path, names: list[str]) -> None:
    """Print the results of steps or runs on the CPU and on the GPU, a line each."""
    runs = {name: trained(name, folder) for name in names if name in RUNS}
    with torch.no_grad():
        here = {name: first_step(name, CPU, folder)[0] for name in names if name not in RUNS}
    here |= {name: measured(name, run) for name, run in runs.items()}
    with pretended_gpu() as gpu:
        devices.pick_device, devices.memory_left = lambda name: GPU, lambda device: 1e9
        refused, waits = mistakes(gpu)
        print(json.dumps({"name": "mistakes", "cpu": 3, "gpu": refused, "waits": waits}))
        for name in names:
            waits = []
            if name in RUNS:
                (runs[name] / "evaluation.json").unlink(missing_ok=True)
                there = measured(name, runs[name])
            else:
                there, waits = first_step(name, GPU, folder, gpu)
            print(json.dumps({"name": name, "cpu": here[name], "gpu": there, "waits": waits}), flush=True)


def outcome(names, folder):
    support = str(Path(__file__).parents[1] / "support")
    done = subprocess.run([sys.executable, "-W", "ignore", __file__, folder, *names], capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": support}, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"name"')]
    return {one["name"]: one for one in lines}


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    return outcome(STEPS, tmp_path_factory.mktemp("steps"))


@pytest.mark.parametrize("name", STEPS)
def test_a_step_stays_on_the_gpu_and_has_the_cpus_loss(name, steps):
    assert steps[name]["gpu"] == pytest.approx(steps[name]["cpu"], rel=1e-5)
    assert steps[name]["waits"] == []


def test_mistakes_are_found(steps):
    assert steps["mistakes"]["gpu"] == 3
    found = [name.removeprefix("aten.").partition(".")[0] for name in steps["mistakes"]["waits"]]
    assert found == ["_local_scalar_dense", "_to_copy", "_to_copy", "nonzero", "index", "copy_", "index"]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_an_evaluation_and_samples_lie_where_the_weights_do(name, tmp_path):
    found = outcome([name], tmp_path)[name]
    assert len(found["cpu"]) > 100
    assert found["gpu"] == pytest.approx(found["cpu"], rel=1e-3, abs=1e-4)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
