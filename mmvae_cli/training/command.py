"""``mmvae train`` on plain values. No torch before recipe and data are known to go together."""

from pathlib import Path

from mmvae_cli import recipe as recipes
from mmvae_cli.process import console
from mmvae_cli.run import prepare
from mmvae_cli.run.layout import Run, default_folder


def run(
    name: str, overrides: list[str], *, run: Path | None, seed: int | None, data_dir: Path, device: str, resume: str,
    dry_run: bool, verify: bool, code: Path | None = None,
) -> str:  # fmt: skip
    """Train a recipe, or describe it with ``dry_run``; returns the last line for stdout."""
    changes = overrides if seed is None else [*overrides, f"training.seed={seed}"]
    recipe = recipes.load(name, changes)
    folder = run or default_folder(recipe, recipes.that_matter(name, overrides))
    for caution in recipe.cautions:
        console.warn(caution)
    data = prepare.data_of(recipe, folder, data_dir, dry_run=dry_run)
    from mmvae_cli.run import code as own
    from mmvae_cli.training import estimate, loop

    networks = own.of_recipe(recipe, code, Run(folder))
    dataset = data.folder if data else recipes.dataset_folder(recipe, data_dir)
    if not dry_run:
        return str(loop.train(recipe, loop.Request(folder, dataset, device, resume, verify, networks)))
    for line in estimate.describe(recipe, dataset, data):
        console.say(line)
    console.say(f"{'run':<32} {folder}")
    return recipe.dump().rstrip()
