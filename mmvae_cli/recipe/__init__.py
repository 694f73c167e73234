"""The recipe: one complete experiment as validated YAML. No torch.

Every setting of the science lives here and can be overridden as ``KEY=VALUE``.
"""

from mmvae_cli.recipe.families import MAX_SUBSETS, Subsets, subset_list
from mmvae_cli.recipe.reading import (
    dataset_folder,
    difference,
    effective,
    find,
    flatten,
    how_to_make,
    load,
    shipped,
    that_matter,
    validate,
)
from mmvae_cli.recipe.schema import (
    NETWORKS,
    PRESETS,
    SCALABLE,
    DatasetSpec,
    EvaluationSpec,
    ModalitySpec,
    ModelSpec,
    ObjectiveSpec,
    Recipe,
    TrainingSpec,
    size_of,
)
from mmvae_cli.recipe.wording import setting

__all__ = [
    "MAX_SUBSETS", "NETWORKS", "PRESETS", "SCALABLE", "DatasetSpec", "EvaluationSpec", "ModalitySpec", "ModelSpec",
    "ObjectiveSpec", "Recipe", "Subsets", "TrainingSpec", "dataset_folder", "difference", "effective", "find",
    "flatten", "how_to_make", "load", "setting", "shipped", "size_of", "subset_list", "that_matter", "validate",
]  # fmt: skip
