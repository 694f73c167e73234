"""The known word that a misspelt one may stand for."""

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], alike: float = 0.6) -> str | None:
    """The known word that is spelt most like ``word``, small letters or large; None where none is ``alike``, a share of
    1."""
    spelt = {one.lower(): one for one in known}
    return next((spelt[one] for one in difflib.get_close_matches(word.lower(), spelt, n=1, cutoff=alike)), None)


def did_you_mean(near: str | None) -> str:
    """The beginning of a hint; "" for None."""
    return f"did you mean {near}? " if near else ""
