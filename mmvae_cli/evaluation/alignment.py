"""Whether two modalities of one item are encoded to the same place, without any label (equations 6.1)."""

from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from mmvae_cli.evaluation.encoding import Evaluation, Experts
from mmvae_cli.evaluation.latent import means
from mmvae_cli.run.result import NOT_FINITE, NotMeasured

RECALL_AT = (1, 10)
_NAMES = ("foscttm", *(f"recall@{k}" for k in RECALL_AT))
ITEMS = 1000
"""How many evaluated items are looked for among each other, at most: recall depends on it."""


def measure(evaluation: Evaluation, test: Experts) -> dict[str, Any]:
    """The fields of result.Alignment: of every pair of modalities, by the means of their single posteriors, among the
    items that have both. What data without labels allow."""
    named = evaluation.store.info.labels is not None and evaluation.labels.kind == "class"
    items: dict[str, int] = {}
    pairs: dict[str, Any] = {}
    for m, n in combinations(range(len(evaluation.model.names)), 2):
        pair = f"{evaluation.model.names[m]} ~ {evaluation.model.names[n]}"
        some = test.having((m, n)).block(slice(0, ITEMS))
        items[pair] = len(some.items)
        if len(some.items) < 2:
            pairs[pair] = dict.fromkeys(_NAMES, NotMeasured("needs two items that have both"))
            continue
        places = [means(evaluation, some, (one,)).cpu() for one in (m, n)]
        fit = all(place.isfinite().all() for place in places)
        measured = alignment(places[0], places[1], some.labels.cpu() if named else None) if fit else {}
        pairs[pair] = measured or dict.fromkeys(_NAMES, NOT_FINITE)
    return {"items": items, "pairs": pairs}


def alignment(one: Tensor, other: Tensor, classes: Tensor | None = None) -> dict[str, float]:
    """Of encodings (N, D) of N items in two modalities, N at least 2; ``classes`` (N,). All are means over both
    directions, by the names that evaluation.json has.

    ``foscttm``: fraction of samples closer than the true match (0: perfect, 0.5: chance). ``recall@k``: share of the
    items whose match is among the k nearest (chance: k / N). Of several items at the same distance any order is as
    likely, so that encodings that are all equal are at chance. ``class_recall@1``, with classes: share of the items
    whose nearest one is of their class."""
    distance = torch.cdist(one.double(), other.double(), compute_mode="donot_use_mm_for_euclid_dist")  # ties stay ties
    there, back = (_one_way(part, classes) for part in (distance, distance.t()))
    return {name: (there[name] + back[name]) / 2 for name in there}


def _one_way(distance: Tensor, classes: Tensor | None) -> dict[str, float]:
    match = distance.diag()[:, None]
    closer = (distance < match).sum(1).double()  # how many are nearer than the true match, (N,)
    as_close = (distance == match).sum(1).double()  # the match among them
    recall = {f"recall@{k}": float(((k - closer) / as_close).clamp(0, 1).mean()) for k in RECALL_AT}
    closer += (as_close - 1) / 2
    of_class = {} if classes is None else {"class_recall@1": _nearest_of_class(distance, classes)}
    return {"foscttm": float(closer.mean()) / (len(distance) - 1)} | recall | of_class


def _nearest_of_class(distance: Tensor, classes: Tensor) -> float:
    nearest = distance == distance.min(1, keepdim=True).values
    right = nearest & (classes[:, None] == classes)
    return float((right.sum(1) / nearest.sum(1)).double().mean())
