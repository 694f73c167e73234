"""Five seeds at once on one card: in one process, in five, stacked into one network."""

import argparse
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from item import Context
from machine import device_of, synchronise
from run import measure
from steps import BEST, POLYMNIST, Variant, build, free, prepare
from variants import Bench

SEEDS = 5


def five_seeds(context: Context) -> None:
    """Items a second of all together, for each way."""
    prepare(context)
    context.tried("one alone", lambda: in_one_process(context, 1))
    free()
    context.tried("five graphs in one process", lambda: in_one_process(context, SEEDS))
    free()
    context.tried("five processes", lambda: in_processes(context), least=20.0)
    context.tried("stacked into one network", lambda: stacked(context))


def in_one_process(context: Context, count: int) -> dict[str, float]:
    """``count`` engines, each with its own stream, stepped in turn; the GPU does them side by side where it can."""
    device, steps = device_of(context), 2 if context.rehearse else 300
    engines = [build(context, Variant(POLYMNIST, "tf32", BEST), device) for _ in range(count)]
    batch = engines[0]._settings.batch_size

    def rounds(first: int, last: int) -> None:
        for at in range(first, last):
            for made in engines:
                with made.ordered():
                    made.take(at)

    rounds(0, 6)
    synchronise(device)
    began = time.perf_counter()
    rounds(6, 6 + steps)
    synchronise(device)
    return {"items/s": count * steps * batch / (time.perf_counter() - began)}


def in_processes(context: Context) -> dict[str, Any]:
    """Each builds an engine, says that it is ready and waits for the others."""
    folder = context.work / "together"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    command = [sys.executable, __file__, str(context.out), str(context.work), str(folder), str(int(context.rehearse))]
    processes = [
        subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True) for number in range(SEEDS)
    ]
    try:
        until = time.monotonic() + context.left() - 10
        while len(list(folder.glob("ready-*"))) < SEEDS and time.monotonic() < until:
            if any(process.poll() for process in processes):
                break
            time.sleep(0.05)
        (folder / "go").touch()
        rates = [json.loads(process.communicate(timeout=60)[0].splitlines()[-1]) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return {"items/s": sum(rates), "each": rates}


def one_of_them(context: Context, folder: Path, number: int) -> float:
    """Items a second of one process among the others."""
    prepare(context)
    device, seconds = device_of(context), 0.2 if context.rehearse else 4.0
    made = build(context, Variant(POLYMNIST, "tf32", BEST), device)
    with ExitStack() as stack:
        stack.enter_context(made.ordered())
        for at in range(6):
            made.take(at)
        synchronise(device)
        (folder / f"ready-{number}").touch()
        while not (folder / "go").exists():
            time.sleep(0.01)
        began, at = time.perf_counter(), 6
        while time.perf_counter() - began < seconds:
            for _ in range(20):
                made.take(at)
                at += 1
            synchronise(device)
        return (at - 6) * made._settings.batch_size / (time.perf_counter() - began)


def stacked(context: Context) -> dict[str, Any]:
    bench = Bench(device_of(context), context.work / "stacked", batch=8 if context.rehearse else 256)
    one = bench.stacked(2 if context.rehearse else SEEDS, "tf32", compiled=False)
    steps = 1 if context.rehearse else 30
    return measure(bench, {"stacked": one}, 2, steps, steps)["stacked"]


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("out", "work", "folder"):
        parser.add_argument(name, type=Path)
    for name in ("rehearse", "number"):
        parser.add_argument(name, type=int)
    asked = parser.parse_args()
    context = Context("process", asked.out, asked.work, asked.work, bool(asked.rehearse), 60.0)
    print(json.dumps(one_of_them(context, asked.folder, asked.number)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
