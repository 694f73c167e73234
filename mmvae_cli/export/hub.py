"""A run as a folder to share: recipe, weights, evaluation, figures, and a card that says what they are.

It is a run folder, opened anywhere like any other. Nothing of the machine it was trained on is in it.
"""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

from mmvae_cli import __version__
from mmvae_cli import recipe as recipes
from mmvae_cli.datasets.building import dataset_folder
from mmvae_cli.disk import plain_yaml
from mmvae_cli.disk.files import sha256, write_atomic
from mmvae_cli.disk.sealed import write_json
from mmvae_cli.evaluation import report
from mmvae_cli.evaluation.classifiers import SANE_ACCURACY
from mmvae_cli.model.vae import parameter_counts
from mmvae_cli.process import console
from mmvae_cli.process.console import duration
from mmvae_cli.process.errors import Failure, UsageProblem, in_one_line, needing
from mmvae_cli.process.paths import shown
from mmvae_cli.recipe import METHODS, Recipe
from mmvae_cli.run import checkpoint, result, shared, trained
from mmvae_cli.run.layout import Run
from mmvae_cli.run.result import EvaluationResult
from mmvae_cli.run.trained import Trained

_KNOWN = ("mmvae", "commit", "python", "packages", "device", "gpu", "cuda", "cpu", "recipe", "processes")
"""What of environment.json goes out: no host, no path, no command line."""


def write(
    folder: Path, out: Path, *, chosen: Path | None, data_dir: Path, force: bool, repository: str | None,
    code: Path | None = None,
) -> None:  # fmt: skip
    """Write the run ``folder`` as the folder ``out``, whole or not at all. Raises UsageProblem where ``out`` is there
    and ``force`` is not given, or is no shared run; DataProblem for a run without checkpoint or dataset."""
    ours = shared.is_shared(out) and (out / "recipe.yaml").is_file()
    if out.is_file() or (out.exists() and any(out.iterdir()) and not ours):
        raise UsageProblem(f"{out} exists and is no shared run; it is left alone", "choose another --out")
    run = Run(folder)
    opened = trained.load(run, run.recipe(), chosen, data_dir=data_dir, device="cpu", needs_data=False, code=code)
    evaluations = _evaluations(run, opened)
    with dataset_folder(out, force=force, shared=True) as temporary:
        made = Run(temporary)
        made.prepare(run.recipe())
        checkpoint.save_weights(made.checkpoint_path(opened.checkpoint.position.step), opened.checkpoint)
        known = run.status()
        state = "finished" if known.get("state") == "finished" else "stopped"
        made.set_status(state, **{key: value for key, value in known.items() if key not in ("state", "reason")})
        made.set_environment(_environment(run) | {"dataset": {"fingerprint": opened.store.fingerprint}})
        info = opened.store.info.model_dump(mode="json") | {"provenance": {}}
        write_json(temporary / "dataset.json", info)
        for evaluation in evaluations:
            place = made.evaluation_path(evaluation.protocol, evaluation.sampler)
            write_json(place, evaluation.model_dump(mode="json"))
        _copy(run, made)
        address = f"{shared.PREFIX}{repository}" if repository else shown(str(out))
        write_atomic(temporary / "README.md", card(run, opened, evaluations, address).encode())
        shared.check(temporary)


def _evaluations(run: Run, opened: Trained) -> list[EvaluationResult]:
    """Those of the checkpoint that is shared."""
    paths = run.evaluations().values()
    loaded = [result.load(path) for path in paths]
    for one, path in zip(loaded, paths, strict=True):
        if one.run.step != opened.checkpoint.position.step:
            console.warn(f"left out: {path} is of step {one.run.step:,}, the weights of another one")
    return [one for one in loaded if one.run.step == opened.checkpoint.position.step]


def _environment(run: Run) -> dict[str, Any]:
    known = {key: value for key, value in run.environment().items() if key in _KNOWN}
    return known | ({"code": {"sha256": sha256(run.code_path)}} if run.code_path.is_file() else {})


