"""Recipes from files: shipped ones by name, others by path, ``KEY=VALUE`` overrides, and how two recipes differ."""

import os
import re
import shlex
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mmvae_cli.disk import plain_yaml
from mmvae_cli.disk.files import visible
from mmvae_cli.process.errors import UsageProblem, cannot_read
from mmvae_cli.process.paths import expanded, given
from mmvae_cli.process.words import did_you_mean, nearest
from mmvae_cli.recipe import earlier
from mmvae_cli.recipe.choices import CHOICES
from mmvae_cli.recipe.methods import METHODS
from mmvae_cli.recipe.schema import ModalitySpec, Recipe
from mmvae_cli.recipe.section import choice
from mmvae_cli.recipe.wording import explain, setting, telling

_MAX_BYTES = 1 << 20
_ENDINGS = (".yaml", ".yml")


def shipped() -> dict[str, Path]:
    """Recipes that come with the package, by name."""
    inside = Path(str(resources.files("mmvae_cli"))) / "recipes"
    folder = inside if inside.is_dir() else Path(__file__).parents[2] / "recipes"
    return {path.stem: path for path in visible(folder.glob("*.yaml"))}


def find(name: str) -> Path:
    """An existing file wins, else the shipped recipe of that name. Raises UsageProblem with the nearest match."""
    path = expanded(name or ".")
    if os.path.isfile(path):  # unlike Path's, it says no to a name too long for any file
        return path
    if len(path.parts) > 1:
        given(name)  # which says where the folder may not be entered
    if name in (known := shipped()):
        return known[name]
    if key := setting(name.partition("=")[0]):
        raise UsageProblem(f"{name[:200]!r} is a setting, not a recipe", f"mmvae train RECIPE {key}=VALUE")
    if name in METHODS:
        raise UsageProblem(f"{name!r} is a method, not a recipe", f"mmvae train RECIPE model.method={name}")
    hint = did_you_mean(_nearest_file(name) or nearest(Path(name).stem, known))
    if "/" in name or name.endswith(_ENDINGS) or os.path.isdir(name):
        what = "is a folder" if os.path.isdir(name) else "no such file"
        raise UsageProblem(f"{name[:200]}: {what}", f"{hint}give a path to a .yaml, or the name of a shipped recipe")
    raise UsageProblem(
        f"no recipe {name[:200]!r}", f"{hint}shipped recipes: {', '.join(known)}; or give a path to a .yaml"
    )


def _nearest_file(name: str) -> str | None:
    """A recipe file that ``name`` may stand for: itself with an ending, its own recipe.yaml, one spelt like it."""
    likely = [*(f"{name}{ending}" for ending in _ENDINGS), os.path.join(name, "recipe.yaml")]
    if existing := next((path for path in likely if os.path.isfile(path)), None):
        return existing
    folder = os.path.dirname(name)
    with suppress(OSError, ValueError):
        names = [file for file in os.listdir(folder or ".") if file.endswith(_ENDINGS) and not file.startswith(".")]
        return nearest(name, [os.path.join(folder, file) for file in names], alike=0.8)
    return None


