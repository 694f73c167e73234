"""What a training step is worth: its terms, added up on the device, and the records that are logged of them."""

import math
import time
from typing import Any

import torch
from torch import Tensor

from mmvae_cli.compute.runtime import World
from mmvae_cli.process.errors import Diverged
from mmvae_cli.run.checkpoint import Position
from mmvae_cli.run.layout import Run
from mmvae_cli.training.step import RESULTS

FLUSHED_EVERY = 0.5
"""Seconds between two looks at a GPU's numbers."""


class Meter:
    """Adds up the terms on the device without waiting for it, and remembers the first step at which each was not
    finite; numbers reach the host only when they are logged or checked. ``rows``: how many of a batch are this
    process's; ``step``: how many steps are done already."""

    def __init__(self, names: list[str], device: torch.device, world: World, rows: int, step: int = 0) -> None:
        self.names, self.world, self.rows = names, world, rows
        self._sum = torch.zeros(len(names), device=device)
        self._bad = torch.full((len(names),), torch.inf, device=device, dtype=torch.double)
        self._step = torch.full((), step, device=device, dtype=torch.double)
        self._flushed, self._since = step, time.monotonic()

    def add(self, terms: Tensor) -> None:
        """The terms (T,) of the next step. It counts the steps in a tensor, as it may be recorded."""
        self._step += 1
        self._bad.copy_(torch.where(torch.isfinite(terms), self._bad, self._bad.minimum(self._step)))
        self._sum += terms * self.rows

    def is_due(self) -> bool:
        """Whether the time since the last flush is worth a flush: a GPU has to be waited for."""
        return not self._sum.is_cuda or self.world.size > 1 or time.monotonic() - self._since >= FLUSHED_EVERY

    def check(self) -> None:
        """Raise Diverged naming the terms (and so the modalities) that were not finite first, and when, on all ranks
        alike."""
        if self.world.size > 1:
            torch.distributed.all_reduce(self._bad, torch.distributed.ReduceOp.MIN)
        if not torch.isinf(self._bad).all():
            self._diverged(self._bad.tolist())

    def _diverged(self, steps: list[float]) -> None:
        first = min(steps)
        bad = [name for name, at in zip(self.names, steps, strict=True) if at == first]
        named = ", ".join([name for name in bad if name not in RESULTS][:6]) or "loss"
        raise Diverged(
            f"training diverged at step {int(first)}: not finite: {named}",
            "lower training.learning_rate or check the data",
        )

    def flush(self, step: int, epoch: int, batch_size: int, rate: float) -> dict[str, Any]:
        """The means of the ``steps`` since the last flush, over all ranks, and the speed; ``epoch`` counts from 0 as
        the data order does, in the record from 1."""
        steps = step - self._flushed
        if self.world.size > 1:
            torch.distributed.all_reduce(self._bad, torch.distributed.ReduceOp.MIN)
            torch.distributed.all_reduce(self._sum)
        found = torch.cat([(self._sum / (batch_size * steps)).double(), self._bad]).tolist()  # one wait
        values, bad = found[: len(self.names)], found[len(self.names) :]
        if min(bad) < math.inf:
            self._diverged(bad)
        now = time.monotonic()
        speed = steps * batch_size / (now - self._since)
        self._sum.zero_()
        self._flushed, self._since = step, now
        means = dict(zip(self.names, values, strict=True))
        record = {"step": step, "steps": steps, "epoch": epoch + 1, "learning_rate": rate, "items_per_second": speed}
        return record | means


class Log:
    """metrics.jsonl and, where the recipe asks for it, TensorBoard event files; rank 0 only."""

    def __init__(self, run: Run, tensorboard: bool, world: World) -> None:
        self._run, self._active, self._writer = run, world.rank == 0, None
        if tensorboard and self._active:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(run.folder / "tensorboard"))

    def write(self, record: dict[str, Any], position: Position, memory: float) -> None:
        if not self._active:
            return
        self._run.log([record | {"memory_mib": round(memory), "seconds": round(position.seconds, 3)}])
        if self._writer is not None:
            for name, value in record.items():
                self._writer.add_scalar(name.replace(".", "/"), value, record["step"])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
