"""A step that is recorded once and replayed: on a GPU one graph of it instead of some hundred launches."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import cycle
from typing import Any

import torch

from mmvae_cli.process import console, environment
from mmvae_cli.process.errors import in_one_line

CALLED = 3
"""Steps before the recording. They compile, choose algorithms and make Adam's state, and are steps like any other."""


class Recorded:
    """A step that is recorded as one CUDA graph and replayed. It takes no arguments and returns nothing: it reads and
    writes tensors that stay where they are, and draws from the device's generator, which is seeded between calls. It
    may not look at a number on the host. On a CPU it is simply called. ``lanes``: those that it opens, if any; where it
    cannot be recorded with them, it is recorded without."""

    def __init__(self, device: torch.device, *, record: bool = True, lanes: "Lanes | None" = None) -> None:
        self._device, self._lanes, self._calls = device, lanes, 0
        self._stream = torch.cuda.Stream(device) if record and device.type == "cuda" else None
        self._graph: torch.cuda.CUDAGraph | None = None

    def ordered(self) -> AbstractContextManager[Any]:
        """To be entered around the loop: what is done between two steps comes between them on the GPU, too."""
        if self._stream is None:
            return nullcontext()
        self._stream.wait_stream(torch.cuda.current_stream())
        return torch.cuda.stream(self._stream)

    def __call__(self, step: Callable[[], None]) -> None:
        if self._stream is not None and self._calls == CALLED:
            self._graph = self._recording_of(step)
        self._calls += 1
        if self._graph is None:
            step()
        else:
            self._graph.replay()

    def _recording_of(self, step: Callable[[], None]) -> "torch.cuda.CUDAGraph | None":
        if self._lanes is not None:
            if graph := self._recording(step, "the modalities are not computed side by side"):
                return graph
            self._lanes.close()
        return self._recording(step, "the step is not recorded")

    def _recording(self, step: Callable[[], None], lost: str) -> "torch.cuda.CUDAGraph | None":
        """The step noted down without being done; None, and a warning of what is ``lost``, where that fails."""
        graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        try:  # it ends on the stream on which it began, also where it fails in a lane
            with torch.cuda.graph(graph, pool=pool, stream=self._stream), torch.cuda.stream(self._stream):
                step()
        except Exception as error:
            reason = in_one_line(error.__context__ or error)  # the one that ends a recording says nothing of why
            console.warn(f"{lost}, which is slower: {reason[:200]}")
            if environment.debug():
                traceback.print_exc()
            with suppress(RuntimeError):  # torch before 2.12 leaves its memory as if the recording went on
                torch._C._cuda_endAllocateToPool(self._device.index, pool)
            self._free_generator()
            return None
        return graph

    def _free_generator(self) -> None:
        """A failed recording keeps the generator's state: give it another one with the same seed."""
        generator = torch.cuda.default_generators[self._device.index]
        fresh = torch.Generator(self._device).manual_seed(generator.initial_seed())
        generator.graphsafe_set_state(fresh.graphsafe_get_state())


class Lanes:
    """Runs independent parts of a step side by side, each on a CUDA stream of its own, which become branches of the
    graph. On a CPU they run one after the other."""

    def __init__(self, device: torch.device, count: int) -> None:
        self._streams = [torch.cuda.Stream(device) for _ in range(count)] if device.type == "cuda" else []

    def close(self) -> None:
        """From now on the parts run one after the other."""
        self._streams = []

    def __call__(self, parts: range) -> Iterator[int]:
        """Each of ``parts`` with its lane open. When all are through, the lanes are joined: no lane's memory is given
        out again while the main stream still reads it."""
        if not self._streams:
            yield from parts
            return
        main = torch.cuda.current_stream()
        for lane, part in zip(cycle(self._streams), parts, strict=False):
            lane.wait_stream(main)
            with torch.cuda.stream(lane):
                yield part
        for lane in self._streams[: len(parts)]:
            main.wait_stream(lane)
