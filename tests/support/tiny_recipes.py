"""Recipes for tests: tiny, complete, with the settings a test wants to change."""

from typing import Any

from mmvae_cli import recipe as recipes
from mmvae_cli.recipe import Recipe


def tiny(views: int = 3, *, shape: tuple[int, ...] = (3, 28, 28), **changes: Any) -> Recipe:
    """A recipe of ``views`` small image modalities; ``changes`` are dotted keys with ``__`` for the dots."""
    content: dict[str, Any] = {
        "name": "tiny", "dataset": {"name": "tiny"},
        "modalities": {f"m{i}": {"network": "conv", "shape": list(shape)} for i in range(views)},
        "model": {"method": "mopoe", "latent_dim": 6}, "objective": {"beta": 1.5},
        "training": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "log_every": 3, "checkpoint_every": 1},
        "evaluation": {"latent_samples": 40, "importance_samples": 4, "joint_samples": 40},
    }  # fmt: skip
    for key, value in changes.items():
        place, parts = content, key.split("__")
        for part in parts[:-1]:
            place = place.setdefault(part, {})
        place[parts[-1]] = value
    return recipes.validate(content, "tiny")


NEEDS: dict[str, dict[str, Any]] = {
    "mmvaeplus": {"model__private_dim": 2}, "mmvae_iwae": {"objective__samples": 3},
    "mmvae_dreg": {"objective__samples": 3}, "custom": {"model__subsets": "all"},
}  # fmt: skip
"""What a method has to be told, or has smaller in tests than usually."""


def of_method(method: str, views: int = 3, **changes: Any) -> Recipe:
    """A tiny recipe of any method of the table."""
    return tiny(views, **{"model__method": method} | NEEDS.get(method, {}) | changes)


def words(shape: tuple[int, ...] = (3, 8, 8), *, epochs: int) -> Recipe:
    """A recipe of pictures and words that stand elsewhere in every epoch, for ``stores.word_store``."""
    content: dict[str, Any] = {
        "name": "words", "dataset": {"name": "words"}, "model": {"method": "mopoe", "latent_dim": 4},
        "modalities": {"m0": {"network": "conv", "shape": list(shape)}, "word": {"network": "text8"}},
        "training": {"epochs": epochs, "batch_size": 8, "learning_rate": 1e-3, "log_every": 1},
    }  # fmt: skip
    return recipes.validate(content, "words")
