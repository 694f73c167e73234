"""``make-dataset anndata``: the cells of an .h5ad or .h5mu become a dataset. A modality is a matrix, cells by features.

Counts, whole numbers from 0, are kept as they are; everything else is standardised. A cell that is in the file and not
in a modality of an .h5mu lacks that modality.
"""

import shlex
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmvae_cli.datasets.own import build, parts, splits
from mmvae_cli.datasets.own.build import StoreOptions
from mmvae_cli.process import console
from mmvae_cli.process.errors import DataProblem, UsageProblem, needing
from mmvae_cli.recipe.kinds import COUNTS
from mmvae_cli.store import ModalityInfo
from mmvae_cli.store.fitting import strange

_MOST_FEATURES = 4096
_BLOCK = 1024
_FORM = "NAME=X, NAME=layers/counts or NAME=obsm/protein_expression; in an .h5mu with the modality first, rna=rna/X"


class Matrix(NamedTuple):
    """``values`` (n, F), dense or sparse, of the cells ``rows`` (cells,): -1 where a cell is not in it."""

    place: str
    values: Any
    features: list[str]
    rows: np.ndarray


def make(
    path: Path, options: StoreOptions, *, modalities: list[str], label: str | None, group: str | None, split: str | None
) -> None:
    """Read, check and write. Raises a Failure that names file and place; then nothing was written."""
    annotated = _read(path)
    said = dict(_given(text) for text in modalities) or _usual(annotated)
    build.check(options, list(said), list(said))
    matrices = {name: _matrix(path, annotated, name, place) for name, place in said.items()}
    label = label or ("label" if "label" in annotated.obs else None)
    split = split or ("split" if "split" in annotated.obs else None)
    known = splits.labels_of(_column(path, annotated, label, "--label")) if label else None
    chosen = splits.chosen(
        _column(path, annotated, split, "--split") if split else None, str(path), f"a column {split} of obs",
        len(annotated.obs), options.test, options.seed, known and known[0],
        _column(path, annotated, group, "--group") if group else None,
    )  # fmt: skip
    ready = {name: _part(path, name, one, chosen["train"], options) for name, one in matrices.items()}
    build.check_present(ready, chosen["train"], str(path), partial(_bare, path, list(annotated.obs.index)))
    flags = [*(f"--modality {name}={place}" for name, place in said.items()), *([f"--label {label}"] if label else [])]
    console.say("read as: " + " ".join(shlex.quote(word) for flag in flags for word in flag.split(" ", 1)))
    for name, part in ready.items():
        kind = "counts, kept as they are" if part.counts else "standardised by the training cells"
        console.say(f"note: {name}: {part.present.sum():,} cells, {part.info.shape[0]:,} features, {kind}")
    build.build(options, ready, chosen, known, path, _names(annotated.obs.index))


def _names(index: Any) -> list[str]:
    if index.is_unique:
        return [str(name) for name in index]
    console.say("note: names in obs come twice: cells are called by their rows")
    return [f"row {row}" for row in range(len(index))]


def _read(path: Path) -> Any:
    """The opened file. Raises UsageProblem without the package that reads it, DataProblem for what is none."""
    kinds = {".h5ad": ("anndata", "read_h5ad"), ".h5mu": ("mudata", "read_h5mu")}
    if path.suffix.lower() not in kinds:
        raise UsageProblem(f"{path}: cells are an .h5ad or .h5mu file", "write it with anndata or mudata")
    if not path.is_file():
        raise DataProblem(f"{path} is not there, or is no file", "give the path of the file itself")
    package, function = kinds[path.suffix.lower()]
    with needing(f"{path}: to read it", package, "anndata"):
        reader = getattr(__import__(package), function)
    try:
        return reader(path)
    except Exception as error:  # HDF5 files are damaged in more ways than the package has names for
        reason = str(error).partition("\n")[0][:100]
        raise DataProblem(f"{path} cannot be read by {package} ({reason})", "write it again") from error


def _given(text: str) -> tuple[str, str]:
    name, _, place = text.partition("=")
    if not name or not place:
        raise UsageProblem(f"--modality {text!r}: write {_FORM}")
    return name, place


