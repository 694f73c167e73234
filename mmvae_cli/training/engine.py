"""The engine that takes the steps of a run, in the way that suits the device."""

import traceback
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch.nn.parallel import DistributedDataParallel

from mmvae_cli.compute import seeds
from mmvae_cli.compute.ranks import ProcessGroup
from mmvae_cli.compute.recorded import Lanes, Recorded
from mmvae_cli.compute.seeds import derive
from mmvae_cli.model.objective import draw_noise
from mmvae_cli.model.vae import as_it_is
from mmvae_cli.process import console, environment, signals
from mmvae_cli.recipe import TrainingSpec
from mmvae_cli.store.batches import Split, permutation
from mmvae_cli.training.meter import Meter
from mmvae_cli.training.step import RESULTS, StepLoss, learning_rate, normalises

WORTH_COMPILING = 5000
"""From so many steps on, compiling the networks saves more time than it takes."""


class Way(NamedTuple):
    """How steps are taken. On a CPU they are simply computed."""

    compiled: bool = False  # the networks by torch.compile
    recorded: bool = False  # the whole step as one CUDA graph
    lanes: bool = False  # modalities side by side


def way_of(
    device: torch.device, settings: TrainingSpec, group: ProcessGroup, steps: int, *, on_device: bool,
    complete: bool = True,
) -> Way:  # fmt: skip
    """The way for ``steps`` steps on ``device``; ``on_device``: the data lie there. Under torchrun neither the graph
    nor the lanes: the processes' exchange of gradients is not made for them. Nor where rows differ in what they have
    (not ``complete``): so do the sizes of a step's tensors. Warns where torch.compile does not work."""
    if device.type != "cuda" or settings.compile == "off":
        return Way()
    if not complete:
        console.say("incomplete data: each step is called, not recorded, because items differ in their modalities")
        return Way()
    compiled = steps > WORTH_COMPILING
    if compiled and (fault := compiler_fault(device)):
        console.warn(
            "the networks are not compiled, which is slower: torch.compile needs a C compiler and Python's headers "
            f"(Debian: gcc and python3-dev), and fails here: {fault}"
        )
        compiled = False
    return Way(compiled, recorded=on_device and group.size == 1, lanes=group.size == 1)


def compiler_fault(device: torch.device) -> str:
    """Why torch.compile does not work on this machine, in one line, tried with one number; "" where it does."""
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(1, device=device))
    except Exception as error:  # whatever stands between Python and the GPU's code: dynamo, inductor, triton, gcc
        return _told(error)
    return ""


