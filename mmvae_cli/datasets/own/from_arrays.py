"""``make-dataset arrays``: an .npz, or a folder of .npy files, becomes a dataset. Row i of every array is item i.

An item lacks a modality where ``NAME_present`` (N,) is false, a row of numbers is all nan, or a string is empty.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from mmvae_cli.datasets.own import build, parts, splits
from mmvae_cli.datasets.own.build import StoreOptions
from mmvae_cli.disk.files import reading
from mmvae_cli.process import console
from mmvae_cli.process.errors import DataProblem, Failure, UsageProblem
from mmvae_cli.store import ModalityInfo

PRESENT = "_present"
_LABELS, _SPLIT, _KEYS = "labels", "split", "keys"
_FORMS = "pictures are uint8 (N, C, H, W) or (N, H, W), vectors numbers (N, features), texts strings (N,)"


def make(path: Path, options: StoreOptions) -> None:
    """Read, check and write. Raises a Failure that names file and array; then nothing was written."""
    build_from(_read(path), options, path)


def build_from(arrays: dict[str, np.ndarray], options: StoreOptions, path: Path) -> None:
    """The same for arrays that were read; ``path`` names their source in messages."""
    arrays = {name: _strings(path, name, array) if array.dtype.kind == "S" else array for name, array in arrays.items()}
    _check_rows(path, arrays)
    masks = {name: _mask(f"{name}{PRESENT}", arrays) for name in [*arrays] if f"{name}{PRESENT}" in arrays}
    labels, said, keys = (arrays.pop(name, None) for name in (_LABELS, _SPLIT, _KEYS))
    if not arrays:
        raise DataProblem(f"{path} has no array of data", _FORMS)
    kinds = {name: _kind(path, name, array) for name, array in arrays.items()}
    build.check(options, list(arrays), [name for name, kind in kinds.items() if kind == "vector"])
    known = None if labels is None else splits.labels_of(_words(path, _LABELS, labels, "classes"))
    count = len(next(iter(arrays.values())))
    names = [f"row {i}" for i in range(count)] if keys is None else _words(path, _KEYS, keys, "names of items")
    words = None if said is None else [str(word) for word in said.tolist()]
    chosen = splits.chosen(
        words, str(path), f"an array {_SPLIT}", count, options.test, options.seed, known and known[0]
    )
    ready = {
        name: _part(path, name, array, kinds[name], masks.get(name, np.ones(count, bool)), chosen["train"], options)
        for name, array in arrays.items()
    }
    build.check_present(ready, chosen["train"], str(path), partial(_bare, path))
    told = [f"{name}: {kind} {list(ready[name].info.shape)}" for name, kind in kinds.items()]
    console.say("read as: " + ", ".join(told))
    build.build(options, ready, chosen, known, path, names)


def _bare(path: Path, row: int, what: str) -> DataProblem:
    return DataProblem(f"{path}, row {row}: {what}", "leave the row out of every array")


def _mask(name: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Taken out of ``arrays``. Raises UsageProblem for what is none."""
    mask = arrays.pop(name)
    if mask.ndim != 1 or mask.dtype != bool:
        raise UsageProblem(f"{name}: is no mask", "true and false (N,): whether item i has the modality")
    return mask


def _read(path: Path) -> dict[str, np.ndarray]:
    if path.is_dir():
        files = sorted(path.glob("*.npy"))
        if not files:
            raise DataProblem(f"{path} has no .npy file", "give an .npz file or a folder of .npy files")
        return {file.stem: _array(file) for file in files}
    if not path.is_file():
        raise DataProblem(f"{path} is not there", "give an .npz file or a folder of .npy files")
    arrays = {}
    with _loading(path):
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is no .npz file; a folder of .npy files is read, too")
    with archive:
        for name in archive.files:
            with _loading(path, f", array {name}"):
                arrays[name] = archive[name]
                if not isinstance(arrays[name], np.ndarray):
                    raise ValueError("it is no array of numpy")
    return arrays


def _array(file: Path) -> np.ndarray:
    with _loading(file):
        array: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
    return array


