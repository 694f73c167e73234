"""A study: recipes x grid points x seeds as a list of runs, every one of them checked before any starts. No torch.

Each run is what ``mmvae train RECIPE KEY=VALUE... --seed N`` alone would do, in the same folder, so that a study can be
extended, repeated and continued run by run.
"""

import itertools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mmvae_cli import recipe as recipes
from mmvae_cli.process.errors import DataProblem, Failure, UsageProblem
from mmvae_cli.process.words import first
from mmvae_cli.recipe import Recipe
from mmvae_cli.run import result
from mmvae_cli.run.layout import Run, default_folder

MAX_RUNS = 1000  # also what one job array may hold unless a cluster says otherwise
_MAX_SEED = 2**31 - 1


@dataclass(frozen=True)
class PlannedRun:
    """One run: the recipe as it was named, its overrides, the seed (None: the recipe's own) and what follows."""

    name: str
    overrides: tuple[str, ...]
    seed: int | None
    recipe: Recipe
    folder: Path

    def arguments(self) -> list[str]:
        """What comes after ``mmvae train`` to train this run, its folder aside."""
        return [self.name, *self.overrides, *([] if self.seed is None else ["--seed", str(self.seed)])]

    def is_as_planned(self) -> bool:
        """Whether the recipe's file still gives the recipe that was planned: it is read again when the run starts."""
        with suppress(Failure):
            return _planned(self.name, [*self.overrides], self.seed, self.folder, []).recipe == self.recipe
        return False


Problems = list[tuple[Failure, str]]
"""Why runs cannot be done, and where in the study it came up."""


def split_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Positional words as (recipes, overrides). The first is a recipe; an override has a ``=`` and is no file. Raises
    UsageProblem where a setting and its value are two words."""
    overrides = [word for word in words[1:] if "=" in word and not os.path.isfile(word)]
    names = [words[0], *(word for word in words[1:] if word not in overrides)]
    for key, value in itertools.pairwise([*names[1:], "VALUE"]):
        if not os.path.isfile(key) and (meant := recipes.setting(key)):
            raise UsageProblem(
                f"{key!r} is a setting, not a recipe", f"write it in one word, KEY=VALUE: {meant}={value}"
            )
    return names, overrides


def parse_seeds(text: str) -> list[int]:
    """``0-4``, ``0,2,7``, ``3`` or a mixture. Raises UsageProblem."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,10})\s*(?:-\s*(\d{1,10})\s*)?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first or last > _MAX_SEED or last - first >= MAX_RUNS:
            raise UsageProblem(f"--seeds {text!r}: {part.strip()!r} is no seed or range", "such as 0-4 or 0,2,7")
        seeds += range(first, last + 1)
    if len(set(seeds)) != len(seeds):
        raise UsageProblem(f"--seeds {text!r} names a seed twice", "name each once")
    return seeds


def parse_grid(texts: list[str], overrides: list[str]) -> dict[str, list[str]]:
    """``KEY=V1,V2`` per key, as key -> values. Raises UsageProblem, also where a key is set twice."""
    grid: dict[str, list[str]] = {}
    fixed = {override.partition("=")[0] for override in overrides}
    for text in texts:
        key, _, rest = text.partition("=")
        values = split_values(rest)
        if not key or not all(values):
            raise UsageProblem(f"--grid {text!r} is not KEY=VALUE,VALUE", "such as --grid objective.beta=0.5,1,2.5")
        if key == "training.seed":
            raise UsageProblem("--grid training.seed: a run's name tells seeds apart by itself", "use --seeds 0-4")
        if key in grid or key in fixed:
            raise UsageProblem(f"--grid {key}: this key is already set", "give each key once, as override or as grid")
        grid[key] = values
    return grid


def split_values(text: str) -> list[str]:
    """Split at the commas outside brackets: ``0.5,[m0,m1]`` -> ``0.5``, ``[m0,m1]``."""
    values, depth = [""], 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0:
            values.append("")
        else:
            values[-1] += character
    return [value.strip() for value in values]


