"""IDX files, the format of MNIST: known by what they hold, packed or not, whatever their names say."""

import gzip
import re
import struct
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np

from mmvae_cli.disk.files import reading
from mmvae_cli.process.errors import DataProblem, Unreadable

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_LARGEST = 512 << 20  # bytes, 680,000 digits: what a damaged or hostile header may ask for at most


def read(path: Path) -> np.ndarray:
    """The uint8 array of an IDX file (two zero bytes, type 8, number of dimensions; each size as big-endian uint32;
    then the bytes). Raises DataProblem naming the file where it is truncated or anything else."""
    try:
        with reading(path), _open(path) as file:
            shape = _shape(file, path)
            wanted = int(np.prod([int(side) for side in shape], dtype=object))
            if not 0 < wanted <= _LARGEST:
                raise DataProblem(
                    f"{path}: its header says {' x '.join(map(str, shape))} bytes, no set of digits", "fetch it again"
                )
            content = file.read(wanted + 1)
    except EOFError as error:
        raise DataProblem(f"{path}: is truncated", "fetch the file again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataProblem(f"{path}: cannot be read ({error})", "fetch the file again") from error
    if len(content) < wanted:
        header = 4 + 4 * len(shape)
        raise _truncated(path, header + len(content), header + wanted)
    if len(content) > wanted:
        raise DataProblem(f"{path}: goes on after its {wanted} bytes of data", "fetch the file again")
    return np.frombuffer(content, np.uint8, wanted).reshape(shape)


def shape_of(path: Path) -> tuple[int, ...] | None:
    """The shape that the header of an IDX file of bytes tells; None for any other file. Raises Unreadable."""
    try:
        with reading(path), _open(path) as file:
            return _shape(file, path)
    except Unreadable:
        raise
    except (DataProblem, EOFError, gzip.BadGzipFile, zlib.error):
        return None


def _open(path: Path) -> IO[bytes]:
    """The file unpacked, by its first bytes: a browser or ``gunzip -c`` leaves name and content apart."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path, "rb")) if packed else path.open("rb")


def _shape(file: IO[bytes], path: Path) -> tuple[int, ...]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:3] != b"\0\0\x08" or not 1 <= magic[3] <= 3:
        raise DataProblem(f"{path}: is no IDX file of bytes", "fetch it again; a web page may have been saved")
    header = file.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise _truncated(path, 4 + len(header), 4 + 4 * magic[3])
    return struct.unpack(f">{magic[3]}I", header)


def _truncated(path: Path, size: int, wanted: int) -> DataProblem:
    return DataProblem(f"{path}: is truncated ({size:,} of {wanted:,} bytes)", "fetch the file again")


def by_name(folder: Path) -> list[Path | None]:
    """The files of :data:`NAMES`, each also as ``train-images.idx3-ubyte``, with or without ``.gz``; None for one that
    is not there."""
    called = [
        [f"{stem}{end}" for end in ("", ".gz") for stem in (name, name.replace("-idx", ".idx"))] for name in NAMES
    ]
    return [next((path for one in names if (path := folder / one).is_file()), None) for names in called]


def found(folder: Path) -> bool:
    """Whether ``folder`` holds any IDX file."""
    return any(by_name(folder)) or (folder.is_dir() and bool(_shapes(folder, "")))


def four(folder: Path, start: str = "") -> list[Path]:
    """The images and labels of the training set, then those of the test set: by their usual names, else by content
    among the files whose names begin with ``start``. Raises DataProblem where these are not two of each."""
    named = by_name(folder)
    if not start and None not in named:
        return cast(list[Path], named)
    shapes = _shapes(folder, start)
    images, labels = ({path: s[0] for path, s in shapes.items() if len(s) == sides} for sides in (3, 1))
    if len(images) == len(labels) == 2:
        return _in_order(images, labels, folder)
    if len(images) > 2 or len(labels) > 2:
        raise DataProblem(
            f"{folder}: {len(images)} IDX files of images and {len(labels)} of labels, two of each are needed",
            "give the beginning of their names too, as --digits FOLDER/emnist-digits",
        )
    missing = NAMES[named.index(None)] if any(named) else "a set of digits"
    needed = "four IDX files are needed: " + ", ".join(NAMES)
    raise DataProblem(f"{folder}: {missing} is missing, packed (.gz) or not", needed)


def _shapes(folder: Path, start: str) -> dict[Path, tuple[int, ...]]:
    """The IDX files of ``folder``; of one that lies there packed and unpacked, the unpacked."""
    paths = sorted(path for path in folder.iterdir() if path.name.startswith(start) and not path.name.startswith("."))
    once = {path.name.removesuffix(".gz"): path for path in reversed(paths) if path.is_file()}
    return {path: shape for path in once.values() if (shape := shape_of(path))}


def _in_order(images: dict[Path, int], labels: dict[Path, int], folder: Path) -> list[Path]:
    """Two files of images and two of labels, with their counts, in the order of :data:`NAMES`. What a name does not
    tell, the counts do: the training set is the larger one, and labels belong to as many images."""

    def sorted_by_split(known: dict[Path, int]) -> list[tuple[int, int, Path]]:
        return sorted((_split(path), -count, path) for path, count in known.items())

    (*train, train_images), (*test, test_images) = sorted_by_split(images)
    if train == test:
        raise DataProblem(
            f"{folder}: nothing tells the training set from the test set among {train_images.name} and "
            f"{test_images.name}", "rename them: " + ", ".join(NAMES),
        )  # fmt: skip
    (_, _, train_labels), (_, _, test_labels) = sorted_by_split(labels)
    if labels[train_labels] == images[test_images] != images[train_images] == labels[test_labels]:
        train_labels, test_labels = test_labels, train_labels
    return [train_images, train_labels, test_images, test_labels]


def _split(path: Path) -> int:
    """-1: of the training set by its name, 1: of the test set, 0: its name does not say."""
    return bool(re.search("t10k|test", path.name, re.IGNORECASE)) - bool(re.search("train", path.name, re.IGNORECASE))
