"""Reading and writing files: nothing half-written looks finished, and what is read is checked."""

import glob
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmvae_cli.process import processes
from mmvae_cli.process.errors import Failure, cannot_read, cannot_write

_FORGOTTEN = 24 * 3600.0  # seconds
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


def write_atomic(path: Path, content: bytes) -> None:
    """Temp file in the same folder, fsync, rename: the file is either the old one or the new one."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(content)


@contextmanager
def replacing(path: Path, kept: str = "") -> Iterator[Path]:
    """A path beside ``path`` to write to; what is written there takes its place, synced, when the block ends well, and
    vanishes otherwise. OSErrors become Failure, whose hint says what is ``kept``."""
    with _temporary(path, kept) as temporary:
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)  # what the umask allows
        yield temporary
        with open(temporary, "rb+") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) != mode:  # safetensors makes files for their owner alone
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)


@contextmanager
def _temporary(path: Path, kept: str = "") -> Iterator[Path]:
    """A name beside ``path``, free again when the block ends."""
    temporary = marked(path.with_name(f".{path.name}"), "tmp")
    try:
        yield temporary
    except OSError as error:
        raise cannot_write(path, error, kept) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def require_writable(path: Path) -> None:
    """Raise Failure now if ``path`` could not be written later, after hours of work."""
    if path.is_dir():
        raise Failure(f"cannot write {path}: it is a folder", "remove it, or work on a copy of the run")
    with _temporary(path) as trial:
        trial.write_bytes(b"a full disk takes a name, but no content")


@contextmanager
def hidden_folder(hidden: Path) -> Iterator[Path]:
    """A folder to build in, named ``hidden`` with this process's mark. It is removed when the block ends: move what is
    complete out of it. Those that ended processes left behind are removed first."""
    folder = marked(hidden, "tmp")
    folder.parent.mkdir(parents=True, exist_ok=True)
    for stale in [*leftovers(hidden), folder]:
        shutil.rmtree(stale, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def leftovers(hidden: Path) -> list[Path]:
    """Hidden folders of processes that no longer run."""
    patterns = (f"{glob.escape(hidden.name)}.{kind}-*" for kind in ("tmp", "old"))
    return [path for pattern in patterns for path in hidden.parent.glob(pattern) if is_abandoned(path)]


def marked(path: Path, kind: str) -> Path:
    """What ``path`` is called while this process works on it."""
    return path.with_name(f"{path.name}.{kind}-{own_mark()}")


def reserve(path: Path, start: int) -> None:
    """Claim space on the disk for a new ``path`` from byte ``start`` on. A full disk is an OSError here; without the
    claim, writing to the mapped file later would end the process (SIGBUS)."""
    with open(path, "r+b") as file:
        left = os.fstat(file.fileno()).st_size - start
        if hasattr(os, "posix_fallocate"):
            return os.posix_fallocate(file.fileno(), start, max(left, 1))
        file.seek(start)  # macOS has no such call
        while left > 0:
            left -= file.write(bytes(min(left, _PIECE)))


def own_mark() -> str:
    """The end of this process's temporary names. It names the host and container, too, because machines share
    folders."""
    return f"{processes.host_id()}-{os.getpid()}"


def is_abandoned(path: Path) -> bool:
    """Whether the process that a temporary ``path`` belongs to has ended. Of this host and container the process number
    says so; of others, that nothing has changed for a day."""
    mark, _, pid = path.name.rpartition("-")
    if mark.endswith(f"-{processes.host_id()}") and pid.isdecimal():
        return not processes.exists(int(pid))
    with suppress(OSError):
        return all(time.time() - part.lstat().st_ctime > _FORGOTTEN for part in [path, *path.rglob("*")])
    return False


def short_name(name: str, longest: int = 180) -> str:
    """``name`` for a file or folder, which may have 255 bytes: a longer one keeps its beginning and a digest of all."""
    return name if len(name) <= longest else f"{name[:longest]}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"


def visible(paths: Iterable[Path]) -> list[Path]:
    """``paths`` in order, without hidden ones: macOS leaves a ``._NAME`` beside files on foreign disks."""
    return sorted(path for path in paths if not path.name.startswith("."))


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
