"""Where a command computes: the device, its precision, threads and memory. Imports torch."""

import os
import platform
import re
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from mmvae_cli import __version__
from mmvae_cli.process import console, cores, provenance
from mmvae_cli.process.errors import UsageProblem

NVIDIA = Path("/dev/nvidia0")
"""Exists where the driver of an NVIDIA GPU is loaded."""
CGROUP = Path("/sys/fs/cgroup")
"""Where Linux says, inside a container, how much memory that may use and uses."""

CPUINFO = Path("/proc/cpuinfo")
"""What Linux says of the processor: one line of it names the instructions."""


def pick_device(name: str) -> torch.device:
    """``auto`` (CUDA where torch can use it, else the CPU, with a warning where a GPU is there in vain), ``cpu``,
    ``cuda`` or ``cuda:N``. Raises UsageProblem for a missing GPU."""
    if name not in ("auto", "cpu", "cuda") and not name.startswith("cuda:"):
        why = "; Apple's GPUs have no 64-bit floats, in which terms and scores are summed" if name == "mps" else ""
        raise UsageProblem(f"--device {name!r}: use auto, cpu, cuda or cuda:N{why}")
    fault = None if name == "cpu" else _why_no_gpu()
    if fault and name == "auto":
        console.warn(f"the GPU is not used: {fault}; --device cpu says that none is wanted")
    if name == "cpu" or (fault is not None and name == "auto"):
        return torch.device("cpu")
    if fault is not None:
        reason = f": {fault}" if fault else ""
        raise UsageProblem(
            f"--device {name}: this machine has no usable CUDA device{reason}", "use --device cpu or auto"
        )
    index, together = name.partition(":")[2], os.environ.get("LOCAL_WORLD_SIZE", "1")
    if index and together != "1":
        raise UsageProblem(
            f"--device {name}: {together} processes of torchrun cannot share a GPU", "each takes its own: --device cuda"
        )
    index = index or os.environ.get("LOCAL_RANK", "0")
    if not index.isdigit() or int(index) >= torch.cuda.device_count():
        raise UsageProblem(f"--device cuda:{index}: this machine has {torch.cuda.device_count()} CUDA device(s)")
    device = torch.device("cuda", int(index))
    torch.cuda.set_device(device)
    return device


def _why_no_gpu() -> str | None:
    """None where torch can use a GPU; else why not, "" where there is simply none."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return None
    if said:  # the driver is too old, or does not answer
        return str(said[-1].message).removeprefix("CUDA initialization: ").split(". ")[0]
    if torch.version.cuda is None and NVIDIA.exists():
        return f"torch {torch.__version__} is built without CUDA (https://pytorch.org has one with it)"
    return ""


def set_precision(precision: str) -> None:
    """fp32: exact products; tf32: TensorFloat-32 in matrix products, convolutions and recurrent layers (GPU only)."""
    rounded = precision in ("tf32", "bf16")
    if torch.cuda.is_available():  # by the older call: the compiler of torch 2.9 and 2.10 reads that one
        torch.set_float32_matmul_precision("high" if rounded else "highest")
    cudnn: Any = torch.backends.cudnn
    cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision = "tf32" if rounded else "ieee"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """bf16 autocast around the networks where the recipe asks for it; parameters, fusion and densities stay fp32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def warn_of_slow_bf16(precision: str, device: torch.device) -> None:
    """Say so where networks are to compute in bf16 on a CPU that has no instructions for it: every product then
    converts its numbers there and back (celeba_quick on an EPYC of Zen 3: 8 times the time of fp32)."""
    if precision != "bf16" or device.type != "cpu" or not CPUINFO.exists():
        return
    instructions = re.search(r"^(?:flags|Features)\s*:(.*)$", CPUINFO.read_text(), re.MULTILINE)
    if instructions and not {"avx512_bf16", "amx_bf16", "bf16"} & set(instructions[1].split()):
        console.warn(
            "this processor has no bf16 instructions, so that a step takes several times as long as in fp32; "
            "give training.precision=tf32"
        )


def use_threads(device: torch.device, known: dict[str, Any], *, choose: bool) -> None:
    """Set how many threads compute on a CPU, unless OMP_NUM_THREADS says it. Results depend on the number, so a run
    that goes on keeps the number it has trained with on this host (``known``: its environment.json). Otherwise, with
    ``choose``, there are as many threads as free cores. Warns where there are more."""
    if device.type != "cpu":
        return
    most = torch.get_num_threads()
    fit, before = cores.fitting(most), known.get("threads") if known.get("host") == platform.node() else None
    if not cores.told():
        kept = before if isinstance(before, int) and 1 <= before <= most else None
        if (wanted := kept or (fit if choose else most)) < most:
            why = "as this run has trained" if kept else f"as other work leaves {cores.free():.1f} cores free"
            console.say(f"{wanted} of {most} threads, {why}; OMP_NUM_THREADS sets another number")
            torch.set_num_threads(wanted)
    if torch.get_num_threads() > fit:
        console.warn(
            f"{torch.get_num_threads()} threads, but other work leaves {cores.free():.1f} cores free: a step may take "
            f"many times as long as on a quiet machine; OMP_NUM_THREADS={fit} in front of the command avoids that"
        )


def environment(device: torch.device, **facts: Any) -> dict[str, Any]:
    """What environment.json says: version and commit, packages, device, threads, the command line."""
    packages = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pydantic", "safetensors", "pillow")
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    commit, unknown = provenance.commit()
    return {
        "mmvae": __version__, "commit": commit, "commit_unknown_because": unknown,
        "python": platform.python_version(), "platform": platform.platform(), "host": platform.node(),
        "packages": {name: metadata.version(name) for name in packages},
        "device": str(device), "gpu": gpu, "cuda": torch.version.cuda,
        "cpu": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads(),
        "command": sys.argv, **facts,
    }  # fmt: skip


def memory_left(device: torch.device) -> float:
    """Bytes that this process can still get: free memory of the GPU with what torch holds of it unused; available
    memory of the machine, or what the container it runs in has left, files that Linux keeps in memory not counted;
    infinity where neither is known."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + kept)
    left = float("inf")
    with suppress(OSError, ValueError, IndexError):
        line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
        left = 1024.0 * int(line.split()[1])
    with suppress(OSError, ValueError):
        cache = re.search(r"^inactive_file (\d+)$", (CGROUP / "memory.stat").read_text(), re.MULTILINE)
        used = int((CGROUP / "memory.current").read_text()) - (int(cache[1]) if cache else 0)
        left = min(left, int((CGROUP / "memory.max").read_text()) - used)
    return left


def memory_mib(device: torch.device) -> float:
    """Peak memory of this process so far: the device's on a GPU, resident on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
