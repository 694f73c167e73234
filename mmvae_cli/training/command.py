"""``mmvae train`` on plain values. No torch before recipe and data are known to go together."""

from pathlib import Path

from mmvae_cli import recipe as recipes
from mmvae_cli import store
from mmvae_cli.process import console
from mmvae_cli.run import prepare as needs
from mmvae_cli.run.layout import default_folder


def run(
    name: str, overrides: list[str], *, run: Path | None, seed: int | None, data_dir: Path, device: str, resume: str,
    dry_run: bool, verify: bool,
) -> str:  # fmt: skip
    """Train a recipe, or describe it with ``dry_run``; returns the last line for stdout."""
    changes = overrides if seed is None else [*overrides, f"training.seed={seed}"]
    recipe = recipes.load(name, changes)
    dataset = recipes.dataset_folder(recipe, data_dir)
    folder = run or default_folder(recipe, recipes.that_matter(name, overrides))
    if dry_run:
        from mmvae_cli.training import plan

        for line in plan.describe(recipe, dataset):
            console.say(line)
        console.say(f"{'run':<32} {folder}")
        return recipe.dump().rstrip()
    needs.check(recipe, store.of_recipe(recipe, data_dir, verify=False), folder)
    from mmvae_cli.training.loop import Request, train

    return str(train(recipe, Request(folder, dataset, device, resume, verify)))
