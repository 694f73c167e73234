"""What is wrong with a recipe, or with another document of ours, in our own words: where, what, the nearest match."""

import re
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mmvae_cli.process.errors import DataProblem
from mmvae_cli.process.words import nearest
from mmvae_cli.recipe.families import SizeLimit
from mmvae_cli.recipe.schema import NAME, MissingSpec, ModalitySpec, Recipe
from mmvae_cli.recipe.section import Problems, choice

Document = TypeVar("Document", bound=BaseModel)
_WANTED = {
    "int_type": "a whole number", "int_parsing": "a whole number", "int_from_float": "a whole number",
    "int_parsing_size": "a whole number of fewer digits", "float_type": "a number", "float_parsing": "a number",
    "finite_number": "a finite number", "greater_than": "greater than {gt}", "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}", "less_than_equal": "{le} or less", "bool_type": "true or false",
    "bool_parsing": "true or false", "string_type": "text", "string_unicode": "text in UTF-8",
    "string_too_short": "{min_length} characters or more",
    "string_too_long": "{max_length} characters or fewer", "string_pattern_mismatch": "of the form {pattern}",
    "name": "a name (letters, digits, '_' and '-', 64 at most)",
    "too_short": "a collection of {min_length} or more", "too_long": "a collection of {max_length} or fewer",
    "tuple_type": "a list", "list_type": "a list", "dict_type": "a mapping (KEY: VALUE)",
    "model_type": "a mapping (KEY: VALUE)", "model_attributes_type": "a mapping (KEY: VALUE)",
}  # fmt: skip
"""What a value has to be, by the kind of pydantic's error; the braces are filled from the error's context."""
_LONGEST_SHOWN = 60


def believed(kind: type[Document], content: Any, where: Path, hint: str) -> Document:
    """A document that a program wrote, read from ``where``. Raises DataProblem in one line."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise DataProblem(f"{where}: {first_problem(error)}", hint) from error


def first_problem(error: ValidationError) -> str:
    """The first problem of a document that a program wrote, as ``path: sentence``."""
    problem = error.errors()[0]
    return _placed(tuple(str(part) for part in problem["loc"]), problem)


def telling(errors: list[Any]) -> list[Any]:
    """The errors worth telling. Where a key may be a word or something else, pydantic reports what is wrong with the
    value as each of them. Here a word is told of the words alone, and anything else of what is wrong inside it."""
    unions = {_location(error): error["input"] for error in errors if error["type"] == "literal_error"}
    inner = {at for at in unions for error in errors if _location(error)[: len(at)] == at != _location(error)}

    def tells(error: Any) -> bool:
        if (at := _location(error)) not in unions:
            return True
        return error["type"] == "literal_error" if isinstance(unions[at], str) else at not in inner

    return [error for error in errors if tells(error)]


_GONE = {"training.tensorboard": "is gone: mmvae export RUN --to tensorboard --follow writes TensorBoard's files"}
"""Keys of earlier versions, and what does their work now."""


def explain(error: Any) -> list[str]:
    """One validation error of a recipe as ``path: what, what is allowed, the nearest match``, a line for each thing
    that is wrong."""
    location, problem = _location(error), (error.get("ctx") or {}).get("error")
    if isinstance(problem, Problems):
        return problem.lines
    if error["type"] == "extra_forbidden":
        if gone := _GONE.get(".".join(location)):
            return [f"{'.'.join(location)}: {gone}"]
        if ":" in location[-1]:
            return [f"{'.'.join(location)}: unknown key (YAML wants a space after the colon)"]
        near = nearest_key(location)
        return [".".join(location) + ": unknown key" + (f" (did you mean {near!r}?)" if near else "")]
    return [_placed(location, error)]


def _placed(location: tuple[str, ...], error: Any) -> str:
    sentence = _sentence(error)
    if error["type"] == "value_error" and ": " in sentence:  # it names the field itself
        field, _, sentence = sentence.partition(": ")
        location = (*location, field)
    return ": ".join(filter(None, [".".join(location), sentence]))


def _location(error: Any) -> tuple[str, ...]:
    return tuple(str(part) for part in error["loc"] if not _is_union_tag(part))


def _sentence(error: Any) -> str:
    """What is wrong, without where: never pydantic's own words, which name its types and link to its pages."""
    kind, given, context = error["type"], error["input"], error.get("ctx") or {}
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "literal_error":
        return choice(str(given)[:_LONGEST_SHOWN], re.split(r", | or ", str(context["expected"]).replace("'", "")))
    if context.get("pattern") == NAME:
        kind = "name"
    wanted = _WANTED.get(kind, "of another kind").format(
        **{key: f"{value:g}" if isinstance(value, float) else value for key, value in context.items()}
    )
    return f"has to be {wanted}, not {_shown(given)}"


def _shown(value: Any) -> str:
    """A value as a recipe would write it, cut where it is long."""
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _is_union_tag(part: Any) -> bool:
    return isinstance(part, str) and (
        part.startswith(("literal[", "tuple[", "dict[", "scale:"))
        or part in {"SizeLimit", "[key]", "constrained-float"}
    )


def nearest_key(location: tuple[str, ...]) -> str | None:
    """The key that an unknown one may stand for: its name where it belongs to the same section, else its dotted path.

    A key is found by its last word wherever it belongs (``training.beta``), by the initials of its words (``lr``), by
    one of its words (``batch``) and by its spelling (``bta``)."""
    word, sections = location[-1].replace("-", "_").lower(), _sections()
    if word in _ELSEWHERE:
        return _ELSEWHERE[word]
    here = {key: key for key in sections.get(_section_of(location[:-1]), [])}
    everywhere = {f"{section}.{key}" if section else key: key for section, keys in sections.items() for key in keys}
    for near in (_same, _initials, _one_word, nearest):
        for keys in (here, everywhere):
            if found := near(word, list(keys.values())):
                return next(path for path, key in keys.items() if key == found)
    return None


_ELSEWHERE = {"z_dim": "model.latent_dim", "latent_size": "model.latent_dim", "n_latents": "model.latent_dim",
              "w_dim": "model.private_dim"}  # fmt: skip
"""What other programs call these keys."""


def setting(text: str) -> str | None:
    """The dotted key that ``text`` is, in full or by its last word; None where it is none."""
    *path, last = text.split(".")
    if path:
        return text if last in _sections().get(_section_of(tuple(path)), []) else None
    return next((f"{section}.{last}" for section, keys in _sections().items() if section and last in keys), None)


def _same(word: str, keys: list[str]) -> str | None:
    return word if word in keys else None


def _initials(word: str, keys: list[str]) -> str | None:
    return next((key for key in keys if len(word) > 1 and word == "".join(part[0] for part in key.split("_"))), None)


def _one_word(word: str, keys: list[str]) -> str | None:
    return next((key for key in keys if word in key.split("_")), None)


def _sections() -> dict[str, list[str]]:
    """The keys of every section by its dotted path; ``modalities.*`` stands for every modality, ``""`` for the top."""
    sections = {"": list(Recipe.model_fields), "modalities.*": list(ModalitySpec.model_fields)}
    for name, info in Recipe.model_fields.items():
        section = info.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            sections[name] = list(section.model_fields)
    sections |= {"model.subsets": list(SizeLimit.model_fields), "training.missing": list(MissingSpec.model_fields)}
    return sections


def _section_of(path: tuple[str, ...]) -> str:
    return "modalities.*" if len(path) == 2 and path[0] == "modalities" else ".".join(path)
