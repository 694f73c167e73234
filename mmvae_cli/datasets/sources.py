"""Handwritten digits to build datasets from: MNIST, IDX files of any folder, or the digits inside scikit-learn."""

import gzip
import hashlib
import os
import socket
import struct
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

import numpy as np

from mmvae_cli import console, signals
from mmvae_cli.errors import DataProblem

SIDE = 28
"""Pixels: height and width of a digit."""

_IDX_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_MNIST_SHA256 = (  # of the unpacked files, in the order of _IDX_NAMES
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)
_LARGEST = 512 << 20  # bytes, 680,000 digits: what a damaged or hostile header may ask for at most


@dataclass(frozen=True)
class Digits:
    """Images uint8 (N, 28, 28), white strokes on black; labels int64 (N,) in 0..9. Train and test are disjoint.

    ``stand_in`` says what the digits are where they are not MNIST, else None; ``provenance`` goes into the store.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    stand_in: str | None = None
    provenance: dict[str, object] = field(default_factory=dict)

    def split(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels of ``train`` or ``test``."""
        return (self.train_images, self.train_labels) if name == "train" else (self.test_images, self.test_labels)


def digits(source: str, data_dir: Path) -> Digits:
    """The digits named by ``source``: ``mnist`` (found under ``data_dir`` or downloaded there), ``embedded``
    (scikit-learn's) or the path of a folder with the four IDX files, packed (.gz) or not.

    Raises DataProblem for whatever is missing, truncated or not digits 0..9.
    """
    if source == "embedded":
        return _embedded()
    if source == "mnist":
        places = [data_dir / "MNIST" / "raw", data_dir / "MNIST", data_dir]
        folder = _with_idx(places) or _download_mnist(data_dir)
        console.say(f"digits: MNIST in {folder}")
        return _read_folder(folder)
    path = Path(source)
    if not path.is_dir():
        raise DataProblem(f"--digits {source}: no such folder", "give mnist, embedded, or a folder with IDX files")
    places = [path, path / "raw", path / "MNIST" / "raw"]
    folder = _with_idx(places) or path
    console.say(f"digits: {folder}")
    return _read_folder(folder)


# IDX files -----------------------------------------------------------------------------------------------------------


def _find(folder: Path, name: str) -> Path | None:
    """``train-images-idx3-ubyte`` also under its other usual name ``train-images.idx3-ubyte``, each also as .gz."""
    other = name.replace("-idx", ".idx")
    return next((p for n in (name, other, f"{name}.gz", f"{other}.gz") if (p := folder / n).is_file()), None)


def _with_idx(places: list[Path]) -> Path | None:
    """The first folder that holds any of the four files, so that an incomplete one is reported, not passed over."""
    return next((folder for folder in places if any(_find(folder, name) for name in _IDX_NAMES)), None)


def _read_folder(folder: Path) -> Digits:
    paths = []
    for name in _IDX_NAMES:
        path = _find(folder, name)
        if path is None:
            raise DataProblem(
                f"{folder}: {name} is missing, packed (.gz) or not",
                "four IDX files are needed: " + ", ".join(_IDX_NAMES),
            )
        paths.append(path)
    arrays, sums = [], []
    for path in paths:
        signals.leave_if_requested("nothing was written")
        array = read_idx(path)
        arrays.append(array)
        sums.append(_idx_sha256(array))
    train_images, train_labels = _checked(arrays[0], arrays[1], paths[0], paths[1])
    test_images, test_labels = _checked(arrays[2], arrays[3], paths[2], paths[3])
    is_mnist = tuple(sums) == _MNIST_SHA256
    return Digits(
        train_images, train_labels, test_images, test_labels,
        stand_in=None if is_mnist else f"digits of the folder {folder.resolve().name}, not MNIST",
        provenance={"source": "MNIST" if is_mnist else "IDX files",
                    "sha256": {path.name: digest for path, digest in zip(paths, sums, strict=True)}},
    )  # fmt: skip


