"""A run that was shared: what may lie in its folder, and how it is fetched from the hub. No torch.

A shared run is a run folder with ``dataset.json``, the description of its data, in it. It comes from other people, so a
file that something could execute is refused, whoever would open it. The one exception is ``code.py``, the networks that
a run has of its own, with the SHA-256 that environment.json says; it is run only where the command line names it.
"""

import fnmatch
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from mmvae_cli.disk.files import hidden_folder, sha256
from mmvae_cli.process import console
from mmvae_cli.process.errors import DataProblem, Failure, UsageProblem, in_one_line, needing
from mmvae_cli.process.words import first
from mmvae_cli.run.layout import Run

PREFIX = "hf://"
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
"""USER/NAME"""
_ADDRESS = re.compile(r"hf:/{1,2}(?P<user>[\w.-]+)/(?P<name>[\w.-]+?)(?:@(?P<revision>[\w./-]+))?")
_PLAIN = (
    "*.yaml", "*.json", "*.jsonl", "*.md", "*.txt", "*.csv", "*.npz", "*.h5ad", "*.png", "*.svg", "*.safetensors",
    "*.onnx", ".gitattributes", "LICENSE", "events.out.tfevents.*",
)  # fmt: skip
"""Files that are read as data, never run."""
_CODE = "code.py"


def is_shared(folder: Path) -> bool:
    return (folder / "dataset.json").is_file()


def check(folder: Path) -> None:
    """Raise DataProblem for a shared run that holds anything but plain data and the code of its own networks: other
    code, pickles, links out of it."""
    tree = list(os.walk(folder))
    paths = [Path(place) / name for place, _, names in tree for name in names]
    refuse_strange([path.relative_to(folder).as_posix() for path in paths], str(folder))
    for path in [*paths, *(Path(place) / name for place, names, _ in tree for name in names)]:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise DataProblem(f"{path} is a link out of the shared run", "remove it, or fetch the run again")
    run = Run(folder)
    if run.code_path.is_file() and run.code_sha256() != sha256(run.code_path):
        raise DataProblem(f"{run.code_path} is not the code that environment.json names by its SHA-256",
                          "do not use it: ask who shared the run, or fetch it again")  # fmt: skip


def refuse_strange(names: Iterable[str], where: str) -> None:
    """Raise DataProblem where a file in the shared run ``where`` is not plain data."""
    strange = [name for name in names if name != _CODE
               and not any(fnmatch.fnmatch(name.rpartition("/")[2], known) for known in _PLAIN)]  # fmt: skip
    if strange:
        shown = first([repr(name[:80]) for name in strange], 1)
        raise DataProblem(
            f"{where} holds {shown}: a shared run is plain data, nothing that could be executed",
            "do not use it as it is: ask who shared it, or remove these files",
        )


def is_address(path: str | Path) -> bool:
    """Whether ``path`` is an address on the hub, hf://USER/NAME; a path has one slash only behind the colon."""
    return str(path) == "hf:" or str(path).startswith("hf:/")


def folder_of(run: str | Path) -> Path:
    """A run's folder; of an address on the hub, where it is fetched to, and now is."""
    return fetched(run) if is_address(run) else Path(run)


def place(run: str | Path) -> Path:
    """A run's folder; of an address on the hub, where it would be fetched to."""
    if not is_address(run):
        return Path(run)
    parts = [part.replace("/", "-") for part in _matched(run).groups() if part]
    return Path("runs") / "--".join(parts)


def _matched(address: str | Path) -> re.Match[str]:
    if match := _ADDRESS.fullmatch(str(address)):
        return match
    raise UsageProblem(f"{address} is no address of a run", "hf://USER/NAME, or hf://USER/NAME@REVISION")


def fetched(address: str | Path) -> Path:
    """The run ``hf://USER/NAME[@REVISION]`` as a folder, runs/USER--NAME: fetched once, then as any run.

    Raises UsageProblem for a wrong address and without the package huggingface_hub, DataProblem for a repository that
    is no run or holds what could be executed (nothing of it is fetched then), Failure without a network.
    """
    match, folder = _matched(address), place(address)
    if folder.exists():
        console.say(f"{folder} is there: it is used; remove it to fetch {address} anew")
        return folder
    _fetch(f"{match['user']}/{match['name']}", match["revision"], folder)
    console.say(f"fetched {address} into {folder}")
    return folder


def _fetch(repository: str, revision: str | None, folder: Path) -> None:
    with needing(PREFIX, "huggingface_hub", "hub"):
        import huggingface_hub
    try:
        names = huggingface_hub.HfApi().list_repo_files(repository, revision=revision)
        refuse_strange(names, f"{PREFIX}{repository}")
        if not {"recipe.yaml", "dataset.json"} <= set(names):
            raise DataProblem(f"{PREFIX}{repository} is no run: it has no recipe.yaml and dataset.json",
                              "share one: mmvae export RUN --to hub --push USER/NAME")  # fmt: skip
        with hidden_folder(folder.with_name(f".{folder.name}")) as temporary:
            fresh = temporary / "run"
            huggingface_hub.snapshot_download(repository, revision=revision, local_dir=fresh)
            shutil.rmtree(fresh / ".cache", ignore_errors=True)  # what the library notes for itself
            os.rename(fresh, folder)
    except Failure:
        raise
    except Exception as error:  # of the network, the hub or the disk: each library has names of its own for them
        raise Failure(
            f"{PREFIX}{repository} cannot be fetched ({in_one_line(error)})",
            "fetch it where there is a network (hf auth login for a private one), then give its folder",
        ) from error
