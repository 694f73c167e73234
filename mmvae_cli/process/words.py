"""Words in messages: the known one that a misspelt one may stand for, and many in a row."""

import difflib
from collections.abc import Iterable, Sequence


def nearest(word: str, known: Iterable[str], alike: float = 0.6) -> str | None:
    """The known word that is spelt most like ``word``, small letters or large; None where none is ``alike``, a share of
    1."""
    spelt = {one.lower(): one for one in known}
    return next((spelt[one] for one in difflib.get_close_matches(word.lower(), spelt, n=1, cutoff=alike)), None)


def did_you_mean(near: str | None) -> str:
    """The beginning of a hint; "" for None."""
    return f"did you mean {near}? " if near else ""


def first(names: list[str], most: int = 4) -> str:
    """``a, b, c, d and 29 more``."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
