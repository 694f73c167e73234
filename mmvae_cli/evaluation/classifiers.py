"""The classifiers that judge coherence: trained by the tool on the same data, once, and stored with the dataset."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from mmvae_cli.compute.runtime import derive
from mmvae_cli.disk.files import require_readable, write_atomic
from mmvae_cli.evaluation.encoding import Setting, from_all
from mmvae_cli.evaluation.scores import average_precision
from mmvae_cli.model.networks import build_classifier, classifier_scales
from mmvae_cli.process import console, signals
from mmvae_cli.process.errors import DataProblem, Failure, Unreadable
from mmvae_cli.process.paths import openable
from mmvae_cli.recipe.kinds import KINDS
from mmvae_cli.run import checkpoint
from mmvae_cli.store import batches

BATCH = 128
ROUNDS, ROUND_STEPS, LEARNING_RATE = 5, 500, 2e-3
ENOUGH, CHECKED = 0.99, 2000
"""Classes: no further round once the score on CHECKED training items, dropout off, is ENOUGH. Digits on plain
backgrounds need one round, on photographs all of them. The test split has no say in it."""
STEPS, ATTRIBUTE_EPOCHS, ATTRIBUTE_LEARNING_RATE = 2000, 5, 1e-3
"""Attributes: STEPS, or the epochs where those are more. Forty of them, many rare, want every item a few times however
many there are."""
VERSION = "3"
SANE_ACCURACY, SANE_GAIN = 0.7, 0.05
"""Below this test accuracy (attributes: average precision less than this above the base rate) one is refused."""


@dataclass(frozen=True)
class Judges:
    """One classifier per modality, its score on the test split, and that of every attribute (classes: none)."""

    networks: dict[str, nn.Module]
    scores: dict[str, float]
    per_label: dict[str, dict[str, float | None]]


class Score(NamedTuple):
    """Accuracy, or average precision averaged over the attributes that occur and by attribute."""

    value: float
    per_label: dict[str, float | None]


def ready(setting: Setting, *, force: bool) -> Judges:
    """Load the dataset's classifiers, training those that are not there. Raises DataProblem for one that is too weak
    to judge anything, unless ``force``."""
    own = {}
    for m, name in setting.world.share(list(enumerate(setting.model.names))):
        network, score = _ready(name, setting)
        own[m] = {key: value.cpu() for key, value in network.state_dict().items()}, score
    networks, scores, per_label = {}, {}, {}
    for name, (weights, score) in zip(setting.model.names, from_all(setting, own), strict=True):
        network = _network(name, setting)
        network.load_state_dict(weights)
        networks[name], scores[name] = network.eval(), score.value
        if score.per_label:
            per_label[name] = score.per_label
        _refuse_weak(name, score.value, setting, force)
    return Judges(networks, scores, per_label)


def _network(name: str, setting: Setting) -> nn.Module:
    info = setting.store.info
    network = build_classifier(info.modalities[name], len(info.labels.names), width_of(setting, name))
    return network.to(setting.device)


def _ready(name: str, setting: Setting) -> tuple[nn.Module, Score]:
    """The classifier of one modality, loaded, or trained and kept."""
    network, width = _network(name, setting), width_of(setting, name)
    path = setting.store.folder / "classifiers" / (f"{name}-width{width}" if width else name)
    path = path.with_name(path.name + ".safetensors")
    score = _load(path, network, setting)
    if score is None:
        score = _train(name, network, setting)
        _save(path, network, setting, score)
        console.say(f"classifier of {name}: {_metric(setting)} {score.value:.3f} on the test split, saved as {path}")
    return network, score


def width_of(setting: Setting, name: str) -> int | None:
    """The recipe's width of a modality's classifier; None where it is the paper's or where there is no choice."""
    return setting.spec.classifier_width if classifier_scales(setting.store.info.modalities[name]) else None


def _metric(setting: Setting) -> str:
    return "accuracy" if setting.labels.kind == "class" else "mean average precision"


def _refuse_weak(name: str, score: float, setting: Setting, force: bool) -> None:
    if setting.labels.kind == "class":
        needed = SANE_ACCURACY
    else:
        needed = float(torch.from_numpy(setting.store.labels("test").astype("float32")).mean()) + SANE_GAIN
    if score >= needed:
        return
    message = f"the classifier of {name} reaches {_metric(setting)} {score:.3f} only, less than {needed:.3f}"
    if not force:
        raise DataProblem(message, "its verdicts mean little; more data may help, or accept them with --force")
    console.warn(message)


def _train(name: str, network: nn.Module, setting: Setting) -> Score:
    """Adam with a linear decay to 0: classes in up to 5 rounds of 500 steps of 128 items, attributes in one of 2,000
    steps and 5 epochs at least; returns the test score. The released code has the weights only, no training
    (equations 8.4)."""
    seed = derive(0, "classifier", name)
    torch.manual_seed(seed)
    for module in network.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
    data = batches.Split(setting.store, "train", [name], setting.device, seed)
    labels = torch.from_numpy(setting.store.labels("train").astype("int64")).to(setting.device)
    checked = batches.permutation(data.count, seed, 0, torch.device("cpu"))[:CHECKED]
    rounds, steps, rate = _plan(labels, data.count)
    optimizer = torch.optim.Adam(network.parameters(), rate, fused=True)
    with console.progress(f"classifier of {name}", rounds * steps, "steps (at most)") as shown:
        for start in range(0, rounds * steps, steps):
            _round(name, network, optimizer, data, labels, setting, range(start, start + steps), rate, shown)
            if start + steps < rounds * steps and _score(name, network, setting, "train", checked).value >= ENOUGH:
                break
    return _score(name, network, setting, "test")


