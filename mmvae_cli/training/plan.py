"""What a recipe would do: parameter counts, steps and memory, without the data and without training."""

from pathlib import Path

import torch

from mmvae_cli.kinds import KINDS
from mmvae_cli.model.vae import MultimodalVAE, parameter_counts
from mmvae_cli.recipe import Recipe
from mmvae_cli.store import Store


def describe(recipe: Recipe, dataset: Path) -> list[str]:
    """Lines for people. Raises DataProblem or UsageProblem where a dataset is there but does not fit."""
    with torch.device("meta"):
        model = MultimodalVAE(recipe)
    counts = parameter_counts(model)
    lines = [f"{'parameters of ' + name:<32} {count:>12,}" for name, count in counts.items()]
    lines.append(f"{'subsets in the family':<32} {len(model.family):>12,}")
    for name, weight in recipe.weights().items():
        lines.append(f"{'likelihood weight of ' + name:<32} {weight:>12.6g}")
    data_bytes = 0
    if (dataset / "dataset.json").is_file():
        from mmvae_cli.batches import check_store

        store = Store(dataset, verify=False)
        check_store(store, recipe)
        count, batch = store.count("train"), recipe.training.batch_size
        steps = recipe.training.epochs * (count // batch)
        data_bytes = sum(info.bytes for name, info in store.info.files.items() if name.startswith("train/"))
        lines.append(f"{'dataset':<32} {dataset} ({count:,} training items, fingerprint {store.fingerprint})")
        lines.append(f"{'steps':<32} {steps:>12,} ({recipe.training.epochs} epochs of {count // batch:,})")
    else:
        lines.append(f"{'dataset':<32} {dataset} is not there yet")
    activations = 8 * activation_count(recipe, model) * recipe.training.batch_size
    total = 16 * counts["total"] + activations + data_bytes
    lines.append(
        f"{'memory, about':<32} {total / 2**20:>8,.0f} MiB (weights and Adam {16 * counts['total'] / 2**20:,.0f}, "
        f"activations {activations / 2**20:,.0f}, data {data_bytes / 2**20:,.0f})"
    )
    return lines


def activation_count(recipe: Recipe, meta_model: MultimodalVAE) -> int:
    """Numbers per item that the networks' layers put out, counted by a dry forward pass on the meta device."""
    total = 0

    def count(module: torch.nn.Module, inputs: tuple[object, ...], output: object) -> None:
        nonlocal total
        if isinstance(output, torch.Tensor) and not list(module.children()):
            total += output.numel()

    handles = [module.register_forward_hook(count) for module in meta_model.modules()]
    batch = {}
    for name, spec in recipe.modalities.items():
        assert spec.shape is not None
        kind = KINDS[spec.kind]
        batch[name] = kind.read(torch.zeros(2, *spec.shape, device="meta", dtype=getattr(torch, kind.dtype)))
    meta_model.encode(batch)
    latents = len(recipe.families()) if recipe.objective.component_choice == "all" else 1
    latents += recipe.model.unimodal_elbos
    z = torch.zeros(latents, 2, recipe.model.latent_dim, device="meta")
    private = torch.zeros(latents, 2, recipe.model.private_dim, device="meta") if recipe.model.private_dim else None
    for name in batch:
        meta_model.decode(name, z, private)
    for handle in handles:
        handle.remove()
    return total // 2
