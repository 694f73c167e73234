"""What a recipe would do: parameter counts, steps and memory, without the data and without training."""

from pathlib import Path

import torch

from mmvae_cli.compute import devices, ranks
from mmvae_cli.model import bound
from mmvae_cli.model.objective import Objective
from mmvae_cli.model.vae import MultimodalVAE, output_sizes, parameter_counts
from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.recipe import METHODS, Recipe
from mmvae_cli.run import prepare
from mmvae_cli.store import Store
from mmvae_cli.store.fitting import check_store

COMPONENT_TENSORS, MIXTURE_TENSORS = 6, 8
"""Tensors (S, B, D) that a forward and backward pass holds where all components are in memory, as measured."""


def describe(recipe: Recipe, dataset: Path, store: Store | None) -> list[str]:
    """Lines for people; ``store``: what the folder ``dataset`` holds, None where it is not there yet. Raises
    UsageProblem for numbers to which a likelihood gives no meaning."""
    model = without_weights(recipe)
    counts = parameter_counts(model)
    method = METHODS[recipe.model.method]
    lines = [f"{'method':<32} {method.title}: {method.paper}"]
    lines += [f"{'parameters of ' + name:<32} {count:>12,}" for name, count in counts.items()]
    lines.append(f"{'subsets in the family':<32} {len(recipe.families()):>12,}")
    for name, term in bound.outline(recipe, model).items():
        if term.weight is not None:
            weight = "by component" if isinstance(term.weight, torch.Tensor) else f"{abs(term.weight):.6g}"
            lines.append(f"{'weight of ' + name:<32} {weight:>12}")
    data_bytes = 0
    if store is not None:
        check_store(store, recipe)
        count, per_epoch = prepare.trained_items(recipe, store), prepare.steps_per_epoch(recipe, store)
        data_bytes = sum(info.bytes for name, info in store.info.files.items() if name.startswith("train/"))
        lines.append(f"{'dataset':<32} {store.folder} ({count:,} training items, fingerprint {store.fingerprint})")
        steps = recipe.training.epochs * per_epoch
        lines.append(f"{'steps':<32} {steps:>12,} ({recipe.training.epochs} epochs of {per_epoch:,})")
    else:
        lines.append(f"{'dataset':<32} {dataset} is not there yet")
    memory = memory_needs(recipe, model) | {"data": data_bytes}
    parts = ", ".join(f"{what} {size / 2**20:,.0f}" for what, size in memory.items())
    lines.append(f"{'memory, about':<32} {sum(memory.values()) / 2**20:>8,.0f} MiB ({parts})")
    return lines


def without_weights(recipe: Recipe) -> MultimodalVAE:
    """The recipe's model on the meta device: it has sizes and no numbers."""
    with torch.device("meta"):
        return MultimodalVAE(recipe)


def memory_needs(recipe: Recipe, model: MultimodalVAE, processes: int = 1) -> dict[str, int]:
    """Bytes of a training step, about, in each of the ``processes`` that share a batch: weights with gradients and
    Adam's two moments, the networks' activations, and the components where all of them are held at once (S, B, D), with
    their K samples."""
    spec, batch = recipe.objective, -(-recipe.training.batch_size // processes)
    objective, parts = Objective.of(recipe), model.parts(model.positions(model.names))
    held = sum(len(part) for part in parts if objective.keeps(part))
    held += sum(objective.components(part) * objective.samples for part in parts) if objective.samples > 1 else 0
    elements = held * batch * recipe.model.latent_dim
    return {
        "weights and Adam": 16 * parameter_counts(model)["total"],
        "activations": 8 * activation_count(recipe, model) * batch,
        "components": (COMPONENT_TENSORS + MIXTURE_TENSORS * (spec.kl == "mixture")) * 4 * elements,
    }


def refuse_too_large(recipe: Recipe, model: MultimodalVAE, device: torch.device) -> None:
    """Raise UsageProblem where a step needs more memory than there is left, before the system kills the process."""
    needs, left = memory_needs(recipe, model, ranks.ProcessGroup.of_environment().size), devices.memory_left(device)
    if (total := sum(needs.values())) > left:
        what, size = max(needs.items(), key=lambda item: item[1])
        raise UsageProblem(
            f"a training step would need about {total / 2**30:,.1f} GiB of memory, {size / 2**30:,.1f} of them for "
            f"{what}; {device} has {left / 2**30:,.1f} left",
            "lower training.batch_size" + (" or objective.samples" if recipe.objective.samples else "") + "; with many "
            "modalities limit model.subsets to {max_size: K}, and keep objective.component_choice=stratified and "
            "objective.kl=components, which hold no component as a whole",
        )


def activation_count(recipe: Recipe, meta_model: MultimodalVAE) -> int:
    """Numbers per item that the networks' layers put out, counted in a step on the meta device."""
    with output_sizes(module for module in meta_model.modules() if not list(module.children())) as sizes:
        bound.outline(recipe, meta_model)
    return sum(sizes) // bound.OUTLINE_ROWS
