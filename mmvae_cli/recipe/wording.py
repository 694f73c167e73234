"""One validation error as one line: where, what, what is allowed, the nearest match."""

import difflib
import re
from typing import Any

from pydantic import BaseModel

from mmvae_cli.recipe.families import SizeLimit
from mmvae_cli.recipe.schema import ModalitySpec, Recipe
from mmvae_cli.recipe.section import choice


def telling(errors: list[Any]) -> list[Any]:
    """Without the errors of a union's other branches where a word was given that is none of the allowed words."""
    words = {
        _location(error) for error in errors if error["type"] == "literal_error" and isinstance(error["input"], str)
    }
    return [error for error in errors if error["type"] == "literal_error" or _location(error) not in words]


def _location(error: Any) -> tuple[str, ...]:
    return tuple(str(part) for part in error["loc"] if not _is_union_tag(part))


def explain(error: Any, content: Any) -> str:
    """One validation error as ``path: what, what is allowed, the nearest match``."""
    known = set(_field_names())
    location = list(_location(error))
    path, kind, context = ".".join(location), error["type"], error.get("ctx") or {}
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.6)
        return f"{path}: unknown key" + (f" (did you mean {_dotted(near[0], location)!r}?)" if near else "")
    if kind == "missing":
        return f"{path}: is required"
    if kind == "value_error":
        detail, colon, rest = str(context.get("error", error["msg"])).partition(": ")
        return ".".join([*location, detail]) + f": {rest}" if colon else f"{path}: {detail}"
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        return f"{path}: {choice(str(error['input']), allowed)}"
    return f"{path}: {error['msg'][:1].lower()}{error['msg'][1:]}, not {error['input']!r}"[:400]


def _dotted(field: str, location: list[str]) -> str:
    """The field's full path where it belongs to another section than the one it was looked for in."""
    if len(location) == 1:
        for name, info in Recipe.model_fields.items():
            section = info.annotation
            if isinstance(section, type) and issubclass(section, BaseModel) and field in section.model_fields:
                return f"{name}.{field}"
    return field


def _is_union_tag(part: Any) -> bool:
    return isinstance(part, str) and (
        part.startswith(("literal[", "tuple[", "dict[")) or part in {"SizeLimit", "[key]"}
    )


def _field_names() -> list[str]:
    sections = [Recipe, *(f.annotation for f in Recipe.model_fields.values()), ModalitySpec, SizeLimit]
    return [name for s in sections if isinstance(s, type) and issubclass(s, BaseModel) for name in s.model_fields]
