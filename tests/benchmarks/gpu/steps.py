"""Microseconds, kernels and memory of a training step, in every way that the engine has to take one."""

import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mmvae_cli import recipe as recipes
from mmvae_cli import store
from mmvae_cli.compute import devices
from mmvae_cli.compute.recorded import Lanes
from mmvae_cli.compute.seeds import derive
from mmvae_cli.model.vae import MultimodalVAE, as_it_is
from mmvae_cli.training import engine
from mmvae_cli.training.engine import Engine, Way

from item import Context
from machine import device_of, synchronise
from plain import memory_loader
from run import measure, stages
from variants import Bench, engine_of, random_data

CALLED, BEST = Way(), Way(compiled=True, recorded=True, lanes=True)
TINY = ["training.batch_size=8", "model.latent_dim=8"]
SMALL_FACES = ["modalities.image.width=2", "modalities.text.width=2", "model.private_dim=4"]


class Variant(NamedTuple):
    """One line of the table. ``option``: what is switched on for it alone."""

    recipe: str
    precision: str
    way: Way
    option: str = ""

    def __str__(self) -> str:
        how = ", ".join(name for name, on in self.way._asdict().items() if on) or "called"
        return ", ".join(part for part in (self.recipe, self.precision, how, self.option) if part)


POLYMNIST = "polymnist_mopoe"
VARIANTS = [
    Variant(POLYMNIST, "tf32", BEST),
    Variant(POLYMNIST, "tf32", CALLED),
    Variant(POLYMNIST, "tf32", Way(recorded=True, lanes=True)),
    Variant(POLYMNIST, "tf32", Way(compiled=True, recorded=True)),
    Variant(POLYMNIST, "bf16", BEST),
    Variant("polymnist_mvae", "tf32", BEST),
    Variant("polymnist_mmvae", "tf32", BEST),
    Variant("mst_mopoe", "tf32", BEST),
    Variant("celeba_mopoe", "tf32", BEST),
    Variant("celeba_mopoe", "bf16", BEST),
    Variant(POLYMNIST, "tf32", BEST, "NCHW"),
    Variant(POLYMNIST, "tf32", BEST, "cudnn.benchmark"),
    Variant(POLYMNIST, "tf32", BEST, "cudnn.deterministic"),
    Variant(POLYMNIST, "bf16", BEST, "combo kernels"),
    Variant(POLYMNIST, "bf16", Way(compiled=True, recorded=True)),
    Variant(POLYMNIST, "tf32", Way(compiled=True)),
    Variant(POLYMNIST, "tf32", Way(recorded=True)),
    Variant(POLYMNIST, "fp32", BEST),
    Variant("mst_mvae", "tf32", BEST),
]


def table(context: Context) -> None:
    """Every variant by itself, the most valuable first. After an error that takes the GPU away from this process the
    programme starts another one, which goes on with the next variant."""
    prepare(context)
    for variant in VARIANTS:
        if not context.has(str(variant)):
            context.tried(str(variant), partial(step_of, context, variant), least=15.0)
            if context.unfinished == "again":
                return
            free()


def prepare(context: Context) -> None:
    """In a rehearsal the compiler is one that compiles nothing, as what it makes for a CPU is of no use here."""
    if context.rehearse:
        engine._compiled = cache(partial(torch.compile, backend="eager", dynamic=False))


def free() -> None:
    """Let the last variant go, and what was compiled for it: the number of compilations a process may hold is small."""
    torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_available():
        with suppress(RuntimeError):  # a GPU that does not answer any more
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def step_of(context: Context, variant: Variant) -> dict[str, Any]:
    """One variant's numbers: the first steps compile and record, then five rounds are timed, then kernels counted."""
    device, config = device_of(context), torch._inductor.config
    torch.backends.cudnn.benchmark = variant.option == "cudnn.benchmark"
    torch.backends.cudnn.deterministic = variant.option == "cudnn.deterministic"
    config.combo_kernels = variant.option == "combo kernels"
    try:
        made = build(context, variant, device)
        return timed(context, made, device, variant.way)
    finally:
        torch.backends.cudnn.benchmark = torch.backends.cudnn.deterministic = False
        config.combo_kernels = False


