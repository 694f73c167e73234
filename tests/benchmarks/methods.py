"""Processor time of a training step of several methods, in turn and with one thread, and what K samples keep in memory.

    python tests/benchmarks/methods.py --against OTHER/.venv/bin/python

Every method has a process of its own, and takes a few steps whenever it is its turn: what else the machine does hits
all alike. ``--against``: the Python of another version, whose MoPoE-VAE takes its turns, too. Data are random.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from mmvae_cli import recipe as recipes
from mmvae_cli.model.objective import Objective, draw_noise
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.training import step as steps

STEP_LOSS = getattr(steps, "StepLoss", None) or steps.Step  # type: ignore[attr-defined]  # its name in version 0.1
METHODS = ("mopoe", "mmjsd", "mvtcae")
SAMPLES = (2, 4, 8, 16)


def stepper(name: str, overrides: list[str], batch: int) -> Callable[[], torch.Tensor]:
    """A function that takes a step of a shipped recipe and returns its loss."""
    recipe = recipes.load(name, [*overrides, f"training.batch_size={batch}"])
    torch.manual_seed(0)
    model, objective = MultimodalVAE(recipe), Objective.of(recipe)
    data = {name: torch.rand(batch, *spec.shape) for name, spec in recipe.modalities.items()}
    step, optimizer = STEP_LOSS(model, objective, "fp32"), steps.make_optimizer(model, 1e-3)

    def one() -> torch.Tensor:
        loss, _ = step(data, draw_noise(model, objective, data, batch, slice(None), "cpu"))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return one


def work(name: str, overrides: list[str], batch: int) -> None:
    """For each line of stdin, a number of steps: their processor time, in seconds, to stdout."""
    torch.set_num_threads(1)
    one = stepper(name, overrides, batch)
    for line in sys.stdin:
        start = time.process_time()
        for _ in range(int(line)):
            one()
        print(time.process_time() - start, flush=True)


class Worker:
    def __init__(self, python: str, *words: str) -> None:
        self.process = subprocess.Popen([python, __file__, "--worker", *words], text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)  # fmt: skip
        self.take(2)
        self.times: list[float] = []

    def take(self, steps: int) -> float:
        """Milliseconds a step."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return 1000 * float(self.process.stdout.readline()) / steps


def compare(asked: argparse.Namespace) -> None:
    """Milliseconds a step of every method, and the median of its turns against MoPoE-VAE's turn beside it."""
    words = (asked.recipe, str(asked.batch))
    workers = {method: Worker(sys.executable, *words, f"model.method={method}") for method in METHODS}
    if asked.against:
        workers["mopoe, the other version"] = Worker(asked.against, *words, "model.method=mopoe")
    for turn in range(asked.rounds):
        for name in list(workers)[:: 1 if turn % 2 else -1]:
            workers[name].times.append(workers[name].take(asked.steps))
    first = workers["mopoe"].times
    for name, worker in workers.items():
        ratio = statistics.median(own / base for own, base in zip(worker.times, first, strict=True))
        print(f"{name:<26} {statistics.median(worker.times):8.1f} ms  lowest {min(worker.times):8.1f}  x {ratio:.3f}")
        assert worker.process.stdin is not None
        worker.process.stdin.close()


def kept(samples: int) -> float:
    """MiB that a step of MMVAE (DReG) with K samples keeps for its gradient, weights aside."""
    one = stepper("quickstart", ["model.method=mmvae_dreg", f"objective.samples={samples}"], 8)
    sizes: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        one()
    return sum(sizes.values()) / 2**20


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        name, batch, *overrides = sys.argv[2:]
        work(name, overrides, int(batch))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="polymnist_mopoe")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=1, help="in a turn")
    parser.add_argument("--against", help="the Python of another version's environment")
    compare(asked := parser.parse_args())
    for samples in SAMPLES if asked.recipe == "polymnist_mopoe" else ():
        print(f"K = {samples:<3} keeps {kept(samples):7.1f} MiB for the gradient")


if __name__ == "__main__":
    main()
