"""``make bench``: training throughput and stage times, interleaved rounds, median and spread; one table and JSON.

PolyMNIST sizes: 5 views of 3x28x28, 31 subsets, latent 512, batch 256, the paper's networks, fp32 parameters. Pixels
are random: speed does not depend on them, and the benchmark needs no data. On a machine with a GPU the CUDA variants
run too. MultiVae is measured where it can be imported.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

from mmvae_cli.process import cores

cores.limit()  # as the command does before torch is loaded; for all variants alike
cores.keep_memory()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from mmvae_cli import recipe as recipes  # noqa: E402
from mmvae_cli import store  # noqa: E402
from mmvae_cli.compute import runtime  # noqa: E402
from mmvae_cli.evaluation import coherence, latent, likelihood  # noqa: E402
from mmvae_cli.evaluation.encoding import Data, Setting  # noqa: E402
from mmvae_cli.model import objective  # noqa: E402
from mmvae_cli.model.distributions import Gaussian  # noqa: E402
from mmvae_cli.model.kernels import component_kls  # noqa: E402
from mmvae_cli.model.networks import build_judge  # noqa: E402
from mmvae_cli.model.objective import Objective  # noqa: E402
from mmvae_cli.model.posterior import Family, stratified  # noqa: E402
from mmvae_cli.model.vae import MultimodalVAE  # noqa: E402
from mmvae_cli.store import batches  # noqa: E402
from mmvae_cli.training.step import Step, make_optimizer  # noqa: E402

from leaving import leave  # noqa: E402
from plain import PlainMoPoE, PngFolders, memory_loader  # noqa: E402

VIEWS, BATCH, ITEMS = 5, 256, 2560
TESTED = {"cpu": 1000, "cuda": 10_000}
"""How many items are evaluated."""
PATIENCE = 4.0
"""Seconds after which a round of a slow variant ends, however many steps it has made."""


def random_store(folder: Path, items: int = ITEMS, tested: int = 10) -> store.Store:
    """5 views of smooth random pictures, as uint8, in the tool's own format."""
    rng = np.random.default_rng(0)
    for split, count in (("train", items), ("test", tested)):
        for view in range(VIEWS):
            coarse = rng.integers(0, 256, (count, 3, 7, 7), dtype=np.uint8)
            store.new_array(folder, f"{split}/m{view}.npy", (count, 3, 28, 28))[:] = coarse.repeat(4, 2).repeat(4, 3)
        store.new_array(folder, f"{split}/labels.npy", (count,), np.int64)[:] = np.arange(count) % 10
    image = store.ModalityInfo(kind="image", shape=(3, 28, 28))
    store.finish(folder, store.StoreInfo(
        name="random", modalities={f"m{v}": image for v in range(VIEWS)},
        splits={"train": store.SplitInfo(count=items), "test": store.SplitInfo(count=tested)},
        labels=store.LabelInfo(kind="class", names=tuple("0123456789")),
    ))  # fmt: skip
    return store.Store(folder)


def write_pngs(data: store.Store, folder: Path) -> Path:
    from PIL import Image

    for view in range(VIEWS):
        (folder / f"m{view}").mkdir(parents=True)
        for i, picture in enumerate(data.array("train", f"m{view}")):
            Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0))).save(folder / f"m{view}" / f"{i}.0.png")
    return folder


