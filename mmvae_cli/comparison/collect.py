"""Finding runs and checking that they can be compared.

Every dataset has a comparison of its own. A run that is unfinished (unless ``any_epoch``), not evaluated, damaged, or
measured by another protocol than most is set aside; every output says so, with the reason.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mmvae_cli.comparison.content import Comparison, Content, LeftOut
from mmvae_cli.comparison.groups import Member, group
from mmvae_cli.comparison.measures import scored_targets
from mmvae_cli.comparison.progress import unfinished
from mmvae_cli.process import signals
from mmvae_cli.process.errors import DataProblem, Failure
from mmvae_cli.process.paths import look, refuse_dangling
from mmvae_cli.process.words import first
from mmvae_cli.recipe import Recipe, flatten
from mmvae_cli.run import result
from mmvae_cli.run.layout import WAYS, Run, Way
from mmvae_cli.run.result import Coherence, EvaluationResult, Quality

_DEPTH = 4
_RUN_FILES = ("recipe.yaml", "status.json", "checkpoints", *(Run(Path()).evaluation_path(*way).name for way in WAYS))


def collect(
    paths: list[Path], protocol: str | None = None, sampler: str | None = None, *, any_epoch: bool = False
) -> Comparison:
    """Read every run under ``paths``. Raises DataProblem naming each run's reason where none can be used, not even its
    learning curves.

    Of what ``protocol`` and ``sampler`` leave open: the first of WAYS that anything on the same data was measured in.
    ``any_epoch``: evaluations made before the end of training count, too, each epoch as a setting of its own.
    """
    ways = [way for way in WAYS if protocol in (None, way[0]) and sampler in (None, way[1])]
    members, left_out = [], list[LeftOut]()
    for path in find_runs(paths):
        signals.leave_if_requested("nothing was written")
        try:
            members.append(read_member(path, _first_way(path, ways), any_epoch=any_epoch))
        except Failure as failure:
            without_path = str(failure).removeprefix(f"{path}/").removeprefix(f"{path} ")
            left_out.append(LeftOut(path, " ".join(without_path.split())[:300]))
    used = {os.path.realpath(member.folder) for member in members}  # one of them may be evaluated elsewhere only
    left_out = [item for item in left_out if os.path.realpath(item.folder) not in used]
    sets: dict[_Data, list[Member]] = {}
    for member in members:
        sets.setdefault(_data(member), []).append(member)
    kept = {data: _drop_twins(_keep_majority(_keep_way(own, left_out), left_out), left_out)
            for data, own in sets.items()}  # fmt: skip
    running = [one for item in left_out if (one := unfinished(item.folder))]
    if not kept and not running:
        lines = "\n".join(f"  {item.folder}: {item.reason}" for item in left_out)
        raise DataProblem(f"no run can be compared\n{lines}", "train and evaluate first: mmvae evaluate --ckpt RUN")
    found = [Content(_name(data, list(kept)), group(own)) for data, own in kept.items()]
    return Comparison(found, left_out, running)


_Data = tuple[str, str, str]
"""A dataset's name, its fingerprint, and the modalities that were used of it."""


def _data(member: Member) -> _Data:
    evaluation = member.evaluation
    return evaluation.dataset.name, evaluation.dataset.fingerprint, "+".join(evaluation.modalities)


def _name(data: _Data, every: list[_Data]) -> str:
    """The dataset's name, and what else tells it from others of that name."""
    name, fingerprint, modalities = data
    same = [other for other in every if other[0] == name]
    parts = [name]
    if len({other[1] for other in same}) > 1:
        parts.append(fingerprint[:8])
    if len({other[2] for other in same}) > 1:
        parts.append(modalities)
    return " ".join(parts)


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """The run folders among and below ``paths``, and files among them, each once; a path that holds none is returned
    itself, to be named."""
    folders: dict[Path, Path] = {}
    for path in paths:
        for folder in _runs_below(path, _DEPTH) or [path]:
            folders.setdefault(Path(os.path.realpath(folder)), folder)
    return list(folders.values())


def _runs_below(path: Path, depth: int) -> list[Path]:
    try:
        if not path.is_dir():
            return []
        if any((path / name).exists() for name in _RUN_FILES):
            return [path]
        inside = sorted(child for child in path.iterdir() if not child.name.startswith(".") and child.is_dir())
    except OSError:
        return [path]  # to be named: what is closed to us may be a run
    return [run for child in inside for run in _runs_below(child, depth - 1)] if depth else []


