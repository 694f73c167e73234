"""Arrays on the disk that are read by rows, as they are asked for."""

import hashlib
import os
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmvae_cli.process.errors import DataProblem

_PART = 64 << 20
"""Bytes to read at a time where the whole of an array is looked at."""


class Rows:
    """A .npy file (N, ...) too large for memory: ``rows[indices]`` (B, ...), for int64 ``indices`` (B,), and
    ``rows[start:stop]`` are read when they are asked for. They come only from the file that was checked. It is not
    memory-mapped: a signal would end the process if the file were cut.

    Raises DataProblem on a read after the file has changed, ValueError for an array in Fortran's order.
    """

    def __init__(self, path: Path) -> None:
        header = np.lib.format.open_memmap(path, mode="r")
        if np.isfortran(header):
            raise ValueError("its rows are not in order (Fortran)")
        self.shape, self.dtype, self.nbytes = header.shape, header.dtype, header.nbytes
        self._path, self._offset = path, int(header.offset)
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self._state = self._now()

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, wanted: np.ndarray | slice) -> np.ndarray:
        if isinstance(wanted, slice):
            start, stop, _ = wanted.indices(len(self))
            return self._read(np.array([start]), max(stop - start, 0))
        return self._read(wanted, 1)

    def sha256(self) -> str:
        with open(self._file, "rb", buffering=0, closefd=False) as file:
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _read(self, firsts: np.ndarray, together: int) -> np.ndarray:
        """``together`` rows from each of ``firsts`` on."""
        result = np.empty((len(firsts), together, *self.shape[1:]), self.dtype)
        size = self.nbytes // len(self)
        for part, first in zip(result, firsts.tolist(), strict=True):
            view, at = memoryview(part).cast("B") if part.size else memoryview(b""), self._offset + first * size
            while len(view) and (read := os.preadv(self._file, [view], at)):
                view, at = view[read:], at + read
        if self._now() != self._state:
            raise DataProblem(f"{self._path} changed while it was in use", "start the command again once it is whole")
        return result.reshape(-1, *self.shape[1:])

    def _now(self) -> tuple[int, int]:
        state = os.fstat(self._file)
        return state.st_size, state.st_mtime_ns


def parts(array: np.ndarray | Rows) -> Iterator[np.ndarray]:
    """All rows of ``array``, some tens of MB at a time."""
    step = max(1, _PART * len(array) // max(1, array.nbytes))
    yield from (array[start : start + step] for start in range(0, len(array), step))
