"""SVHN, format 2: the official ``train_32x32.mat`` and ``test_32x32.mat``, read strictly, or downloaded. No torch.

A .mat file can hold anything; only two plain uint8 arrays are read from it, after their headers have been checked.
"""

import hashlib
import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mmvae_cli.datasets.fetching import downloading
from mmvae_cli.datasets.mnist_svhn_text import mat_headers
from mmvae_cli.datasets.sources import Digits, Pictures
from mmvae_cli.process import console, signals
from mmvae_cli.process.errors import DataProblem, cannot_read

FILES = {"train": "train_32x32.mat", "test": "test_32x32.mat"}
OFFICIAL_MD5 = {"train": "e26dedcc434d2e4c54c9b2d4a06d8373", "test": "eb5a983be6a315427106f1b164d9cef3"}
_URL = "http://ufldl.stanford.edu/housenumbers/"
_IMAGE_BYTES = 32 * 32 * 3
_MOST_COMPRESSION = 1100  # deflate cannot do better: a header that promises more is damaged
_ELSEWHERE = "give a folder with both .mat files (--svhn PATH) or use the stand-in (--svhn embedded)"


def svhn(source: str, data_dir: Path) -> Digits:
    """``auto``: the files under the data directory, else a download; else a folder.

    Raises DataProblem naming the file for whatever is missing or damaged.
    """
    folder = _find(source, data_dir)
    console.say(f"SVHN: {folder}")
    return read_folder(folder)


def _find(source: str, data_dir: Path) -> Path:
    if source != "auto":
        folder = Path(source)
        if not folder.is_dir():
            raise DataProblem(f"--svhn {source}: no such folder", f"give one with {' and '.join(FILES.values())}")
        return _with_mat([folder, folder / "svhn"]) or folder
    return _with_mat([data_dir / "svhn", data_dir]) or download(data_dir / "svhn")


def _with_mat(places: list[Path]) -> Path | None:
    """The first folder that holds any of the two files, so that an incomplete one is reported, not passed over."""
    return next((folder for folder in places if any((folder / name).is_file() for name in FILES.values())), None)


def read_folder(folder: Path) -> Digits:
    """Both files of ``folder``. Files that are not the complete official ones make a stand-in of it."""
    splits, facts, official = {}, {}, True
    for split, name in FILES.items():
        path = folder / name
        signals.leave_if_requested("nothing was written")
        splits[split] = read_mat(path)
        facts[split] = {"file": name, "images": len(splits[split].labels), "md5": md5(path)}
        official &= facts[split]["md5"] == OFFICIAL_MD5[split]
    stand_in = None
    if not official:
        counts = " / ".join(f"{facts[split]['images']:,} {split}" for split in FILES)
        stand_in = f"SVHN files are not the complete official ones ({counts} images)"
    return Digits(splits, stand_in, provenance={"source": "SVHN format 2", **facts})


def read_mat(path: Path) -> Pictures:
    """One .mat file: images uint8 (N, 3, 32, 32), labels int64 (N,), the file's 10 turned into 0."""
    from scipy.io import loadmat, whosmat

    if not path.is_file():
        raise DataProblem(f"{path} is missing", _ELSEWHERE)
    if _careful(path, mat_headers.is_hdf5):
        raise DataProblem(
            f"{path} is a file of MATLAB 7.3 (HDF5), which is not read",
            "save it again as the official files are: load it in MATLAB or Octave, then save(FILE, 'X', 'y', '-v7')",
        )
    sizes = _careful(path, mat_headers.data_bytes)
    headers = {name: (shape, kind) for name, shape, kind in _careful(path, whosmat)}
    _check_headers(path, headers)
    shapes = {name: headers[name][0] for name in ("X", "y")}
    for name, shape in shapes.items():
        if sizes[name] != math.prod(shape):
            raise _unread(path, f"{name} has {sizes[name]:,} bytes for the shape {shape}")
    content = _careful(path, lambda path: loadmat(path, variable_names=["X", "y"]))
    images, labels = content["X"], content["y"]
    for name, shape in shapes.items():
        if type(content[name]) is not np.ndarray or content[name].dtype != np.uint8 or content[name].shape != shape:
            raise _damaged(path, f"{name} is not what its header says")
    if labels.min() < 1 or labels.max() > 10:
        wrong = int(labels[(labels < 1) | (labels > 10)][0])
        raise _damaged(path, f"has the label {wrong}; SVHN's labels are 1..10 (10 is the digit 0)")
    return Pictures(images.transpose(3, 2, 0, 1), labels[:, 0].astype(np.int64) % 10)


def _check_headers(path: Path, headers: dict[str, tuple[tuple[int, ...], str]]) -> None:
    """X uint8 (32, 32, 3, N) and y uint8 (N, 1), before a byte of them is unpacked."""
    for name in ("X", "y"):
        if name not in headers:
            contents = ", ".join(headers) or "nothing"
            raise _damaged(path, f"has no array {name!r} (it has: {contents}): truncated or another file")
    (images, kind), (labels, label_kind) = headers["X"], headers["y"]
    if kind != "uint8" or len(images) != 4 or images[:3] != (32, 32, 3) or images[3] < 1:
        raise _damaged(path, f"X is {kind} {images}, not uint8 (32, 32, 3, N)")
    if label_kind != "uint8" or labels != (images[3], 1):
        raise _damaged(path, f"y is {label_kind} {labels}, not uint8 ({images[3]}, 1)")
    if images[3] * _IMAGE_BYTES > path.stat().st_size * _MOST_COMPRESSION:
        raise _damaged(path, f"promises {images[3]:,} images, more than its bytes can hold")


def _careful(path: Path, read: Callable[[Path], Any]) -> Any:
    """Run a reader. A damaged file makes it raise nearly anything, so everything means: damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return read(path)
    except PermissionError as error:
        raise cannot_read(path, error) from error
    except Exception as error:
        raise _unread(path, str(error)) from error


def _unread(path: Path, why: str) -> DataProblem:
    return _damaged(path, f"cannot be read: truncated or no .mat file ({why[:80]})")


def _damaged(path: Path, what: str) -> DataProblem:
    return DataProblem(f"{path} {what}", f"fetch it again from {_URL}{path.name}, or use --svhn embedded")


def md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def download(folder: Path) -> Path:
    """Fetch both files into ``folder``; each gets its name only when it is complete. Raises DataProblem naming the
    alternatives."""
    console.say(f"SVHN: not under {folder}; downloading it from {_URL} (240 MB)")
    with downloading(folder.parent, f"SVHN is not in {folder}", _ELSEWHERE) as temporary:
        for split, name in FILES.items():
            signals.leave_if_requested("nothing was written")
            _fetch(split, temporary)
            folder.mkdir(exist_ok=True)
            os.replace(temporary / name, folder / name)
    return folder


def _fetch(split: str, folder: Path) -> None:
    from torchvision.datasets.utils import download_url  # function-local: brings torch

    download_url(_URL + FILES[split], str(folder), FILES[split], OFFICIAL_MD5[split])
