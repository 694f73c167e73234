"""Training on arrays in memory: a dataset and a run, made by the code of ``make-dataset arrays`` and ``train``."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmvae_cli import recipe as recipes
from mmvae_cli.datasets.own import build, from_arrays
from mmvae_cli.disk import plain_yaml
from mmvae_cli.disk.files import hidden_folder
from mmvae_cli.process.errors import Failure, UsageProblem, in_our_words
from mmvae_cli.process.paths import make_folder
from mmvae_cli.recipe import NETWORKS, Recipe
from mmvae_cli.recipe.kinds import COUNTS, PROBABILITIES
from mmvae_cli.recipe.section import choice
from mmvae_cli.store import Store, StoreInfo
from mmvae_cli.store.arrays import as_array, fractions, strings
from mmvae_cli.store.fitting import check_store
from mmvae_cli.training import command

_BESIDE = ("labels", "split", "keys")
_FLAGS = {"give --name: ": "dataset.name: ", ", or keep the numbers: --raw": "", "--test 0.1: of": "of",
          "give another share, or more items or groups": "give more items, or split (N,)"}  # fmt: skip
"""Words for options that the caller has not."""


def train(
    recipe: str | Path | Mapping[str, Any] | Recipe, arrays: Mapping[str, Any], overrides: Any, run: Path | None,
    data_dir: Path, device: str, code: Path | None = None,
) -> Path:  # fmt: skip
    """Returns the run's folder; :func:`mmvae_cli.train` says the rest."""
    content, overrides = _content(recipe), _changes(overrides)
    name, specs = _said(content)
    make_folder(data_dir)
    with hidden_folder(data_dir / ".arrays") as workplace:
        try:
            made = _dataset(name, specs, arrays, workplace, data_dir)
            chosen = str(recipe)
            if not isinstance(recipe, str | Path):
                chosen = str(workplace / "recipe.yaml")
                Path(chosen).write_text(plain_yaml.dump(_filled(content, specs, made.info)), encoding="utf-8")
            wanted = recipes.load(chosen, overrides)
            check_store(made, wanted)
            _place(made, recipes.dataset_folder(wanted, data_dir))
            with in_our_words():
                return Path(command.run(chosen, overrides, run=run, seed=None, data_dir=data_dir, device=device,
                                        resume="auto", dry_run=False, verify=True, code=code))  # fmt: skip
        except Failure as failure:
            raise type(failure)(_as_asked(str(failure), workplace), _as_asked(failure.hint, workplace)) from failure


def _as_asked(message: str, workplace: Path) -> str:
    """What is wrong, said of the caller's arrays and recipe, not of the files made of them."""
    places = {str(workplace / "made"): "the arrays", str(workplace / "recipe.yaml"): "the recipe"}
    for words, ours in (places | _FLAGS).items():
        message = message.replace(words, ours)
    return message


def _content(recipe: Any) -> dict[str, Any]:
    if isinstance(recipe, Recipe):
        recipe = plain_yaml.parse(recipe.dump(), "the recipe")
    if isinstance(recipe, Mapping):
        return plain_yaml.plain(recipe, "the recipe")
    if not isinstance(recipe, str | Path):
        raise UsageProblem(f"the recipe: {type(recipe).__name__} is no recipe", "its name, a .yaml file, or a mapping")
    return recipes.read(recipes.find(str(recipe)))


def _changes(overrides: Any) -> list[str]:
    listed = [overrides] if isinstance(overrides, str) else overrides
    if not isinstance(listed, list | tuple) or not all(isinstance(one, str) for one in listed):
        raise UsageProblem(f"overrides: {str(overrides)[:60]} is no list of texts", 'as ["objective.beta=2"]')
    return list(listed)


def _said(content: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The dataset's name and the modalities of a recipe that is not complete yet. Raises UsageProblem where it does not
    say them."""
    dataset, specs = content.get("dataset"), content.get("modalities")
    named = isinstance(dataset, Mapping) and dataset.get("name")
    if named and isinstance(specs, Mapping) and all(isinstance(spec, Mapping) for spec in specs.values()):
        return Path(str(named)).name, {str(name): spec for name, spec in specs.items()}
    recipes.validate(content, "the recipe")
    raise UsageProblem("the recipe names no dataset and modalities", "both have to be mappings")


def _filled(content: dict[str, Any], specs: dict[str, Any], info: StoreInfo) -> dict[str, Any]:
    """The recipe with the shapes, and numbers of characters, that it left to the data."""
    full = {}
    for name, spec in specs.items():
        known, given = info.modalities[name], dict(spec)
        network = NETWORKS.get(str(given.get("network")))
        if network is None or network.shape is None:  # one's own, or made for any shape
            given.setdefault("shape", list(known.shape))
        if given.get("network") == "text":
            given.setdefault("characters", len(known.alphabet or ""))
        full[name] = given
    return content | {"modalities": full}


def _dataset(name: str, specs: dict[str, Any], arrays: Mapping[str, Any], workplace: Path, data_dir: Path) -> Store:
    raw = [one for one, spec in specs.items() if spec.get("likelihood") in (*COUNTS, *PROBABILITIES)]
    source = Path("the arrays")
    options = build.options(source, name, workplace / "made", data_dir, raw=tuple(raw), offers=False)
    from_arrays.build_from(_plain(specs, arrays), options, source)
    return Store(options.out, verify=False)


def _place(made: Store, folder: Path) -> None:
    """Move the dataset where the recipe looks for it; one that is there with the same content stays."""
    if not folder.exists():
        make_folder(folder.parent)
        os.replace(made.folder, folder)
    elif (there := Store(folder, verify=False)).info.files != made.info.files or there.fingerprint != made.fingerprint:
        raise UsageProblem(
            f"{folder} holds other data than these arrays", "give the dataset another name: dataset.name"
        )


def _plain(specs: dict[str, Any], arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The recipe's modalities, labels, split and masks as ``make-dataset arrays`` reads them. Raises UsageProblem for a
    modality that is missing or unknown."""
    if not isinstance(arrays, Mapping):
        raise UsageProblem(f"{type(arrays).__name__} is no mapping of modalities to data", "as {'m0': images}")
    if own := [name for name in _BESIDE if name in specs]:
        raise UsageProblem(
            f"modalities.{own[0]}: the name stands for what it says, beside the data", "name it otherwise"
        )
    masks = {f"{name}{from_arrays.PRESENT}" for name in specs}
    for name in arrays:
        if name not in specs and name not in _BESIDE and name not in masks:
            raise UsageProblem(f"arrays: {choice(str(name), [*specs, *_BESIDE])}")
    if missing := [name for name in specs if name not in arrays]:
        raise UsageProblem(f"arrays: no data of {', '.join(missing)}", "the recipe has these modalities")
    return {name: _array(name, given, specs.get(name)) for name, given in arrays.items()}


def _array(name: str, given: Any, spec: Any) -> np.ndarray:
    array = as_array(name, given)
    network = spec.get("network") if isinstance(spec, Mapping) else None
    if NETWORKS.get(str(network), ("", ()))[0] == "image":
        if array.ndim not in (3, 4):
            raise UsageProblem(f"{name}: {array.shape} are no pictures", "(N, C, H, W), or (N, H, W) in grey")
        return array if array.dtype == np.uint8 else (fractions(name, array) * 255).round().astype(np.uint8)
    if NETWORKS.get(str(network), ("", ()))[0] == "text":
        return np.array(strings(name, array))
    return array.astype(str) if array.dtype == object else array