def _usual(annotated: Any) -> dict[str, str]:
    """Each modality of an .h5mu; X of an .h5ad, and what lies in obsm and is no embedding (X_pca, X_umap)."""
    if hasattr(annotated, "mod"):
        return {name: f"{name}/X" for name in annotated.mod}
    return {"rna": "X"} | {name: f"obsm/{name}" for name in annotated.obsm if not name.startswith("X_")}


def _matrix(path: Path, annotated: Any, name: str, place: str) -> Matrix:
    """Raises UsageProblem for a place that is not there, with what is."""
    inside, rows = place, np.arange(len(annotated.obs))
    if hasattr(annotated, "mod"):
        modality, _, inside = place.partition("/")
        if modality not in annotated.mod:
            raise UsageProblem(f"--modality {name}={place}: {path} has no modality {modality!r}",
                               f"it has: {', '.join(annotated.mod)}")  # fmt: skip
        names, annotated = list(annotated.obs.index), annotated.mod[modality]
        where = {cell: row for row, cell in enumerate(annotated.obs.index)}
        rows = np.array([where.get(cell, -1) for cell in names])
    part, _, key = inside.partition("/")
    held = {"layers": annotated.layers, "obsm": annotated.obsm}.get(part)
    if inside == "X" and annotated.X is not None:
        return Matrix(place, annotated.X, [str(feature) for feature in annotated.var.index], rows)
    if held is None or key not in held:
        there = ["X", *(f"layers/{one}" for one in annotated.layers), *(f"obsm/{one}" for one in annotated.obsm)]
        raise UsageProblem(f"--modality {name}={place}: {path} has none", f"there are: {', '.join(there)}; {_FORM}")
    values, columns = held[key], getattr(held[key], "columns", None)
    if part == "layers":
        columns = annotated.var.index
    values = values.to_numpy() if hasattr(values, "to_numpy") else values
    features = range(values.shape[1]) if columns is None else columns
    return Matrix(place, values, [str(feature) for feature in features], rows)


def _column(path: Path, annotated: Any, name: str, option: str) -> list[str]:
    if name not in annotated.obs:
        raise UsageProblem(f"{option}: obs of {path} has no column {name!r}", f"it has: {', '.join(annotated.obs)}")
    column = annotated.obs[name]
    if column.isna().any():
        cell = column.index[int(column.isna().to_numpy().argmax())]
        raise DataProblem(f"{path}, obs {name}: cell {cell} has no value", "fill it, or leave the cell out")
    return [str(value) for value in column]


def _part(path: Path, name: str, matrix: Matrix, train: np.ndarray, options: StoreOptions) -> parts.Part:
    cells, features = matrix.values.shape
    if features > _MOST_FEATURES:
        raise DataProblem(
            f"{path}, {matrix.place}: {features:,} features are more than {_MOST_FEATURES:,}",
            "choose those that vary most beforehand, as scanpy.pp.highly_variable_genes does",
        )
    whole = True
    for start in range(0, cells, _BLOCK):
        block = _dense(matrix.values[start : start + _BLOCK])
        if not np.isfinite(block).all():
            row, column = np.argwhere(~np.isfinite(block))[0].tolist()
            raise DataProblem(f"{path}, {matrix.place}: row {start + row}, feature {matrix.features[column]} is not "
                              "finite", "mend it, or leave the cell or the feature out")  # fmt: skip
        whole = whole and strange(block, COUNTS[0]) is None
    present = matrix.rows >= 0
    if whole or name in options.raw:
        info = ModalityInfo(kind="vector", shape=(features,), features=tuple(matrix.features))
        return parts.Part(info, lambda items: _dense(matrix.values[matrix.rows[items]]).astype(np.float32), present,
                          whole)  # fmt: skip
    values = np.full((len(matrix.rows), features), np.nan)
    values[present] = _dense(matrix.values[matrix.rows[present]])
    return parts.vectors(
        values, matrix.features, train, raw=False,
        problem=lambda feature, what: DataProblem(f"{path}, {matrix.place}, feature {feature}: {what}",
                                                  "leave the feature out, or keep the numbers: --raw"),
    )  # fmt: skip


def _dense(block: Any) -> np.ndarray:
    return np.asarray(block.toarray() if hasattr(block, "toarray") else block, np.float64)


def _bare(path: Path, cells: list[str], row: int, what: str) -> DataProblem:
    return DataProblem(f"{path}, cell {cells[row]}: {what}", "leave the cell out")
