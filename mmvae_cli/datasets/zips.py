"""Zip files as people have them, for reading. Nothing is ever unpacked under its own name, so an entry such as
``../../x`` has no effect."""

import zipfile
from pathlib import Path

from mmvae_cli.disk.files import reading
from mmvae_cli.process.errors import DataProblem

_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_OTHER_PACKINGS = {9: "Deflate64, as Windows packs large files", 93: "Zstandard", 95: "XZ", 98: "PPMd"}
_ENCRYPTED = 1
_OTHER_ARCHIVES = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "XZ", b"7z\xbc\xaf": "7-Zip", b"Rar!": "RAR"}
_TAR = (257, b"ustar")
"""Where a tar archive says that it is one, and how."""
_UNPACK = "unpack it with the program that made it, or with 7-Zip, and give the folder"


def opened(path: Path, called: str) -> zipfile.ZipFile:
    """The zip at ``path``, all of whose files can be read; messages say ``called``. Raises DataProblem otherwise."""
    try:
        with reading(path):
            archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        if other := _other_archive(path):
            raise DataProblem(f"{called} is packed by {other}, it is no zip", _UNPACK) from error
        raise DataProblem(
            f"{called} is no readable zip file ({error})", "fetch it again; a web page may have been saved"
        ) from error
    for name, entry in members(archive):
        if entry.compress_type not in _PACKINGS:
            packing = _OTHER_PACKINGS.get(entry.compress_type, f"method {entry.compress_type}")
            raise DataProblem(f"{called}: {name[:200]} is packed with {packing}, which is not read here", _UNPACK)
        if entry.flag_bits & _ENCRYPTED:
            raise DataProblem(f"{called}: {name[:200]} is encrypted", _UNPACK)
    return archive


def _other_archive(path: Path) -> str | None:
    """The program that packed the file at ``path`` where it is no zip, by its first bytes."""
    with open(path, "rb") as file:
        start = file.read(_TAR[0] + len(_TAR[1]))
    named = (name for mark, name in _OTHER_ARCHIVES.items() if start.startswith(mark))
    return "tar" if start[_TAR[0] :] == _TAR[1] else next(named, None)


def members(archive: zipfile.ZipFile) -> list[tuple[str, zipfile.ZipInfo]]:
    """Its files by name with ``/`` between the parts, as older Windows programs write a backslash; without hidden ones
    and what a Mac adds."""
    named = [("/".join(_parts(entry.filename)), entry) for entry in archive.infolist()]
    return [(name, entry) for name, entry in named if not name.endswith("/") and not is_hidden(name)]


def _parts(name: str) -> list[str]:
    return [part for part in name.replace("\\", "/").split("/") if part != "."]


def is_hidden(name: str) -> bool:
    """Whether a part of a path is hidden: ``.git``, ``..``, and ``._1.png`` and ``__MACOSX`` of a Mac."""
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
