"""What can be typed: recipes, methods, networks, likelihoods, and every key with its values, default and meaning.

``mmvae train --list`` prints it, and docs/recipes.md and docs/methods.md are made from it. No torch.
"""

import re
import textwrap
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mmvae_cli.recipe.choices import CHOICES
from mmvae_cli.recipe.families import SizeLimit
from mmvae_cli.recipe.kinds import KINDS
from mmvae_cli.recipe.meanings import MEANINGS
from mmvae_cli.recipe.methods import METHODS
from mmvae_cli.recipe.networks import MLP, NETWORKS, TEXT
from mmvae_cli.recipe.reading import shipped
from mmvae_cli.recipe.schema import MissingSpec, ModalitySpec, Recipe

OF_PRIVATE = ("modalities.*.private_weight", "objective.beta_private")
UNSAID = ("modalities.*.scale", *OF_PRIVATE)
METHODS_OWN, NEEDED = "the method's", "has to be given"
_BOUNDS = {"gt": "> {}", "ge": ">= {}", "lt": "< {}", "le": "<= {}"}
_TYPES = {int: "whole number", float: "number", str: "text", bool: "true | false"}


class Key(NamedTuple):
    """One key that a recipe or an override can set, in words."""

    name: str
    values: str
    default: str
    meaning: str


def settings() -> list[Key]:
    """Every key in the order of the schema; ``modalities.*`` stands for each modality."""
    return [Key(name, _values(name, field), _default(name, field), MEANINGS.get(name, ""))
            for name, field in _fields(Recipe)]  # fmt: skip


_INNER: dict[str, Any] = {"modalities": ModalitySpec, "missing": MissingSpec}
"""Sections that come several times, or need not be there."""


def _fields(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        inner = _INNER.get(name, field.annotation)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _fields(inner, f"{prefix}{name}.*." if name == "modalities" else f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def _values(name: str, field: FieldInfo) -> str:
    """What may stand there, as ``a | b`` or ``whole number >= 1``."""
    named = {"model.method": list(METHODS), "modalities.*.network": list(NETWORKS)}
    values = named.get(name) or _of_type(field.annotation, field.metadata)
    if name == "modalities.*.likelihood":
        values = [likelihood for kind in KINDS.values() for likelihood in kind.likelihoods]
    if name in (*CHOICES, *UNSAID):  # null is for a key that says nothing beside the others, and nobody writes it
        values = [value for value in values if value != "null"]
    return " | ".join(dict.fromkeys(values))


def _of_type(annotation: Any, metadata: list[Any]) -> list[str]:
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation is NoneType:
        return ["null"]
    if annotation is SizeLimit:
        return ["{max_size: K}"]
    if origin is Literal:
        return [str(value) for value in inner]
    if origin in (Union, UnionType):
        parts = sorted(inner, key=lambda part: part is NoneType)
        return [text for part in parts for text in _of_type(part, metadata)]
    if hasattr(annotation, "__metadata__"):
        return _of_type(inner[0], list(annotation.__metadata__))
    if origin in (dict, tuple):
        return ["{MODALITY: number}" if origin is dict else "list"]
    return [" ".join(filter(None, [_TYPES[annotation], ", ".join(_limits(metadata))]))]


def _limits(metadata: list[Any]) -> list[str]:
    """``>= 1``, ``<= 1024``; limits that nobody meets by accident are left out."""
    items = [item for entry in metadata for item in getattr(entry, "metadata", [entry])]
    limits = {name: getattr(item, name) for item in items for name in _BOUNDS if hasattr(item, name)}
    return [_BOUNDS[name].format(limit) for name, limit in limits.items() if limit < 2**16]


def _default(name: str, field: FieldInfo) -> str:
    if name in CHOICES:
        usual = CHOICES[name].usual
        return f"{METHODS_OWN}, else {written(usual)}" if isinstance(usual, str | int | float) else f"{NEEDED} if used"
    if name == "model.subsets":
        return METHODS_OWN
    if name in OF_PRIVATE:
        return written(1.0)
    if name.startswith("modalities.*.") and name.rpartition(".")[2] in ("likelihood", "shape", "scale", *MLP, *TEXT):
        return "the network's"
    if field.is_required():
        return f"{NEEDED} if used" if name.startswith("training.missing.") else NEEDED
    return written(field.default)


def written(value: Any) -> str:
    """A value as a recipe would write it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {written(own)}" for key, own in value.items()) + "}"
    return str(list(value) if isinstance(value, tuple) else value)


def recipes() -> dict[str, str]:
    """The shipped recipes, each with the first sentence of its comment."""
    return {name: _first_sentence(path.read_text(encoding="utf-8")) for name, path in shipped().items()}


def _first_sentence(text: str) -> str:
    comment = [line.removeprefix("#").strip() for line in text.partition("\nname:")[0].splitlines()]
    return re.split(r"(?<=\.) (?=[A-Z])", " ".join(comment), maxsplit=1)[0]


def methods() -> dict[str, str]:
    """Every method with its title and its idea."""
    return {name: f"{method.title}: {method.idea}" for name, method in METHODS.items()}


def networks() -> dict[str, str]:
    """Every network with the data it is for."""
    sizes = {name: f"shape {list(one.shape)}" if one.shape else "any shape" for name, one in NETWORKS.items()}
    return {name: f"{one.kind} of {sizes[name]}" + ", with a width" * one.takes_width for name, one in NETWORKS.items()}


def likelihoods() -> dict[str, str]:
    """The likelihoods of every kind of data, the usual one first."""
    return {kind: ", ".join(KINDS[kind].likelihoods) for kind in KINDS}


def text() -> str:
    """Everything that can be typed, as plain text."""
    values = {key.name: f"{key.values} [{key.default}]\n{key.meaning}" for key in settings()}
    parts = {"recipes": recipes(), "methods (model.method)": methods(), "networks (modalities.*.network)": networks(),
             "likelihoods by kind of data": likelihoods(), "keys (KEY=VALUE), values [default]": values}  # fmt: skip
    return "\n\n".join(f"{title}\n{_lines(rows)}" for title, rows in parts.items())


def _lines(rows: dict[str, str]) -> str:
    """The names in one column, what is said of them in another."""
    wide = max(map(len, rows))
    return "\n".join(
        textwrap.fill(
            line, 120, initial_indent=f"  {name if first else '':{wide}}  ", subsequent_indent=" " * (wide + 4)
        )
        for name, said in rows.items()
        for first, line in zip((True, False), said.splitlines(), strict=False)
    )
