"""Reading and writing files so that nothing half-written ever looks finished and nothing strange gets in."""

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmvae_cli.process import processes
from mmvae_cli.process.errors import DataProblem, Failure, cannot_read, cannot_write

_FORGOTTEN = 24 * 3600.0  # seconds
SEAL = "sha256"
"""The key under which a JSON object carries the digest of all the rest of it."""
_LARGEST_JSON, _MAX_DEPTH = 64 << 20, 100
_PIECE = 4 << 20


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise Unreadable where the system does not let us read ``path``. An OSError without a number passes: by such
    ones Pillow and gzip say that the content is damaged."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise cannot_read(path, error) from error


def require_readable(path: Path) -> None:
    """Raise Unreadable for a file that may not be read, before a library that would call it damaged or missing."""
    with reading(path), open(path, "rb"):
        pass


def read_json(path: Path) -> Any:
    """Parse a JSON file strictly: no duplicate keys, no NaN or infinity, no absurd depth or size, no half characters;
    and an object that carries a seal (:func:`write_json`) must match it. The seal is taken off. Raises DataProblem."""
    try:
        with reading(path):
            if path.stat().st_size > _LARGEST_JSON:
                raise DataProblem(f"{path} has more than {_LARGEST_JSON >> 20} MiB, no file of ours does", "remove it")
            text = path.read_bytes().decode()
        content = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_float=_finite)
        _check_plain(content)
    except (ValueError, RecursionError) as error:
        raise DataProblem(f"{path} is not valid JSON ({str(error)[:120]})", "restore it or remove it") from error
    if isinstance(content, dict) and (seal := content.pop(SEAL, None)) is not None and seal != _seal_of(content):
        raise DataProblem(
            f"{path} was changed after it was written: its {SEAL} is another",
            f'restore it; where the change is meant, take the line "{SEAL}" out',
        )
    return content


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a key is there twice")
    return keys


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


def _finite(text: str) -> float:
    if abs(number := float(text)) == float("inf"):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def _check_plain(content: Any) -> None:
    """No level beyond the hundredth; no surrogate halves but those with which Python names files that are not UTF-8."""
    stack = [(content, 0)]
    while stack:
        value, depth = stack.pop()
        if depth > _MAX_DEPTH:
            raise ValueError(f"more than {_MAX_DEPTH} levels")
        if isinstance(value, str):
            value.encode(errors="surrogateescape")
        children = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
        stack.extend((child, depth + 1) for child in children)


def _seal_of(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` atomically, an object with a seal: its own digest, by which :func:`read_json` sees any change.
    NaN and infinity are refused: the caller says null and why."""
    plain = json.loads(json.dumps(content, allow_nan=False))  # as it will be read: keys are strings
    if isinstance(plain, dict):
        plain[SEAL] = _seal_of({key: value for key, value in plain.items() if key != SEAL})
    write_atomic(path, (json.dumps(plain, indent=1) + "\n").encode())


def write_atomic(path: Path, content: bytes) -> None:
    """Temp file in the same folder, fsync, rename: the file is either the old one or the new one."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(content)


@contextmanager
def replacing(path: Path, kept: str = "") -> Iterator[Path]:
    """A path beside ``path`` to write to; what is written there takes its place, synced, when the block ends well, and
    vanishes otherwise. OSErrors become Failure, whose hint says what is ``kept``."""
    temporary = path.with_name(f".{path.name}.tmp-{own_mark()}")
    try:
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)  # what the umask allows
        yield temporary
        with open(temporary, "rb+") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) != mode:  # safetensors makes files for their owner alone
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error, kept) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def require_writable(path: Path) -> None:
    """Raise Failure now if ``path`` could not be written later, after hours of work."""
    if path.is_dir():
        raise Failure(f"cannot write {path}: it is a folder", "remove it, or work on a copy of the run")
    trial = path.with_name(f".{path.name}.tmp-{own_mark()}")
    try:
        trial.write_bytes(b"a full disk takes a name, but no content")
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            trial.unlink(missing_ok=True)


def reserve(path: Path, start: int) -> None:
    """Give the bytes of a new ``path`` from ``start`` on, so far a hole, their place on the disk: where it is full,
    that is an OSError here, and no SIGBUS later."""
    with open(path, "r+b") as file:
        left = os.fstat(file.fileno()).st_size - start
        if hasattr(os, "posix_fallocate"):
            return os.posix_fallocate(file.fileno(), start, max(left, 1))
        file.seek(start)  # macOS has no such call
        while left > 0:
            left -= file.write(bytes(min(left, _PIECE)))


def own_mark() -> str:
    """This process's mark in temporary names: its place too, as folders are shared between machines and containers."""
    return f"{processes.place()}-{os.getpid()}"


def is_abandoned(path: Path) -> bool:
    """Whether a temporary ``path`` is of a process that no longer runs: by its number where that ran in our place, else
    when nothing of it has changed for a day."""
    mark, _, pid = path.name.rpartition("-")
    if mark.endswith(f"-{processes.place()}") and pid.isdecimal():
        return not processes.exists(int(pid))
    with suppress(OSError):
        return all(time.time() - part.lstat().st_ctime > _FORGOTTEN for part in [path, *path.rglob("*")])
    return False


def short_name(name: str, longest: int = 180) -> str:
    """``name`` for a file or folder, which may have 255 bytes: a longer one keeps its beginning and a digest of all."""
    return name if len(name) <= longest else f"{name[:longest]}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"


def visible(paths: Iterable[Path]) -> list[Path]:
    """``paths`` in order, without hidden ones: beside any file a Mac may leave a ``._`` one of the same ending."""
    return sorted(path for path in paths if not path.name.startswith("."))


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
