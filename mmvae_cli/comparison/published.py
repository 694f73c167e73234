"""The published numbers of published.yaml: which of them may stand beside a group, and what is not the same."""

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from mmvae_cli.comparison.collect import Collection
from mmvae_cli.comparison.groups import Group, method_name
from mmvae_cli.comparison.measures import Key, Stat
from mmvae_cli.recipe import flatten

MODALITIES = {"mnist-svhn-text": {"mnist", "svhn", "text"}, "celeba": {"image", "text"}}


@dataclass(frozen=True)
class Published:
    """Numbers of one source for one group. ``differences``: what the group did otherwise, one remark each."""

    group: Group
    source: str
    by: str
    values: dict[Key, Stat]
    decimals: dict[Key, tuple[int, int]]
    differences: tuple[str, ...]

    @property
    def key_metrics(self) -> set[str]:
        return {key.metric for key in self.values}

    @property
    def label(self) -> str:
        return f"{method_name(self.group)} ({self.by})"

    @property
    def external(self) -> bool:
        """Another paper's number for the same experiment."""
        return self.by != "paper"


@cache
def _entries() -> tuple[dict[str, Any], ...]:
    text = (resources.files("mmvae_cli.comparison") / "published.yaml").read_text(encoding="utf-8")
    return tuple(yaml.safe_load(text)["entries"])


def experiment(collection: Collection) -> str:
    """``polymnist``, ``mnist-svhn-text``, ``celeba``: the paper's experiment that these runs repeat; "" for any other.

    Told by the dataset's name and its modalities together: a store of one's own that merely has the name is not it.
    """
    evaluation = collection.reference
    name, modalities = evaluation.dataset.name.lower(), evaluation.modalities
    if name.startswith("polymnist") and all(re.fullmatch(r"m\d+", m) for m in modalities) and len(modalities) > 1:
        return "polymnist"
    return next((known for known, its in MODALITIES.items() if name.startswith(known) and set(modalities) == its), "")


def beside(collection: Collection) -> list[Published]:
    """The published numbers whose method and decisive settings are a group's own, group by group."""
    which = experiment(collection)
    if not which or (which == "polymnist" and len(collection.reference.modalities) != 5):
        return []
    found: list[Published] = []
    for one in collection.groups:
        known = flatten(one.recipe.model_dump(mode="json"))
        for entry in _entries():
            values = entry["values"].get(one.variant)
            if entry["dataset"] == which and values and all(known.get(k) == v for k, v in entry["match"].items()):
                found.append(_published(one, entry, values, known, collection))
    return found


def _published(
    one: Group, entry: dict[str, Any], values: Any, known: dict[str, Any], collection: Collection
) -> Published:
    keys = {name: _key(entry["metric"], name) for name in values}
    stats = {keys[n]: Stat(float(v[0]), float(v[1]) if len(v) > 1 else None, 5) for n, v in values.items()}
    rows = [[v[i] for row in entry["values"].values() for v in row.values() if len(v) > i] for i in (0, 1)]
    decimals = {keys[n]: (_places(v[0], rows[0]), _places(v[-1], rows[1])) for n, v in values.items()}
    remarks = _differences(entry, known, collection)
    return Published(one, entry["source"], str(entry.get("by", "paper")), stats, decimals, remarks)


def _key(metric: str, name: str) -> Key:
    source, _, target = name.partition(" -> ")
    return Key(metric, source, target)


def _places(value: float, row: list[float]) -> int:
    """Digits after the point as printed: YAML drops the zeros of 0.200, its neighbours in the table tell them."""
    if isinstance(value, int):
        return 0
    return max(len(str(other).partition(".")[2]) for other in [value, *row] if isinstance(other, float))


def _differences(entry: dict[str, Any], known: dict[str, Any], collection: Collection) -> tuple[str, ...]:
    evaluation = collection.reference
    remarks = ["stand-in data"] if evaluation.dataset.stand_in else []
    few = abs(evaluation.dataset.count - entry["items"]) > 0.01 * entry["items"]  # the released code drops a last batch
    if few and not evaluation.dataset.stand_in:
        remarks.append(f"{evaluation.dataset.count:,} items evaluated here, {entry['items']:,} there")
    measured = known | {"evaluation.split": evaluation.dataset.split}
    for key, value in entry["setting"].items():
        if measured.get(key) != value:
            remarks.append(f"{key} {_plain(measured.get(key))} here, {_plain(value)} there")
    if evaluation.protocol != "released":
        remarks.append(_protocol_remark(entry["metric"], entry["dataset"]))
    elif (
        entry["metric"].startswith("log_likelihood")
        and evaluation.likelihood
        and evaluation.likelihood.importance_samples != 12
    ):
        remarks.append(
            f"{evaluation.likelihood.importance_samples} importance samples here; the released code takes 12"
        )
    return tuple(remarks)


def _protocol_remark(metric: str, dataset: str) -> str:
    """What protocol ``default`` does otherwise than the released code, on which the paper's numbers presumably rest."""
    if metric.startswith("log_likelihood"):
        return "protocol default weighs importance samples per item; the released code groups them across items"
    if metric == "latent" and dataset == "celeba":
        return "protocol default scores average precision by probabilities; the released code by hard predictions"
    if "coherence" in metric:
        return "protocol default judges with classifiers in eval mode; the released code leaves them in train mode"
    return "protocol default here, the released code there"


def _plain(value: Any) -> str:
    if value is None:
        return "the default"
    return f"{value:g}" if isinstance(value, float) else str(value)
