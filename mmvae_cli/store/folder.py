"""The dataset folder: ``dataset.json`` and plain ``.npy`` arrays. numpy only, no torch.

Layout of a store (docs/dataset-folder.md says the same for people who write their own)::

    dataset.json                 what is inside: modalities, splits, labels, provenance, SHA-256 of every file
    preview.png                  a look at it
    {split}/{modality}.npy       image: uint8 (N, C, H, W); text: uint8 (N, L), positions in the modality's alphabet;
                                 vector: float32 (N, F)
    {split}/{modality}.index.npy optional int32 (items,): row of the array that belongs to item i; -1: it has none
    {split}/labels.npy           int64 (items,) classes, or uint8 (items, A) attributes in 0/1
    {split}/keys.npy             optional bytes (items,): the name that the user has for item i, in UTF-8
"""

import hashlib
import io
import json
from collections.abc import Collection, Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mmvae_cli.disk.files import reading, reserve, sha256, visible
from mmvae_cli.disk.sealed import read_json, write_json
from mmvae_cli.process.errors import DataProblem, UsageProblem
from mmvae_cli.process.paths import look, refuse_dangling
from mmvae_cli.recipe.kinds import KINDS
from mmvae_cli.recipe.wording import believed
from mmvae_cli.store.info import FileInfo, StoreInfo
from mmvae_cli.store.rows import Rows, parts

IN_MEMORY = 1 << 30
"""Files up to this size are read once: the bytes that were checked are the bytes that are used, whatever happens to the
file meanwhile. Larger ones stay on the disk (:class:`Rows`)."""
_AGAIN = "build the dataset again: mmvae make-dataset ... --force; one of your own: mend the array, then store.finish"


