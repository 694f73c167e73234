"""Linear classification of the latent representation (facts 4.1; Table 2, Table 5 left, Figure 3 left)."""

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmvae_cli import console, result, signals
from mmvae_cli.evaluation.encoding import BLOCK, Data, Experts, Setting, blocks
from mmvae_cli.evaluation.scores import accuracy, average_precisions, mean_or_none
from mmvae_cli.model import fusion


def measure(setting: Setting, test: Experts, reasons: dict[str, str]) -> result.Latent:
    """Fit one logistic regression per subset (and attribute) on ``latent_samples`` encoded training items, test it on
    every item of ``test``. Features are the means of the subset posteriors, shared latent only."""
    pool = training_pool(setting)
    features = _means(setting, pool)  # (S, n, D)
    scores: list[list[Tensor]] = []
    by_attribute = setting.labels.kind == "attributes"
    models = _fit_all(features, pool.labels, by_attribute, setting, reasons)
    for block in blocks(test, BLOCK, drop_last=setting.released):
        means = _means(setting, block)
        scores.append([_decide(model, means[s]) for s, model in enumerate(models)])
    labels = [block.labels for block in blocks(test, BLOCK, drop_last=setting.released)]
    names = [setting.name_of(subset) for subset in setting.subsets]
    if not by_attribute:
        values = {name: None if models[s] is None else accuracy([part[s].argmax(-1) for part in scores], labels)
                  for s, name in enumerate(names)}  # fmt: skip
        return result.Latent(metric="accuracy", values=values)
    per_label = {name: average_precisions([part[s] for part in scores], labels, setting, f"latent.per_label.{name}",
                                          reasons, hard=setting.released) for s, name in enumerate(names)}  # fmt: skip
    values = {name: mean_or_none(scores_of, f"latent.values.{name}", reasons) for name, scores_of in per_label.items()}
    return result.Latent(metric="average_precision", values=values, per_label=per_label)


def training_pool(setting: Setting) -> Experts:
    """The labelled training items: drawn without replacement; with it, and with the released code's zero rows of label
    0 in place of the items that its incomplete last batch left out, under ``released``."""
    data = Data(setting, "train", "latent training")
    count, wanted = data.split.count, setting.spec.latent_samples
    if not setting.released:
        return data.encode(data.order[: min(wanted, count)])
    generator = torch.Generator().manual_seed(setting.seed("latent draws"))
    drawn = torch.randint(count, (wanted,), generator=generator)
    pool = data.encode(data.order[drawn])
    empty = (drawn >= count - count % BLOCK).to(pool.labels.device)
    pool.shared.mean[:, empty] = 0
    pool.labels[empty] = 0
    return pool


@torch.no_grad()
def _means(setting: Setting, experts: Experts) -> Tensor:
    return fusion.subset_posteriors(experts.shared, setting.model.family, setting.subsets).mean


def _fit_all(
    features: Tensor, labels: Tensor, by_attribute: bool, setting: Setting, reasons: dict[str, str]
) -> list[Any]:
    """One linear model per subset: weights (classes or attributes, D) and bias, or None with a reason."""
    x, y = features.cpu().double().numpy(), labels.cpu().numpy()
    models: list[Any] = []
    with console.progress("latent classifiers", len(x), "subsets") as shown:
        for s, subset in enumerate(setting.subsets):
            signals.leave_if_requested("no evaluation was written")
            try:
                weight, bias = _fit_attributes(x[s], y) if by_attribute else _fit_classes(x[s], y, setting)
                models.append((torch.from_numpy(weight).to(features), torch.from_numpy(bias).to(features)))
            except ValueError as error:
                models.append(None)
                reasons[f"latent.values.{setting.name_of(subset)}"] = str(error)
            shown.advance()
    return models


def _fit_classes(x: np.ndarray, y: np.ndarray, setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression: weights (classes, D), bias (classes,); classes never seen get -inf."""
    found = np.unique(y)
    if len(found) < 2:
        raise ValueError("the training samples have one class only")
    fitted = _logistic(x, y)
    weight, bias = np.zeros((len(setting.labels.names), x.shape[1])), np.full(len(setting.labels.names), -np.inf)
    if len(found) == 2:
        both = np.array([-0.5, 0.5])  # the binary model scores the second class; a pair of scores says the same
        weight[found], bias[found] = both[:, None] * fitted.coef_, both * fitted.intercept_
    else:
        weight[found], bias[found] = fitted.coef_, fitted.intercept_
    return weight, bias


def _fit_attributes(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One binary regression per attribute; an attribute with one class in the samples gets a constant score."""
    weight, bias = np.zeros((y.shape[1], x.shape[1])), np.zeros(y.shape[1])
    for a in range(y.shape[1]):
        if 0 < y[:, a].sum() < len(y):
            fitted = _logistic(x, y[:, a])
            weight[a], bias[a] = fitted.coef_[0], fitted.intercept_[0]
        else:
            bias[a] = 1.0 if y[:, a].all() else -1.0
    return weight, bias


def _logistic(x: np.ndarray, y: np.ndarray) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 1000 iterations are the protocol, converged or not
        return LogisticRegression(max_iter=1000, random_state=0).fit(x, y)


def _decide(model: Any, means: Tensor) -> Tensor:
    """Scores (b, classes or attributes); a higher one is more likely."""
    if model is None:
        return means.new_zeros(len(means), 1)
    weight, bias = model
    return means @ weight.t() + bias
