"""The dataset of a recipe or of a run, checked before anything is trained, measured or drawn. No torch."""

from pathlib import Path

from mmvae_cli.process.errors import DataProblem, UsageProblem
from mmvae_cli.process.words import first
from mmvae_cli.recipe import Recipe, dataset_folder, flatten
from mmvae_cli.run import shared
from mmvae_cli.run.layout import Run
from mmvae_cli.store import Store, of_recipe
from mmvae_cli.store.fitting import check_modalities
from mmvae_cli.store.presence import of_training


def data_of(recipe: Recipe, run: Path, data_dir: Path, *, dry_run: bool) -> Store | None:
    """The dataset that the recipe is to be trained on in the folder ``run``, looked at and not yet read in full. Raises
    DataProblem where there is none, which a ``dry_run`` does without, and UsageProblem where it lacks a modality or
    does not fill a batch."""
    if dry_run and not (dataset_folder(recipe, data_dir) / "dataset.json").is_file():
        return None
    store = of_recipe(recipe, data_dir, verify=False, trained_on=Run(run).trained_on())
    steps_per_epoch(recipe, store)
    return store


def data_of_run(run: Run, recipe: Recipe, data_dir: Path, *, verify: bool, needs_data: bool = True) -> Store:
    """The dataset that a run was trained on. A shared run brings a description of it, which stands for data that are
    not at hand where nobody ``needs_data``. Raises DataProblem where there is none, or another one."""
    described = Store(run.folder, verify=verify) if shared.is_shared(run.folder) else None
    if described and not needs_data and not dataset_folder(recipe, data_dir).exists():
        check_modalities(described, recipe)
        store = described
    else:
        store = of_recipe(recipe, data_dir, verify=verify, trained_on=run.trained_on())
    if described and run.trained_on() not in (None, store.fingerprint):
        raise _other_data(run, described, store)
    run.check_data(store.folder, store.fingerprint)
    return store


def _other_data(run: Run, described: Store, store: Store) -> DataProblem:
    """What a shared run says of data on which it was not trained."""
    if described.fingerprint != run.trained_on():
        path = described.folder / "dataset.json"
        known, trained = described.fingerprint, run.trained_on()
        return DataProblem(f"{path} describes other data ({known}) than the run was trained on ({trained})",
                           "it was changed: fetch the run again, or ask who shared it")  # fmt: skip
    theirs, ours = (flatten(one.info.model_dump(exclude={"provenance"})) for one in (described, store))
    keys = [key for key in sorted({*theirs, *ours}) if theirs.get(key) != ours.get(key)]
    return DataProblem(
        f"{run.folder} was trained on other data than {store.folder} now holds; they differ in {first(keys, 3)}",
        f"build the dataset as {described.folder / 'dataset.json'} says, or give --data-dir",
    )


def steps_per_epoch(recipe: Recipe, store: Store) -> int:
    """Whole batches of the items that are trained on. Raises UsageProblem where there is none."""
    count, batch = trained_items(recipe, store), recipe.training.batch_size
    if batch > count:
        left = " that training.missing leaves" if recipe.training.missing else ""
        fewer = "take less away: a lower training.missing.rate, or training.missing.rows=keep"
        raise UsageProblem(
            f"training.batch_size {batch} is more than the {count:,} training items of {store.folder}{left}",
            f"use training.batch_size={count} or fewer" if count else fewer,
        )
    return count // batch


def trained_items(recipe: Recipe, store: Store) -> int:
    """How many items of the training split are trained on."""
    presence = of_training(store, recipe)
    return store.count("train") if presence is None else len(presence.items)
