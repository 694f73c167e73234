"""Processes that share the work of one command, as torchrun starts them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch

from mmvae_cli.process import signals
from mmvae_cli.process.environment import rank_and_size, seconds
from mmvae_cli.process.errors import Abandoned, Failure

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """This process's place in a data-parallel job; (0, 1) without torchrun."""

    rank: int
    size: int

    @classmethod
    def of_environment(cls) -> "ProcessGroup":
        """What torchrun says in RANK and WORLD_SIZE."""
        rank, size = rank_and_size()
        return cls(rank, size) if size > 1 else ALONE

    def rows(self, batch: int) -> slice:
        """This rank's part of the global batch; the parts differ by one row at most."""
        base, extra = divmod(batch, self.size)
        start = self.rank * base + min(self.rank, extra)
        return slice(start, start + base + (self.rank < extra))

    def share(self, things: Sequence[T]) -> Sequence[T]:
        """This rank's part of ``things``: every size-th one."""
        return things[self.rank :: self.size]


ALONE = ProcessGroup(0, 1)
TIMEOUT = {"train": 600, "evaluate": 7200}
"""Seconds that a process waits for the others. One that dies is noticed at once; this is for one that hangs. Processes
of a training run meet at every step, those of an evaluation only when a part is done."""
_LOST_SIGNS = ("gloo", "nccl", "connection", "timed out", "timeout", "socket", "store", "peer")


@contextmanager
def process_group(device: torch.device, verb: str) -> Iterator[ProcessGroup]:
    """Join the process group of torchrun's RANK and WORLD_SIZE (NCCL on GPUs, gloo on CPUs), and leave it at the end.

    Raises Failure (Abandoned, where a signal had come too) when another process dies or does not answer in time.
    """
    group = ProcessGroup.of_environment()
    if group.size == 1:
        yield group
        return
    _join(group, device, verb)
    try:
        yield group
    except RuntimeError as error:
        if not _is_lost_peer(error):
            raise
        kind = Abandoned if signals.requested() else Failure
        lost = kind(
            "another process of this job died, ended or stopped answering",
            "its own message or the scheduler's log says why; start the job again to go on",
        )
        lost.code = signals.exit_code() or lost.code
        raise lost from error
    torch.distributed.destroy_process_group()  # not after a failure: it would wait for those that are gone


def _join(group: ProcessGroup, device: torch.device, verb: str) -> None:
    timeout = timedelta(seconds=seconds("MMVAE_PATIENCE", TIMEOUT[verb]))
    try:
        if device.type == "cuda":
            torch.distributed.init_process_group("nccl", timeout=timeout, device_id=device)
        else:
            torch.distributed.init_process_group("gloo", timeout=timeout)
    except (RuntimeError, ValueError) as error:
        others = "the other process" if group.size == 2 else f"the other {group.size - 1} processes"
        raise Failure(f"cannot join {others}: {error}", "one of them may have died: its own message says why; several "
                      "processes are started by torchrun, or by srun as in recipes/slurm") from error  # fmt: skip


def _is_lost_peer(error: RuntimeError) -> bool:
    """Whether the error says that another process is gone. gloo's errors have no type of their own, so their words
    decide."""
    text = str(error).lower()
    return isinstance(error, torch.distributed.DistError) or any(sign in text for sign in _LOST_SIGNS)


def gather(group: ProcessGroup, value: T) -> list[T]:
    """What every process has, on all of them, in the order of ranks. The values are pickled, between our own processes
    only."""
    if group.size == 1:
        return [value]
    gathered: list[Any] = [None] * group.size
    torch.distributed.all_gather_object(gathered, value)
    return gathered
