"""Where and how a command computes: device, precision, seeds, threads, rank. Imports torch."""

import hashlib
import os
import platform
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch

from mmvae_cli import __version__, console
from mmvae_cli.errors import Failure, UsageProblem


def pick_device(name: str) -> torch.device:
    """``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``. Raises UsageProblem for a missing GPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cpu" and not (name == "cuda" or name.startswith("cuda:")):
        raise UsageProblem(f"--device {name!r}: use auto, cpu, cuda or cuda:N")
    if name == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UsageProblem(f"--device {name}: this machine has no usable CUDA device", "use --device cpu or auto")
    index = name.partition(":")[2] or os.environ.get("LOCAL_RANK", "0")
    if not index.isdigit() or int(index) >= torch.cuda.device_count():
        raise UsageProblem(f"--device cuda:{index}: this machine has {torch.cuda.device_count()} CUDA device(s)")
    device = torch.device("cuda", int(index))
    torch.cuda.set_device(device)
    return device


def derive(seed: int, *parts: int | str) -> int:
    """A seed for one purpose: 63 bits that depend on ``seed`` and every part, so that no state has to be kept."""
    text = "/".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def set_precision(precision: str) -> None:
    """fp32: exact products; tf32: TensorFloat-32 in matrix products and convolutions (GPU only)."""
    wanted = "tf32" if precision in ("tf32", "bf16") else "ieee"
    torch.backends.cuda.matmul.fp32_precision = wanted
    torch.backends.cudnn.conv.fp32_precision = wanted  # type: ignore[attr-defined]


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """bf16 autocast around the networks where the recipe asks for it; parameters and densities stay fp32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


@dataclass(frozen=True)
class World:
    """This process's place in a data-parallel job; (0, 1) without torchrun."""

    rank: int
    size: int

    def rows(self, batch: int) -> slice:
        """This rank's part of the global batch; the parts differ by one row at most."""
        base, extra = divmod(batch, self.size)
        start = self.rank * base + min(self.rank, extra)
        return slice(start, start + base + (self.rank < extra))


def join_world(device: torch.device) -> World:
    """Read torchrun's RANK and WORLD_SIZE and join the process group (NCCL on GPUs, gloo on CPUs)."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World(0, 1)
    rank = int(os.environ["RANK"])
    console.set_rank(rank)
    try:
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:
        raise Failure(f"rank {rank} of {size} cannot join the others: {error}", "start it with torchrun") from error
    return World(rank, size)


def leave_world(world: World) -> None:
    if world.size > 1:
        torch.distributed.destroy_process_group()


def environment(device: torch.device, **facts: Any) -> dict[str, Any]:
    """What environment.json says: versions, device, threads, the command line."""
    packages = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pydantic", "safetensors", "pillow")
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "mmvae": __version__, "python": platform.python_version(), "platform": platform.platform(),
        "host": platform.node(), "packages": {name: metadata.version(name) for name in packages},
        "device": str(device), "gpu": gpu, "cuda": torch.version.cuda, "threads": torch.get_num_threads(),
        "command": sys.argv, **facts,
    }  # fmt: skip


def memory_mib(device: torch.device) -> float:
    """Peak memory of this process so far: the device's on a GPU, resident on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