def load(name: str, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe by name or path and apply ``KEY=VALUE`` overrides. Raises UsageProblem listing every error."""
    content = read(path := find(name))
    whole, where = _overridden(content, overrides or []), str(path)
    if overrides:
        with suppress(UsageProblem):
            validate(content, where)
            where = f"the command line, on {path}"  # the file itself is right
    return validate(whole, where)


def load_resolved(path: Path) -> Recipe:
    """Read what a run's folder says was trained, in today's words or in those of version 0.1."""
    content = read(path)
    if earlier.is_earlier(content):
        try:
            content = earlier.translated(content)
        except (ValueError, KeyError, TypeError) as error:
            raise UsageProblem(f"{path}: a recipe of version 0.1 that this version cannot read: {error}") from error
    return validate(earlier.without_idle(content), str(path))


def that_matter(name: str, overrides: list[str]) -> list[str]:
    """``overrides`` without those that change nothing. A run is named after the rest."""
    content, whole, kept = read(path := find(name)), load(name, overrides), list(overrides)
    for override in overrides:
        rest = [other for other in kept if other != override]
        with suppress(UsageProblem):  # without it there may be no recipe
            if validate(_overridden(content, rest), str(path)) == whole:
                kept = rest
    return kept


def read(path: Path) -> dict[str, Any]:
    """A recipe's file as plain data. Raises UsageProblem."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageProblem(f"{path}: larger than any recipe ({_MAX_BYTES >> 20} MiB)")
        content = plain_yaml.parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        problem = cannot_read(path, error)
        raise UsageProblem(str(problem), problem.hint) from error
    except UnicodeDecodeError as error:
        raise UsageProblem(f"{path} is no text in UTF-8 ({error})", "save it as UTF-8") from error
    if not isinstance(content, dict):
        raise UsageProblem(f"{path}: a recipe is a mapping with name, dataset, modalities, model, training ...")
    return content


def validate(content: dict[str, Any], where: str) -> Recipe:
    """Turn plain data into a Recipe; every error of it in one message, each with its dotted path."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        lines = list(dict.fromkeys(line for item in telling(error.errors()) for line in explain(item)))
        raise UsageProblem(f"{where}: {len(lines)} error(s)\n" + "\n".join(f"  {line}" for line in lines)) from error


def _overridden(content: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """A copy of ``content`` with the overrides applied, those for every modality last: they leave what was said of one
    modality alone."""
    content = dict(content)
    keys = [override.partition("=")[0] for override in overrides]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise UsageProblem(f"{twice} is set twice on the command line", "give it once")
    model = content.get("model")
    before = model.get("method") if isinstance(model, dict) else None
    if f"model.method={before}" not in overrides and "model.method" in keys:
        # another method settles them anew: a resolved recipe has the old one's choices written out
        for key in ("model.subsets", *CHOICES):
            part, _, name = key.partition(".")
            if isinstance(content.get(part), dict):
                content[part] = {own: value for own, value in content[part].items() if own != name}
    for override in sorted(overrides, key=lambda override: override.startswith(_ALL)):
        _apply(content, override, keys)
    return content


_ALL = "modalities.*"


def _apply(content: dict[str, Any], override: str, keys: list[str]) -> None:
    """Set one dotted key from ``KEY=VALUE``; the value is YAML. ``keys`` are those of all overrides."""
    key, equals, text = override.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise UsageProblem(f"override {override!r} is not KEY=VALUE", "such as objective.beta=2.5")
    value = plain_yaml.parse(text, f"override {key}")
    if key == _ALL or key.startswith(f"{_ALL}."):
        for name in _takers(content, parts[2:], value):
            if f"modalities.{name}.{'.'.join(parts[2:])}" not in keys:
                _set(content, ["modalities", name, *parts[2:]], value)
    elif parts[0] == "modalities" and len(parts) == 2 and value is None:
        content["modalities"] = _without(content.get("modalities"), parts[1])
    else:
        _set(content, parts, value)


def _set(content: dict[str, Any], parts: list[str], value: Any) -> None:
    place = content
    for part in parts[:-1]:
        nested = place.get(part)
        place[part] = place = dict(nested) if isinstance(nested, dict) else {}
    place[parts[-1]] = value


def _without(modalities: Any, name: str) -> dict[str, Any]:
    if not isinstance(modalities, dict) or name not in modalities:
        raise UsageProblem(f"modalities.{name}=null: {choice(name, modalities or {})}", "null drops a modality")
    return {key: spec for key, spec in modalities.items() if key != name}


def _takers(content: dict[str, Any], parts: list[str], value: Any) -> list[str]:
    """The modalities that accept this value. Where none does, the first one, whose validation then says what is
    wrong."""
    modalities, able = content.get("modalities"), []
    if not parts:
        raise UsageProblem(f"{_ALL}=... sets no key", f"such as {_ALL}.scale=0.5, for every modality that has a scale")
    if not isinstance(modalities, dict) or not modalities:
        return ["*"]
    for name, spec in modalities.items():
        with suppress(ValidationError):
            ModalitySpec.model_validate((spec if isinstance(spec, dict) else {}) | {parts[0]: value})
            able.append(name)
    return able or list(modalities)[:1]


def dataset_folder(recipe: Recipe, data_dir: Path) -> Path:
    """Where the recipe's dataset is: a path as given, a plain name under ``data_dir``."""
    name = recipe.dataset.name
    return expanded(name) if "/" in name or name in (".", "..") else data_dir / name


def how_to_make(recipe: Recipe, data_dir: Path) -> str:
    """The command that makes the recipe's dataset, as the shipped recipe of its name, or another of the same data, says
    what it needs."""
    known, name = shipped(), recipe.dataset.name
    for path in filter(None, [known.get(recipe.name), *known.values()]):
        text = path.read_text(encoding="utf-8")
        needs = re.search(r"^# Needs: (.*)$", text, re.MULTILINE)
        if needs and f"\ndataset: {{name: {name}}}\n" in text:
            command, out, _ = needs[1].partition(" --out ")
            if out:
                return f"{command} --out {shlex.quote(str(data_dir / name))}"
            return command if data_dir == Path("data") else f"{command} --data-dir {shlex.quote(str(data_dir))}"
    if "/" in name:
        last = Path(name).name
        return (
            f"mmvae make-dataset --out {shlex.quote(name)}; moved data of a trained run: --data-dir, which holds {last}"
        )
    return "mmvae make-dataset, or give its place with --data-dir"


def difference(old: Recipe, new: Recipe) -> list[str]:
    """The dotted keys in which two recipes differ, as ``key: old -> new``."""
    before, after = old.flat, new.flat
    keys = dict.fromkeys([*before, *after])
    return [f"{key}: {before.get(key)} -> {after.get(key)}" for key in keys if before.get(key) != after.get(key)]
