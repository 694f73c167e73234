"""How steps are taken on a device, decided and told; what needs a GPU is stood in for."""

import contextlib
import gc
import json
import time
import weakref

import pytest
import torch
from tiny_recipes import tiny

from mmvae_cli.compute.ranks import ALONE, ProcessGroup
from mmvae_cli.compute.recorded import CALLED, Lanes, Recorded
from mmvae_cli.model.objective import Objective
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.process import signals
from mmvae_cli.process.errors import Stopped
from mmvae_cli.recipe import TrainingSpec
from mmvae_cli.run import checkpoint
from mmvae_cli.run.layout import Run
from mmvae_cli.store import Store
from mmvae_cli.store.batches import Split
from mmvae_cli.training import engine, loop, meter, pace
from mmvae_cli.training.engine import WORTH_COMPILING, Way, way_of
from mmvae_cli.training.loop import Request, train
from mmvae_cli.training.meter import Meter
from mmvae_cli.training.step import StepLoss, make_optimizer

from stores import image_store

SHAPE = (3, 8, 8)
GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
LONG = WORTH_COMPILING + 1
AUTO = TrainingSpec(epochs=1, batch_size=8, learning_rate=1e-3)
OFF = AUTO.model_copy(update={"compile": "off"})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return image_store(tmp_path_factory.mktemp("data") / "tiny", shape=SHAPE)


@pytest.mark.parametrize(("device", "settings", "group", "steps", "on_device", "way"), [
    (CPU, AUTO, ALONE, LONG, True, Way()),
    (GPU, OFF, ALONE, LONG, True, Way()),
    (GPU, AUTO, ALONE, LONG, True, Way(compiled=True, recorded=True, lanes=True)),
    (GPU, AUTO, ALONE, LONG - 1, True, Way(recorded=True, lanes=True)),
    (GPU, AUTO, ALONE, LONG, False, Way(compiled=True, lanes=True)),
    (GPU, AUTO, ProcessGroup(0, 2), LONG, True, Way(compiled=True)),
])  # fmt: skip
def test_the_way_suits_device_length_and_company(device, settings, group, steps, on_device, way, monkeypatch):
    monkeypatch.setattr(engine, "compiler_fault", lambda device: "")
    assert way_of(device, settings, group, steps, on_device=on_device) == way


@pytest.mark.parametrize(("error", "told"), [
    (RuntimeError("backend='inductor' raised:\nRuntimeError: Failed to find C compiler. Please specify via CC"),
     "RuntimeError: Failed to find C compiler. Please specify via CC"),
    (FileNotFoundError(), "FileNotFoundError"),
])  # fmt: skip
def test_a_compiler_that_does_not_work_is_one_warning(error, told, monkeypatch, capsys):
    def broken(function):
        def call(*args):
            raise error

        return call

    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr(torch, "zeros", lambda *shape, device: None)
    assert way_of(GPU, AUTO, ALONE, LONG, on_device=True) == Way(recorded=True, lanes=True)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("warning: the networks are not compiled")
    assert lines[0].endswith(told)
    assert "gcc and python3-dev" in lines[0]


