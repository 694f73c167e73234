"""Reading and writing files so that nothing half-written ever looks finished and nothing strange gets in."""

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmvae_cli.errors import DataProblem, Failure, UsageProblem


def read_json(path: Path) -> Any:
    """Parse a JSON file strictly: no duplicate keys, no NaN or infinity, no absurd depth. Raises DataProblem."""

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = dict(pairs)
        if len(keys) != len(pairs):
            raise ValueError("a key is there twice")
        return keys

    def no_constant(text: str) -> Any:
        raise ValueError(f"{text} is not a number")

    try:
        text = path.read_bytes().decode()
        return json.loads(text, object_pairs_hook=no_duplicates, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise DataProblem(f"{path} is not valid JSON ({str(error)[:120]})") from error


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` atomically. NaN and infinity are refused: the caller says null and why."""
    write_atomic(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def write_atomic(path: Path, content: bytes) -> None:
    """Temp file in the same folder, fsync, rename: the file is either the old one or the new one."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise Failure(
            f"cannot write {path}: {error.strerror or error}", "free the disk or choose another folder"
        ) from error


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def building(folder: Path, *, force: bool) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that takes its place when the block ends well, and vanishes otherwise.

    An existing ``folder`` is refused without ``force``, and replaced only when the new one is complete.
    """
    _restore_old(folder)
    if folder.exists() and not force:
        raise UsageProblem(f"{folder} exists", "give --force to replace it, or --out for another folder")
    temporary = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for kind in ("tmp", "old"):
            for stale in folder.parent.glob(f".{glob.escape(folder.name)}.{kind}-*"):
                if not process_alive(stale.name.rpartition("-")[2]):
                    shutil.rmtree(stale, ignore_errors=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        _take_place(temporary, folder)
    except OSError as error:
        raise Failure(f"cannot write {folder}: {error.strerror or error}", "free the disk or choose --out") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _restore_old(folder: Path) -> None:
    """A process killed between the two renames of :func:`_take_place` left only the old folder, under its hidden name:
    put it back, so that it stays until the new one is complete."""
    if not folder.exists():
        for old in folder.parent.glob(f".{glob.escape(folder.name)}.old-*"):
            if not process_alive(old.name.rpartition("-")[2]):
                with suppress(OSError):
                    os.replace(old, folder)
                return


def _take_place(new: Path, folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def process_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
