"""Real training by the paper's settings, evaluated and put beside the published numbers; resuming."""

import json
import shutil
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mmvae_cli import recipe as recipes
from mmvae_cli.run import checkpoint
from mmvae_cli.run.layout import Run
from mmvae_cli.training.loop import Request, train

from item import Context
from machine import device_of
from steps import SMALL_FACES, TINY
from variants import random_data

METRICS = ("latent", "coherence", "likelihood")
LIGHT = ("recipe.yaml", "environment.json", "status.json", "metrics.jsonl", "evaluation*.json")
SHORT = ["training.epochs=1", "evaluation.latent_samples=40", "evaluation.importance_samples=2",
         "evaluation.likelihood_items=8", "evaluation.items=40"]  # fmt: skip
REHEARSED = {
    "polymnist": [*TINY, *SHORT, "modalities.m2=null", "modalities.m3=null", "modalities.m4=null"],
    "mst": [*TINY, *SHORT], "celeba": [*TINY, *SMALL_FACES, *SHORT, "evaluation.classifier_width=2"],
}  # fmt: skip


def polymnist(context: Context) -> None:
    """The goal: 300 epochs of MoPoE-VAE in a minute, and its evaluation by metric."""
    train_and_evaluate(context, "polymnist_mopoe", "polymnist", share=1.0, metrics=METRICS)
    compare(context)


def other_methods(context: Context) -> None:
    for part, recipe in ((0.5, "polymnist_mmvae"), (1.0, "polymnist_mvae")):
        train_and_evaluate(context, recipe, "polymnist", share=part)
    compare(context)


def bf16(context: Context) -> None:
    """Beside the run in tf32: loss, latent accuracy, coherence and likelihood."""
    train_and_evaluate(context, "polymnist_mopoe", "polymnist", share=1.0, more=("training.precision=bf16",))


def mst(context: Context) -> None:
    """As much SVHN as lies beside; both protocols, so that Table 4 can be read by either grouping."""
    epochs = () if context.rehearse else ("training.epochs=150", "evaluation.likelihood_items=5000")
    for part, method in ((1 / 3, "mopoe"), (1 / 2, "mmvae"), (1.0, "mvae")):
        name = train_and_evaluate(context, f"mst_{method}", "mst", share=part, more=epochs)
        context.tried(f"{name}, released protocol", partial(released, context, name))
    compare(context)


def celeba(context: Context) -> None:
    train_and_evaluate(context, "celeba_mopoe", "celeba", share=1.0)
    compare(context)


def seeds(context: Context) -> None:
    """Seed after seed of the three methods, for as long as there is time; the next call goes on with the next."""
    for seed in range(1, 2 if context.rehearse else 5):
        for method in ("mopoe", "mmvae", "mvae"):
            if (context.out / "runs" / f"polymnist_{method}-seed{seed}" / "evaluation.json").exists():
                continue
            if context.left() < (0 if context.rehearse else 75):
                compare(context)
                raise TimeoutError(f"{context.left():.0f} s left before {method}, seed {seed}")
            train_and_evaluate(context, f"polymnist_{method}", "polymnist", share=1.0, seed=seed)
    compare(context)


def train_and_evaluate(
    context: Context, recipe: str, dataset: str, *, share: float, more: tuple[str, ...] = (), seed: int = 0,
    metrics: tuple[str, ...] = (),
) -> str:  # fmt: skip
    """Train for this ``share`` of the time that is left but for the evaluation's, and evaluate what is there then."""
    settings = [*more, *(REHEARSED[dataset] if context.rehearse else ())]
    name = "-".join([recipe, *(setting.replace("training.", "") for setting in more), f"seed{seed}"])
    run, device = context.work / "runs" / name, f"--device={device_of(context).type}"
    evaluating = 10.0 if context.rehearse else 60.0
    data, until = f"dataset.name={context.work / 'data' / dataset}", share * (context.left() - evaluating)
    arguments = ["train", recipe, data, *settings, f"--seed={seed}", f"--run={run}", device, "--quiet"]

    def trained() -> dict[str, Any]:
        code, said, seconds = context.mmvae(*arguments, seconds=until)
        return {"exit code": code, "seconds": seconds, "said": said, **progress(run)}

    context.tried(f"{name}, training", trained)
    for metric in metrics or (("latent",) if context.rehearse else (",".join(METRICS),)):
        asked = ["evaluate", f"--ckpt={run}", f"--metrics={metric}", device, "--force", "--quiet"]
        context.tried(f"{name}, {metric}", partial(told, context, asked))
        keep(context, run)
    return name