class Cuda:
    """Stands in for torch.cuda's streams and graphs, and notes what is done with them."""

    def __init__(self, monkeypatch):
        self.notes, self.open = [], ["main"]
        for name in ("Stream", "CUDAGraph", "graph", "graph_pool_handle", "stream", "current_stream"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", self.end_allocating)
        self._made = 0

    def Stream(self, device):
        self._made += 1
        return Stream(self, f"stream {self._made}")

    def CUDAGraph(self):
        return Graph(self)

    def graph_pool_handle(self):
        return (0, 7)

    def end_allocating(self, device, pool):
        """As torch that has done it itself: it says so."""
        self.notes.append(f"allocations of {pool} on {device} end")
        raise RuntimeError("endAllocatePool: not currently recording to mempool_id")

    def current_stream(self):
        return Stream(self, self.open[-1])

    @contextlib.contextmanager
    def stream(self, stream):
        before = self.open[:]
        self.open.append(stream.name)
        try:
            yield
        finally:
            self.open[:] = before

    @contextlib.contextmanager
    def graph(self, graph, pool, stream):
        """Ends, as torch's does, in an error of its own where what was recorded failed."""
        assert pool == self.graph_pool_handle()
        self.notes.append(f"recording on {stream.name}")
        try:
            yield
        except RuntimeError:
            assert self.open[-1] == stream.name, "Capture must end on the same stream it began on."
            raise RuntimeError("operation failed due to a previous error during capture") from None


class Stream:
    def __init__(self, cuda, name):
        self.cuda, self.name = cuda, name

    def wait_stream(self, other):
        self.cuda.notes.append(f"{self.name} waits for {other.name}")


class Graph:
    def __init__(self, cuda):
        self.cuda = cuda

    def replay(self):
        self.cuda.notes.append("replay")


def test_a_step_is_called_recorded_and_replayed(monkeypatch):
    cuda = Cuda(monkeypatch)
    recorded = Recorded(GPU)
    with recorded.ordered():
        for _ in range(CALLED + 2):
            recorded(lambda: cuda.notes.append(f"step on {cuda.open[-1]}"))
    called, recording = ["step on stream 1"] * CALLED, ["recording on stream 1", "step on stream 1"]
    assert cuda.notes == ["stream 1 waits for main", *called, *recording, "replay", "replay"]


@pytest.fixture
def seeds(monkeypatch):
    """The seeds with which a generator is replaced."""
    found = []

    class Generator:
        def __init__(self, device=None):
            self.seed = 7

        def initial_seed(self):
            return self.seed

        def manual_seed(self, seed):
            self.seed = seed
            return self

        def graphsafe_get_state(self):
            return self.seed

        graphsafe_set_state = found.append

    monkeypatch.setattr(torch.cuda, "default_generators", [Generator()])
    monkeypatch.setattr(torch, "Generator", Generator)
    return found


def test_a_recording_that_fails_is_one_warning_and_the_step_is_called(monkeypatch, seeds, capsys):
    cuda = Cuda(monkeypatch)

    def one():
        if cuda.notes[-1].startswith("recording"):
            cuda.notes.append("step")
            raise RuntimeError("operation not permitted when stream is capturing\nmore lines")
        cuda.notes.append("step")

    recorded = Recorded(GPU)
    with recorded.ordered():
        for _ in range(CALLED + 3):
            recorded(one)
    assert cuda.notes.count("recording on stream 1") == 1
    assert cuda.notes.count("step") == CALLED + 1 + 3
    assert "replay" not in cuda.notes
    assert cuda.notes.count(f"allocations of (0, 7) on {GPU.index} end") == 1
    assert seeds == [7], "the noise of the step that was to be recorded is drawn by the same seed"
    assert capsys.readouterr().err == (
        "warning: the step is not recorded, which is slower: RuntimeError: operation not permitted when stream is "
        "capturing\n"
    )


def test_a_step_that_cannot_be_recorded_in_lanes_is_recorded_without(monkeypatch, seeds, capsys):
    cuda = Cuda(monkeypatch)
    lanes = Lanes(GPU, 2)

    def one():
        for part in lanes(range(2)):
            cuda.notes.append(f"part {part} on {cuda.open[-1]}")
            if part and "recording on stream 3" in cuda.notes and lanes._streams:
                raise RuntimeError("dependency created on uncaptured work")

    recorded = Recorded(GPU, lanes=lanes)
    with recorded.ordered():
        for _ in range(CALLED + 2):
            recorded(one)
        assert cuda.open == ["main", "stream 3"]
    recording = ["recording on stream 3", "part 0 on stream 3", "part 1 on stream 3"]
    assert cuda.notes[-5:] == [*recording, "replay", "replay"]
    assert seeds == [7]
    assert capsys.readouterr().err == (
        "warning: the modalities are not computed side by side, which is slower: RuntimeError: dependency created on "
        "uncaptured work\n"
    )


def test_a_network_that_cannot_be_compiled_is_told_and_computed_all_the_same(dataset, tmp_path, monkeypatch, capsys):
    def backend(graph, inputs):
        graphs.append(graph)
        if len(graphs) == 2:  # the encoder can be compiled
            raise RuntimeError("out of resource: shared memory")
        return graph.forward

    graphs, recipe = [], tiny(3, shape=SHAPE, training__log_every=1)
    expected = train(recipe, Request(tmp_path / "plain", dataset, "cpu"))
    torch._dynamo.reset()
    monkeypatch.setattr(engine, "_compiled", lambda function: torch.compile(function, backend=backend))
    monkeypatch.setattr(loop, "way_of", lambda *ignored, **more: Way(compiled=True))
    found = train(recipe, Request(tmp_path / "compiled", dataset, "cpu"))
    assert len(graphs) == 2
    assert "warning: the networks are not compiled, which is slower: RuntimeError: out of resource: shared memory" in (
        capsys.readouterr().err
    )
    losses = [[json.loads(line)["loss"] for line in Run(run).metrics_path.read_text().splitlines()]
              for run in (expected, found)]  # fmt: skip
    assert losses[0] == losses[1]


def test_memory_that_runs_out_in_the_first_step_is_no_fault_of_the_compiler(dataset, tmp_path, monkeypatch, capsys):
    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine, "_compiled", lambda function: full)
    monkeypatch.setattr(loop, "way_of", lambda *ignored, **more: Way(compiled=True))
    with pytest.raises(torch.OutOfMemoryError):
        train(tiny(3, shape=SHAPE), Request(tmp_path / "run", dataset, "cpu"))
    assert "not compiled" not in capsys.readouterr().err