@contextmanager
def _loading(path: Path, inside: str = "") -> Iterator[None]:
    """A block in which numpy reads ``path``. It would advise to load unsafely whatever it does not know."""
    try:
        with reading(path):
            yield
    except Failure:
        raise
    except Exception as error:  # a damaged file fails in more ways than numpy has names for
        odd = "pickle" in str(error)
        why = "it holds something else than arrays of numbers or strings" if odd else str(error)[:100]
        hint = "save plain arrays; strings in an array of objects become plain by .astype(str)"
        raise DataProblem(f"{path}{inside} cannot be read ({why})", hint) from error


def _check_rows(path: Path, arrays: dict[str, np.ndarray]) -> None:
    rows = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(rows.values())) != 1 or 0 in rows.values():
        said = ", ".join(f"{name} {count}" for name, count in rows.items())
        raise DataProblem(f"{path}: every array has a row for each item, here: {said or 'no array'}",
                          f"where an item lacks one: any row, and NAME{PRESENT} (N,) that is false")  # fmt: skip


def _strings(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    try:
        return np.char.decode(array, "utf-8")
    except UnicodeDecodeError as error:
        raise DataProblem(f"{path}, array {name}: bytes that are not UTF-8 ({error})", "save strings") from error


def _kind(path: Path, name: str, array: np.ndarray) -> str:
    if 0 in array.shape:
        raise DataProblem(f"{path}, array {name}: {array.shape} holds nothing", "every side is 1 or more")
    if array.dtype == np.uint8 and array.ndim in (3, 4):
        return "image"
    if array.dtype.kind == "U" and array.ndim == 1:
        return "text"
    if array.dtype.kind in "fiub" and array.ndim in (1, 2):
        return "vector"
    scaled = array.dtype.kind == "f" and array.ndim in (3, 4)
    hint = "pictures from 0 to 1 as bytes: (255 * array).round().astype(numpy.uint8); else " if scaled else ""
    raise DataProblem(f"{path}, array {name}: {array.dtype} {array.shape} is no data of a known kind", hint + _FORMS)


def _words(path: Path, name: str, array: np.ndarray, what: str) -> list[str]:
    if array.ndim != 1 or array.dtype.kind not in "iuUb":
        raise DataProblem(
            f"{path}, array {name}: {array.dtype} {array.shape} are no {what}", "whole numbers or strings (N,)"
        )
    return [str(word) for word in array.tolist()]


def _part(
    path: Path, name: str, array: np.ndarray, kind: str, present: np.ndarray, train: np.ndarray, options: StoreOptions
) -> parts.Part:  # fmt: skip
    if kind == "image":
        pictures = array[:, None] if array.ndim == 3 else array
        if pictures.shape[1] > 4 and pictures.shape[3] in (1, 3):
            raise DataProblem(
                f"{path}, array {name}: {array.shape} looks like (N, H, W, C)", "transpose it: (N, C, H, W)"
            )
        info = ModalityInfo(kind="image", shape=pictures.shape[1:])
        return parts.Part(info, lambda items: pictures[items], present)
    if kind == "text":
        return parts.texts([str(text) * there for text, there in zip(array, present.tolist(), strict=True)], name)
    values = np.array(array[:, None] if array.ndim == 1 else array, np.float64)
    values[~present] = np.nan
    odd = ~(np.abs(values) <= np.finfo(np.float32).max) & ~np.isnan(values).all(1, keepdims=True)
    if len(wrong := np.argwhere(odd)):
        row, column = wrong[0].tolist()
        raise DataProblem(f"{path}, array {name}, row {row}, column {column}: {values[row, column]} is not finite",
                          "an item that lacks the vector has nan in all of its columns")  # fmt: skip
    return parts.vectors(
        values, [str(column) for column in range(values.shape[1])], train, raw=name in options.raw,
        problem=lambda feature, what: DataProblem(f"{path}, array {name}, column {feature}: {what}",
                                                  "leave the column out, or keep the numbers: --raw"),
    )  # fmt: skip