def told(context: Context, asked: Sequence[object], seconds: float | None = None) -> dict[str, Any]:
    code, said, seconds = context.mmvae(*asked, seconds=seconds)
    return {"seconds": seconds} if code == 0 else {"exit code": code, "said": said, "seconds": seconds}


def progress(run: Path) -> dict[str, Any]:
    """How far a run got, and how fast it was; nothing of one that ended before it could say so."""
    if not (run / "metrics.jsonl").exists():
        return {}
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    status = json.loads((run / "status.json").read_text())
    return {
        "state": status["state"], "steps": status["step"], "of": status["total_steps"],
        "training seconds": records[-1]["seconds"], "first record after s": records[0]["seconds"],
        "items/s, median": statistics.median(record["items_per_second"] for record in records),
        "loss": records[-1]["loss"], "memory_mib": records[-1]["memory_mib"],
    }  # fmt: skip


def released(context: Context, name: str) -> dict[str, Any]:
    run = context.work / "runs" / name
    metric = "latent" if context.rehearse else "likelihood"
    asked = ["evaluate", f"--ckpt={run}", f"--metrics={metric}", "--protocol=released", "--force", "--quiet"]
    ended = told(context, [*asked, f"--device={device_of(context).type}"])
    keep(context, run)
    return ended


def keep(context: Context, run: Path) -> None:
    """Copy what is worth bringing back: all but the checkpoints."""
    folder = context.out / "runs" / run.name
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in LIGHT:
        for path in run.glob(pattern):
            shutil.copy(path, folder / path.name)


def compare(context: Context) -> None:
    """All runs so far beside one another and the published numbers."""
    arguments = ["compare", context.out / "runs", "--format=md", "--out", context.out / "comparison", "--force"]
    context.tried("comparison", partial(told, context, arguments, seconds=60.0), least=0.0)


def resume(context: Context) -> None:
    """Two epochs at once and one after the other: the same bits where cuDNN promises them, else how far apart."""
    small = TINY if context.rehearse else []
    recipe = recipes.load("polymnist_mopoe", ["training.epochs=2", *small])
    steps = 10 if context.rehearse else 1000
    data = random_data(recipe, steps * recipe.training.batch_size // 10, context.work / "resume-data")
    for deterministic in (True, False):
        torch.backends.cudnn.deterministic = deterministic
        name = "cudnn.deterministic" if deterministic else "as it is"
        context.tried(name, partial(halves_and_whole, context, small, data, name))


def halves_and_whole(context: Context, small: list[str], data: Path, name: str) -> dict[str, Any]:
    folder, device = context.work / "resumed" / name.replace(" ", "-"), device_of(context).type
    shutil.rmtree(folder, ignore_errors=True)
    weights, began = {}, time.monotonic()
    for which, parts in (("whole", (20,)), ("whole again", (20,)), ("halves", (10, 20))):
        for epochs in parts:
            recipe = recipes.load("polymnist_mopoe", [f"training.epochs={epochs}", *small])
            train(recipe, Request(folder / which, data, device))
        found = checkpoint.newest(Run(folder / which))
        assert found is not None
        weights[which] = {key: value.double() for key, value in found.tensors.items() if key.startswith("model.")}
    return {
        "halves, largest difference": distance(weights["whole"], weights["halves"]),
        "whole again, largest difference": distance(weights["whole"], weights["whole again"]),
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)