def test_a_step_that_shall_not_be_recorded_is_called_where_it_stands(monkeypatch):
    cuda = Cuda(monkeypatch)
    recorded = Recorded(GPU, record=False)
    with recorded.ordered():
        for _ in range(CALLED + 2):
            recorded(lambda: cuda.notes.append(f"step on {cuda.open[-1]}"))
    assert cuda.notes == ["step on main"] * (CALLED + 2)


def test_lanes_fork_from_the_main_stream_and_are_joined(monkeypatch):
    cuda = Cuda(monkeypatch)
    lanes = Lanes(GPU, 2)
    for part in lanes(range(3)):
        cuda.notes.append(f"part {part} on {cuda.open[-1]}")
    assert cuda.notes == [
        "stream 1 waits for main", "part 0 on stream 1", "stream 2 waits for main", "part 1 on stream 2",
        "stream 1 waits for main", "part 2 on stream 1", "main waits for stream 1", "main waits for stream 2",
    ]  # fmt: skip
    assert cuda.open == ["main"]
    assert list(Lanes(CPU, 2)(range(3))) == [0, 1, 2]


def test_a_gpu_is_looked_at_twice_a_second_at_most(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(meter.time, "monotonic", lambda: clock[0])
    on_cpu, on_gpu = Meter(["loss"], CPU, ALONE, 8), Meter(["loss"], CPU, ALONE, 8)
    on_gpu._sum = type("OnGpu", (), {"is_cuda": True})()
    assert (on_cpu.is_due(), on_gpu.is_due()) == (True, False)
    clock[0] = 0.5
    assert on_gpu.is_due()
    on_gpu.group, clock[0] = ProcessGroup(0, 2), 0.1
    assert on_gpu.is_due(), "processes that exchange their terms must agree when"


def test_saving_takes_a_twentieth_of_the_time_at_most(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: clock[0])
    saving = pace.Saving()

    def save(seconds):
        with saving:
            clock[0] += seconds

    assert saving.is_due()
    save(0.09)
    assert saving.is_due(), "a quick one costs nothing"
    save(2.0)
    clock[0] += 39.9
    assert not saving.is_due()
    clock[0] += 0.2
    assert saving.is_due()


def test_slow_checkpoints_are_left_out_but_not_the_last_one(dataset, tmp_path, monkeypatch):
    real, saved = checkpoint.save, []

    def slow(path, *rest):
        saved.append(path.name)
        time.sleep(2 * pace.QUICK_SAVING)
        real(path, *rest)

    monkeypatch.setattr(checkpoint, "save", slow)
    monkeypatch.setattr(pace, "SAVING_SHARE", 1000)
    run = Run(train(tiny(3, shape=SHAPE, training__epochs=4), Request(tmp_path / "run", dataset)))
    assert saved == ["step-00000005.safetensors", "step-00000020.safetensors"]
    assert run.status()["state"] == "finished"


def test_helpers_that_a_signal_ended_are_no_failure(dataset, tmp_path, monkeypatch):
    """SIGTERM to all processes of a job ends those that compile before the step that waits for them is done."""

    def ended(self, at):
        monkeypatch.setattr(signals, "_received", "SIGTERM")
        raise RuntimeError("A child process terminated abruptly, the process pool is not usable anymore")

    monkeypatch.setattr(engine.Engine, "take", ended)
    with pytest.raises(Stopped, match="step 1 was given up"):
        train(tiny(3, shape=SHAPE), Request(tmp_path / "run", dataset))


def test_what_ended_a_run_unexpectedly_is_in_its_status(dataset, tmp_path, monkeypatch):
    def full(self, at):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of")

    monkeypatch.setattr(engine.Engine, "take", full)
    with pytest.raises(torch.OutOfMemoryError):
        train(tiny(3, shape=SHAPE), Request(tmp_path / "run", dataset))
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "failed"
    assert status["reason"] == "the GPU has too little memory: CUDA out of memory. Tried to allocate 2.00 GiB"


def test_an_engine_goes_when_it_is_let_go(dataset):
    """Nothing in it holds it: what data-parallel processes share has to end before their group does."""
    recipe = tiny(3, shape=SHAPE)
    step = StepLoss(MultimodalVAE(recipe), Objective.of(recipe), "fp32")
    data = Split(Store(dataset), "train", step.model.names, CPU, 0)
    made = engine.Engine(
        step, make_optimizer(step.model, 1e-3), data, recipe.training, ALONE, Way(), start=0, total=10
    )  # fmt: skip
    made.take(0)
    gone = weakref.ref(made)
    gc.disable()
    try:
        del made
        assert gone() is None
    finally:
        gc.enable()
