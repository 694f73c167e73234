"""Paths as people give them. No torch."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmvae_cli.process.errors import Failure, UsageProblem, cannot_write, of_system


def expanded(text: str) -> Path:
    """``~`` at the beginning is a home folder, as in a shell, which does not see one behind an ``=`` or in quotes."""
    if not text:
        raise UsageProblem("a path is empty", "give one, or . for this folder; a variable of the shell may not be set")
    path = os.path.expanduser(text)
    if path.partition("/")[0] == "~":
        raise UsageProblem(f"{text}: nobody knows your home folder here", "write the path out, or set HOME")
    return Path(path)


def require_current() -> None:
    """Raise Failure where the current folder was removed: torch, when it is loaded there, ends the process itself."""
    try:
        os.getcwd()
    except OSError as error:
        raise Failure("the current folder is not there any more", "cd to one that is") from error


def given(text: str) -> Path:
    """A path to use, expanded. Raises UsageProblem or Failure where nobody could tell what is there: below a folder
    that may not be entered, behind a link to nowhere or in a circle."""
    path = expanded(text)
    try:
        look(path)
    except (FileNotFoundError, NotADirectoryError):
        refuse_dangling(path)
    except OSError as error:
        problem = of_system(OSError(error.errno, error.strerror, str(path)))
        assert problem
        raise problem from error
    return path


def of_python(what: str, value: Any) -> Path:
    """What Python code gives as the path ``what``, read as on a command line. Raises UsageProblem where it is none."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else value
    if not isinstance(text, str) or "\0" in text:
        raise UsageProblem(f"{what}: {str(value)[:60]!r} is no path", "give text or a pathlib.Path")
    return given(text)


def look(path: Path) -> None:
    """Raise the OSError that keeps us from ``path``. A folder that may not be entered counts, too: pathlib reports it
    differently from one Python version to the next."""
    try:
        os.stat(os.path.join(path, "."))
    except NotADirectoryError:
        os.stat(path)


def refuse_dangling(path: Path, kind: type[Failure] = UsageProblem) -> None:
    """Raise ``kind`` where ``path``, or a folder above it, is a link to something that is not there."""
    for place in (path, *path.parents):
        if place.is_symlink() and not os.path.exists(place):
            raise kind(
                f"{place} is a link to {os.readlink(place)}, and nothing is there",
                "make that folder, mount its disk, or remove the link",
            )


_FILES = (".txt", ".md", ".csv", ".tex", ".json", ".html", ".png", ".svg", ".pdf", ".npz")


def require_folder(out: Path) -> None:
    """Raise UsageProblem where ``--out`` is a file, or would be a folder with a file's name."""
    if out.exists() and not out.is_dir():
        raise UsageProblem(f"{out} is a file", "give --out a folder")
    if out.suffix.lower() in _FILES and not out.exists():
        raise UsageProblem(f"{out} is a file's name", "give --out a folder: more than one file is written into it")


def refuse_existing(path: Path, force: bool, otherwise: str = "--out for another folder", more: str = "") -> None:
    """Raise UsageProblem where ``path`` is there and ``force`` is not given. ``otherwise``: what else can be done;
    ``more``: what else is there."""
    if path.exists() and not force:
        raise UsageProblem(f"{path} exists{more}", f"give --force to replace it, or {otherwise}")


def make_folder(path: Path) -> None:
    """Make a folder and those above it. Raises UsageProblem for a link to nowhere, Failure where it cannot be made."""
    refuse_dangling(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


# names that are not UTF-8, as old archives have them: Python keeps such a byte as half a surrogate --------------------

_ODD = re.compile("[\udc80-\udcff]")


def shown(value: Any) -> Any:
    """Plain data for people and other programs: a byte of a name that is not UTF-8 as ``\\xe9``."""
    if isinstance(value, str):
        return _ODD.sub(lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", value)
    if isinstance(value, dict):
        return {shown(key): shown(item) for key, item in value.items()}
    return [shown(item) for item in value] if isinstance(value, list | tuple) else value


def is_odd(text: str) -> bool:
    """Whether ``text`` is a name that is not UTF-8."""
    return bool(_ODD.search(text))


@contextmanager
def openable(path: Path) -> Iterator[Path]:
    """``path``, a file, for libraries that take paths in UTF-8 only."""
    if not is_odd(str(path)):
        yield path
        return
    with open(path, "rb") as file:
        yield Path(f"/dev/fd/{file.fileno()}")
