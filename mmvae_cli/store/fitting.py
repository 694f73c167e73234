"""The dataset of a recipe, and whether the two go together. No torch."""

from pathlib import Path

import numpy as np

from mmvae_cli import recipe as recipes
from mmvae_cli.process.errors import DataProblem, UsageProblem
from mmvae_cli.process.paths import refuse_dangling
from mmvae_cli.recipe import ModalitySpec, Recipe
from mmvae_cli.recipe.kinds import COUNTS, PROBABILITIES
from mmvae_cli.store import text
from mmvae_cli.store.folder import Store
from mmvae_cli.store.rows import parts

_BOUNDED = (*COUNTS, *PROBABILITIES)
"""Likelihoods that are not defined for every number."""


def of_recipe(recipe: Recipe, data_dir: Path, *, verify: bool, trained_on: str | None = None) -> Store:
    """The recipe's dataset. Raises DataProblem, where there is none, with the command that makes it, and UsageProblem
    where it has other modalities than the recipe.

    The data that a run was ``trained_on`` (their fingerprint) may have moved since: where the recipe names a path that
    no longer holds them, they may lie under ``data_dir`` by its last name.
    """
    folder = recipes.dataset_folder(recipe, data_dir)
    moved = data_dir / folder.name
    if trained_on and moved != folder and _holds(moved, trained_on) and not _holds(folder, trained_on):
        folder = moved
    if not folder.exists():
        refuse_dangling(folder, DataProblem)
        raise DataProblem(f"no dataset at {folder}", f"make it: {recipes.how_to_make(recipe, data_dir)}")
    store = Store(folder, verify=verify)
    check_modalities(store, recipe)
    return store


def _holds(folder: Path, fingerprint: str) -> bool:
    try:
        return Store(folder, verify=False).fingerprint == fingerprint
    except (DataProblem, OSError):
        return False


def check_store(store: Store, recipe: Recipe) -> None:
    """Raise UsageProblem unless the store has what the recipe is trained on: its modalities, and numbers to which their
    likelihoods give a meaning."""
    check_modalities(store, recipe)
    for name, spec in recipe.modalities.items():
        _check_range(store, name, spec)


def check_modalities(store: Store, recipe: Recipe) -> None:
    """Raise UsageProblem unless the store has every modality of the recipe, of the same kind and shape."""
    known = store.info.modalities
    for name, spec in recipe.modalities.items():
        if name not in known:
            raise UsageProblem(
                f"{store.folder} has no modality {name!r} of recipe {recipe.name!r}; it has {', '.join(known)}",
                "name the dataset's modalities in the recipe, or set dataset.name to another dataset",
            )
        if (spec.kind, spec.shape) != (known[name].kind, known[name].shape):
            raise UsageProblem(
                f"modality {name!r}: the recipe has {spec.kind} {list(spec.shape or ())}, "
                f"{store.folder} has {known[name].kind} {list(known[name].shape)}"
            )
        characters = len(known[name].alphabet or text.ALPHABET)
        if spec.kind == "text" and characters != (spec.characters or len(text.ALPHABET)):
            raise UsageProblem(
                f"modality {name!r}: {store.folder} has an alphabet of {characters} characters",
                f"give modalities.{name}.characters={characters} with network: text; the other text networks are made "
                f"for {len(text.ALPHABET)}",
            )


def _check_range(store: Store, name: str, spec: ModalitySpec) -> None:
    """Raise UsageProblem where a vector holds numbers that its likelihood gives no meaning."""
    if spec.likelihood not in _BOUNDED:
        return
    for split in store.info.splits:
        for rows in parts(store.array(split, name)):
            if (wrong := strange(rows, spec.likelihood)) is not None:
                row, column = (int(place) for place in np.argwhere(wrong)[0])
                feature = (store.info.modalities[name].features or range(rows.shape[1]))[column]
                raise UsageProblem(
                    f"modalities.{name}.likelihood: {spec.likelihood} does not suit {rows[row, column]:g}, feature "
                    f"{feature} in {split}",
                    "counts are whole numbers from 0, bernoulli data lie in [0, 1], a onehot row has a single 1 among "
                    "zeros; normal and laplace take any number",
                )


def strange(rows: np.ndarray, likelihood: str) -> np.ndarray | None:
    """Where (N, F) is outside what the likelihood is defined for; None: nowhere."""
    if likelihood not in _BOUNDED:
        return None
    if likelihood in COUNTS:
        wrong = (rows < 0) | (rows != np.floor(rows))
    elif likelihood == "bernoulli":
        wrong = (rows < 0) | (rows > 1)
    else:
        wrong = ((rows != 0) & (rows != 1)) | (rows.sum(1, keepdims=True) != 1)
    return wrong if wrong.any() else None
