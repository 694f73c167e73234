"""Which device is used, what is said where it cannot be, and what memory it has; GPUs are stood in for."""

import os
import platform
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch
from tiny_recipes import tiny

from mmvae_cli.compute import devices, ranks, seeds
from mmvae_cli.compute.ranks import ProcessGroup
from mmvae_cli.evaluation.encoding import Evaluation
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.process import cores
from mmvae_cli.process.errors import EXIT_FAILED, Failure, UsageProblem, of_the_machine

GPU = torch.device("cuda", 0)
OLD = ("CUDA initialization: The NVIDIA driver on your system is too old (found version 11040). Please update your GPU "
       "driver by downloading and installing a new version")  # fmt: skip
FOUND = "The NVIDIA driver on your system is too old (found version 11040)"


@pytest.fixture
def unusable(monkeypatch):
    """A machine whose GPU torch cannot use; set what torch warns of, and whether it was built with CUDA."""
    state = SimpleNamespace(said="", built="13.0", device=True)

    def is_available():
        if state.said:
            warnings.warn(state.said, stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    monkeypatch.setattr(devices, "NVIDIA", SimpleNamespace(exists=lambda: state.device))
    monkeypatch.setattr(torch.version, "cuda", state.built)
    return state


def test_a_driver_that_is_too_old_is_told_and_the_cpu_is_taken(unusable, capsys):
    unusable.said = OLD
    assert devices.pick_device("auto") == torch.device("cpu")
    said = capsys.readouterr().err.splitlines()
    assert said == [f"warning: the GPU is not used: {FOUND}; --device cpu says that none is wanted"]
    assert devices.pick_device("cpu") == torch.device("cpu")
    assert capsys.readouterr().err == ""


def test_a_gpu_that_was_asked_for_and_cannot_be_used_is_refused(unusable):
    unusable.said = OLD
    with pytest.raises(UsageProblem, match=r"--device cuda: this machine has no usable CUDA device: The NVIDIA driver"):
        devices.pick_device("cuda")


@pytest.mark.parametrize(("name", "why"), [("mps", "Apple's GPUs have no 64-bit floats"), ("gpu", "or cuda:N$")])
def test_a_device_that_is_none_of_ours_is_refused_with_the_reason(name, why):
    with pytest.raises(UsageProblem, match=why):
        devices.pick_device(name)


def test_processes_of_one_machine_take_a_gpu_each(monkeypatch):
    monkeypatch.setattr(devices, "_why_no_gpu", lambda: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    assert devices.pick_device("cuda:1") == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert devices.pick_device("cuda") == torch.device("cuda", 1)
    with pytest.raises(UsageProblem, match=r"--device cuda:1: 2 processes of torchrun cannot share a GPU"):
        devices.pick_device("cuda:1")


def test_torch_without_cuda_beside_a_gpu_is_told(unusable, monkeypatch, capsys):
    monkeypatch.setattr(torch.version, "cuda", None)
    assert devices.pick_device("auto") == torch.device("cpu")
    assert "is built without CUDA" in capsys.readouterr().err


def test_a_machine_without_a_gpu_is_not_blamed(unusable, capsys):
    unusable.device = False
    assert devices.pick_device("auto") == torch.device("cpu")
    assert capsys.readouterr().err == ""
    with pytest.raises(UsageProblem, match=r"no usable CUDA device\nhint: use --device cpu or auto$"):
        devices.pick_device("cuda:1")


@pytest.mark.parametrize(("error", "told"), [
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB"),
     "the GPU has too little memory: CUDA out of memory. Tried to allocate 2.00 GiB"),
    (RuntimeError("CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors might be"),
     "torch is not built for this kind of GPU: CUDA error: no kernel image is available for execution on the device"),
    (RuntimeError(OLD), f"the GPU's driver is too old for this torch: CUDA initialization: {FOUND}"),
    (RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
     "the GPU is taken by another process: CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
    (RuntimeError("CUDA error: unspecified launch failure"), "the GPU failed: CUDA error: unspecified launch failure"),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you "
                  "tried to allocate 64 bytes."), "this machine has too little memory"),
])  # fmt: skip
def test_what_the_machine_fails_at_is_one_line_and_what_to_do(error, told):
    found = of_the_machine(error)
    assert isinstance(found, Failure)
    assert str(found).startswith(told)
    assert "\n" not in str(found) + found.hint
    assert found.hint