def _told(error: Exception) -> str:
    """What was wrong, of the many lines that a compiler says."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.endswith("raised:")), type(error).__name__)[:160]


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=False)


class Engine:
    """Takes the steps of a run. ``start``: how many are done; ``total``: how many it has."""

    def __init__(
        self, step: StepLoss, optimizer: torch.optim.Optimizer, data: Split, settings: TrainingSpec,
        group: ProcessGroup, way: Way, *, start: int, total: int,
    ) -> None:  # fmt: skip
        self.data, self._count = data, data.count if data.used is None else len(data.used)
        self.per_epoch = self._count // settings.batch_size
        self._step, self._optimizer, self._settings, self._group, self._total = step, optimizer, settings, group, total
        self._rows, self._device = group.rows(settings.batch_size), data.device
        count = self._rows.stop - self._rows.start
        self.meter = Meter([*RESULTS, *step.terms], data.device, group, count, start)
        self._scale = count * group.size / settings.batch_size  # DDP averages over processes; their rows may differ
        self._items = torch.zeros(count, dtype=torch.int64, device=data.data_device)
        self._order, self._epoch, self._at = torch.empty(0), -1, start
        self._proven = not way.compiled or group.size > 1  # the first step shows whether the compiler is up to it
        self._forward = _wrapped(step, data.device, group, way)
        lanes = step.model.lanes if isinstance(step.model.lanes, Lanes) else None
        self._recorded = Recorded(data.device, record=way.recorded, lanes=lanes)
        self.ordered = self._recorded.ordered

    def take(self, at: int) -> None:
        """Step ``at``, from 0. Where the first one cannot be compiled, it and all others are taken without."""
        self._prepare(at)
        try:
            self._recorded(self._one)
            self._proven = True
            return
        except Exception as error:
            if self._proven or signals.requested() or isinstance(error, torch.OutOfMemoryError):
                raise
            console.warn(f"the networks are not compiled, which is slower: {_told(error)}")
            if environment.debug():
                traceback.print_exc()
        self._step.model.region, self._proven = as_it_is, True
        self.take(at)

    def _prepare(self, at: int) -> None:
        size, seed = self._settings.batch_size, self._settings.seed
        epoch, within = divmod(at, self.per_epoch)
        if epoch != self._epoch:
            order = permutation(self._count, seed, epoch, self.data.data_device)
            self._order, self._epoch = order if self.data.used is None else self.data.used[order], epoch
            self.data.begin(epoch)
        self._at = at
        self._items.copy_(self._order[within * size : (within + 1) * size][self._rows])
        seeds.seed(self._device, derive(seed, "step", at))
        self._step.warm_up(at, self.per_epoch)
        if self._settings.schedule != "constant":
            self._optimizer.param_groups[0]["lr"].fill_(self.rate(at))

    def rate(self, at: int) -> float:
        return learning_rate(self._settings, at, self._total)

    def _one(self) -> None:
        """The next step. Whatever changes from step to step lies in tensors or in the generator: it may be recorded."""
        model, objective, rows = self._step.model, self._step.objective, self._rows
        self._optimizer.zero_grad(set_to_none=True)
        if self.data.present is not None:
            return self._end(*self._by_pattern())
        batch = self.data.batch(self._items)
        noise = draw_noise(model, objective, model.names, self._settings.batch_size, rows, self._device)
        if self._group.size > 1:  # each row its own dropout mask, not the same ones in every process
            seeds.seed(self._device, derive(self._settings.seed, "step", self._at, "rows from", rows.start))
        self._end(*self._forward(batch, noise))

    def _by_pattern(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and terms where rows differ in what they have."""
        model, whole = self._step.model, slice(None)
        order, patterns = self.data.by_pattern(self._items)
        noises = [
            draw_noise(
                model, self._step.objective, [model.names[m] for m in own.present], own.rows, whole, self._device,
                mixed=len(patterns) > 1,
            )
            for own in patterns
        ]  # fmt: skip
        return self._forward(self.data.batch(self._items[order]), noises, patterns)

    def _end(self, loss: torch.Tensor, terms: torch.Tensor) -> None:
        (loss * self._scale if self._group.size > 1 else loss).backward()
        self.meter.add(terms)
        if self._device.type == "cpu":
            self.meter.check()  # before the weights are touched
        self._optimizer.step()


def _wrapped(step: StepLoss, device: torch.device, group: ProcessGroup, way: Way) -> Any:
    """The step, its networks compiled and its modalities in lanes as ``way`` says; under torchrun data-parallel. Batch
    normalisation then takes its statistics from the global batch on GPUs, and from each process's rows on CPUs, for
    which torch has no other."""
    if way.lanes:
        step.model.lanes = Lanes(device, len(step.model.names))
        warnings.filterwarnings("ignore", "The AccumulateGrad node's stream does not match")  # of what lanes share
    if way.compiled:
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")  # of a region's input
        config = torch._dynamo.config
        config.recompile_limit = max(config.recompile_limit, 2 * len(step.model.names))  # networks may all differ
        step.model.region = _compiled
    if group.size == 1:
        return step
    if device.type == "cuda":
        return DistributedDataParallel(torch.nn.SyncBatchNorm.convert_sync_batchnorm(step), device_ids=[device.index])
    if normalises(step):
        console.warn("batch normalisation sees each process's own rows on CPUs: one process gives other numbers")
    return DistributedDataParallel(step)
