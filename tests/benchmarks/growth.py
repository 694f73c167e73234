"""How time and memory grow with items, batch, modalities and processes: `make growth`, some minutes on two cores.

Random pictures of PolyMNIST's size, its networks with a latent of 64; one setting changes at a time, each measured in a
process of its own with one thread. Times are processor seconds of the fastest of a few steps, so that a busy machine
disturbs little (several processes: the clock's, from the command's own log); memory is the resident peak.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mmvae_cli import recipe as recipes
from mmvae_cli import store

from leaving import leave

ITEMS, BATCH, VIEWS, LATENT, STEPS = 1024, 32, 4, 64, 3
PYTHON = [sys.executable, "-P", "-m", "mmvae_cli"]
TORCHRUN = [sys.executable, "-P", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def random_store(folder: Path, views: int, items: int) -> Path:
    rng = np.random.default_rng(0)
    for split, count in (("train", items), ("test", 256)):
        for view in range(views):
            array = store.new_array(folder, f"{split}/m{view}.npy", (count, 3, 28, 28))
            for start in range(0, count, 4096):
                array[start : start + 4096] = rng.integers(0, 256, array[start : start + 4096].shape, dtype=np.uint8)
        store.new_array(folder, f"{split}/labels.npy", (count,), np.int64)[:] = np.arange(count) % 10
    image = store.ModalityInfo(kind="image", shape=(3, 28, 28))
    store.finish(folder, store.StoreInfo(
        name="random", modalities={f"m{v}": image for v in range(views)},
        splits={"train": store.SplitInfo(count=items), "test": store.SplitInfo(count=256)},
        labels=store.LabelInfo(kind="class", names=tuple("0123456789")),
    ))  # fmt: skip
    return folder


def recipe_of(data: Path, views: int, batch: int, epochs: int = 1) -> recipes.Recipe:
    content = recipes.load("polymnist_mopoe").model_dump()
    content["dataset"]["name"] = str(data)
    content["modalities"] = {f"m{v}": content["modalities"]["m0"] for v in range(views)}
    content["model"]["latent_dim"] = LATENT
    content["training"] |= {"batch_size": batch, "log_every": 1, "epochs": epochs}
    content["evaluation"] |= {"likelihood_items": 8, "importance_samples": 3}
    return recipes.validate(content, "growth")


def in_own_process(what: str, **sizes: object) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", json.dumps([what, sizes])]
    found: dict[str, float] = json.loads(run(command))
    return found


def run(command: list[str]) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.strip().splitlines()[-1]


def one_step(folder: Path, views: int = VIEWS, items: int = ITEMS, batch: int = BATCH) -> dict[str, float]:
    """Milliseconds a training step and peak MiB."""
    import torch

    from mmvae_cli.compute import devices
    from mmvae_cli.model.objective import Objective, draw_noise
    from mmvae_cli.model.vae import MultimodalVAE
    from mmvae_cli.store import batches
    from mmvae_cli.training.step import StepLoss, make_optimizer

    cpu = torch.device("cpu")
    recipe = recipe_of(random_store(folder / "data", views, items), views, batch)
    model, objective = MultimodalVAE(recipe), Objective.of(recipe)
    step, optimizer = StepLoss(model, objective, "fp32"), make_optimizer(model, 1e-3)
    data = batches.Split(store.Store(folder / "data", verify=False), "train", model.names, cpu, 0)
    seconds = []
    for at in range(1 + STEPS):
        began = time.process_time()
        rows = batches.permutation(items, 0, at, cpu)[:batch]
        loss, _ = step(data.batch(rows), draw_noise(model, objective, model.names, batch, slice(None), cpu))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        seconds.append(time.process_time() - began)
    return {"ms": 1000 * min(seconds[1:]), "mib": devices.memory_mib(cpu)}


def one_likelihood(folder: Path, views: int, subsets_per_size: int | None = None) -> dict[str, float]:
    """Seconds and peak MiB of the log-likelihood of 8 items from 3 samples, given every subset or some of each size."""
    import torch

    from mmvae_cli.compute import devices
    from mmvae_cli.evaluation import likelihood
    from mmvae_cli.evaluation.encoding import Evaluation, ShuffledSplit
    from mmvae_cli.model.vae import MultimodalVAE

    recipe = recipe_of(random_store(folder / "data", views, BATCH), views, BATCH)
    content = recipe.model_dump()
    content["evaluation"]["subsets_per_size"] = subsets_per_size
    recipe = recipes.validate(content, "growth")
    evaluation = Evaluation(MultimodalVAE(recipe).eval(), recipe, store.Store(folder / "data"), torch.device("cpu"))
    data = ShuffledSplit(evaluation, "test", "evaluated items")
    began = time.process_time()
    likelihood.measure(evaluation, data, data.encode(data.order[:8]))
    seconds = time.process_time() - began
    return {"seconds": seconds, "subsets": len(evaluation.subsets), "mib": devices.memory_mib(torch.device("cpu"))}


def several(processes: int) -> dict[str, float]:
    """Milliseconds by the clock of the fastest step of a batch of 128, and peak MiB of one process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = recipe_of(random_store(folder / "data", VIEWS, 256), VIEWS, 128, epochs=4)
        (folder / "r.yaml").write_text(recipe.dump())
        launcher = PYTHON if processes == 1 else [*TORCHRUN, str(processes), "--no-python", *PYTHON]
        run([*launcher, "train", str(folder / "r.yaml"), "--run-dir", str(folder / "run"), "--device", "cpu"])
        lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
        return {"ms": 128_000 / max(line["items_per_second"] for line in lines), "mib": lines[-1]["memory_mib"]}


def measure() -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}

    def add(title: str, values: dict[str, float]) -> None:
        found[title] = values
        print(title, values, file=sys.stderr, flush=True)

    for items in (1024, 8192, 65536):
        add(f"step, {items:,} items", in_own_process("step", items=items))
    for batch in (8, 32, 128):
        add(f"step, batch of {batch}", in_own_process("step", batch=batch))
    for views in (2, 4, 6, 8, 10, 12):
        add(f"step, {views} modalities, {2**views - 1:,} subsets", in_own_process("step", views=views))
    for processes in (1, 2):
        add(f"step by the clock, batch of 128, {processes} processes", several(processes))
    for views in (2, 4, 6, 8):
        add(f"likelihood, {views} modalities, all subsets", in_own_process("likelihood", views=views))
    add("likelihood, 12 modalities, 5 subsets per size", in_own_process("likelihood", views=12, subsets_per_size=5))
    return found


def report(found: dict[str, dict[str, float]]) -> str:
    lines = ["| what | ms | peak MiB |", "|---|---|---|"]
    lines += [f"| {title} | {r.get('ms', 1000 * r.get('seconds', 0)):,.0f} | {r['mib']:,.0f} |"
              for title, r in found.items()]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        what, sizes = json.loads(options.one)
        with tempfile.TemporaryDirectory() as name:
            print(json.dumps({"step": one_step, "likelihood": one_likelihood}[what](Path(name), **sizes)))
        return
    found = measure()
    leave(options.out, "growth", found, report(found))


if __name__ == "__main__":
    main()
