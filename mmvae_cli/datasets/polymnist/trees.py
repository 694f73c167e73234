"""A published PolyMNIST as a list of names and their bytes, whether a folder or a zip; what is read is bounded."""

import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmvae_cli.datasets import zips
from mmvae_cli.disk.files import reading
from mmvae_cli.process.errors import DataProblem, advice

ROOTS = ("PolyMNIST", "MMNIST")
SPLITS = ("train", "test")
STAND_IN = "stand_in.txt"
"""Says, beside train and test, what is not the real thing."""
_LONGEST_NAME = 200
_LARGEST_FILE = 4 << 30  # bytes; the largest official tensor has 0.6 GB


class Tree:
    """Names such as ``train/m0/3.7.png`` (relative to the folder that holds train and test) and what they hold."""

    def __init__(
        self, where: Path, root: str, names: list[str], archive: zipfile.ZipFile | None = None,
        members: dict[str, zipfile.ZipInfo] | None = None,
    ) -> None:  # fmt: skip
        self.where, self.root, self.names, self._archive, self._members = where, root, names, archive, members or {}

    def shown(self, name: str) -> str:
        """How messages call one file."""
        if len(name) > _LONGEST_NAME:
            name = f"{name[:_LONGEST_NAME]}..."
        return f"{self.where}: {self.root}{name}" if self._archive else str(self.where / self.root / name)

    def read(self, name: str, limit: int) -> bytes:
        """The bytes of a small file. Raises DataProblem where it is unreadable or has more than ``limit`` bytes."""
        try:
            archive, path = self._archive, self.where / self.root / name
            with archive.open(self._members[self.root + name]) if archive else path.open("rb") as file:
                content = file.read(limit + 1)
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
            raise DataProblem(
                f"{self.shown(name)} cannot be read ({error})", advice(error, "fetch it again")
            ) from error
        if len(content) > limit:
            raise DataProblem(f"{self.shown(name)} has more than {limit:,} bytes", "this is no PolyMNIST file")
        return content

    @contextmanager
    def as_file(self, name: str, scratch: Path) -> Iterator[Path]:
        """A path at which a large file can be mapped; of a zip it is unpacked into ``scratch`` and removed again."""
        if not self._archive:
            yield self.where / self.root / name
            return
        copy = scratch / ".unpacked"
        try:
            member = self._members[self.root + name]
            if member.file_size > _LARGEST_FILE:
                raise DataProblem(
                    f"{self.shown(name)} has more than {_LARGEST_FILE:,} bytes", "this is no PolyMNIST file"
                )
            _unpack(self._archive, member, copy, self.shown(name))
            yield copy
        finally:
            copy.unlink(missing_ok=True)


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, copy: Path, shown: str) -> None:
    """zipfile gives at most the size it declares and checks the CRC. A full disk stays an OSError."""
    try:
        with archive.open(member) as source, open(copy, "wb") as target:
            shutil.copyfileobj(source, target, 4 << 20)
    except (EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
        raise DataProblem(f"{shown} cannot be read ({error})", "fetch it again") from error


@contextmanager
def opened(path: Path) -> Iterator[Tree]:
    """The tree at ``path``: a folder or zip with train/ and test/, bare or under PolyMNIST/ or MMNIST/.

    Raises DataProblem where there is neither.
    """
    if path.is_dir():
        yield _folder(path)
        return
    if not path.is_file():
        raise DataProblem(f"--from {path}: no such file or folder", "give a PolyMNIST folder, or a zip of one")
    with zips.opened(path, f"--from {path}") as archive:
        yield _zip(path, archive)


def _folder(path: Path) -> Tree:
    candidates = ["", *(f"{root}/" for root in ROOTS)]
    root = next((r for r in candidates if all((path / r / split).is_dir() for split in SPLITS)), None)
    if root is None:
        raise DataProblem(f"--from {path}: no train and test folders there, nor under {' or '.join(ROOTS)}", _LAYOUT)
    base = path / root
    with reading(path):
        names = [f"{s}/{p.relative_to(base / s).as_posix()}" for s in SPLITS for d in ("*", "*/*")
                 for p in (base / s).glob(d)]  # fmt: skip
        names += [STAND_IN] if (base / STAND_IN).is_file() else []
    return Tree(path, root, [name for name in names if not zips.is_hidden(name)])


def _zip(path: Path, archive: zipfile.ZipFile) -> Tree:
    members = zips.members(archive)
    listed = [name for name, _ in members]
    held = {split: {_above(name, split) for name in listed} - {None} for split in SPLITS}
    roots = [root for root in held["train"] & held["test"] if root is not None]
    named = [root for root in roots if root == "" or root.rstrip("/").rpartition("/")[2] in ROOTS] or roots
    if not named:
        raise DataProblem(f"--from {path}: the zip holds no train and test folders", _LAYOUT)
    if len(named) > 1:
        raise DataProblem(f"--from {path}: the zip holds several datasets ({', '.join(sorted(named))})", _LAYOUT)
    root = named[0]
    ours = tuple(f"{root}{name}" for name in ("train/", "test/", STAND_IN))
    names = [name.removeprefix(root) for name in listed if name.startswith(ours)]
    if len(set(names)) != len(names):
        raise DataProblem(f"--from {path}: a file is in the zip twice", "pack it again")
    return Tree(path, root, names, archive, dict(members))


_LAYOUT = "expected {train,test}/m0/0.0.png ..., or {train,test}/m0.pt ... and labels.pt"


def _above(name: str, split: str) -> str | None:
    """``a/PolyMNIST/train/m0/0.0.png`` -> ``a/PolyMNIST/`` for ``train``."""
    before, found, _ = f"/{name}".partition(f"/{split}/")
    return (before + "/").lstrip("/") if found else None
