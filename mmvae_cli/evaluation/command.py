"""``mmvae evaluate`` on plain values: one run in, one evaluation.json out."""

import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import nn

from mmvae_cli import recipe as recipes
from mmvae_cli.compute import ranks
from mmvae_cli.disk.files import require_readable, require_writable, sha256, write_atomic
from mmvae_cli.disk.sealed import write_json
from mmvae_cli.evaluation import alignment, classifiers, coherence, features, latent, likelihood, quality, report
from mmvae_cli.evaluation.encoding import BLOCK, LIKELIHOOD_BLOCK, Evaluation, Experts, ShuffledSplit
from mmvae_cli.evaluation.scores import base_rates, chance
from mmvae_cli.evaluation.seen import Seen
from mmvae_cli.process import console
from mmvae_cli.process.errors import Failure, UsageProblem
from mmvae_cli.process.paths import make_folder
from mmvae_cli.recipe import EvaluationSpec
from mmvae_cli.run import checkpoint, result, samplers, trained
from mmvae_cli.run.layout import Run
from mmvae_cli.run.result import EvaluationResult, NotMeasured

_DRAWING = {"coherence", "quality"}
"""Metrics that look at samples of no item."""


def run(
    folder: Path, *, metrics: list[str], chosen: Path | None, data_dir: Path, device: str, force: bool, verify: bool,
    out: Path | None = None, code: Path | None = None, **asked: Any,
) -> tuple[Path, EvaluationResult]:  # fmt: skip
    """Measure ``metrics`` of a run and write its evaluation.json, or the file or into the folder ``out``; metrics
    measured before with the same checkpoint, data and settings are kept. What is ``asked`` and not None takes the place
    of the recipe's ``evaluation`` keys."""
    run_folder = Run(folder)
    recipe = run_folder.recipe()
    content = recipe.model_dump()
    content["evaluation"] |= {key: value for key, value in asked.items() if value is not None}
    recipe = recipes.validate(content, "the command line")
    opened = trained.load(run_folder, recipe, chosen, data_dir=data_dir, device=device, verify=verify, code=code)
    path = _place(run_folder.evaluation_path(recipe.evaluation.protocol, recipe.evaluation.sampler), out)
    with ranks.process_group(opened.device, "evaluate") as group:
        drawn = recipe.evaluation if set(metrics) & _DRAWING else EvaluationSpec()
        mixtures = samplers.of_run(run_folder, opened, drawn, group).mixtures
        evaluation = Evaluation(opened.model, recipe, opened.store, opened.device, group, mixtures)
        complete = _measure(evaluation, opened.checkpoint, metrics, data_dir, force=force)
        if group.rank == 0:
            if path.parent != folder:
                complete.run.folder = os.path.realpath(folder)
            complete = _merged(path, complete, opened.checkpoint.path)
            write_json(path, complete.model_dump(mode="json"))
            if text := report.warning(complete):
                console.warn(text)
    return path, complete


def _place(own: Path, out: Path | None) -> Path:
    """Where the result goes: beside the run, or elsewhere for a run that may only be read. Raises Failure now, not
    after hours of measuring, where it could not be written."""
    path = own if out is None else out if out.suffix == ".json" and not out.is_dir() else out / own.name
    try:
        if out is not None:
            make_folder(path.parent)
        require_writable(path)
    except Failure as failure:
        failure.hint += "; --out FOLDER writes the evaluation elsewhere"
        raise
    if path.exists():
        require_readable(path)
    return path


