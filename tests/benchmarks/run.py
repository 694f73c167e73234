"""``make bench``: training throughput and stage times, interleaved rounds, median and spread; one table and JSON.

PolyMNIST sizes: 5 views of 3x28x28, 31 subsets, latent 512, batch 256, the paper's networks, fp32 parameters. Pixels
are random: speed does not depend on them, and the benchmark needs no data. MultiVae is measured where it can be
imported. ``make gpu`` measures more of a GPU.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mmvae_cli.process import cores

cores.limit()  # as the command does before torch is loaded; for all variants alike
cores.keep_memory()

import torch  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from mmvae_cli import recipe as recipes  # noqa: E402
from mmvae_cli.compute import devices  # noqa: E402
from mmvae_cli.evaluation import coherence, latent, likelihood  # noqa: E402
from mmvae_cli.evaluation.encoding import Evaluation, ShuffledSplit  # noqa: E402
from mmvae_cli.model import bound  # noqa: E402
from mmvae_cli.model.distributions import Gaussian  # noqa: E402
from mmvae_cli.model.kernels import component_kls  # noqa: E402
from mmvae_cli.model.networks import build_coherence_classifier  # noqa: E402
from mmvae_cli.model.objective import Objective, draw_noise  # noqa: E402
from mmvae_cli.model.posterior import Family, stratified  # noqa: E402
from mmvae_cli.model.terms import weigh  # noqa: E402
from mmvae_cli.model.vae import MultimodalVAE  # noqa: E402
from mmvae_cli.store import batches  # noqa: E402
from mmvae_cli.training.engine import Way  # noqa: E402
from mmvae_cli.training.step import make_optimizer  # noqa: E402

from leaving import leave  # noqa: E402
from losses import random_store  # noqa: E402
from plain import PngFolders, memory_loader  # noqa: E402
from variants import BATCH, VIEWS, Bench, write_pngs  # noqa: E402

TESTED = {"cpu": 1000, "cuda": 10_000}
"""How many items are evaluated."""
PATIENCE = 4.0
"""Seconds after which a round of a slow variant ends, however many steps it has made."""


Variants = dict[str, Callable[[], torch.Tensor]]


def measure(
    bench: Bench, variants: Variants, rounds: int, steps: int, warmup: int,
    told: Callable[[dict[str, dict[str, float]]], object] = lambda _: None,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Interleaved rounds: every variant takes ``steps`` steps in turn, so that a slow minute hits all alike. What is
    known after each round is ``told``."""
    found: dict[str, dict[str, float]] = {}
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for round_ in range(rounds + 1):
        for name, one in variants.items():
            count = warmup if round_ == 0 else steps
            synchronise(bench.device)
            start = time.perf_counter()
            models = 0
            for _ in range(count):
                models += one().numel()
                if time.perf_counter() - start > PATIENCE:
                    break
            synchronise(bench.device)
            if round_:
                rates[name].append(models * BATCH / (time.perf_counter() - start))
        if round_:
            found = {name: {"items_per_second": statistics.median(r), "lowest": min(r), "highest": max(r)}
                     for name, r in rates.items()}  # fmt: skip
            told(found)
    return found


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def loss_after(bench: Bench, steps: int) -> dict[str, float]:
    """Mean loss over the last fifth of ``steps`` steps from the same weights: a trade of equality for speed shows.
    Where the plain implementation's data are makes no difference, and MultiVae's loss is scaled in another way."""
    losses = {}
    for name, make in makers(bench).items():
        if name.startswith("engine") or "memory" in name:
            one = make()
            assert one is not None
            values = [one() for _ in range(steps)]
            synchronise(bench.device)  # a recorded step has a stream of its own
            losses[name] = float(torch.stack(values[-max(1, steps // 5) :]).mean())
    return losses


def makers(bench: Bench) -> dict[str, Callable[[], Callable[[], torch.Tensor] | None]]:
    arrays = [bench.data.array("train", f"m{v}") for v in range(VIEWS)]
    pngs = bench.folder / "png"
    found = {
        "plain, data in memory": lambda: bench.plain(memory_loader(arrays, BATCH)),
        "plain, PNG folders": lambda: bench.plain(
            DataLoader(PngFolders(pngs, VIEWS), BATCH, shuffle=True, drop_last=True, num_workers=2)
        ),
        "MultiVae": bench.multivae,
        "engine, fp32": lambda: bench.engine("fp32"),
        "engine, bf16": lambda: bench.engine("bf16"),
        "engine, fp32, 2 seeds stacked": lambda: bench.stacked(2, "fp32", compiled=False),
    }
    if bench.device.type == "cuda":
        found["engine, tf32, as trained"] = lambda: bench.engine("tf32", Way(compiled=True, recorded=True, lanes=True))
    return found


def stages(bench: Bench, repeats: int) -> dict[str, float]:
    """Milliseconds per stage of the eager engine: the least of ``repeats``."""
    recipe, model = bench.model()
    objective, data = Objective.of(recipe), batches.Split(bench.data, "train", model.names, bench.device, 0)
    optimizer = make_optimizer(model, 1e-3)
    items = torch.arange(bench.batch, device=bench.device)
    batch = data.batch(items)
    noise = draw_noise(model, objective, model.names, bench.batch, slice(None), bench.device)
    experts = model.encode(batch).shared
    leaves = Gaussian(*(part.detach().requires_grad_() for part in experts))
    choice = stratified(bench.batch, len(model.family), bench.device)
    z = torch.randn(1, bench.batch, recipe.model.latent_dim, device=bench.device)

    def whole() -> None:
        loss = weigh(bound.bound_terms(model, batch, objective, noise)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()

    whole()
    parts: dict[str, Callable[[], object]] = {
        "data": lambda: data.batch(items),
        "noise": lambda: draw_noise(model, objective, model.names, bench.batch, slice(None), bench.device),
        "encode": lambda: model.encode(batch),
        "fusion: chosen components": lambda: model.family.chosen(leaves, choice),
        "fusion: KL of 31 components, and its gradient": lambda: (
            component_kls(leaves, model.family).mean.sum().backward()
        ),
        "decode and likelihood": lambda: [model.log_likelihood(n, z, None, batch[n]) for n in model.names],
        "forward and backward": whole,
        "optimizer": optimizer.step,
    }
    return {name: least(part, repeats, bench.device) for name, part in parts.items()}


def evaluation(bench: Bench) -> dict[str, float]:
    """Seconds of each metric: all 31 subsets, 15 importance samples, networks that have not learned."""
    recipe, model = bench.model()
    evaluation = Evaluation(model.eval(), recipe, bench.data, bench.device)
    data = ShuffledSplit(evaluation, "test", "evaluated items")
    classifiers = {
        name: build_coherence_classifier(bench.data.info.modalities[name], 10).to(bench.device) for name in model.names
    }
    test = data.encode(data.order)
    parts: dict[str, Callable[[], object]] = {
        "encoding": lambda: data.encode(data.order),
        "latent representation": lambda: latent.measure(evaluation, test),
        "coherence": lambda: coherence.measure(evaluation, data, test, classifiers),
        "log-likelihood": lambda: likelihood.measure(evaluation, data, test),
    }
    return {name: least(part, 0, bench.device) / 1000 for name, part in parts.items()}


def first_steps(bench: Bench) -> list[float]:
    """Seconds from the command to the end of a run of one step, its checkpoint written; on a GPU once more, when what
    was compiled is at hand."""
    data = random_store(recipes.load("polymnist_mopoe"), BATCH, bench.folder / "one batch")
    command = [sys.executable, "-P", "-m", "mmvae_cli", "train", "polymnist_mopoe", f"dataset.name={data}",
               "training.epochs=1", f"--device={bench.device}", "--quiet"]  # fmt: skip
    seconds = []
    for run in ("first", "second") if bench.device.type == "cuda" else ("first",):
        start = time.perf_counter()
        subprocess.run([*command, f"--run={bench.folder / run}"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    return seconds


def growth(device: torch.device, repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds of fusion and KL (forward and backward) and of the networks, by the number of modalities."""
    found = {}
    for views in (2, 4, 6, 8, 10, 12):
        recipe = recipes.load("polymnist_mopoe")
        content = recipe.model_dump()
        content["modalities"] = {f"m{v}": recipe.modalities["m0"] for v in range(views)}
        model = MultimodalVAE(recipes.validate(content, "growth")).to(device)
        experts = Gaussian(*(torch.randn(views, BATCH, 512, device=device, requires_grad=True) for _ in range(2)))
        x = torch.rand(BATCH, 3, 28, 28, device=device)
        z = torch.randn(1, BATCH, 512, device=device)

        def fuse(experts: Gaussian = experts, family: Family = model.family) -> None:
            component_kls(experts, family).mean.sum().backward()

        def one_view(model: MultimodalVAE = model, x: torch.Tensor = x, z: torch.Tensor = z) -> None:
            (model.encoders["m0"](x)[0].sum() + model.log_likelihood("m0", z, None, x).sum()).backward()

        times = {"fusion and KL": least(fuse, repeats, device), "networks": views * least(one_view, repeats, device)}
        found[str(views)] = {"subsets": len(model.family)} | times
    return found


def least(action: Callable[[], object], repeats: int, device: torch.device) -> float:
    best = float("inf")
    for _ in range(repeats + 1):
        synchronise(device)
        start = time.perf_counter()
        action()
        synchronise(device)
        best = min(best, time.perf_counter() - start)
    return 1000 * best


def machine(device: torch.device) -> dict[str, object]:
    cpu = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.processor())  # fmt: skip
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return devices.environment(device) | {"cpu": cpu, "commit": commit.stdout.strip()}


def report(found: dict) -> str:
    base = found["training"]["plain, data in memory"]["items_per_second"]
    lines = ["| variant | items/s | lowest .. highest | x plain | loss after the same steps |", "|---|---|---|---|---|"]
    for name, r in found["training"].items():
        loss = found["loss"].get(name)
        lines.append(f"| {name} | {r['items_per_second']:,.0f} | {r['lowest']:,.0f} .. {r['highest']:,.0f} | "
                     f"{r['items_per_second'] / base:.2f} | {'-' if loss is None else f'{loss:,.1f}'} |")  # fmt: skip
    lines += ["", "| stage of the eager engine | ms a step |", "|---|---|"]
    lines += [f"| {name} | {ms:.1f} |" for name, ms in found["stages"].items()]
    lines += ["", "| modalities | subsets | fusion and KL, ms | networks, ms |", "|---|---|---|---|"]
    lines += [f"| {views} | {g['subsets']:,} | {g['fusion and KL']:.1f} | {g['networks']:.1f} |"
              for views, g in found["growth"].items()]  # fmt: skip
    lines += ["", f"| evaluation of {found['tested']:,} items, 31 subsets | s |", "|---|---|"]
    lines += [f"| {name} | {seconds:.1f} |" for name, seconds in found["evaluation"].items()]
    first = ", again ".join(f"{seconds:.1f}" for seconds in found["first step"])
    lines += [f"| (a training run of one step, from the command to its checkpoint) | {first} |"]
    about = found["machine"]
    lines += ["", f"{about['gpu'] or about['cpu']}, {about['threads']} threads, torch {about['packages']['torch']}, "
              f"commit {about['commit']}"]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=None, help="steps a round and variant")
    parser.add_argument("--loss-steps", type=int, default=200)
    options = parser.parse_args()
    device = devices.pick_device(options.device)
    on_gpu = device.type == "cuda"
    steps = options.steps or (100 if on_gpu else 4)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(device, Path(folder), TESTED[device.type])
        write_pngs(bench.data, bench.folder / "png")
        made = {name: make() for name, make in makers(bench).items()}
        variants = {name: one for name, one in made.items() if one is not None}
        found = {
            "machine": machine(device), "settings": vars(options) | {"out": str(options.out), "steps": steps},
            "training": measure(bench, variants, options.rounds, steps, warmup=max(2, steps // 2)),
            "loss": loss_after(bench, options.loss_steps) if options.loss_steps else {},
            "stages": stages(bench, 5), "evaluation": evaluation(bench), "first step": first_steps(bench),
            "growth": growth(device, 3), "tested": bench.tested,
        }  # fmt: skip
    leave(options.out, "bench", found, report(found))


if __name__ == "__main__":
    main()
