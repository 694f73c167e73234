"""What a recipe needs before it can be trained, checked before a run is opened or a study begins. No torch."""

from importlib.util import find_spec
from pathlib import Path

from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.process.paths import is_odd
from mmvae_cli.recipe import Recipe
from mmvae_cli.store import Store
from mmvae_cli.store.presence import of_training

_WITHOUT = "or leave training.tensorboard out: metrics.jsonl has the same numbers"


def check(recipe: Recipe, store: Store, run: Path) -> None:
    """Raise UsageProblem unless the dataset fills a batch, and the packages that the recipe asks for are there and can
    write into the folder ``run``."""
    steps_per_epoch(recipe, store)
    if recipe.training.tensorboard and find_spec("tensorboard") is None:
        raise UsageProblem(
            "training.tensorboard needs the package tensorboard",
            f"pip install 'mmvae-cli[tensorboard]', {_WITHOUT}",
        )
    if recipe.training.tensorboard and is_odd(str(run)):
        raise UsageProblem(f"tensorboard cannot write below {run}, a name that is not UTF-8", f"rename it, {_WITHOUT}")


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
