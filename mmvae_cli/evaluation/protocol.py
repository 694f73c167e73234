"""How things are measured: every choice of a protocol by its name, as evaluation.json keeps it (equations 6)."""

from typing import Any, Literal, NamedTuple

from mmvae_cli.recipe import EvaluationSpec


class Protocol(NamedTuple):
    """``latent_draw``: how the labelled training items are drawn. ``classifiers``: which networks classify what is
    generated; ``classifier_mode``: the mode they are in. ``importance_grouping``: whether a group of importance weights
    is one item's or, as in the released code, holds one weight each of different items. ``attribute_scores``: whether
    the latent classifiers' average precision is that of their scores or of their 0/1 predictions;
    ``attribute_average``: whether it is one number of all items or the mean over blocks of them.
    ``mixture_remainder``: which components get the rows that an even division of a block leaves (equations 3.2).
    ``sampler``: what z is drawn from when nothing is given, ``joint_samples`` times."""

    latent_samples: int
    classifiers: str
    classifier_width: int | None
    importance_samples: int
    latent_draw: Literal["without replacement", "with replacement, zero rows of the released code"]
    classifier_mode: Literal["eval", "train"]
    importance_grouping: Literal["per_item", "released"]
    incomplete_batches: Literal["kept", "dropped"]
    mixture_remainder: Literal["spread", "to the last component"]
    attribute_scores: Literal["scores", "predictions"]
    attribute_average: Literal["items", "blocks"]
    sampler: str
    joint_samples: int


_CHOICES: dict[str, dict[str, Any]] = {
    "default": {"latent_draw": "without replacement", "classifier_mode": "eval", "importance_grouping": "per_item",
                "incomplete_batches": "kept", "mixture_remainder": "spread", "attribute_scores": "scores",
                "attribute_average": "items"},
    "released": {"latent_draw": "with replacement, zero rows of the released code", "classifier_mode": "train",
                 "importance_grouping": "released", "incomplete_batches": "dropped",
                 "mixture_remainder": "to the last component", "attribute_scores": "predictions",
                 "attribute_average": "blocks"},
}  # fmt: skip


def protocol_of(spec: EvaluationSpec) -> Protocol:
    """``default``, the sound one, or ``released``, which repeats the authors' code (equations 6.4)."""
    return Protocol(
        spec.latent_samples, spec.classifiers or spec.protocol, spec.classifier_width,
        12 if spec.protocol == "released" else spec.importance_samples, **_CHOICES[spec.protocol],
        sampler="prior" if spec.sampler == "prior" else f"{spec.sampler} of {spec.gmm_components}",
        joint_samples=spec.joint_samples,
    )  # fmt: skip