class Bench:
    """Variants are functions that do one training step and return its loss: a scalar, or one of every model trained."""

    def __init__(self, device: torch.device, folder: Path) -> None:
        self.device, self.folder = device, folder
        self.tested = TESTED[device.type]
        self.store = random_store(folder / "store", ITEMS, self.tested)
        self.variants: dict[str, Callable[[], torch.Tensor]] = {}

    def model(self, *overrides: str) -> tuple[recipes.Recipe, MultimodalVAE]:
        recipe = recipes.load("polymnist_mopoe", list(overrides))
        torch.manual_seed(0)
        return recipe, MultimodalVAE(recipe).to(self.device)

    def engine(self, precision: str, *, compiled: str | None = None) -> Callable[[], torch.Tensor]:
        """``compiled``: a mode of torch.compile; reduce-overhead records CUDA graphs."""
        recipe, model = self.model(f"training.precision={precision}")
        goal, data = Objective.of(recipe), batches.Split(self.store, "train", model.names, self.device, 0)
        step, optimizer = Step(model, goal, precision), make_optimizer(model, 1e-3)
        forward = torch.compile(step, mode=compiled) if compiled else step
        position, orders = iter(range(10**9)), list[torch.Tensor]()

        def one() -> torch.Tensor:
            runtime.set_precision(precision)
            at = next(position)
            epoch, within = divmod(at, ITEMS // BATCH)
            if within == 0:
                orders[:] = [batches.permutation(ITEMS, 0, epoch, self.device)]
            runtime.seed(self.device, runtime.derive(0, "step", at))
            items = orders[0][within * BATCH : (within + 1) * BATCH]
            noise = objective.draw_noise(model, goal, model.names, BATCH, slice(None), self.device)
            loss, _ = forward(data.batch(items), noise)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            return loss.detach().clone()  # a CUDA graph writes the next step's loss into the same place

        return one

    def stacked(self, seeds: int, precision: str, *, compiled: bool) -> Callable[[], torch.Tensor]:
        """Several seeds in one process: their weights stacked, every layer a batched (convolutions: grouped) one.
        Autocast has no effect under vmap, so ``precision`` is fp32 or tf32."""
        recipe, model = self.model(f"training.precision={precision}")
        goal, data = Objective.of(recipe), batches.Split(self.store, "train", model.names, self.device, 0)
        models = [MultimodalVAE(recipe).to(self.device) for _ in range(seeds)]
        weights, _ = torch.func.stack_module_state(models)
        step, optimizer = Step(model, goal, precision), torch.optim.Adam(weights.values(), 1e-3, fused=True)

        def alone(weights: dict[str, torch.Tensor], batch: dict[str, torch.Tensor], shared: torch.Tensor,
                  choice: torch.Tensor) -> torch.Tensor:  # fmt: skip
            named = {f"model.{name}": value for name, value in weights.items()}
            noise = objective.Noise(choice, (shared,), ((),))
            return torch.func.functional_call(step, named, (batch, noise))[0]

        together = torch.vmap(alone, in_dims=(0, 0, 0, None))
        together = torch.compile(together) if compiled else together

        def one() -> torch.Tensor:
            runtime.set_precision(precision)
            parts = [data.batch(torch.randperm(ITEMS, device=self.device)[:BATCH]) for _ in models]
            batch = {name: torch.stack([part[name] for part in parts]) for name in model.names}
            drawn = [objective.draw_noise(model, goal, model.names, BATCH, slice(None), self.device) for _ in models]
            losses = together(weights, batch, torch.stack([noise.shared[0] for noise in drawn]), drawn[0].choice)
            optimizer.zero_grad(set_to_none=True)
            losses.sum().backward()
            optimizer.step()
            return losses.detach()

        return one

    def usual_model(self) -> tuple[recipes.Recipe, MultimodalVAE]:
        """The same networks as others would write them: torch's default memory format, its own convolutions."""
        recipe, model = self.model()
        for module in model.modules():
            if isinstance(module, torch.nn.ConvTranspose2d):
                module.__class__ = torch.nn.ConvTranspose2d
        return recipe, model.to(memory_format=torch.contiguous_format)

    def plain(self, loader: object) -> Callable[[], torch.Tensor]:
        recipe, model = self.usual_model()
        reference = PlainMoPoE(model, recipe.objective.beta)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        stream = endless(loader)

        def one() -> torch.Tensor:
            runtime.set_precision("fp32")
            views = [x.to(self.device) for x in next(stream)]
            loss = reference(views, torch.randn(BATCH, recipe.model.latent_dim, device=self.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.detach()

        return one

    def multivae(self) -> Callable[[], torch.Tensor] | None:
        """Its own MoPoE with equal networks, sizes and likelihoods, stepped as its trainer steps it."""
        try:
            from multivae.data.datasets import DatasetOutput
            from multivae.models import MoPoE, MoPoEConfig
            from multivae.models.base import BaseDecoder, BaseEncoder, ModelOutput
        except ImportError:
            return None
        recipe, model = self.usual_model()

        class Encoder(BaseEncoder):  # type: ignore[misc]
            def __init__(self, inner: torch.nn.Module) -> None:
                super().__init__()
                self.inner, self.latent_dim = inner, recipe.model.latent_dim

            def forward(self, x: torch.Tensor) -> object:
                mean, logvar, *_ = self.inner(x)
                return ModelOutput(embedding=mean, log_covariance=logvar)

        class Decoder(BaseDecoder):  # type: ignore[misc]
            def __init__(self, inner: torch.nn.Module) -> None:
                super().__init__()
                self.inner, self.latent_dim = inner, recipe.model.latent_dim

            def forward(self, z: torch.Tensor) -> object:
                return ModelOutput(reconstruction=self.inner(z))

        config = MoPoEConfig(
            n_modalities=VIEWS, latent_dim=recipe.model.latent_dim, beta=recipe.objective.beta,
            input_dims=dict.fromkeys(model.names, (3, 28, 28)),
            decoders_dist=dict.fromkeys(model.names, "laplace"),
            decoder_dist_params={name: {"scale": 0.75} for name in model.names},
        )  # fmt: skip
        other = MoPoE(config, encoders={n: Encoder(model.encoders[n]) for n in model.names},
                      decoders={n: Decoder(model.decoders[n]) for n in model.names}).to(self.device)  # fmt: skip
        optimizer = torch.optim.Adam(other.parameters(), 1e-3)
        stream = endless(memory_loader([self.store.array("train", n) for n in model.names], BATCH))

        def one() -> torch.Tensor:
            data = DatasetOutput(data={n: x.to(self.device) for n, x in zip(model.names, next(stream), strict=True)})
            loss = other(data).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.detach()

        return one


def endless(loader):  # type: ignore[no-untyped-def]
    for _ in cycle([0]):
        yield from loader


def measure(bench: Bench, rounds: int, steps: int, warmup: int) -> dict[str, dict[str, float]]:
    """Interleaved rounds: every variant takes ``steps`` steps in turn, so that a slow minute hits all alike."""
    rates: dict[str, list[float]] = {name: [] for name in bench.variants}
    for round_ in range(rounds + 1):
        for name, one in bench.variants.items():
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
    return {name: {"items_per_second": statistics.median(r), "lowest": min(r), "highest": max(r)}
            for name, r in rates.items()}  # fmt: skip


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
            losses[name] = float(torch.stack(values[-max(1, steps // 5) :]).mean())
    return losses


def makers(bench: Bench) -> dict[str, Callable[[], Callable[[], torch.Tensor] | None]]:
    arrays = [bench.store.array("train", f"m{v}") for v in range(VIEWS)]
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
        found |= {
            "engine, tf32": lambda: bench.engine("tf32"),
            "engine, tf32, compiled": lambda: bench.engine("tf32", compiled="default"),
            "engine, bf16, compiled": lambda: bench.engine("bf16", compiled="default"),
            "engine, tf32, CUDA graphs": lambda: bench.engine("tf32", compiled="reduce-overhead"),
            "engine, bf16, CUDA graphs": lambda: bench.engine("bf16", compiled="reduce-overhead"),
            "engine, tf32, 5 seeds stacked": lambda: bench.stacked(5, "tf32", compiled=False),
            "engine, tf32, 5 seeds stacked, compiled": lambda: bench.stacked(5, "tf32", compiled=True),
        }
    return found


def stages(bench: Bench, repeats: int) -> dict[str, float]:
    """Milliseconds per stage of the eager engine: the least of ``repeats``."""
    recipe, model = bench.model()
    goal, data = Objective.of(recipe), batches.Split(bench.store, "train", model.names, bench.device, 0)
    optimizer = make_optimizer(model, 1e-3)
    items = torch.arange(BATCH, device=bench.device)
    batch = data.batch(items)
    noise = objective.draw_noise(model, goal, model.names, BATCH, slice(None), bench.device)
    experts = model.encode(batch).shared
    leaves = Gaussian(*(part.detach().requires_grad_() for part in experts))
    choice = stratified(BATCH, len(model.family), bench.device)
    z = torch.randn(1, BATCH, recipe.model.latent_dim, device=bench.device)

    def whole() -> None:
        loss = objective.weigh(objective.bound_terms(model, batch, goal, noise)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()

    whole()
    parts: dict[str, Callable[[], object]] = {
        "data": lambda: data.batch(items),
        "noise": lambda: objective.draw_noise(model, goal, model.names, BATCH, slice(None), bench.device),
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
    setting = Setting(model.eval(), recipe, bench.store, bench.device)
    data = Data(setting, "test", "evaluated items")
    judges = {name: build_judge(bench.store.info.modalities[name], 10).to(bench.device) for name in model.names}
    test = data.encode(data.order)
    parts: dict[str, Callable[[], object]] = {
        "encoding": lambda: data.encode(data.order),
        "latent representation": lambda: latent.measure(setting, test, {}),
        "coherence": lambda: coherence.measure(setting, data, test, judges, {}),
        "log-likelihood": lambda: likelihood.measure(setting, data, test, {}),
    }
    return {name: least(part, 0, bench.device) / 1000 for name, part in parts.items()}


def first_steps(bench: Bench) -> list[float]:
    """Seconds from the command to the end of a run of one step, its checkpoint written; on a GPU once more, when what
    was compiled is at hand."""
    data = random_store(bench.folder / "one batch", BATCH)
    command = [sys.executable, "-P", "-m", "mmvae_cli", "train", "polymnist_mopoe", f"dataset.name={data.folder}",
               "training.epochs=1", f"--device={bench.device}", "--quiet"]  # fmt: skip
    seconds = []
    for run in ("first", "second") if bench.device.type == "cuda" else ("first",):
        start = time.perf_counter()
        subprocess.run([*command, f"--run={bench.folder / run}"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    return seconds


def peak_memory(bench: Bench, items: int = 60_000) -> int:
    """MiB on the GPU at most while the engine as it ships trains alone, with a whole PolyMNIST of bytes beside it."""
    bench.variants.clear()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(bench.device)
    data = torch.empty(VIEWS * items * 3 * 28 * 28, dtype=torch.uint8, device=bench.device)
    one = bench.engine("tf32", compiled="default")
    for _ in range(3):
        one()
    del data
    return round(runtime.memory_mib(bench.device))


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
    return runtime.environment(device) | {"cpu": cpu, "commit": commit.stdout.strip()}


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
    if found["peak GPU MiB"]:
        lines.append(f"| (peak GPU memory in MiB, the engine alone, data on the device) | {found['peak GPU MiB']:,} |")
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
    device = runtime.pick_device(options.device)
    on_gpu = device.type == "cuda"
    steps = options.steps or (100 if on_gpu else 4)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(device, Path(folder))
        write_pngs(bench.store, bench.folder / "png")
        made = {name: make() for name, make in makers(bench).items()}
        bench.variants = {name: one for name, one in made.items() if one is not None}
        found = {
            "machine": machine(device), "settings": vars(options) | {"out": str(options.out), "steps": steps},
            "training": measure(bench, options.rounds, steps, warmup=max(2, steps // 2)),
            "loss": loss_after(bench, options.loss_steps) if options.loss_steps else {},
            "stages": stages(bench, 5), "evaluation": evaluation(bench), "first step": first_steps(bench),
            "growth": growth(device, 3), "peak GPU MiB": peak_memory(bench) if on_gpu else None,
            "tested": bench.tested,
        }  # fmt: skip
    leave(options.out, "bench", found, report(found))


if __name__ == "__main__":
    main()