@pytest.mark.parametrize("error", [RuntimeError("shape '[3]' is invalid"), ValueError("CUDA error: no")])
def test_other_errors_stay_what_they_are(error):
    assert of_the_machine(error) is None


def test_the_command_ends_with_that_line():
    code = ("import sys, torch, mmvae_cli.cli as cli\n"
            "def full(): raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0')\n"
            "cli.app = full; cli.main()")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == EXIT_FAILED
    lines = done.stderr.splitlines()
    assert lines[0] == "error: the GPU has too little memory: CUDA out of memory. Tried to allocate 2.00 GiB"
    assert lines[1].startswith("  hint: lower training.batch_size")
    assert len(lines) == 2


@pytest.mark.parametrize("code", [0, 4])
def test_one_process_of_several_ends_with_its_own_code_whatever_its_threads_do_then(code):
    run = ("import atexit, os, mmvae_cli.cli as cli\n"
           "from mmvae_cli.process.errors import Diverged\n"
           "atexit.register(os.abort)  # as torch.distributed's threads may\n"
           f"def app():\n    print('done')\n    if {code}: raise Diverged('x')\n"
           "cli.app = app; cli.main()")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, timeout=60, check=False,
                          env=os.environ | {"RANK": "1", "WORLD_SIZE": "2"})  # fmt: skip
    assert (done.returncode, done.stdout) == (code, "done\n")


def test_nccl_is_told_the_device(monkeypatch):
    """Or it guesses one at the first collective."""
    calls = []
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *args, **keys: calls.append((args, keys)))
    ranks._join(ProcessGroup(0, 2), GPU, "train")
    ranks._join(ProcessGroup(0, 2), torch.device("cpu"), "train")
    assert [(args, keys.get("device_id")) for args, keys in calls] == [(("nccl",), GPU), (("gloo",), None)]


def test_only_the_generator_of_the_device_is_seeded(monkeypatch):
    generators = (torch.Generator(), torch.Generator())
    monkeypatch.setattr(torch.cuda, "default_generators", generators)
    seeds.seed(torch.device("cuda", 1), 11)
    assert [generator.initial_seed() == 11 for generator in generators] == [False, True]


def test_the_same_numbers_as_by_seeding_everything():
    torch.manual_seed(2**62 + 1)
    expected = torch.randn(5)
    seeds.seed(torch.device("cpu"), 2**62 + 1)
    assert torch.equal(torch.randn(5), expected)


def test_what_torch_holds_of_a_gpu_unused_counts_as_left(monkeypatch):
    for name, value in (("mem_get_info", (100, 1000)), ("memory_reserved", 70), ("memory_allocated", 20)):
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert devices.memory_left(GPU) == 150


@pytest.mark.parametrize(("precision", "products"), [("tf32", "tf32"), ("bf16", "tf32"), ("fp32", "ieee")])
def test_convolutions_and_recurrent_layers_have_one_precision(precision, products):
    devices.set_precision(precision)
    assert [torch._C._get_fp32_precision_getter("cuda", layers) for layers in ("conv", "rnn")] == [products] * 2


def test_files_that_a_container_keeps_in_memory_are_not_gone(tmp_path, monkeypatch):
    for name, said in (("max", "1000\n"), ("current", "900\n"), ("stat", "anon 300\nfile 600\ninactive_file 500\n")):
        (tmp_path / f"memory.{name}").write_text(said)
    monkeypatch.setattr(devices, "CGROUP", tmp_path)
    assert devices.memory_left(torch.device("cpu")) == 600
    (tmp_path / "memory.max").write_text("max\n")  # no limit
    assert devices.memory_left(torch.device("cpu")) > 1000


def test_fewer_latents_are_decoded_at_once_where_memory_is_short(monkeypatch):
    """On a GPU; on a CPU it is always the same number, and so are the results."""
    recipe = tiny(2, shape=(3, 8, 8))
    model = MultimodalVAE(recipe).eval()
    each = 16 * model.largest_output()
    assert model.largest_output() == 32 * 4 * 4
    found = []
    for left in (100 * each, 1e12, 1):
        monkeypatch.setattr(devices, "memory_left", lambda device, left=left: left)
        found.append(Evaluation(model, recipe, None, GPU).latents_at_once)
    assert found == [50, 8192, 1]
    assert Evaluation(model, recipe, None, torch.device("cpu")).latents_at_once == 1024


