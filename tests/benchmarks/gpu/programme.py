"""The items in order of value, each a process of its own; what is left of the time decides which are begun."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from item import GRACE, write_json

HERE = Path(__file__).parent


class Item(NamedTuple):
    name: str
    work: str  # module.function
    seconds: float  # at most
    least: float  # with less left it is not begun
    needs: str = ""  # a data set


ITEMS = (
    Item("01-facts", "machine.facts", 45, 5),
    Item("02-tests", "machine.tests", 150, 20),
    Item("03-steps", "steps.table", 130, 30),
    Item("04-polymnist", "runs.polymnist", 220, 90, "polymnist"),
    Item("05-others", "steps.others", 90, 20),
    Item("06-profile", "steps.profile", 30, 15),
    Item("07-methods", "runs.other_methods", 300, 90, "polymnist"),
    Item("08-bf16", "runs.bf16", 150, 90, "polymnist"),
    Item("09-mst", "runs.mst", 180, 60, "mst"),
    Item("10-celeba", "runs.celeba", 240, 80, "celeba"),
    Item("11-five-seeds", "together.five_seeds", 90, 30),
    Item("12-resume", "runs.resume", 60, 25),
    Item("13-memory", "steps.memory", 60, 25),
    Item("14-seeds", "runs.seeds", 600, 70, "polymnist"),
)
REHEARSED_LONGER = 5
"""A busy machine without a GPU gets so many times an item's seconds."""
SOURCES = {
    "polymnist": (["polymnist", "--digits", "{data}/MNIST/raw", "--backgrounds", "{data}/backgrounds"],
                  ["polymnist", "--digits", "embedded", "--limit", "300"], ["MNIST/raw", "backgrounds"]),
    "mst": (["mnist-svhn-text", "--digits", "{data}/MNIST/raw", "--svhn", "{data}/svhn"],
            ["mnist-svhn-text", "--digits", "embedded", "--svhn", "embedded", "--limit", "200"], ["MNIST/raw", "svhn"]),
    "celeba": (["celeba", "--source", "{data}/celeba"],
               ["celeba", "--source", "embedded", "--count", "60"], ["celeba"]),
}  # fmt: skip
"""Data set: how it is made, how in a rehearsal, and what has to lie beside."""


class DataSets:
    """Makes the data sets that the items need, one after the other, while other items run."""

    def __init__(self, asked: argparse.Namespace, wanted: list[str]) -> None:
        self._asked, self.told = asked, dict[str, Any]()
        self._ready = {name: threading.Event() for name in wanted}
        self._process: subprocess.Popen[str] | None = None  # that makes one now
        threading.Thread(target=self._make_all, daemon=True).start()

    def _make_all(self) -> None:
        for name, ready in self._ready.items():
            self.told[name] = self._make(name)
            write_json(self._asked.out / "data.json", self.told)
            ready.set()

    def _make(self, name: str) -> dict[str, Any]:
        real, rehearsed, sources = SOURCES[name]
        folder, data = self._asked.work / "data" / name, self._asked.beside / "data"
        missing = [source for source in sources if not (data / source).exists()]
        if missing and not self._asked.rehearse:
            return {"missing": ", ".join(str(data / source) for source in missing)}
        began = time.monotonic()
        if not (folder / "dataset.json").is_file():
            arguments = [part.format(data=data) for part in (rehearsed if self._asked.rehearse else real)]
            command = [sys.executable, "-P", "-m", "mmvae_cli", "make-dataset", *arguments, "--out", str(folder), "-q"]
            self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=self._asked.work)
            _, said = self._process.communicate()
            if self._process.returncode:
                return {"missing": f"make-dataset ended with {self._process.returncode}: {said[-600:]}"}
        return {"folder": str(folder), "seconds": round(time.monotonic() - began, 1)}

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def missing(self, name: str, seconds: float) -> str:
        """Why a data set is not there within ``seconds``; "" where it is."""
        if not self._ready[name].wait(seconds):
            return f"{name} was not ready in time"
        return str(self.told[name].get("missing", ""))


