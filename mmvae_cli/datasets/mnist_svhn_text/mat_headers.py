"""The headers of a MATLAB 5 file, looked at before anything is unpacked: scipy believes what they say."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_PACKED, _MATRIX = 15, 14
_HEAD, _LONGEST_NAME = 512, 64
"""Bytes of each array that are looked at: its flags, sides, name and the size of its data lie in the first hundred."""
_HDF5 = b"\x89HDF\r\n\x1a\n"


def is_hdf5(path: Path) -> bool:
    """Whether it is a file of MATLAB 7.3, which is HDF5, if need be behind 512 bytes of MATLAB's own."""
    with open(path, "rb") as file:
        start = file.read(_HEAD + len(_HDF5))
    return start.startswith(_HDF5) or start[_HEAD:] == _HDF5


def data_bytes(path: Path) -> dict[str, int]:
    """The name of each array, and how many bytes of data its header tells. Raises ValueError for what is no MATLAB 5
    file, or says impossible things about itself."""
    with open(path, "rb") as file:
        start = file.read(128)
        if len(start) < 128 or start[126:] != b"IM":
            raise ValueError("no little-endian MATLAB 5 file")
        return dict(_header(head) for head in _heads(file, path.stat().st_size))


def _heads(file: BinaryIO, end: int) -> Iterator[bytes]:
    while tag := file.read(8):
        if len(tag) < 8:
            raise ValueError("truncated")
        kind, size = struct.unpack("<II", tag)
        after = file.tell() + size
        if after > end:
            raise ValueError("an element goes on after the end of the file")
        content = file.read(min(size, _HEAD))
        if kind == _PACKED:
            yield zlib.decompressobj().decompress(content, _HEAD)
        elif kind == _MATRIX:
            yield tag + content
        else:
            raise ValueError(f"an element of type {kind}")
        file.seek(after)


def _header(head: bytes) -> tuple[str, int]:
    if len(head) < 8 or struct.unpack_from("<I", head)[0] != _MATRIX:
        raise ValueError("an element that is no array")
    flags, at = _part(head, 8)
    sides, at = _part(head, at)
    name, at = _part(head, at)
    if len(name) > _LONGEST_NAME or len(sides) % 4 or not flags:
        raise ValueError("an array with an impossible name or shape")
    return name.decode("ascii"), _size(head, at)[0]


def _size(head: bytes, at: int) -> tuple[int, int]:
    """Bytes of the part at ``at``, and where they begin. Up to 4 bytes are stored inside the tag itself."""
    if at + 8 > len(head):
        raise ValueError("an array whose header has no end")
    (word,) = struct.unpack_from("<I", head, at)
    return (word >> 16, at + 4) if word >> 16 else (struct.unpack_from("<I", head, at + 4)[0], at + 8)


def _part(head: bytes, at: int) -> tuple[bytes, int]:
    """The part at ``at`` and where the next one begins."""
    size, begin = _size(head, at)
    if begin + size > len(head):
        raise ValueError("an array whose header has no end")
    return head[begin : begin + size], at + 8 if begin == at + 4 else begin + size + -size % 8