def _copy(run: Run, made: Run) -> None:
    figures = run.pictures()
    for path, copy in ((run.metrics_path, made.metrics_path), (run.code_path, made.code_path)):
        if path.is_file():
            shutil.copyfile(path, copy)
    if figures:
        made.figures.mkdir()
    for figure in figures:
        shutil.copyfile(figure, made.figures / figure.name)


def push(folder: Path, repository: str) -> str:
    """Upload the folder to the hub; returns its address. Raises UsageProblem without the package huggingface_hub,
    Failure, which says that the folder is whole, where there is no network or no right to write."""
    again = f", then give the command again with --force; {folder} is written"
    with needing("--push", "huggingface_hub", "hub", again):
        import huggingface_hub
    try:
        api = huggingface_hub.HfApi()
        api.create_repo(repository, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message=f"mmvae {__version__}")
    except Exception as error:  # of the network or the hub: the library has many names for them
        raise Failure(
            f"cannot upload to {repository} ({in_one_line(error)}); {folder} is written and whole",
            f"where there is a network and you are logged in (hf auth login): hf upload {repository} {folder}",
        ) from error
    return f"{shared.PREFIX}{repository}"


# the card ------------------------------------------------------------------------------------------------------------


def card(run: Run, opened: Trained, evaluations: list[EvaluationResult], address: str) -> str:
    """README.md: what the model is, its tables with their protocol, and the commands that repeat them. ``address``: the
    folder, or hf://USER/NAME on the hub."""
    recipe, method = run.recipe(), METHODS[run.recipe().model.method]
    stand_in, repeated = opened.store.info.stand_in, opened.store.info.repeated
    code = str(shared.place(address) / run.code_path.name) if run.code_path.is_file() else None
    flag, argument = (f" --code {shlex.quote(code)}", f", code={code!r}") if code else ("", "")
    parts = [
        f"---\n{plain_yaml.dump(_head(run, opened, evaluations))}---",
        f"# {recipe.name}",
        f"A multimodal VAE of {', '.join(recipe.modalities)}, trained on `{opened.store.name}` as {method.title} "
        f"({method.paper}), with mmvae {__version__}.",
        *([f"**The data are a stand-in: {stand_in}**"] if stand_in else []),
        *([f"In these data {repeated}."] if repeated else []),
        f"## Use it\n\n```sh\npip install mmvae-cli\nmmvae sample --ckpt {address} --kind prior{flag}\n```\n\n"
        f"```python\nimport mmvae_cli\n\nmmvae_cli.open_run({address!r}{argument}).generate(count=16)\n```",
        *([_own_code(run)] if code else []),
        "## What it is\n\n" + _table(["", ""], _facts(run, opened)),
        *(_measured(one, recipe, f"{address}{flag}") for one in evaluations),
        "## Train it again\n\n```sh\n" + "\n".join(_commands(run)) + "\n```\n\n"
        "`recipe.yaml` holds every setting. The weights are in `checkpoints/` without the optimiser's state; "
        "`dataset.json` describes the data, SHA-256 of each file included. Nothing is pickled.",
        *_pictures(run),
    ]
    return "\n\n".join(parts) + "\n"


def _head(run: Run, opened: Trained, evaluations: list[EvaluationResult]) -> dict[str, Any]:
    """The YAML that the hub reads."""
    recipe = run.recipe()
    metrics = [
        {"type": name, "name": f"{name} ({one.protocol} protocol, {one.sampler})", "value": value}
        for one in evaluations for name, value in _headline(one).items() if value is not None
    ]  # fmt: skip
    dataset = {"name": opened.store.name, "type": opened.store.name, "split": recipe.evaluation.split}
    results = [{"task": {"type": "other", "name": "multimodal generation"}, "dataset": dataset, "metrics": metrics}]
    head: dict[str, Any] = {"library_name": "mmvae", "tags": ["mmvae", "multimodal-vae", recipe.model.method]}
    return head | ({"model-index": [{"name": recipe.name, "results": results}]} if metrics else {})


