"""The posteriors of a split as a file: .npz for numpy, .csv for anything, .h5ad for the programs of single cells."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from mmvae_cli.comparison.formats import as_csv
from mmvae_cli.disk.files import replacing, write_atomic
from mmvae_cli.export.opened import Latents, OpenedRun
from mmvae_cli.process.errors import needing
from mmvae_cli.sampling.making import npz


def write(run: OpenedRun, latents: Latents, path: Path) -> None:
    """Write ``latents`` as the ending of ``path`` says. Raises UsageProblem for .h5ad without the package anndata."""
    about = json.dumps(run.about | {"split": latents.split, "given": list(latents.given)})
    if path.suffix == ".npz":
        write_atomic(path, npz(_arrays(latents) | {"about": np.array(about)}))
    elif path.suffix == ".csv":
        rows = _rows(latents)
        write_atomic(path, as_csv(rows, list(rows[0])).encode())
    else:
        _write_h5ad(latents, about, path)


def _private(latents: Latents) -> dict[str, np.ndarray]:
    named = {f"private_mean_{name}": array for name, array in latents.private_mean.items()}
    return named | {f"private_logvar_{name}": array for name, array in latents.private_logvar.items()}


def _arrays(latents: Latents) -> dict[str, np.ndarray]:
    """``mean``, ``logvar`` (N, D), ``items`` (N,), private parts; keys, labels and their names where there are any."""
    arrays = {"mean": latents.mean, "logvar": latents.logvar, "items": _items(latents), **_private(latents)}
    if latents.keys is not None:
        arrays |= {"keys": latents.keys}
    if latents.labels is not None:
        arrays |= {"labels": latents.labels, "label_names": np.array(latents.label_names)}
    return arrays


def _items(latents: Latents) -> np.ndarray:
    assert latents.items is not None  # they are of a split
    return latents.items


def _keys(latents: Latents) -> dict[str, list[str]]:
    return {} if latents.keys is None else {"key": latents.keys.tolist()}


def _labels(latents: Latents) -> dict[str, list[Any]]:
    """Columns of names: the class of each item, or 0 and 1 for each attribute."""
    if latents.labels is None:
        return {}
    if latents.labels.ndim == 1:
        return {"label": [latents.label_names[label] for label in latents.labels.tolist()]}
    return {name: latents.labels[:, place].tolist() for place, name in enumerate(latents.label_names)}


def _rows(latents: Latents) -> list[dict[str, Any]]:
    columns: dict[str, Any] = {"item": _items(latents).tolist(), **_keys(latents), **_labels(latents)}
    for name, array in {"mean": latents.mean, "logvar": latents.logvar, **_private(latents)}.items():
        columns |= {f"{name}_{place}": array[:, place].tolist() for place in range(array.shape[1])}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _write_h5ad(latents: Latents, about: str, path: Path) -> None:
    """X holds the means, obsm the log-variances and private parts, obs items and labels, uns where they come from."""
    with needing("an .h5ad file", "anndata", "anndata"):
        import anndata
        import pandas
    names = _keys(latents).get("key") or [str(item) for item in _items(latents)]
    obs = pandas.DataFrame({"item": _items(latents), **_labels(latents)}, index=names)
    made = anndata.AnnData(X=latents.mean, obs=obs, obsm={"logvar": latents.logvar, **_private(latents)},
                           uns={"about": about})  # fmt: skip
    with replacing(path) as temporary:
        made.write_h5ad(temporary)
