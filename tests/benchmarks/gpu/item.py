"""One item of the programme, as the process that does it sees it."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

GRACE = 20.0
"""Seconds that a command has to leave with what it has."""


@dataclass
class Context:
    """Where an item works, what it has found so far, and how long it may go on."""

    name: str
    out: Path
    work: Path
    beside: Path
    rehearse: bool
    seconds: float
    began: float = field(default_factory=time.monotonic)
    found: dict[str, Any] = field(default_factory=dict)
    unfinished: str = ""  # "partly": a later call goes on; "again": a new process does, in this call

    def has(self, name: str) -> bool:
        """Whether this part was tried before, here or in an earlier call."""
        found = self.found.get(name)
        return name in self.found and not (isinstance(found, dict) and "left out" in found)

    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.began)

    def note(self, name: str, value: Any, state: str = "running") -> None:
        """Keep what was found, also on the disk."""
        self.found[name] = value
        self.write(state)

    def tried(self, name: str, action: Callable[[], Any], least: float = 5.0) -> Any:
        """Note what ``action`` gives, or why it did not; None then, and where fewer than ``least`` seconds are left."""
        if self.left() < least:
            self.unfinished = self.unfinished or "partly"
            self.note(name, {"left out": f"{self.left():.0f} s left"})
            return None
        value = None
        try:
            value = found = action()
        except Exception as error:
            said = f"{type(error).__name__}: {error}"[:600]
            found = {"failed": said, "where": traceback.format_exc()[-1500:]}
        if "CUDA error" in str(found):  # nothing on the GPU works any more in this process
            self.unfinished = "again"
        self.note(name, found)
        return value

    def write(self, state: str) -> None:
        content = {
            "item": self.name,
            "state": state,
            "seconds": round(time.monotonic() - self.began, 1),
            "card": card(),
        }
        write_json(self.out / f"{self.name}.json", content | {"found": self.found})

    def mmvae(self, *arguments: object, seconds: float | None = None) -> tuple[int, str, float]:
        """Run the command; its exit code, the last lines it said, and seconds. It is asked to leave in time."""
        command = [sys.executable, "-P", "-m", "mmvae_cli", *map(str, arguments)]
        limit, began = self.left() - GRACE if seconds is None else seconds, time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.work)
        try:
            said, _ = process.communicate(timeout=max(1.0, limit))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            try:
                said, _ = process.communicate(timeout=GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                said, _ = process.communicate()
        return process.returncode, "\n".join(said.splitlines()[-30:])[-4000:], round(time.monotonic() - began, 2)


def card() -> str:
    """The GPU that torch sees, once torch is loaded; a rehearsal is known by there being none."""
    torch = sys.modules.get("torch")
    return str(torch.cuda.get_device_name()) if torch is not None and torch.cuda.is_available() else "none"


def write_json(path: Path, content: Any) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1, default=str))
    temporary.replace(path)


def run(asked: argparse.Namespace) -> None:
    """Do one item and leave its JSON; whatever goes wrong is in it."""
    context = Context(asked.item, asked.out, asked.work, asked.beside, asked.rehearse, asked.seconds)
    path = asked.out / f"{asked.item}.json"
    if path.exists():  # of an earlier call, or of a process that lost its GPU
        context.found = json.loads(path.read_text()).get("found", {})
        context.found.pop("failed", None)
    context.write("running")
    from programme import ITEMS

    module, _, function = next(item.work for item in ITEMS if item.name == asked.item).partition(".")
    try:
        getattr(import_module(module), function)(context)
    except Exception:
        context.note("failed", traceback.format_exc()[-3000:], "failed")
        raise SystemExit(1) from None
    context.write(context.unfinished or "done")
