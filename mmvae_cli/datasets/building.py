"""The folder of a dataset: built under a hidden name, in its place when it is complete. How arrays are filled."""

import errno
import glob
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from mmvae_cli.disk.files import hidden_folder, is_abandoned, leftovers, marked, short_name
from mmvae_cli.process import console, signals
from mmvae_cli.process.errors import UsageProblem, cannot_read, cannot_write
from mmvae_cli.process.paths import refuse_dangling, refuse_existing

MOUNTS = Path("/proc/self/mountinfo")
_AT_ONCE = 512
_OURS_TO_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@contextmanager
def dataset_folder(folder: Path, *, force: bool, shared: bool = False) -> Iterator[Path]:
    """A temporary folder whose content is in ``folder`` when the block ends well, and vanishes otherwise.

    An empty ``folder`` is filled: it may be a mount point, the working folder or a link, which cannot be replaced. One
    that holds a dataset is refused without ``force``, and replaced only when the new one is complete; anything else is
    left alone: a slip in ``--out`` must cost no home folder. ``shared``: what is built is a run to be
    shared, with other files.
    """
    refuse_dangling(folder)
    place = Path(os.path.realpath(folder)) if folder.name in ("", "..") else folder  # . has no name of its own
    beside = place.with_name(f".{short_name(place.name, 100)}")
    _restore_old(place, beside)
    inside = _is_empty(place)
    if place.exists() and not inside:
        _refuse_to_replace(folder, place, force, shared)
    hidden = place / ".new" if inside else beside
    try:
        with hidden_folder(hidden) as temporary:
            yield temporary
            if inside:
                _fill(place, temporary)
            else:
                _take_place(temporary, place, hidden, force)
    except OSError as error:
        temporary = marked(hidden, "tmp")
        at = Path(error.filename) if isinstance(error.filename, str) else temporary
        if error.errno not in _OURS_TO_WRITE and not (at.is_relative_to(temporary) or temporary.is_relative_to(at)):
            raise cannot_read(at, error) from error  # a source
        raise cannot_write(folder, error) from error


def fill(
    array: np.ndarray, rows: Callable[[np.ndarray], Any], items: np.ndarray, bar: console.Progress | None = None,
    note: str = "",
) -> None:  # fmt: skip
    """Fill an array with the ``rows`` of ``items``, some at a time: memory stays small, and signals are heard."""
    for start in range(0, len(items), _AT_ONCE):
        signals.leave_if_requested("nothing was written")
        some = items[start : start + _AT_ONCE]
        array[start : start + len(some)] = rows(some)
        if bar:
            bar.advance(len(some), note)


def _is_empty(folder: Path) -> bool:
    """Whether nothing is in ``folder`` but what a file system or a killed process leaves there."""
    if not folder.is_dir():
        return False
    left = {path.name for path in leftovers(folder / ".new")} | {"lost+found"}
    return all(entry.name in left for entry in folder.iterdir())


def _refuse_to_replace(folder: Path, place: Path, force: bool, shared: bool) -> None:
    """Raise UsageProblem unless ``place`` is a dataset (a damaged one, too), is to be replaced, and can be."""
    if place.is_symlink():
        raise UsageProblem(f"{folder} is a link; it is left alone", f"give --out {os.path.realpath(place)}")
    if not (place / "dataset.json").is_file():
        raise UsageProblem(f"{folder} exists and is no dataset; it is left alone", "choose another --out")
    refuse_existing(folder, force)
    if not shared and (other := _of_others(place)):
        raise UsageProblem(f"{other} is in the dataset's folder, but not the dataset's: --force would remove it",
                           "move it elsewhere, or choose another --out")  # fmt: skip
    if _is_mount(place):
        raise UsageProblem(f"{folder} is a mount point and not empty", "remove what is in it: it can only be filled")
    if Path.cwd().is_relative_to(os.path.realpath(place)):
        raise UsageProblem(f"{folder} is the folder that you are in", "leave it, and give its name from outside")


def _of_others(place: Path) -> Path | None:
    """A file in ``place`` that no dataset has, such as a source or notes: somebody keeps it there."""
    for folder, inside, files in os.walk(place):
        if folder == str(place):
            inside[:] = sorted({*inside} - {"classifiers", "png"})
            files = [name for name in files if name not in ("dataset.json", "preview.png")]
        for name in sorted(files):
            if not name.startswith(".") and not name.endswith(".npy"):
                return Path(folder, name)
    return None


def _is_mount(place: Path) -> bool:
    """Also where the mounted folder is one of the same file system, which Linux alone tells (docker -v)."""
    with suppress(OSError):
        points = (line.split()[4] for line in MOUNTS.read_bytes().splitlines())
        known = {point.decode("unicode_escape").encode("latin-1") for point in points}  # a space is written \\040
        return os.fsencode(os.path.realpath(place)) in known
    return place.is_mount()


def _restore_old(folder: Path, beside: Path) -> None:
    """A process killed between the two renames of :func:`_take_place` left only the old folder, under its hidden name:
    put it back, so that it stays until the new one is complete."""
    if not folder.exists():
        for old in folder.parent.glob(f"{glob.escape(beside.name)}.old-*"):
            if is_abandoned(old):
                with suppress(OSError):
                    os.replace(old, folder)
                return


def _fill(folder: Path, new: Path) -> None:
    """Move what is in ``new``, which is inside ``folder``, up: dataset.json last, as without it nothing is a dataset.
    Another process may have filled ``folder`` meanwhile."""
    if (folder / "dataset.json").exists():
        refuse_existing(folder, force=False)
    moved = []
    try:
        for entry in sorted(new.iterdir(), key=lambda entry: entry.name == "dataset.json"):
            os.rename(entry, folder / entry.name)
            moved.append(entry)
    except OSError:
        for entry in moved:
            os.rename(folder / entry.name, entry)
        raise


def _take_place(new: Path, folder: Path, hidden: Path, force: bool) -> None:
    """Put ``new`` where ``folder`` is. Another process may have finished a ``folder`` meanwhile: only ``force``
    replaces it. If the second rename fails, the old folder is put back."""
    old = marked(hidden, "old")
    refuse_existing(folder, force)
    if folder.exists():
        os.replace(folder, old)
    try:
        os.rename(new, folder)
    except OSError:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