def plan(
    names: list[str], overrides: list[str], grid: list[str], seeds: str | None, folder: Path | None = None,
    seed: int | None = None,
) -> list[PlannedRun]:  # fmt: skip
    """Every run of the study in the order recipe, grid point, seed; ``folder`` is for the run of a study of one. Raises
    one UsageProblem with everything that is wrong with any of them, and nothing has begun then."""
    if seed is not None and seeds is not None:
        raise UsageProblem("--seed and --seeds contradict each other", "give one of them")
    axes, seeds = parse_grid(grid, overrides), seeds if seed is None else str(seed)
    chosen: list[int | None] = [None] if seeds is None else [*parse_seeds(seeds)]
    if seeds is not None and any(o.partition("=")[0] == "training.seed" for o in overrides):
        raise UsageProblem("training.seed and --seeds contradict each other", "leave one of the two out")
    points = [[f"{k}={v}" for k, v in zip(axes, point, strict=True)] for point in itertools.product(*axes.values())]
    if (count := len(names) * len(points) * len(chosen)) > MAX_RUNS:
        raise UsageProblem(f"this study has {count:,} runs, more than {MAX_RUNS:,}", "make it smaller")
    if folder is not None and count > 1:
        raise UsageProblem(f"--run names one folder, and this study has {count:,} runs", "leave --run out")
    problems, runs = Problems(), []
    for name, point in itertools.product(names, points):
        with _noted(problems, " ".join([name, *point])):
            changes = [*overrides, *point]
            telling = recipes.that_matter(name, changes)
            runs += [_planned(name, changes, seed, folder, telling) for seed in chosen]
    _check_distinct(runs, problems)
    for run in runs:
        with _noted(problems, str(run.folder)):
            if (known := Run(run.folder)).recipe_path.is_file():
                known.refuse_another(run.recipe, "move it away")
    _raise_any(problems)
    return runs


def _planned(name: str, overrides: list[str], seed: int | None, folder: Path | None, telling: list[str]) -> PlannedRun:
    recipe = recipes.load(name, overrides if seed is None else [*overrides, f"training.seed={seed}"])
    return PlannedRun(name, tuple(overrides), seed, recipe, folder or default_folder(recipe, telling))


def _check_distinct(runs: list[PlannedRun], problems: Problems) -> None:
    """Two runs in one folder would refuse each other; the same recipe twice would count one measurement as two."""
    folders: dict[Path, PlannedRun] = {}
    contents: dict[str, PlannedRun] = {}
    for run in runs:
        content = run.recipe.model_dump_json()
        if content in contents:
            message = f"{_shown(contents[content])} and {_shown(run)} are the same run"
            problems.append((UsageProblem(message, "name each once"), ""))
        elif run.folder in folders:
            message = f"{_shown(folders[run.folder])} and {_shown(run)} would share the folder {run.folder}"
            hint = "give the recipes different names, or train these runs one by one"
            problems.append((UsageProblem(message, hint), ""))
        folders.setdefault(run.folder, run)
        contents.setdefault(content, run)


def _shown(run: PlannedRun) -> str:
    return " ".join(run.arguments())


def is_done(run: PlannedRun, *, evaluate: bool) -> bool:
    """Whether nothing is left to do: trained to the end and, where that is wanted, evaluated there by its protocol."""
    known = Run(run.folder)
    try:
        trained = known.recipe_path.is_file() and known.status().get("state") == "finished"
        trained = trained and (epochs := known.recipe().training.epochs) >= run.recipe.training.epochs
        return trained and (not evaluate or _is_evaluated(known, run.recipe, epochs))
    except DataProblem:
        return False  # training or evaluating says what is damaged


def _is_evaluated(known: Run, recipe: Recipe, epochs: int) -> bool:
    """By the recipe's protocol, sampler and today's classifiers, at the end, every metric that the data allow, on as
    many subsets and items as the recipe says."""
    path = known.evaluation_path(recipe.evaluation.protocol, recipe.evaluation.sampler)
    if not path.is_file():
        return False
    outcome = result.load(path)
    complete = all(getattr(outcome, metric) or metric in outcome.reasons for metric in result.USUAL)
    limits = ("subsets_per_size", "items", "likelihood_items")
    same = all(outcome.settings.get(key) == getattr(recipe.evaluation, key) for key in limits)
    if outcome.coherence:
        same = same and outcome.settings.get("classifiers") == result.classifiers_of(recipe.evaluation)
    return complete and same and outcome.run.epoch == epochs


@contextmanager
def _noted(problems: Problems, place: str) -> Iterator[None]:
    try:
        yield
    except (UsageProblem, DataProblem) as problem:
        problems.append((problem, place))


def _raise_any(problems: Problems) -> None:
    """One UsageProblem with every message once, and the first place where it came up."""
    places: dict[str, list[str]] = {}
    for problem, place in problems:
        places.setdefault(str(problem), []).append(place)
    lines = []
    for message, where in places.items():
        distinct = [place for place in dict.fromkeys(where) if place and place not in message]
        lines.append(message + (f"\n  in {first(distinct, 1)}" if distinct else ""))
    if lines:
        hint = next((problem.hint for problem, _ in problems if problem.hint), "")
        raise UsageProblem("\n".join(lines), f"{hint}; nothing was started" if hint else "nothing was started")
