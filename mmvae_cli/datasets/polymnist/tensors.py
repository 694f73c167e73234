"""The tensors of PolyMNIST (Zenodo record 4899160): ``{train,test}/m{v}.pt`` and ``labels.pt`` (equations 7.1)."""

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from mmvae_cli.datasets import building
from mmvae_cli.datasets.polymnist.official import Read, count_views
from mmvae_cli.datasets.polymnist.trees import SPLITS, Tree
from mmvae_cli.datasets.spread import spread
from mmvae_cli.disk.files import require_readable
from mmvae_cli.process import console
from mmvae_cli.process.errors import DataProblem
from mmvae_cli.process.paths import openable
from mmvae_cli.store import new_array

_NUMBERS = ("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "bool")


def found(tree: Tree) -> bool:
    """Whether ``tree`` holds tensors and not pictures."""
    return any(re.fullmatch(r"(train|test)/m[0-9]+\.pt", name) for name in tree.names)


def read_into(folder: Path, tree: Tree, views: int | None, limit: int | None) -> Read:
    """Read the tensors of ``tree`` into the arrays of a store at ``folder``, in their order."""
    matches = [match for name in tree.names if (match := re.fullmatch(r"(train|test)/m(0|[1-9][0-9]{0,3})\.pt", name))]
    count = count_views(tree, {split: [int(m[2]) for m in matches if m[1] == split] for split in SPLITS}, views)
    counts, per_label = {}, {}
    for split in SPLITS:
        labels = _labels(tree, f"{split}/labels.pt", folder)
        per_label[split] = tuple(int(n) for n in np.bincount(labels, minlength=10))
        keep = spread(len(labels), limit)
        counts[split] = len(keep)
        new_array(folder, f"{split}/labels.npy", keep.shape, np.int64)[:] = labels[keep]
        with console.progress(f"polymnist {split}", len(keep) * count, "images") as bar:
            for view in range(count):
                _copy_view(folder, tree, split, view, len(labels), keep, bar)
    return counts, per_label, {"layout": "tensors"}


def _copy_view(
    folder: Path, tree: Tree, split: str, view: int, total: int, keep: np.ndarray, bar: console.Progress
) -> None:
    name = f"{split}/m{view}.pt"
    with tree.as_file(name, folder) as path:
        images = load(path, tree.shown(name))
        if tuple(images.shape) != (total, 3, 28, 28):
            shape = tuple(images.shape)
            raise DataProblem(f"{tree.shown(name)} holds {shape}, not ({total}, 3, 28, 28)", "fetch it again")
        array = new_array(folder, f"{split}/m{view}.npy", (len(keep), 3, 28, 28))
        building.fill(array, lambda rows: _to_bytes(images[rows].numpy(), tree.shown(name)), keep, bar, f"m{view}")


def _to_bytes(values: np.ndarray, shown: str) -> np.ndarray:
    """uint8 as it is; numbers in [0, 1] as the PNG writer would: x255 + 0.5, truncated (equations 7.1)."""
    if values.dtype == np.uint8:
        return values
    values = values.astype(np.float32)
    if not (values.min() >= 0 and values.max() <= 1):  # written so that NaN fails too
        raise DataProblem(f"{shown} holds values outside [0, 1] and not bytes", "fetch it again")
    return (values * 255 + 0.5).astype(np.uint8)


def _labels(tree: Tree, name: str, scratch: Path) -> np.ndarray:
    """int64 (N,) in 0..9."""
    if name not in tree.names:
        raise DataProblem(f"{tree.shown(name)} is missing", "labels.pt belongs beside m0.pt in train and in test")
    with tree.as_file(name, scratch) as path:
        labels = load(path, tree.shown(name)).numpy().copy()
    flat = labels.reshape(-1)
    with np.errstate(invalid="ignore"):  # NaN and infinity are no labels, and are not equal to any
        whole = flat.astype(np.int64)
    if flat.size == 0 or flat.size != labels.shape[0] or (flat != whole).any():
        raise DataProblem(f"{tree.shown(name)} is no list of labels ({labels.dtype} {labels.shape})", "fetch it again")
    if flat.min() < 0 or flat.max() > 9:
        raise DataProblem(f"{tree.shown(name)} holds a label outside 0..9", "fetch it again")
    return flat.astype(np.int64)


def load(path: Path, shown: str) -> Any:
    """The tensor in a ``.pt`` file, mapped where its format allows. Nothing but plain tensors is unpickled."""
    import warnings

    import torch  # function-local: only these files need it

    require_readable(path)
    _refuse_packed(path, shown)
    try:
        with warnings.catch_warnings(), openable(path) as readable:
            warnings.simplefilter("ignore")
            try:
                content = torch.load(readable, map_location="cpu", weights_only=True, mmap=True)
            except RuntimeError:  # the format before torch 1.6 cannot be mapped
                content = torch.load(readable, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's unpickler fails in as many ways as there are wrong files
        reason = str(error).strip().splitlines()[0][:100] if str(error).strip() else type(error).__name__
        raise DataProblem(f"{shown} is no file of one tensor ({reason})", "fetch it again") from error
    if not isinstance(content, torch.Tensor) or content.ndim == 0 or content.layout != torch.strided:
        raise DataProblem(f"{shown} holds {type(content).__name__}, not one tensor", "fetch it again")
    if content.device.type != "cpu" or str(content.dtype).removeprefix("torch.") not in _NUMBERS:
        raise DataProblem(f"{shown} holds {content.dtype} on {content.device}, not plain numbers", "fetch it again")
    if content.numel() * content.element_size() > path.stat().st_size:  # by strides of 0, say
        raise DataProblem(f"{shown} promises more numbers than it has bytes for", "fetch it again")
    return content.detach()


def _refuse_packed(path: Path, shown: str) -> None:
    """torch.save packs nothing; a packed member would be unpacked into memory, whatever its size. Not a zip: the old
    format, which has no members."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise DataProblem(f"{shown} has packed members, which torch.save never writes", "fetch it again")