def build(context: Context, variant: Variant, device: torch.device) -> Engine:
    """The engine of a variant, over random data of its recipe."""
    faces = variant.recipe.startswith("celeba")
    small = TINY + SMALL_FACES * faces if context.rehearse else []
    recipe = recipes.load(variant.recipe, [f"training.precision={variant.precision}", *small])
    folder = context.work / "random" / f"{variant.recipe.partition('_')[0]}-{recipe.training.batch_size}"
    random_data(recipe, 10 * recipe.training.batch_size, folder)
    devices.set_precision(variant.precision)
    torch.manual_seed(derive(0, "init"))
    model = MultimodalVAE(recipe).to(device)
    if variant.option == "NCHW":
        model = model.to(memory_format=torch.contiguous_format)
    return engine_of(recipe, model, store.Store(folder, verify=False), device, variant.way)


def timed(context: Context, made: Engine, device: torch.device, way: Way) -> dict[str, Any]:
    steps = iter(range(10**9))
    with made.ordered():
        began = time.perf_counter()
        for _ in range(6):
            made.take(next(steps))
        synchronise(device)
        first = time.perf_counter() - began
        speed = microseconds(lambda: made.take(next(steps)), device, 1 if context.rehearse else 200)
        found = {
            "us": round(statistics.median(speed), 1), "least": round(min(speed), 1), "most": round(max(speed), 1),
            "first 6 steps s": round(first, 2), "peak MiB": round(devices.memory_mib(device)),
            "not as asked": fallen_back(made, way),
        }  # fmt: skip
        with told(found, "kernels"):  # what was timed stays, whatever the profiler says
            found |= counted(lambda: made.take(next(steps)), device)
        with told(found, "terms"):  # random data may diverge after so many steps
            made.meter.check()
    return found


@contextmanager
def told(found: dict[str, Any], what: str) -> Iterator[None]:
    """An error inside the block is a line of what was ``found``."""
    try:
        yield
    except Exception as error:
        found[f"{what} failed"] = f"{type(error).__name__}: {error}"[:300]


def fallen_back(made: Engine, way: Way) -> list[str]:
    """What was asked for, did not work and was done without; the item's log says why."""
    model, recorded = made._step.model, made._recorded
    on_gpu = recorded._stream is not None
    done = {
        "compiled": not way.compiled or model.region is not as_it_is,
        "recorded": not (way.recorded and on_gpu) or recorded._graph is not None,
        "lanes": not (way.lanes and on_gpu) or (isinstance(model.lanes, Lanes) and bool(model.lanes._streams)),
    }
    return [what for what, well in done.items() if not well]


def microseconds(action: Callable[[], object], device: torch.device, steps: int) -> list[float]:
    """Microseconds of one action in each of some rounds of ``steps``; a round of a slow one ends after two seconds."""
    found = []
    for _ in range(5 if device.type == "cuda" else 1):
        synchronise(device)
        began, done = time.perf_counter(), 0
        while done < steps and time.perf_counter() - began < 2.0:
            action()
            done += 1
        synchronise(device)
        found.append(1e6 * (time.perf_counter() - began) / done)
    return found


def counted(action: Callable[[], object], device: torch.device) -> dict[str, Any]:
    """Kernels a step and the time they take one by one, so that side by side it is more than the step's."""
    rows = kernels_of(action, device)
    return {"kernels": sum(row[1] for row in rows), "kernels us": round(sum(row[2] for row in rows), 1)}


def kernels_of(action: Callable[[], object], device: torch.device) -> list[tuple[str, float, float]]:
    """(name, times a step, microseconds a step) of every kernel, the longest first."""
    activity = torch.profiler.ProfilerActivity.CUDA if device.type == "cuda" else torch.profiler.ProfilerActivity.CPU
    steps = 3 if device.type == "cuda" else 1
    with torch.profiler.profile(activities=[activity]) as profile:
        for _ in range(steps):
            action()
        synchronise(device)
    by_name: dict[str, list[float]] = {}
    for event in profile.events():
        on_device = str(event.device_type).endswith("CUDA")
        if on_device or device.type == "cpu":
            by_name.setdefault(event.name, []).append(event.time_range.elapsed_us())
    rows = [(name[:100], len(times) / steps, sum(times) / steps) for name, times in by_name.items()]
    return sorted(rows, key=lambda row: -row[2])