def run(asked: argparse.Namespace) -> None:
    """The whole programme, as far as the budget goes."""
    began = time.monotonic()
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.resume:
        take_over(asked.resume.resolve(), asked.out)
    items = [item for item in ITEMS if not asked.only or item.name in asked.only]
    open_ones = [item for item in items if state(asked.out, item) != "done"]
    data = DataSets(asked, list(dict.fromkeys(item.needs for item in open_ones if item.needs)))
    for item in open_ones:
        left = asked.budget - (time.monotonic() - began)
        reason = f"{left:.0f} s left" if left < item.least else ""
        reason = reason or (data.missing(item.needs, left - item.least) if item.needs else "")
        if reason:
            if not (asked.out / f"{item.name}.json").exists():
                write_json(asked.out / f"{item.name}.json", {"item": item.name, "state": "left out", "why": reason})
        else:
            ends = time.monotonic() + item.seconds * (REHEARSED_LONGER if asked.rehearse else 1)
            ends = min(ends, began + asked.budget - 5)
            do(asked, item, ends - time.monotonic())
            while state(asked.out, item) == "again" and ends - time.monotonic() > item.least:
                do(asked, item, ends - time.monotonic())
        pack(asked)
    data.close()
    print(summary(asked.out))
    print(asked.archive)


def do(asked: argparse.Namespace, item: Item, seconds: float) -> None:
    """Start one item and wait ``seconds`` and a grace at most; what it said last is kept where it did not end."""
    command = [sys.executable, str(HERE), "--out", asked.out, "--work", asked.work, "--beside", asked.beside,
               "--item", item.name, "--seconds", seconds]  # fmt: skip
    command += ["--rehearse"] if asked.rehearse else []
    print(f"{item.name}: at most {seconds:.0f} s", flush=True)
    log = asked.out / f"{item.name}.log"
    with open(log, "w") as file:
        process = subprocess.Popen(list(map(str, command)), stdout=file, stderr=file, start_new_session=True,
                                   env=os.environ | {"MMVAE_DEBUG": "1"})  # fmt: skip
        for sign, patience in ((None, seconds), (signal.SIGTERM, GRACE), (signal.SIGKILL, GRACE)):
            if sign is not None:
                os.killpg(process.pid, sign)
            try:
                process.wait(patience)
                break
            except subprocess.TimeoutExpired:
                continue
    path = asked.out / f"{item.name}.json"
    content = json.loads(path.read_text()) if path.exists() else {"item": item.name, "state": "running"}
    if content["state"] == "running":
        content |= {"state": "cut off", "exit code": process.returncode, "said": log.read_text()[-1500:]}
    write_json(path, content | {"budget": round(seconds), "torch": version("torch"), "commit": commit(asked.beside)})
    print(f"{item.name}: {content['state']}", flush=True)


def version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def commit(beside: Path) -> str:
    from mmvae_cli.process import provenance

    known, _ = provenance.commit()
    noted = beside / "commit"
    return known or (noted.read_text().strip() if noted.is_file() else "unknown")


def state(out: Path, item: Item) -> str:
    path = out / f"{item.name}.json"
    return str(json.loads(path.read_text()).get("state")) if path.exists() else ""


def take_over(earlier: Path, out: Path) -> None:
    """Copy what an earlier call found, from its folder or its archive; nothing to do where it is the same folder."""
    if earlier.is_file():
        with tarfile.open(earlier) as packed:
            packed.extractall(out, filter="data")
    elif earlier != out:
        shutil.copytree(earlier, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.tar.gz"))


def pack(asked: argparse.Namespace) -> None:
    """Rewrite the summary and the archive of everything found, which is all that has to be brought back."""
    (asked.out / "summary.md").write_text(summary(asked.out) + "\n")
    asked.archive.parent.mkdir(parents=True, exist_ok=True)
    temporary = asked.archive.with_name(f".{asked.archive.name}.{os.getpid()}")
    with tarfile.open(temporary, "w:gz") as packed:
        for path in sorted(asked.out.iterdir()):
            if not path.name.endswith(".tar.gz") and not path.name.startswith("."):
                packed.add(path, path.name)
    temporary.replace(asked.archive)


def summary(out: Path) -> str:
    """A table of the items, and below it what each has found in a few words."""
    lines, details = ["| item | state | s |", "|---|---|---|"], []
    for item in ITEMS:
        path = out / f"{item.name}.json"
        known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"state": "-"}
        lines.append(f"| {item.name} | {known['state']} | {known.get('seconds', '')} |")
        found = known.get("found", {})
        details += [f"- {item.name}, {name}: {json.dumps(value, default=str)[:300]}" for name, value in found.items()]
    return "\n".join([*lines, "", *details])
