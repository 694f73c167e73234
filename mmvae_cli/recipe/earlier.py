"""Recipes in the folders of runs of earlier versions: translated to today's keys."""

from contextlib import suppress
from math import prod
from typing import Any

from mmvae_cli.recipe.families import SizeLimit, Subset, subset_list
from mmvae_cli.recipe.kinds import SCALED

UNIMODAL = "unimodal_elbos"
"""The key that every resolved recipe of version 0.1 has, and no later one."""


def is_earlier(content: Any) -> bool:
    """A resolved recipe of version 0.1."""
    return isinstance(content, dict) and isinstance(content.get("model"), dict) and UNIMODAL in content["model"]


def translated(content: dict[str, Any]) -> dict[str, Any]:
    """A resolved recipe of version 0.1 in today's words; keys that said nothing are gone. Raises ValueError for what
    today's words cannot say."""
    names = list(content["modalities"])
    model, objective = dict(content["model"]), dict(content["objective"])
    unimodal, subsets = model.pop(UNIMODAL), model["subsets"]
    listed = _listed(subsets, names)
    if unimodal:
        if listed != [tuple(range(len(names)))] or objective["kl"] != "components":
            raise ValueError(
                f"model.{UNIMODAL} beside other components than the full set's cannot be written in this version"
            )
        if model["method"] != "mvae" and objective["unimodal_weights"] == "one":
            raise ValueError("objective.unimodal_weights: one is for method mvae only now")
        model["subsets"] = "full_and_singletons"
        objective |= {"component_choice": "all", "component_weights": "sum", "decode": "members"}
    elif len(listed) == 1:
        del objective["component_choice"]
    if not unimodal or model["method"] != "mvae":
        del objective["unimodal_weights"]
    objective["likelihood_weights"] = _weights(objective["likelihood_weights"], content["modalities"])
    return content | {"model": model, "objective": objective}


def without_idle(content: Any) -> Any:
    """A resolved recipe without the keys that say nothing, which earlier versions wrote out: the scale of a likelihood
    that has none, the weights of private latents that are not there, a prior expert of no component; and whether
    training wrote TensorBoard's files."""
    with suppress(KeyError, TypeError, ValueError, AttributeError):
        content = content | {"training": {k: v for k, v in content["training"].items() if k != "tensorboard"}}
    with suppress(KeyError, TypeError, ValueError, AttributeError):  # validation says what is wrong
        model, private = content["model"], content["model"]["private_dim"]
        content = content | {"modalities": {
            name: {key: value for key, value in spec.items() if not _says_nothing(key, spec, private)}
            for name, spec in content["modalities"].items()
        }}  # fmt: skip
        if not private:
            content["objective"] = {k: v for k, v in content["objective"].items() if k != "beta_private"}
        names = list(content["modalities"])
        if model["prior_expert"] == "full" and tuple(range(len(names))) not in _listed(model["subsets"], names):
            content["model"] = model | {"prior_expert": "none"}
    return content


def _says_nothing(key: str, spec: dict[str, Any], private: int) -> bool:
    return (key == "scale" and spec["likelihood"] not in SCALED) or (key == "private_weight" and not private)


def _listed(subsets: Any, names: list[str]) -> list[Subset]:
    subsets = tuple(map(tuple, subsets)) if isinstance(subsets, list) else subsets
    return subset_list(SizeLimit(**subsets) if isinstance(subsets, dict) else subsets, names)


def _weights(given: Any, modalities: dict[str, Any]) -> Any:
    """``released`` and ``mmjsd``, for one image and one text, measure both by the image's pixels: pixels / size, where
    mmjsd leaves the image at 1."""
    if given not in ("released", "mmjsd"):
        return given
    shapes = {name: modality["shape"] for name, modality in modalities.items()}
    ((height, width),) = (shape[1:] for shape in shapes.values() if len(shape) == 3)
    weights = {name: height * width / prod(shape) for name, shape in shapes.items()}
    return weights | {name: 1.0 for name, shape in shapes.items() if len(shape) == 3 and given == "mmjsd"}
