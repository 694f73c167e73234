"""What the sections of a recipe have in common, and how a wrong choice is told."""

from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from mmvae_cli.process.words import nearest


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, given: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[str(info.field_name)]
        if isinstance(given, bool) and bool not in (field.annotation, *get_args(field.annotation)):
            raise ValueError(f"{str(given).lower()} is no number or word")
        return given


class Problems(ValueError):
    """Several things that are wrong, one line each: ``key: what``."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def choice(given: str, allowed: Iterable[str]) -> str:
    """``'given' is not one of ...``, with the nearest match."""
    near = nearest(given, allowed := list(allowed))
    return f"{given!r} is not one of {', '.join(allowed)}" + (f" (did you mean {near!r}?)" if near else "")


def flatten(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` -> ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
