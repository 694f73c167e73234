"""What a recipe needs before it can be trained, checked before a run is opened or a study begins. No torch."""

from pathlib import Path

from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.recipe import Recipe, dataset_folder
from mmvae_cli.run.layout import Run
from mmvae_cli.store import Store, of_recipe
from mmvae_cli.store.presence import of_training


def data_of(recipe: Recipe, run: Path, data_dir: Path) -> Store:
    """The dataset that the recipe is to be trained on in the folder ``run``, looked at and not yet read in full. Raises
    DataProblem where there is none, UsageProblem where it lacks a modality or does not fill a batch."""
    store = of_recipe(recipe, data_dir, verify=False, trained_on=Run(run).trained_on())
    steps_per_epoch(recipe, store)
    return store


def data_at_hand(recipe: Recipe, run: Path, data_dir: Path) -> Store | None:
    """The same for a dry run, which does without them where they are not there."""
    there = (dataset_folder(recipe, data_dir) / "dataset.json").is_file()
    return data_of(recipe, run, data_dir) if there else None


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
