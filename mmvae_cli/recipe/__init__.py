"""The recipe: one complete experiment as validated YAML. No torch.

Every setting of the science lives here and can be overridden as ``KEY=VALUE``.
"""

from mmvae_cli.recipe.earlier import is_earlier
from mmvae_cli.recipe.families import MAX_SUBSETS
from mmvae_cli.recipe.methods import METHODS
from mmvae_cli.recipe.networks import NETWORKS
from mmvae_cli.recipe.reading import (
    dataset_folder,
    difference,
    find,
    how_to_make,
    load,
    load_resolved,
    read,
    shipped,
    that_matter,
    validate,
)
from mmvae_cli.recipe.schema import (
    EvaluationSpec,
    MissingSpec,
    ModalitySpec,
    ModelSpec,
    ObjectiveSpec,
    Recipe,
    TrainingSpec,
)
from mmvae_cli.recipe.section import flatten
from mmvae_cli.recipe.wording import setting

__all__ = [
    "MAX_SUBSETS", "METHODS", "NETWORKS", "EvaluationSpec", "MissingSpec", "ModalitySpec",
    "ModelSpec", "ObjectiveSpec", "Recipe", "TrainingSpec", "dataset_folder", "difference", "find",
    "flatten", "how_to_make", "is_earlier", "load", "load_resolved", "read", "setting", "shipped",
    "that_matter", "validate",
]  # fmt: skip