def _headline(one: EvaluationResult) -> dict[str, float | None]:
    everything = "+".join(one.modalities)
    return {
        "latent_classification": one.latent.values.get(everything) if one.latent else None,
        "joint_coherence": one.coherence.joint if one.coherence else None,
        "log_likelihood": one.likelihood.joint.get(everything) if one.likelihood else None,
    }


def _facts(run: Run, opened: Trained) -> list[list[str]]:
    status, environment, store = run.status(), run.environment(), opened.store
    counts, position = parameter_counts(opened.model), opened.checkpoint.position
    took = f", {duration(position.seconds)}" if position.seconds else ""
    steps = f"{position.step:,} steps of {run.recipe().training.batch_size} items"
    return [
        ["parameters", f"{counts['total']:,}"],
        ["trained", f"{position.epoch} epochs, {steps}{took}"],
        ["seed", str(run.recipe().training.seed)],
        ["state", str(status.get("state", "unknown"))],
        ["on", str(environment.get("gpu") or environment.get("device") or "unknown")],
        ["data", f"{store.name}, fingerprint `{store.fingerprint}`"],
        *([name, f"{info.kind} {list(info.shape)}"] for name, info in store.info.modalities.items()),
    ]  # fmt: skip


def _own_code(run: Run) -> str:
    name, digest = run.code_path.name, sha256(run.code_path)
    return (
        f"It has networks of its own. Their code is `{name}`, SHA-256 `{digest}`. Read it before you use the run: it "
        "is run where `--code` names it, never because the folder holds it."
    )


def _measured(one: EvaluationResult, recipe: Recipe, run: str) -> str:
    """The tables of one evaluation, its protocol, and the command that repeats it. ``run``: what --ckpt takes."""
    metrics, way = ",".join(name for name in result.METRICS if getattr(one, name)), f"--protocol {one.protocol}"
    if one.sampler != "prior":
        way += f" --sampler {one.sampler}"
    settings = [[f"`{name}`", json.dumps(value)] for name, value in recipes.flatten(one.settings).items()]
    return "\n\n".join([
        f"## Results, {way.replace('--', '')}", f"```text\n{report.text(one)}\n```", "The protocol:",
        _table(["setting", "value"], settings), "Measure it again:",
        f"```sh\nmmvae evaluate --ckpt {run} {way} --metrics {metrics}{_asked(one, recipe)} --data-dir data\n```",
    ])  # fmt: skip


def _asked(one: EvaluationResult, recipe: Recipe) -> str:
    """The options of what was measured otherwise than the recipe says."""
    settings, spec = one.settings, recipe.evaluation
    measured = {name: settings.get(name) for name in ("items", "latent_samples", "subsets_per_size")}
    measured["classifiers"] = str(settings.get("classifiers", "")).partition(",")[0]
    usual = spec.model_dump() | {"classifiers": spec.classifiers or one.protocol}
    if one.quality:
        measured |= {"features": one.quality.features, "pairs": one.quality.pairs}
    asked = [
        f" --{name.replace('_', '-')} {value}" for name, value in measured.items() if value and value != usual[name]
    ]
    scores = one.coherence.classifiers.values() if one.coherence and one.coherence.metric == "accuracy" else ()
    forced = any(score is not None and score < SANE_ACCURACY for score in scores)  # else it would not be there
    return "".join([*asked, " --force" * forced])


def _commands(run: Run) -> list[str]:
    how = recipes.how_to_make(run.recipe(), Path("data"))
    code = f" --code {run.code_path.name}" if run.code_path.is_file() else ""
    return [how, f"mmvae train recipe.yaml{code} --data-dir data --run runs/again"]


def _pictures(run: Run) -> list[str]:
    names = [path.name for path in run.pictures()]
    return ["## Samples\n\n" + "\n\n".join(f"![{name}](figures/{name})" for name in names)] if names else []


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)
