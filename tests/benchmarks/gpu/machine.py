"""What the machine is, and whether the tests for GPUs pass on it."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import torch

from mmvae_cli.compute import devices
from mmvae_cli.training import engine

from item import Context
from programme import version

ROOT = Path(__file__).parents[3]


def facts(context: Context) -> None:
    """Card, driver, versions, compiler, and the speeds that bound every step."""
    device = device_of(context)
    smi = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm,mig.mode.current", "--format=csv"]
    if shutil.which("nvidia-smi"):
        context.tried("nvidia-smi", lambda: subprocess.run(smi, capture_output=True, text=True, timeout=20).stdout)
    packages = ("torch", "triton", "numpy", "pydantic", "pydantic_core", "multivae", "pytest", "hypothesis")
    context.note("packages", {name: version(name) for name in packages})
    context.note("python", sys.version)
    context.note("processor", {"cores": os.cpu_count(), "threads": torch.get_num_threads()})
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    context.note(
        "compiler", {name: shutil.which(name) for name in ("cc", "gcc", "clang")} | {"Python.h": headers.exists()}
    )
    if device.type == "cuda":
        context.tried("card", lambda: str(torch.cuda.get_device_properties(device)))
        context.tried("arch list", lambda: torch.cuda.get_arch_list())
        context.tried("cudnn", lambda: torch.backends.cudnn.version())
    size = 256 if context.rehearse else 8192
    context.tried("copy GB/s", lambda: copied(device, size))
    for precision in ("fp32", "tf32", "bf16"):
        context.tried(f"{precision} TFLOP/s", partial(multiplied, device, size, precision))
    if not context.rehearse:  # a CPU's compiler is another one, and slow
        context.tried("compiler", lambda: compiler(device))


def device_of(context: Context) -> torch.device:
    return devices.pick_device("cpu" if context.rehearse else "cuda")


def compiler(device: torch.device) -> dict[str, object]:
    began = time.monotonic()
    return {"fault": engine.compiler_fault(device), "s": round(time.monotonic() - began, 1)}


def copied(device: torch.device, size: int) -> float:
    """Bytes read and written a second."""
    one = torch.zeros(size, size, device=device)
    other = torch.empty_like(one)
    return 2 * one.numel() * 4 / seconds_of(lambda: other.copy_(one), device, 20) / 1e9


def multiplied(device: torch.device, size: int, precision: str) -> float:
    devices.set_precision(precision)
    kind = torch.bfloat16 if precision == "bf16" else torch.float
    one = torch.randn(size, size, device=device, dtype=kind)
    return 2 * size**3 / seconds_of(lambda: one @ one, device, 10) / 1e12


def seconds_of(action: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Seconds of one action, the mean of ``repeats`` in a row."""
    action()
    synchronise(device)
    began = time.perf_counter()
    for _ in range(repeats):
        action()
    synchronise(device)
    return (time.perf_counter() - began) / repeats


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def tests(context: Context) -> None:
    """Outcome and message of every test that is marked ``gpu``; other versions' warnings are no failures here."""
    report, said = context.work / "gpu-tests.xml", context.out / f"{context.name}.txt"
    marked = [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text()]
    command = [sys.executable, "-m", "pytest", "-v", "-m", "gpu", "-W", "default", "-p", "no:cacheprovider",
               "--continue-on-collection-errors", f"--junitxml={report}", *marked]  # fmt: skip
    began, device = time.monotonic(), "cpu" if context.rehearse else "cuda"
    with open(said, "w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, cwd=ROOT,
                                   env=os.environ | {"MMVAE_TEST_DEVICE": device, "MMVAE_DEBUG": ""})  # fmt: skip
        for sign, patience in ((None, max(5.0, context.left() - 15)), (signal.SIGINT, 10.0), (signal.SIGKILL, 5.0)):
            if sign is not None:
                process.send_signal(sign)  # pytest reports what it has, unless it hangs in the GPU's driver
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience)
                break
    outcomes = {}
    for case in ElementTree.parse(report).iter("testcase") if report.exists() else ():
        told = [child for child in case if child.tag in ("failure", "error", "skipped")]
        name = f"{case.get('classname')}::{case.get('name')}"
        outcomes[name] = f"{told[0].tag}: {told[0].get('message', '')[:600]}" if told else "passed"
    counts = {tag: sum(text.split(":")[0] == tag for text in outcomes.values())
              for tag in ("passed", "failure", "error", "skipped")}  # fmt: skip
    if process.returncode not in (0, 1):  # cut off: some did not run
        context.unfinished = "partly"
    context.note("counts", counts | {"seconds": round(time.monotonic() - began, 1)})
    context.note("outcomes", outcomes)
    context.note("said", said.read_text()[-6000:])