def _plan(labels: Tensor, count: int) -> tuple[int, int, float]:
    """Rounds at most, steps in each, and the learning rate each begins with. Attributes have one long round."""
    if labels.ndim == 1:
        return ROUNDS, ROUND_STEPS, LEARNING_RATE
    return 1, max(STEPS, ATTRIBUTE_EPOCHS * (count // min(BATCH, count))), ATTRIBUTE_LEARNING_RATE


def _round(
    name: str, network: nn.Module, optimizer: torch.optim.Optimizer, data: batches.Split, labels: Tensor,
    setting: Setting, steps: range, rate: float, shown: console.Progress,
) -> None:  # fmt: skip
    """``steps`` of BATCH items while the learning rate falls from ``rate`` to 0."""
    seed, size = derive(0, "classifier", name), min(BATCH, data.count)
    per_epoch = data.count // size
    network.train()
    for step in steps:
        signals.leave_if_requested("classifiers trained so far are kept")
        for group in optimizer.param_groups:
            group["lr"] = rate * (steps.stop - step) / len(steps)
        epoch, within = divmod(step, per_epoch)
        if within == 0 or step == steps.start:
            order = batches.permutation(data.count, seed, epoch, data.place)
            data.begin(epoch)
        items = order[within * size : (within + 1) * size]
        loss = _loss(network(_input(data.batch(items)[name], setting, name)), labels[items])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        shown.advance()


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy for classes (B,); mean binary cross-entropy for attributes (B, A)."""
    if labels.ndim == 1:
        return F.cross_entropy(logits, labels)
    return F.binary_cross_entropy_with_logits(logits, labels.float())


def _input(x: Tensor, setting: Setting, name: str) -> Tensor:
    """What a classifier reads: data in the form of a likelihood's mean."""
    info = setting.store.info.modalities[name]
    judged: Tensor = KINDS[info.kind].judged(x, len(info.alphabet or ""))
    return judged


@torch.no_grad()
def _score(name: str, network: nn.Module, setting: Setting, split: str, chosen: Tensor | None = None) -> Score:
    """The score on the ``chosen`` items (all, if None) of a split; leaves the network in eval mode."""
    network.eval()
    data = batches.Split(setting.store, split, [name], setting.device, setting.spec.seed)
    chosen = torch.arange(data.count) if chosen is None else chosen
    truth = torch.from_numpy(setting.store.labels(split).astype("int64"))[chosen]
    parts = []
    for items in chosen.split(512):
        signals.leave_if_requested("classifiers trained so far are kept")
        parts.append(network(_input(data.batch(items)[name], setting, name)).cpu())
    logits = torch.cat(parts)
    if truth.ndim == 1:
        return Score(float((logits.argmax(-1) == truth).double().mean()), {})
    per_label = {label: average_precision(logits[:, a].numpy(), truth[:, a].numpy())
                 for a, label in enumerate(setting.labels.names)}  # fmt: skip
    known = [value for value in per_label.values() if value is not None]
    return Score(sum(known) / len(known) if known else 0.0, per_label)


def _save(path: Path, network: nn.Module, setting: Setting, score: Score) -> None:
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    about = {"fingerprint": setting.store.fingerprint, "version": VERSION, "score": score.value,
             "per_label": score.per_label}  # fmt: skip
    try:
        path.parent.mkdir(exist_ok=True)
        about["digest"] = checkpoint.digest(tensors, json.dumps(about))
        write_atomic(path, save(tensors, {"mmvae-classifier": json.dumps(about)}))
    except (OSError, Failure) as error:
        console.warn(f"the classifier is not kept, so it will be trained again next time ({error})")


def _load(path: Path, network: nn.Module, setting: Setting) -> Score | None:
    """The stored classifier's test score, its weights put into ``network``; None where it is missing or another's."""
    if not path.is_file():
        return None
    try:
        require_readable(path)
        with openable(path) as readable, safe_open(readable, "pt") as file:
            about = json.loads((file.metadata() or {})["mmvae-classifier"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        if about["fingerprint"] != setting.store.fingerprint or about["version"] != VERSION:
            return None
        if about.pop("digest") != checkpoint.digest(weights, json.dumps(about)):
            raise ValueError("the content does not match its digest")
        network.load_state_dict(weights)
        score = Score(float(about["score"]), dict(about.get("per_label", {})))
    except Unreadable as problem:
        console.warn(f"{problem}; {problem.hint}: the classifier is trained again")
        return None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        console.warn(f"{path} is damaged and will be made again ({str(error)[:80]})")
        return None
    return score
