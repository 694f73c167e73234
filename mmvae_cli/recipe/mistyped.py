"""What was meant where an option was mistyped: a hint at what to type instead."""

import re
from itertools import zip_longest
from typing import Any

from pydantic import ValidationError

from mmvae_cli.process.words import nearest
from mmvae_cli.recipe.wording import first_problem, nearest_key, setting

_TARGETS = {"numpy": "latents", "npy": "latents", "npz": "latents", "h5ad": "latents", "huggingface": "hub"}
"""What may be typed for a target of ``export``."""


def explain(command: str, words: list[str], problem: Any) -> None:
    """Put typer's ``problem`` with the ``words`` behind ``command`` into our words, with a hint where one is known."""
    if isinstance(problem.__cause__, ValidationError):
        problem.message = first_problem(problem.__cause__)
    if hint := _meant(command, words, problem):
        problem.message, problem.possibilities = f"{problem.message or ''}\n  hint: {hint}", []


def _meant(command: str, words: list[str], problem: Any) -> str:
    """What to type instead, where a guess can be made."""
    option, parameter = getattr(problem, "option_name", None), getattr(problem, "param", None)
    if option and not hasattr(problem, "possibilities"):
        return ""  # an option that is there, without its value
    if option and command == "train":
        word = option.lstrip("-").replace("-", "_")
        spelt = problem.possibilities and len(word) > 2  # like another option; two letters are initials, as lr
        key = setting(word) or (None if spelt else nearest_key((word,)))
        return f"a setting is written without dashes: {key}={_value(option, words) or 'VALUE'}" if key else ""
    name, value = getattr(parameter, "name", None), _value(f"--{getattr(parameter, 'name', '')}", words)
    if name == "ckpt" and value is None:
        return f"--ckpt {words[0]}" if words and not words[0].startswith("-") else "--ckpt RUN names the run's folder"
    if name == "seed" and command == "train" and value and ("-" in value or "," in value):
        return f"a run for each of several seeds: --seeds {value}"
    said = str(problem.message)  # the only place where every version of typer has the choices
    given, *choices = re.findall("'([^']*)'", said) if " is not one of " in said else [""]
    near = (_TARGETS.get(given) if name == "to" else None) or nearest(given, choices)
    return f"did you mean {near}?" if near else ""


def _value(option: str, words: list[str]) -> str | None:
    """What follows ``option``: ``--seed 3`` or ``--seed=3``."""
    for word, following in zip_longest(words, words[1:]):
        if word == option:
            return following
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None