class Store:
    """A dataset folder opened for reading. Arrays are read, or left on the disk where they are large, and checked when
    they are asked for.

    Raises :class:`DataProblem` naming the file and what to do, for whatever is missing, damaged or inconsistent.
    """

    def __init__(self, folder: Path, *, verify: bool = True, info: StoreInfo | None = None) -> None:
        """``verify``: compare checksums. ``info``: what the folder is to hold where dataset.json is not there yet."""
        self.folder, self._verify = folder, verify
        self._loaded: dict[str, np.ndarray | Rows] = {}
        self.info = info or _read_info(folder)

    @property
    def name(self) -> str:
        return self.info.name

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with any byte of the data or of its description, provenance and the names of items
        aside: nothing is computed from them."""
        known = self.info.model_dump(mode="json", exclude={"provenance": True, "files": self.info.key_files})
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]

    def count(self, split: str) -> int:
        if split not in self.info.splits:
            raise DataProblem(f"{self.folder}: no split {split!r}", f"it has: {', '.join(self.info.splits)}")
        return self.info.splits[split].count

    def array(self, split: str, modality: str) -> np.ndarray | Rows:
        """Rows of one modality as they are stored: uint8 image (N, C, H, W), text (N, L), float32
        vector (N, F)."""
        info = self.info.modalities[modality]
        array, dtype = self._load(f"{split}/{modality}.npy"), KINDS[info.kind].dtype
        if array.dtype != dtype or array.shape[1:] != info.shape:
            raise self._damaged(
                f"{split}/{modality}.npy", f"holds {array.dtype} {array.shape}, not {dtype} (N, *{info.shape})"
            )
        if self.index(split, modality) is None and len(array) != self.count(split):
            raise self._damaged(f"{split}/{modality}.npy", f"has {len(array)} rows for {self.count(split)} items")
        if dtype == "float32" and not all(np.isfinite(part).all() for part in parts(array)):
            raise self._damaged(f"{split}/{modality}.npy", "has a number that is not finite")
        if KINDS[info.kind].has_alphabet and any(int(p.max()) >= len(info.alphabet or "") for p in parts(array)):
            raise self._damaged(f"{split}/{modality}.npy", "has a character outside the alphabet")
        return array

    def index(self, split: str, modality: str) -> np.ndarray | None:
        """int32 (items,): which row of :meth:`array` belongs to item i, -1 where it has none; None where row i is item
        i."""
        name = f"{split}/{modality}.index.npy"
        if name not in self.info.files:
            return None
        index = self._load(name)[:]
        rows = len(self._load(f"{split}/{modality}.npy"))
        if index.dtype != np.int32 or index.shape != (self.count(split),):
            raise self._damaged(name, f"holds {index.dtype} {index.shape}, not int32 ({self.count(split)},)")
        if index.min() == -1 and self.info.version == 1:
            raise self._damaged(name, "marks items as absent (-1), which data of version 1 cannot")
        if index.min() < -1 or index.max() >= rows:
            raise self._damaged(name, f"points outside the {rows} rows of {modality}.npy")
        return index

    def present(self, split: str, modalities: Iterable[str]) -> np.ndarray | None:
        """bool (items, M): which of the ``modalities`` each item has; None where every item has them all. Raises
        DataProblem for an item that has none of the whole store."""
        table = self._table(split, list(modalities))
        if table.all():
            return None
        nothing = np.flatnonzero(~table.any(1))
        if len(nothing) and len(empty := np.flatnonzero(~self._table(split, list(self.info.modalities)).any(1))):
            raise DataProblem(f"{self.folder}: item {empty[0]} of {split} has no modality at all", _AGAIN)
        return table

    def complete(self, split: str, modalities: Iterable[str]) -> np.ndarray:
        """int64 (n,): the items of a split that have all of the ``modalities``."""
        present = self.present(split, modalities)
        return np.arange(self.count(split)) if present is None else np.flatnonzero(present.all(1))

    def _table(self, split: str, modalities: list[str]) -> np.ndarray:
        table = np.ones((self.count(split), len(modalities)), bool)
        for m, name in enumerate(modalities):
            if (index := self.index(split, name)) is not None:
                table[:, m] = index >= 0
        return table

    def labels(self, split: str) -> np.ndarray:
        """int64 (items,) classes or uint8 (items, A) attributes; zeros where the data have no labels."""
        if self.info.labels is None:
            return np.zeros(self.count(split), np.int64)
        labels, known = self._load(f"{split}/labels.npy")[:], self.info.labels
        shape: tuple[int, ...] = (self.count(split),)
        dtype, top = "int64", len(known.names) - 1
        if known.kind == "attributes":
            shape, dtype, top = (*shape, len(known.names)), "uint8", 1
        if labels.shape != shape or labels.dtype != dtype:
            raise self._damaged(f"{split}/labels.npy", f"holds {labels.dtype} {labels.shape}, not {dtype} {shape}")
        if labels.min() < 0 or labels.max() > top:
            raise self._damaged(f"{split}/labels.npy", f"has a label outside 0..{top}")
        return labels

    def keys(self, split: str) -> np.ndarray | None:
        """str (items,): the user's own name of each item; None where the data have none."""
        if (name := f"{split}/keys.npy") not in self.info.key_files:
            return None
        keys = self._load(name)[:]
        if keys.shape != (self.count(split),):
            raise self._damaged(name, f"holds {keys.shape} names for {self.count(split)} items")
        try:
            return np.char.decode(keys, "utf-8")
        except UnicodeDecodeError as error:
            raise self._damaged(name, f"has a name that is not UTF-8 ({error})") from error

    def check(self, split: str, modalities: Collection[str]) -> None:
        """Read and check the arrays now, so that damage is seen before anything is done; a file is hashed once."""
        for modality in modalities:
            self.array(split, modality)
        self.present(split, modalities)

    def _load(self, name: str) -> np.ndarray | Rows:
        if name not in self._loaded:
            self._loaded[name] = self._read(name)
        return self._loaded[name]

    def _read(self, name: str) -> np.ndarray | Rows:
        known, path = self.info.files.get(name), self.folder / name
        try:
            with reading(path):
                if not path.is_file():
                    raise self._damaged(name, "is missing")
                if known is None:
                    raise self._damaged(name, "is not listed in dataset.json")
                if path.stat().st_size != known.bytes:
                    raise self._damaged(name, f"has {path.stat().st_size} bytes, not {known.bytes}")
                source = path.read_bytes() if known.bytes <= IN_MEMORY else Rows(path)
                if self._verify and _digest(source) != known.sha256:
                    raise self._damaged(name, "does not match its checksum")
            if isinstance(source, Rows):
                array: np.ndarray | Rows = source
            else:
                array = np.lib.format.read_array(io.BytesIO(source), allow_pickle=False)
        except DataProblem:
            raise
        except Exception as error:  # a header can be wrong in more ways than numpy has names for
            raise self._damaged(name, f"cannot be read ({str(error)[:120]})") from error
        if not array.shape or array.shape != known.shape or str(array.dtype) != known.dtype:
            raise self._damaged(name, "has another shape or type than dataset.json says")
        return array

    def _damaged(self, name: str, what: str) -> DataProblem:
        return DataProblem(f"{self.folder / name} {what}", _AGAIN)