def _checked(images: np.ndarray, labels: np.ndarray, at: Path, labels_at: Path) -> tuple[np.ndarray, np.ndarray]:
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        size = "x".join(map(str, images.shape[1:])) or "scalars"
        raise DataProblem(f"{at}: images of {SIDE}x{SIDE} are needed, it holds {size}", "resize them, or give others")
    if labels.shape != (len(images),):
        raise DataProblem(f"{labels_at}: {len(labels)} labels for the {len(images)} images of {at.name}")
    if labels.max() > 9:
        raise DataProblem(f"{labels_at}: holds the label {labels.max()}, outside 0..9", "keep ten classes, from 0 to 9")
    return images, labels.astype(np.int64)


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array of an IDX file (two zero bytes, type 8, number of dimensions; each size as big-endian uint32;
    then the bytes). ``.gz`` is unpacked. Raises DataProblem naming the file where it is truncated or anything else."""
    try:
        with _open(path) as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:3] != b"\0\0\x08" or not 1 <= magic[3] <= 3:
                raise DataProblem(f"{path}: is no IDX file of bytes", "fetch it again; a web page may have been saved")
            header = file.read(4 * magic[3])
            if len(header) < 4 * magic[3]:
                raise _truncated(path, 4 + len(header), 4 + 4 * magic[3])
            shape = struct.unpack(f">{magic[3]}I", header)
            wanted = int(np.prod([int(side) for side in shape], dtype=object))
            if not 0 < wanted <= _LARGEST:
                raise DataProblem(
                    f"{path}: its header says {' x '.join(map(str, shape))} bytes, no set of digits", "fetch it again"
                )
            content, found = np.empty(wanted, np.uint8), 0
            while count := file.readinto(memoryview(content)[found:]):  # type: ignore
                found += count  # memory is taken as bytes come, not as the header promises
            more = file.read(1)
    except EOFError as error:
        raise DataProblem(f"{path}: is truncated", "fetch the file again") from error
    except (OSError, zlib.error) as error:
        raise DataProblem(f"{path}: cannot be read ({error})", "fetch the file again") from error
    if found < wanted:
        raise _truncated(path, 4 + len(header) + found, 4 + len(header) + wanted)
    if more:
        raise DataProblem(f"{path}: goes on after its {wanted} bytes of data", "fetch the file again")
    return content.reshape(shape)


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _truncated(path: Path, found: int, wanted: int) -> DataProblem:
    return DataProblem(f"{path}: is truncated ({found:,} of {wanted:,} bytes)", "fetch the file again")


def _idx_sha256(array: np.ndarray) -> str:
    """SHA-256 of the unpacked IDX file that holds ``array``."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    digest = hashlib.sha256(header)
    digest.update(array.data)
    return digest.hexdigest()


def _download_mnist(data_dir: Path, fetch: Callable[[Path], None] | None = None) -> Path:
    """Fetch MNIST with torchvision into ``data_dir/MNIST/raw``; the files take their place only when complete.

    ``fetch`` downloads into a folder in torchvision's layout. Raises DataProblem naming the alternatives.
    """
    target = data_dir / "MNIST" / "raw"
    console.say(f"digits: MNIST is not under {data_dir}; downloading it (11 MB)")
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=data_dir) as folder:
            (fetch or _torchvision_mnist)(Path(folder))
            target.mkdir(parents=True, exist_ok=True)
            for name in _IDX_NAMES:
                os.replace(Path(folder) / "MNIST" / "raw" / name, target / name)
    except Exception as error:  # torchvision raises RuntimeError, URLError, OSError, HTTPException ...
        signals.leave_if_requested("nothing was written")
        reason = str(error).strip().rstrip(":").splitlines()
        raise DataProblem(
            f"MNIST is not in {target} and cannot be downloaded ({reason[0] if reason else type(error).__name__})",
            "give --digits FOLDER with the four IDX files, or --digits embedded for the digits inside scikit-learn",
        ) from error
    return target


def _torchvision_mnist(folder: Path) -> None:
    from torchvision.datasets import MNIST  # function-local: the only need for torch in this room

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # seconds; a node without a route would otherwise wait for minutes per mirror
    try:
        MNIST(root=str(folder), train=True, download=True)
    finally:
        socket.setdefaulttimeout(before)


# embedded digits -----------------------------------------------------------------------------------------------------


def _embedded() -> Digits:
    """scikit-learn's 1,797 digits of 8x8 in 17 grey levels, enlarged to MNIST's look: 20x20 in a 28x28 frame.

    Every fifth digit of a class is a test digit: a fixed, stratified split of 1,442 and 355.
    """
    from PIL import Image
    from sklearn import __version__ as version
    from sklearn.datasets import load_digits

    small, labels = load_digits(return_X_y=True)
    images = np.zeros((len(small), SIDE, SIDE), dtype=np.uint8)
    for image, source in zip(images, small.reshape(-1, 8, 8), strict=True):
        framed = np.pad(source, 1).astype(np.float32)  # strokes touch the border; a blank rim lets them end smoothly
        enlarged = Image.fromarray(framed).resize((25, 25), Image.Resampling.BICUBIC)
        # A steep ramp around the grey level 8 of 16: "raw > 128" then leaves connected strokes, 15 % of all pixels
        # (MNIST: 13 %).
        image[1:26, 1:26] = np.clip((np.asarray(enlarged) - 8) * 32 + 128, 0, 255)
    rank = np.zeros(len(labels), dtype=np.int64)
    for label in range(10):
        rank[labels == label] = np.arange(np.count_nonzero(labels == label))
    test = rank % 5 == 4
    labels = labels.astype(np.int64)
    return Digits(
        images[~test], labels[~test], images[test], labels[test],
        stand_in="embedded digits of scikit-learn, not MNIST",
        provenance={"source": "sklearn.datasets.load_digits", "scikit_learn": version},
    )  # fmt: skip
