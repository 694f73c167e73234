"""The terms of training steps: added up on the device, checked, and written as records."""

import math
import time
from typing import Any

import torch
from torch import Tensor

from mmvae_cli.compute.ranks import ProcessGroup
from mmvae_cli.process.errors import Diverged
from mmvae_cli.training.step import RESULTS

_OF_A_MODALITY = "log_likelihood."
FLUSHED_EVERY = 0.5
"""Seconds between two looks at a GPU's numbers."""


class Meter:
    """Adds up the terms on the device without waiting for it, and remembers the first step at which each was not
    finite; numbers reach the host only when they are logged or checked. ``rows``: how many of a batch are this
    process's; ``step``: how many steps are done already."""

    def __init__(self, names: list[str], device: torch.device, group: ProcessGroup, rows: int, step: int = 0) -> None:
        self.names, self.group, self.rows = names, group, rows
        self._sum = torch.zeros(len(names), device=device)
        self._counts: Tensor | None = None  # of the rows that had each term, where not all have all of them
        self._bad = torch.full((len(names),), torch.inf, device=device, dtype=torch.double)
        self._step = torch.full((), step, device=device, dtype=torch.double)
        self._flushed, self._since = step, time.monotonic()

    def add(self, terms: Tensor) -> None:
        """The terms (T,) of the next step, or (2, T) with how many rows each is the mean of. It counts the steps in a
        tensor, as it may be recorded."""
        rows: Tensor | int = self.rows
        if terms.dim() == 2:
            terms, counts = terms
            self._counts, rows = counts if self._counts is None else self._counts + counts, counts
        self._step += 1
        self._bad.copy_(torch.where(torch.isfinite(terms), self._bad, self._bad.minimum(self._step)))
        self._sum += terms * rows

    def is_due(self) -> bool:
        """Whether a flush, for which a GPU has to be waited for, is due."""
        return not self._sum.is_cuda or self.group.size > 1 or time.monotonic() - self._since >= FLUSHED_EVERY

    def check(self) -> None:
        """Raise Diverged naming the terms (and so the modalities) that were not finite first, and when, on all ranks
        alike."""
        if self.group.size > 1:
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
        the data order does, in the record from 1. Where rows differ in what they have, a mean is over the rows that
        have the term, and ``present.m0`` is the share of rows that have m0."""
        steps = step - self._flushed
        if self.group.size > 1:
            torch.distributed.all_reduce(self._bad, torch.distributed.ReduceOp.MIN)
            torch.distributed.all_reduce(self._sum)
        rows = torch.full_like(self._sum, batch_size * steps) if self._counts is None else self._counts
        totals = torch.stack([(self._sum / rows).double(), self._bad, rows.double()]).tolist()  # one wait
        values, bad, counts = totals
        if min(bad) < math.inf:
            self._diverged(bad)
        now = time.monotonic()
        speed = steps * batch_size / (now - self._since)
        self._sum.zero_()
        differ = self._counts is not None
        self._counts, self._flushed, self._since = None, step, now
        means = {name: value for name, value, count in zip(self.names, values, counts, strict=True) if count}
        for name, count in zip(self.names, counts, strict=True) if differ else ():
            if name.startswith(_OF_A_MODALITY):
                means[f"present.{name.removeprefix(_OF_A_MODALITY)}"] = count / (batch_size * steps)
        record = {"step": step, "steps": steps, "epoch": epoch + 1, "learning_rate": rate, "items_per_second": speed}
        return record | means
