"""What a recipe needs before it can be trained, checked before a run is opened or a study begins. No torch."""

from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.recipe import Recipe
from mmvae_cli.store import Store
from mmvae_cli.store.presence import of_training


def steps_per_epoch(recipe: Recipe, store: Store) -> int:
    """Whole batches of the items that are trained on. Raises UsageProblem where there is none."""
    count, batch = trained_items(recipe, store), recipe.training.batch_size
    if batch > count:
        left = " that training.missing leaves" if recipe.training.missing else ""
        raise UsageProblem(
            f"training.batch_size {batch} is more than the {count:,} training items of {store.folder}{left}",
            f"use training.batch_size={count} or fewer",
        )
    return count // batch


def trained_items(recipe: Recipe, store: Store) -> int:
    """How many items of the training split are trained on."""
    presence = of_training(store, recipe)
    return store.count("train") if presence is None else len(presence.items)