def read_member(path: Path, way: Way = WAYS[0], *, any_epoch: bool = False) -> Member:
    """One run, finished and evaluated at its end, or at ``any_epoch``; ``path`` is its folder, or what
    ``evaluate --out`` wrote of it, a file or a folder. Raises DataProblem with the reason why it cannot be used."""
    try:
        _check_run(path)
        run = Run(_run_of(path, way))
        recipe, status = run.recipe(), run.status()
        evaluated = _evaluated(path, way)
        if not (any_epoch and evaluated):
            _check_finished(status, recipe.training.epochs, evaluated=evaluated)
        if not evaluated:
            raise DataProblem(_not_evaluated(path, way))
        evaluation = result.load(_evaluation(path, way))
    except OSError as error:
        raise DataProblem(f"cannot be read ({error.strerror})") from error
    if _way(evaluation) != way:
        raise DataProblem(f"{_evaluation(path, way).name} was measured by {_named(_way(evaluation))}")
    _check_belongs(evaluation, recipe)
    code = run.code_sha256()
    member = Member(run.folder, recipe, evaluation, status, code=code and code[:16], given=path)
    return _at(evaluation.run.epoch, member, any_epoch=any_epoch)


def _at(epoch: int, member: Member, *, any_epoch: bool) -> Member:
    """The run as one that ends at ``epoch``, where it was evaluated; raises DataProblem where that is not its end."""
    training = member.recipe.training
    if epoch == training.epochs:
        return member
    if not any_epoch:
        raise DataProblem(f"evaluated at epoch {epoch} of {training.epochs}: evaluate it again, or give --any-epoch")
    ended = member.recipe.model_copy(update={"training": training.model_copy(update={"epochs": epoch})})
    status = {key: value for key, value in member.status.items() if key != "seconds"}  # those of all of the run
    return replace(member, recipe=ended, status=status, planned=training.epochs)


def _evaluation(path: Path, way: Way) -> Path:
    return path if os.path.isfile(path) else Run(path).evaluation_path(*way)


def _run_of(path: Path, way: Way) -> Path:
    beside = path.parent if path.is_file() else path
    if (beside / "recipe.yaml").exists() or not _evaluated(path, way):
        return beside
    if not (named := result.load(_evaluation(path, way)).run.folder):
        raise DataProblem("does not say of which run it is, and there is no recipe.yaml beside it")
    if not os.path.isdir(named):
        raise DataProblem(f"the run that was evaluated, {named}, is not there")
    return Path(named)


def _check_run(folder: Path) -> None:
    """Raise DataProblem for what is no run, OSError for what may not be looked at."""
    refuse_dangling(folder, DataProblem)
    try:
        look(folder)
    except FileNotFoundError as error:
        raise DataProblem("does not exist") from error
    if not os.path.isfile(folder) and not any((folder / name).exists() for name in _RUN_FILES):
        raise DataProblem("is no run and holds none")


def _evaluated(path: Path, way: Way) -> bool:
    return os.path.isfile(_evaluation(path, way))  # no error below a folder closed to us


def _first_way(path: Path, ways: list[Way]) -> Way:
    """The first of ``ways`` in which anything was measured; that of a file, whatever it is called."""
    measured = [_way(result.load(path))] if os.path.isfile(path) else [way for way in ways if _evaluated(path, way)]
    return next((way for way in measured if way in ways), ways[0])


def _way(evaluation: EvaluationResult) -> Way:
    return evaluation.protocol, evaluation.sampler


def _named(way: Way) -> str:
    return f"protocol {way[0]}" + ("" if way[1] == "prior" else f" with samples of {way[1]}")


def _not_evaluated(folder: Path, way: Way) -> str:
    other = next((other for other in WAYS if _evaluated(folder, other)), None)
    return _other_way(other, way) if other else "finished, but not evaluated (mmvae evaluate --ckpt ...)"


def _other_way(has: Way, wanted: Way) -> str:
    return f"finished, but evaluated by {_named(has)} only, not by {_named(wanted).removeprefix('protocol ')}"


def _check_finished(status: dict[str, Any], epochs: int, *, evaluated: bool) -> None:
    state = status.get("state")
    if state == "finished":
        return
    if state is None:
        raise DataProblem("not trained yet (no status.json)")
    at = f" after {status['epoch']} of {epochs} epochs" if isinstance(status.get("epoch"), int) else ""
    words = {"running": f"unfinished: running, or killed,{at}", "stopped": f"unfinished: stopped{at}"}
    more = "; --any-epoch takes its evaluation" if evaluated else ""
    raise DataProblem(words.get(str(state), f"training {str(state)[:40]}{at}").rstrip(",") + more)


