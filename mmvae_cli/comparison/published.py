"""The published numbers of published.yaml: which of them may stand beside a group, and what is not the same."""

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from mmvae_cli import recipe as recipes
from mmvae_cli.comparison.groups import Collection, Group, short
from mmvae_cli.comparison.measures import Key, Stat
from mmvae_cli.run.result import FID, EvaluationResult

VIEWS = {"m0", "m1", "m2", "m3", "m4"}
MODALITIES = {"mnist-svhn-text": {"mnist", "svhn", "text"}, "celeba": {"image", "text"}}


@dataclass(frozen=True)
class Published:
    """Numbers of one source for one group. ``differences``: what the group did otherwise, one remark each;
    ``otherwise``: that of them which no setting of ours can do as the source did."""

    group: Group
    source: str
    by: str
    values: dict[Key, Stat]
    decimals: dict[Key, tuple[int, int]]
    differences: tuple[str, ...]
    otherwise: str = ""

    @property
    def key_metrics(self) -> set[str]:
        return {key.metric for key in self.values}

    @property
    def label(self) -> str:
        return f"{self.group.name} ({self.by})"

    @property
    def external(self) -> bool:
        """Another paper's number for the same experiment."""
        return self.by != "the paper"


@cache
def contents() -> dict[str, Any]:
    """What published.yaml says."""
    text = (resources.files("mmvae_cli.comparison") / "published.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


@cache
def _papers_recipe(dataset: str, variant: str) -> dict[str, Any]:
    return recipes.load(contents()["recipes"][dataset][variant]).flat


def experiment(collection: Collection) -> str:
    """``polymnist``, ``mnist-svhn-text``, ``celeba``: the paper's experiment that these runs repeat; "" for any other.

    Told by the dataset's name and its modalities together: a store of one's own that merely has the name is not it.
    """
    name, modalities = collection.reference.dataset.name, collection.reference.modalities
    if name == "polymnist":
        return name if all(re.fullmatch(r"m\d+", m) for m in modalities) and len(modalities) > 1 else ""
    return name if set(modalities) == MODALITIES.get(name) else ""


def beside(collection: Collection) -> list[Published]:
    """The published numbers whose method and decisive settings are a group's own, group by group."""
    which = experiment(collection)
    if not which or (which == "polymnist" and set(collection.reference.modalities) != VIEWS):
        return []
    entries: list[Published] = []
    for one in collection.groups:
        known = one.recipe.flat
        for entry in contents()["entries"]:
            values = entry["values"].get(one.variant)
            acting = known | {"objective.beta": known["objective.beta"] * known["objective.beta_content"]}
            if entry["dataset"] == which and values and all(acting.get(k) == v for k, v in entry["match"].items()):
                entries.append(_published(one, entry, values, known, collection))
    return entries


def _published(
    one: Group, entry: dict[str, Any], values: Any, known: dict[str, Any], collection: Collection
) -> Published:
    keys = {name: Key(entry["metric"], *name.split(" -> ")) for name in values}
    runs = 0 if "by" in entry else entry.get("runs", {}).get(one.variant, 5) or 0  # 0: not said
    stats = {keys[n]: Stat(float(v[0]), float(v[1]) if len(v) > 1 else None, runs) for n, v in values.items()}
    rows = [[v[i] for row in entry["values"].values() for v in row.values() if len(v) > i] for i in (0, 1)]
    decimals = {keys[n]: (_places(v[0], rows[0]), _places(v[-1], rows[1])) for n, v in values.items()}
    expected = _papers_recipe(entry["dataset"], one.variant) | entry.get("setting", {})
    remarks, otherwise = _differences(entry, known, expected, collection), str(entry.get("otherwise", ""))
    return Published(one, entry["source"], str(entry.get("by", "the paper")), stats, decimals, remarks, otherwise)


def _places(value: float, row: list[float]) -> int:
    """Digits after the point as printed: YAML drops the zeros of 0.200, its neighbours in the table tell them."""
    if isinstance(value, int):
        return 0
    return max(len(str(other).partition(".")[2]) for other in [value, *row] if isinstance(other, float))


def _differences(
    entry: dict[str, Any], known: dict[str, Any], expected: dict[str, Any], collection: Collection
) -> tuple[str, ...]:
    evaluation, metric = collection.reference, str(entry["metric"])
    remarks = [entry["otherwise"]] if "otherwise" in entry else []
    remarks += ["stand-in data"] if evaluation.dataset.stand_in else []
    remarks += _few_items(entry, evaluation)
    if evaluation.dataset.split != expected["evaluation.split"]:
        remarks.append(f"split {evaluation.dataset.split} here, {expected['evaluation.split']} there")
    remarks += _recipe_differences(known, expected)
    settings = evaluation.settings
    if metric in ("joint_coherence", "frechet_unconditional") and evaluation.sampler != "prior":
        remarks.append(f"latents drawn from {evaluation.sampler} here, from the prior there")
    if metric.startswith("latent") and settings.get("latent_samples", 500) != 500:
        remarks.append(f"{settings['latent_samples']:,} items to fit the classifiers here, 500 there")
    if (most := settings.get("subsets_per_size")) and metric.endswith(("by_size", "frechet_conditional")):
        remarks.append(f"at most {most} subsets of each size here, all of them there")
    if "coherence" in metric and not settings.get("classifiers", "released").startswith("released"):
        remarks.append("measured by other classifiers than the paper's")
    if metric.startswith("frechet"):
        return tuple(remarks + _quality_differences(entry["quality"], evaluation))
    if evaluation.protocol != entry.get("protocol", "released"):
        remarks.append(_protocol_remark(metric, entry))
    likelihood, samples = evaluation.likelihood, 12 if evaluation.protocol == "released" else 15
    if metric.startswith("log_likelihood") and likelihood and likelihood.importance_samples != samples:
        there = "the released code takes 12" if samples == 12 else "15 there"
        remarks.append(f"{likelihood.importance_samples} importance samples here; {there}")
    return tuple(remarks)


def _quality_differences(there: dict[str, str], evaluation: EvaluationResult) -> list[str]:
    """``there``: the paper's features, pairs, and split of the real samples."""
    here = evaluation.quality
    if here is None:
        return []
    known = {"features": here.features, "pairs": here.pairs, "real samples": here.reference_split}
    remarks = [f"{key} {known[key]} here, {value} there" for key, value in there.items() if known[key] != value]
    return remarks + ["distances in other features are on another scale"] * (here.distance != FID)


def _few_items(entry: dict[str, Any], evaluation: EvaluationResult) -> list[str]:
    """A remark where the number of evaluated items is not the paper's. The released code drops a last batch, so that a
    difference of a hundredth does not count."""
    count = evaluation.dataset.count
    if entry["metric"].startswith("log_likelihood") and evaluation.likelihood:
        count = evaluation.likelihood.count
    if entry["metric"].startswith("frechet") and evaluation.quality:
        count = evaluation.quality.generated
    if abs(count - entry["items"]) <= 0.01 * entry["items"]:
        return []
    return [f"{count:,} items evaluated here, {entry['items']:,} there"]


_TOLD = ("modalities.", "model.", "objective.", "training.epochs", "training.batch_size", "training.learning_rate",
         "training.schedule")  # fmt: skip


def _recipe_differences(known: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Where the recipe is not the paper's; what differs in all modalities alike is told once."""
    differences: dict[tuple[str, str, str], list[str]] = {}
    for key in dict.fromkeys([*expected, *known]):
        here, there = known.get(key), expected.get(key)
        if not key.startswith(_TOLD) or here == there:
            continue
        modality = key.split(".")[1] if key.startswith("modalities.") else ""
        general = key.replace(f".{modality}.", ".*.", 1) if modality else key
        differences.setdefault((general, _plain(here), _plain(there)), []).append(modality)
    count = len({key.split(".")[1] for key in expected if key.startswith("modalities.")})
    remarks = []
    for (general, here, there), names in differences.items():
        keys = [general] if len(names) == count else [general.replace("*", name) for name in names]
        remarks += [f"{key} {here} here, {there} there" for key in keys]
    if known.get("training.precision") == "bf16":
        remarks.append("training.precision bf16 here, fp32 there")
    if missing := known.get("training.missing.rate"):
        rows = known["training.missing.rows"]
        remarks.append(f"training.missing.rate {missing:g}, rows {rows} here; all items, complete, there")
    if known.get("modalities.text.likelihood") == "categorical":
        remarks.append("modalities.text.likelihood categorical here; the released code's is categorical_released")
    return remarks


def _protocol_remark(metric: str, entry: dict[str, Any]) -> str:
    """What protocol ``default`` does otherwise than the released code, on which the paper's numbers presumably rest;
    or ``released`` otherwise than the source of the entry."""
    if entry.get("protocol") == "default":
        return "protocol released leaves the classifiers in train mode; there they are in eval mode"
    if metric.startswith("log_likelihood"):
        return "protocol default weighs importance samples per item; the released code groups them across items"
    if metric == "latent" and entry["dataset"] == "celeba":
        return "protocol default scores average precision by probabilities; the released code by hard predictions"
    if "coherence" in metric:
        return "protocol default has its classifiers in eval mode; the released code leaves them in train mode"
    return "protocol default here, the released code there"


def _plain(value: Any) -> str:
    return "the default" if value is None else short(value)