def _measure(
    evaluation: Evaluation, loaded: checkpoint.Checkpoint, wanted: list[str], data_dir: Path, *, force: bool
) -> EvaluationResult:  # fmt: skip
    spec, store, recipe = evaluation.spec, evaluation.store, evaluation.recipe
    data = ShuffledSplit(evaluation, spec.split, "evaluated items", spec.items)
    if data.present is not None and spec.protocol == "released":
        raise UsageProblem(f"protocol released measures complete data; {store.folder} lacks modalities in {spec.split}",
                           "use the default protocol: --protocol default")  # fmt: skip
    everything = data.encode(data.order)
    test = evaluation.measured(everything)
    complete = everything.having(tuple(range(len(evaluation.model.names))))
    looks = "quality" in wanted and not _undefined("quality", evaluation, complete)
    its_classifiers = cache(partial(classifiers.ready, evaluation, force=force))  # once for all metrics
    seen = Seen(evaluation, test, features.ready(evaluation, data_dir, its_classifiers, force=force)) if looks else None
    metrics: dict[str, Callable[[], dict[str, Any] | NotMeasured]] = {
        "latent": lambda: latent.measure(evaluation, test),
        "alignment": lambda: alignment.measure(evaluation, test),
        "coherence": lambda: _coherence(evaluation, data, test, seen, *its_classifiers()),
        "likelihood": lambda: likelihood.measure(evaluation, data, complete.block(slice(0, spec.likelihood_items))),
        "quality": lambda: quality.measure(evaluation, data, seen) if seen else {},
    }
    wanted = [*wanted, "alignment"] if "latent" in wanted else wanted
    measured = {
        name: _undefined(name, evaluation, complete) or measure() for name, measure in metrics.items() if name in wanted
    }
    values, reasons = result.with_reasons(measured)
    having = evaluation.labels_having(test) if store.info.labels else {}
    rates = {source: base_rates(evaluation, labels) for source, labels in having.items()}
    return EvaluationResult(
        protocol=spec.protocol, modalities=evaluation.model.names, settings=_settings(evaluation),
        run=result.RunFacts(recipe=recipe.name, method=recipe.model.method, seed=recipe.training.seed,
                            checkpoint=loaded.path.name, step=loaded.position.step, epoch=loaded.position.epoch,
                            weights=loaded.digest),
        dataset=result.DatasetFacts(name=store.name, fingerprint=store.fingerprint, split=spec.split,
                                    count=len(test.items), stand_in=store.info.stand_in,
                                    repeated=store.info.repeated, rows=evaluation.rows_having(test),
                                    chances={source: chance(labels) for source, labels in having.items()},
                                    base_rates={source: own for source, own in rates.items() if own}),
        base_rates=base_rates(evaluation, test.labels),
        chance=chance(test.labels) if store.info.labels else None, reasons=reasons, **values,
    )  # fmt: skip


def _coherence(
    evaluation: Evaluation, data: ShuffledSplit, test: Experts, seen: Seen | None, networks: dict[str, nn.Module],
    weak: dict[str, NotMeasured],
) -> dict[str, Any] | NotMeasured:  # fmt: skip
    if len(weak) == len(networks):
        return NotMeasured("; ".join(reason.why for reason in weak.values()))
    return coherence.believed(coherence.measure(evaluation, data, test, networks, seen), weak)


def _undefined(metric: str, evaluation: Evaluation, complete: Experts) -> NotMeasured | None:
    """Why a metric has no meaning for these data or this recipe, if so; ``complete``: the items with all modalities."""
    if metric in ("latent", "coherence"):  # which compare with labels
        return NotMeasured("no labels") if evaluation.store.info.labels is None else None
    if metric == "alignment":
        return NotMeasured("needs two modalities") if len(evaluation.model.names) < 2 else None
    why = evaluation.recipe.has_no_likelihood if metric == "likelihood" else ""
    why = why or ("" if len(complete.items) else "no item has all modalities")
    return NotMeasured(why) if why else None


def _settings(evaluation: Evaluation) -> dict[str, Any]:
    spec = evaluation.spec
    sampled = {"subsets_per_size": spec.subsets_per_size} if spec.subsets_per_size else {}
    return sampled | evaluation.protocol._asdict() | {
        "classifiers": result.classifiers_of(spec),
        "block": BLOCK, "likelihood_block": LIKELIHOOD_BLOCK, "seed": spec.seed, "items": spec.items,
        "likelihood_items": spec.likelihood_items,
    }  # fmt: skip


def _merged(path: Path, fresh: EvaluationResult, weights: Path) -> EvaluationResult:
    """``fresh``, with the metrics that it lacks taken from an earlier evaluation of exactly the same thing. One that
    does not say of which ``weights`` is of these, unless they were written after it."""
    if not path.is_file():
        return fresh
    try:
        earlier = result.load(path)
    except Exception as problem:  # whatever is wrong with the old file, the new one replaces it
        console.warn(f"replaced: {problem}")
        return fresh
    if earlier.run.weights is None and path.stat().st_mtime >= weights.stat().st_mtime:
        earlier.run.weights = fresh.run.weights
    same = all(getattr(earlier, key) == getattr(fresh, key) for key in ("protocol", "run", "dataset", "settings"))
    if not same:
        _keep_aside(path, earlier)
        return fresh
    kept = {name: getattr(earlier, name) for name in result.PARTS if getattr(fresh, name) is None}
    dropped = tuple(name for name in result.PARTS if getattr(fresh, name) is not None)
    reasons = {key: value for key, value in earlier.reasons.items() if not key.startswith(dropped)}
    # what --force measured before is there all the same
    reasons |= {key: value for key, value in fresh.reasons.items() if kept.get(key) is None}
    return fresh.model_copy(update={**kept, "reasons": reasons})


def _keep_aside(path: Path, earlier: EvaluationResult) -> None:
    """Rename the result of another checkpoint, other data or other settings, instead of replacing it."""
    aside = path.with_name(f"{path.stem}.step-{earlier.run.step:08d}-{sha256(path)[:8]}.json")
    write_atomic(aside, path.read_bytes())
    console.say(f"the evaluation that was there (step {earlier.run.step:,}) is now {aside}")