def others(context: Context) -> None:
    """MultiVae, the plain implementation and the engine, in one call on one card, in turn."""
    prepare(context)
    device = device_of(context)
    bench = Bench(device, context.work / "others", batch=8 if context.rehearse else 256)
    arrays = [bench.data.array("train", f"m{v}") for v in range(5)]
    makers = {
        "engine, tf32": lambda: bench.engine("tf32", BEST), "engine, bf16": lambda: bench.engine("bf16", BEST),
        "engine, fp32, called": lambda: bench.engine("fp32", CALLED),
        "plain, data in memory": lambda: bench.plain(memory_loader(arrays, bench.batch)), "MultiVae": bench.multivae,
    }  # fmt: skip
    variants: dict[str, Callable[[], torch.Tensor]] = {}

    def ready(name: str) -> str:
        one = makers[name]()
        if one is None:
            import_module("multivae.models")  # says what is missing
        variants[name] = one
        return "ready"

    for name in makers:
        context.tried(f"made: {name}", partial(ready, name))
    steps = 1 if context.rehearse else 100
    rounds = 2 if context.rehearse else 4
    context.tried("items/s", lambda: measure(bench, variants, rounds, steps, steps, partial(context.note, "items/s")))


def profile(context: Context) -> None:
    """The longest kernels of the best step, the parts of a step alone, decoding in both memory formats."""
    prepare(context)
    device = device_of(context)
    for precision in ("tf32", "bf16"):
        context.tried(f"longest kernels, {precision}", partial(longest, context, precision))
        free()
    bench = Bench(device, context.work / "profile", batch=8 if context.rehearse else 256)
    context.tried("parts alone, called, ms", lambda: stages(bench, 3))
    for format in (torch.channels_last, torch.contiguous_format):
        context.tried(f"decoding 8,192 latents in fp32, {format}, us", partial(decoding, context, format))


def longest(context: Context, precision: str) -> list[tuple[str, float, float]]:
    device = device_of(context)
    made = build(context, Variant(POLYMNIST, precision, BEST), device)
    steps = iter(range(10**9))
    with made.ordered():
        for _ in range(6):
            made.take(next(steps))
        return kernels_of(lambda: made.take(next(steps)), device)[:30]


@torch.no_grad()
def decoding(context: Context, format: torch.memory_format) -> float:
    device, count = device_of(context), 8 if context.rehearse else 8192
    devices.set_precision("fp32")
    recipe = recipes.load(POLYMNIST)
    model = MultimodalVAE(recipe).to(device).to(memory_format=format).eval()
    z = torch.randn(count, recipe.model.latent_dim, device=device)
    return statistics.median(microseconds(lambda: model.decode("m0", z), device, 3))


def memory(context: Context) -> None:
    """Seconds of the first steps when what was compiled is at hand, a run of one step by the clock, peaks of runs."""
    prepare(context)
    context.tried("first 6 steps again", lambda: step_of(context, Variant(POLYMNIST, "tf32", BEST)))
    free()
    data = context.work / "random" / f"polymnist-{8 if context.rehearse else 256}"
    where = [f"--run={context.work / 'one-epoch'}", f"--device={device_of(context).type}", "--quiet"]
    small = TINY if context.rehearse else []
    arguments = ["train", POLYMNIST, f"dataset.name={data}", "training.epochs=1", *small, *where]
    context.tried("a run of 10 steps, its exit code and seconds", lambda: context.mmvae(*arguments))
    peaks = {path.parent.name: last_memory(path) for path in sorted(context.out.glob("runs/*/metrics.jsonl"))}
    context.note("peak MiB of runs", peaks)


def last_memory(path: Path) -> Any:
    return json.loads(path.read_text().splitlines()[-1])["memory_mib"]