# threads -------------------------------------------------------------------------------------------------------------

CPU = torch.device("cpu")
BUSY, QUIET = 1.1, 4.0


@pytest.fixture
def threads(monkeypatch):
    """Four threads, and four cores of which others leave ``free``; ``told``: by the user."""
    state = SimpleNamespace(count=4, free=QUIET, told=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: state.count)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: setattr(state, "count", count))
    monkeypatch.setattr(cores, "free", lambda: state.free)
    monkeypatch.setattr(cores, "told", lambda: state.told)
    return state


@pytest.mark.parametrize(("free", "known", "choose", "count", "said"), [
    (QUIET, {}, True, 4, ""),
    (BUSY, {}, True, 1, "1 of 4 threads, as other work leaves 1.1 cores free; OMP_NUM_THREADS sets another number"),
    (BUSY, {}, False, 4, "warning: 4 threads, but other work leaves 1.1 cores free"),
    (QUIET, {"threads": 1}, True, 1, "1 of 4 threads, as this run has trained"),
    (QUIET, {"threads": 2}, False, 2, "2 of 4 threads, as this run has trained"),
    (BUSY, {"threads": 4}, True, 4, "OMP_NUM_THREADS=1 in front of the command avoids that"),
    (BUSY, {"threads": 4, "host": "elsewhere"}, True, 1, "as other work leaves"),
    (QUIET, {"threads": 64}, True, 4, ""),
    (QUIET, {"threads": "many"}, True, 4, ""),
])  # fmt: skip
def test_threads_are_those_of_the_run_or_those_that_find_a_core(free, known, choose, count, said, threads, capsys):
    threads.free = free
    devices.use_threads(CPU, {"host": platform.node()} | known, choose=choose)
    assert threads.count == count
    assert said in (told := capsys.readouterr().err)
    assert len(told.splitlines()) == bool(said)


@pytest.mark.parametrize(("free", "lines"), [(QUIET, 0), (BUSY, 1)])
def test_what_the_user_says_of_threads_stays(free, lines, threads, capsys):
    threads.free, threads.told = free, True
    devices.use_threads(CPU, {"host": platform.node(), "threads": 1}, choose=True)
    assert threads.count == 4
    assert len(capsys.readouterr().err.splitlines()) == lines


def test_beside_a_gpu_threads_are_left_as_they_are(threads, capsys):
    threads.free = BUSY
    devices.use_threads(GPU, {}, choose=True)
    assert (threads.count, capsys.readouterr().err) == (4, "")


@pytest.mark.parametrize(("signal", "code"), [(None, 1), ("SIGTERM", 75), ("SIGINT", 130)])
def test_a_process_left_alone_ends_as_the_signal_says(signal, code, monkeypatch):
    monkeypatch.setattr(ranks, "_join", lambda *_: None)
    monkeypatch.setattr("mmvae_cli.process.signals._received", signal)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(Failure, match="another process of this job died") as failed,
        ranks.process_group(torch.device("cpu"), "train"),
    ):
        raise RuntimeError("gloo: Connection closed by peer")
    assert failed.value.code == code


@pytest.mark.parametrize(
    ("precision", "device", "line", "told"),
    [
        ("bf16", CPU, "flags\t\t: fpu avx2 fma", True),
        ("bf16", CPU, "flags\t\t: fpu avx512f avx512_bf16", False),
        ("bf16", CPU, "Features\t: fp asimd bf16", False),
        ("bf16", CPU, "Features\t: fp asimd", True),
        ("bf16", CPU, "processor\t: 0", False),  # unknown: nothing is claimed
        ("tf32", CPU, "flags\t\t: fpu avx2 fma", False),
        ("bf16", GPU, "flags\t\t: fpu avx2 fma", False),
    ],
)
def test_bf16_on_a_processor_without_it_is_told(precision, device, line, told, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(devices, "CPUINFO", tmp_path / "cpuinfo")
    devices.CPUINFO.write_text(f"processor\t: 0\n{line}\npower management:\n")
    devices.warn_of_slow_bf16(precision, device)
    assert ("give training.precision=tf32" in capsys.readouterr().err) is told