def _check_belongs(evaluation: EvaluationResult, recipe: Recipe) -> None:
    facts = evaluation.run
    for what, measured, asked in (
        ("seed", facts.seed, recipe.training.seed),
        ("method", facts.method, recipe.model.method),
        ("modalities", "+".join(evaluation.modalities), "+".join(recipe.modalities)),
    ):
        if measured != asked:
            raise DataProblem(f"evaluation.json is another run's: {what} {measured}, the recipe has {asked}")
    if not any(getattr(evaluation, metric) for metric in result.METRICS):
        raise DataProblem("evaluation.json holds no metric")
    _check_subsets(evaluation)


def _check_subsets(evaluation: EvaluationResult) -> None:
    """Raise DataProblem for a number of modalities that the run does not have."""
    content = evaluation.model_dump(include={"latent", "coherence", "likelihood"}, exclude_none=True)
    for metric, fields in content.items():
        tables = (fields.get(name) or {} for name in ("values", "joint", "conditional", "per_label", "per_modality"))
        for subset in (subset for table in tables if isinstance(table, dict) for subset in table):
            if not set(subset.split("+")) <= set(evaluation.modalities):
                raise DataProblem(f"evaluation.json: {metric} has a subset {subset[:80]!r} of other modalities")


# what may stand side by side -----------------------------------------------------------------------------------------


def _conditions(member: Member) -> dict[str, Any]:
    """What must be equal in two evaluations on the same data before their numbers are averaged."""
    evaluation, data = member.evaluation, member.evaluation.dataset
    known: dict[str, Any] = {"split": data.split, "items": data.count, "protocol": evaluation.protocol}
    told = {"items", "likelihood_items", "joint_samples"}  # limits: the counts say what they came to
    return known | {f"setting {key}": value for key, value in flatten(evaluation.settings).items() if key not in told}


_DECISIVE: dict[str, set[str]] = {
    "latent": {"metric"}, "coherence": {"metric", "joint_samples"},
    "likelihood": {"importance_samples", "grouping", "count"},
    "quality": {*Quality.model_fields} - {"unconditional", "conditional", "reconstruction"},
}  # fmt: skip
"""Metric -> what must be equal before its own numbers are averaged."""


def _metric_conditions(member: Member, metric: str) -> dict[str, Any]:
    part: BaseModel = getattr(member.evaluation, metric)
    known = part.model_dump(include=_DECISIVE[metric])
    return known | ({"targets": "+".join(scored_targets(part))} if isinstance(part, Coherence) else {})


def _keep_way(members: list[Member], left_out: list[LeftOut]) -> list[Member]:
    ways = {id(member): _way(member.evaluation) for member in members}
    first = min(ways.values(), key=WAYS.index)
    left_out += [LeftOut(m.given, _other_way(ways[id(m)], first)) for m in members if ways[id(m)] != first]
    return [member for member in members if ways[id(member)] == first]


def _keep_majority(members: list[Member], left_out: list[LeftOut]) -> list[Member]:
    """Keep the runs measured like most (the first given, when tied); of the rest say in what they differ. A run that
    lacks a metric agrees with everybody."""
    kept = _majority(members, _conditions, left_out, "")
    for metric in result.METRICS:
        having = [member for member in kept if getattr(member.evaluation, metric)]
        agreeing = _majority(having, partial(_metric_conditions, metric=metric), left_out, f"{metric}: ")
        drop = {id(member) for member in having} - {id(member) for member in agreeing}
        kept = [replace(m, evaluation=m.evaluation.model_copy(update={metric: None})) if id(m) in drop else m
                for m in kept]  # fmt: skip
    return kept


def _majority(
    members: list[Member], facts: Callable[[Member], dict[str, Any]], left_out: list[LeftOut], prefix: str
) -> list[Member]:
    if not members:
        return []
    keys = [json.dumps(facts(member), sort_keys=True, default=str) for member in members]
    chosen = Counter(keys).most_common(1)[0][0]
    reference = facts(members[keys.index(chosen)])
    for member, key in zip(members, keys, strict=True):
        if key != chosen:
            own = facts(member)
            names = [name for name in {**reference, **own} if reference.get(name) != own.get(name)]
            told = [f"{name} {own.get(name, 'none')} (the others: {reference.get(name, 'none')})" for name in names]
            left_out.append(LeftOut(member.given, f"{prefix}measured differently: {first(told, 3)}"))
    return [member for member, key in zip(members, keys, strict=True) if key == chosen]


def _drop_twins(members: list[Member], left_out: list[LeftOut]) -> list[Member]:
    """Without repeats: the same recipe and seed counts as one measurement, the first."""
    seen: dict[str, Member] = {}
    for member in members:
        key = json.dumps([member.settings(), member.seed], sort_keys=True)
        if key in seen:
            left_out.append(LeftOut(member.given, f"same recipe and seed as {seen[key].given}"))
        seen.setdefault(key, member)
    return list(seen.values())
