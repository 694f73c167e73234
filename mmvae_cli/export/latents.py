"""The posteriors of a split as a file: .npz for numpy, .csv for anything, .h5ad for the programs of single cells."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from mmvae_cli.disk.files import replacing, write_atomic
from mmvae_cli.export.opened import Latents, OpenedRun
from mmvae_cli.export.table import as_csv
from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.sampling.making import npz


def write(run: OpenedRun, found: Latents, path: Path) -> None:
    """Write ``found`` as the ending of ``path`` says. Raises UsageProblem for .h5ad without the package anndata."""
    about = json.dumps(run.about | {"split": found.split, "given": list(found.given)})
    if path.suffix == ".npz":
        write_atomic(path, npz(_arrays(found) | {"about": np.array(about)}))
    elif path.suffix == ".csv":
        write_atomic(path, as_csv(_rows(found)).encode())
    else:
        _write_h5ad(found, about, path)


def _private(found: Latents) -> dict[str, np.ndarray]:
    named = {f"private_mean_{name}": array for name, array in found.private_mean.items()}
    return named | {f"private_logvar_{name}": array for name, array in found.private_logvar.items()}


def _arrays(found: Latents) -> dict[str, np.ndarray]:
    """``mean``, ``logvar`` (N, D), ``items`` (N,), private parts, and labels with their names where there are any."""
    arrays = {"mean": found.mean, "logvar": found.logvar, "items": _items(found), **_private(found)}
    if found.labels is not None:
        arrays |= {"labels": found.labels, "label_names": np.array(found.label_names)}
    return arrays


def _items(found: Latents) -> np.ndarray:
    assert found.items is not None  # they are of a split
    return found.items


def _labels(found: Latents) -> dict[str, list[Any]]:
    """Columns of names: the class of each item, or 0 and 1 for each attribute."""
    if found.labels is None:
        return {}
    if found.labels.ndim == 1:
        return {"label": [found.label_names[label] for label in found.labels.tolist()]}
    return {name: found.labels[:, place].tolist() for place, name in enumerate(found.label_names)}


def _rows(found: Latents) -> list[dict[str, Any]]:
    columns: dict[str, Any] = {"item": _items(found).tolist(), **_labels(found)}
    for name, array in {"mean": found.mean, "logvar": found.logvar, **_private(found)}.items():
        columns |= {f"{name}_{place}": array[:, place].tolist() for place in range(array.shape[1])}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _write_h5ad(found: Latents, about: str, path: Path) -> None:
    """X holds the means, obsm the log-variances and private parts, obs items and labels, uns where they come from."""
    try:
        import anndata
        import pandas
    except ImportError as error:
        raise UsageProblem(
            f"an .h5ad file needs the package anndata ({error})", "pip install 'mmvae-cli[anndata]'"
        ) from error
    obs = pandas.DataFrame({"item": _items(found), **_labels(found)}, index=[str(item) for item in _items(found)])
    made = anndata.AnnData(X=found.mean, obs=obs, obsm={"logvar": found.logvar, **_private(found)},
                           uns={"about": about})  # fmt: skip
    with replacing(path) as temporary:
        made.write_h5ad(temporary)