def _digest(source: bytes | Rows) -> str:
    return source.sha256() if isinstance(source, Rows) else hashlib.sha256(source).hexdigest()


def _read_info(folder: Path) -> StoreInfo:
    path = folder / "dataset.json"
    with reading(path):
        with suppress(FileNotFoundError, NotADirectoryError):
            look(folder)
        if not path.is_file():
            if folder.is_dir() and any(folder.glob("*/*.npy")):
                raise DataProblem(f"{path} is missing or no file", _AGAIN)
            refuse_dangling(path, DataProblem)
            raise DataProblem(f"no dataset at {folder}", "build it with mmvae make-dataset, or give --data-dir")
        if path.stat().st_size > 16 << 20:
            raise DataProblem(f"{path} is larger than any dataset.json", "build the dataset again")
    return believed(StoreInfo, read_json(path), path, "build the dataset again")


def new_array(folder: Path, name: str, shape: tuple[int, ...], dtype: Any = np.uint8) -> np.ndarray:
    """A memory-mapped array at ``folder/name`` to fill; never in memory as a whole."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    reserve(path, array.offset)
    return array


def finish(folder: Path, info: StoreInfo, *, replace: bool = False) -> StoreInfo:
    """Write dataset.json over the ``.npy`` files in ``folder``, checksums included; returns the complete info.

    The arrays are checked as whoever reads them will: raises DataProblem with the name of one that is missing or is not
    what ``info`` says. Raises UsageProblem where there is a dataset.json, unless ``replace`` is true.
    """
    description = folder / "dataset.json"
    if description.exists() and not replace:
        raise UsageProblem(f"{description} exists", "write into another folder, or call finish(..., replace=True)")
    files = {path.relative_to(folder).as_posix(): _describe(path) for path in visible(folder.glob("[!.]*/*.npy"))}
    known = {"files": {k: v.model_dump() for k, v in files.items()}, "version": 2}
    complete, version = StoreInfo.model_validate(info.model_dump() | known), 1
    for split in complete.splits:
        for modality in complete.modalities:
            _check_written(folder, complete, split, modality)
        written = Store(folder, verify=False, info=complete)
        written.labels(split)
        written.keys(split)
        if written.present(split, complete.modalities) is not None:
            version = 2
    complete = complete.model_copy(update={"version": version})  # the oldest that says all there is to say
    write_json(description, complete.model_dump(mode="json"))
    return complete


def _describe(path: Path) -> FileInfo:
    try:
        with reading(path):
            header = np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:  # no .npy file, or one of Python objects
        raise DataProblem(f"{path} cannot be read ({str(error)[:120]})", _AGAIN) from error
    return FileInfo(bytes=path.stat().st_size, sha256=sha256(path), shape=header.shape, dtype=str(header.dtype))


def _check_written(folder: Path, info: StoreInfo, split: str, modality: str) -> None:
    """Raise DataProblem for what a reader would refuse, and for pictures that were fractions before they became bytes:
    all of them black. The folder is opened anew, so that no more than one array is held in memory."""
    array = Store(folder, verify=False, info=info).array(split, modality)
    if info.modalities[modality].kind != "image":
        return
    if 0 < max((int(part.max()) for part in parts(array)), default=0) <= 1:
        path = folder / split / f"{modality}.npy"
        raise DataProblem(f"{path} has no value above 1: pictures are bytes, 0 to 255", "multiply fractions by 255")
