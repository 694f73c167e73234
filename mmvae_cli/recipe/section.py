"""What all sections of a recipe have in common, and the wording of a wrong choice."""

import difflib
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def choice(given: str, allowed: Iterable[str]) -> str:
    """``'given' is not one of ...``, with the nearest match."""
    near = difflib.get_close_matches(given, allowed := list(allowed), n=1)
    return f"{given!r} is not one of {', '.join(allowed)}" + (f" (did you mean {near[0]!r}?)" if near else "")


def one_of(given: str, allowed: Iterable[str]) -> str:
    if given not in (allowed := list(allowed)):
        raise ValueError(choice(given, allowed))
    return given
