"""The classifiers of generated samples: trained once on the same data, and kept with the dataset."""

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from mmvae_cli.disk import sealed
from mmvae_cli.evaluation import classifier_training
from mmvae_cli.evaluation.classifier_training import Score
from mmvae_cli.evaluation.encoding import Evaluation
from mmvae_cli.evaluation.scores import chance
from mmvae_cli.model.networks import build_classifier, build_coherence_classifier
from mmvae_cli.process import console
from mmvae_cli.process.errors import DataProblem, Failure, Unreadable
from mmvae_cli.recipe.networks import made_for
from mmvae_cli.run.result import CLASSIFIER_VERSION, NotMeasured

SANE_ACCURACY, SANE_GAIN = 0.7, 0.05
"""One of less test accuracy, or less than this above a guess (attributes: above the base rate), is too weak."""


Classifiers = tuple[dict[str, nn.Module], dict[str, NotMeasured]]
"""Those of every modality, and why some are not to be believed."""


def ready(evaluation: Evaluation, *, force: bool) -> Classifiers:
    """The dataset's classifier of every modality, in eval mode; those that are not there are trained. Then those that
    are too weak to tell what samples show, with the reason; none with ``force``."""
    names, networks, weak = evaluation.model.names, {}, dict[str, NotMeasured]()
    if new := [name for name in names if not _path(name, evaluation).is_file()]:
        console.say(f"coherence classifiers to train first, once for this dataset: {', '.join(new)}")
    known = evaluation.each(names, lambda _, name: _ready(name, evaluation))
    for name, (weights, score) in zip(names, known, strict=True):
        network = _network(name, evaluation)
        network.load_state_dict(weights)
        networks[name] = network.eval()
        text = _weakness(name, score.value, evaluation)
        if text and force:
            console.warn(text)
        elif text:
            weak[name] = NotMeasured(f"{text} (--force accepts it)")
    return networks, weak


def _network(name: str, evaluation: Evaluation) -> nn.Module:
    info, labels = evaluation.store.info.modalities[name], len(evaluation.labels.names)
    if evaluation.protocol.classifiers == "released":
        network = build_classifier(info, labels, width_of(evaluation, name))
    else:
        network = build_coherence_classifier(info, labels)
    return network.to(evaluation.device).to(memory_format=torch.channels_last)


def _ready(name: str, evaluation: Evaluation) -> tuple[dict[str, Tensor], Score]:
    """Weights, on the CPU, and the score on the test split."""
    network, path = _network(name, evaluation), _path(name, evaluation)
    score = _load(path, name, network, evaluation)
    if score is None:
        score = classifier_training.train(name, network, evaluation)
        where = f", saved as {path}" if _save(path, network, evaluation, score) else ""
        console.say(f"classifier of {name}: {_metric(evaluation)} {score.value:.3f} on the test split{where}")
    return {key: value.cpu() for key, value in network.state_dict().items()}, score


def _path(name: str, evaluation: Evaluation) -> Path:
    """``m0.safetensors``; the paper's ``m0.released.safetensors`` or ``image.released.width16.safetensors``."""
    width = width_of(evaluation, name)
    networks = ["released"] if evaluation.protocol.classifiers == "released" else []
    parts = [name, *networks, *([f"width{width}"] if width else [])]
    return evaluation.store.folder / "classifiers" / f"{'.'.join(parts)}.safetensors"


def width_of(evaluation: Evaluation, name: str) -> int | None:
    """The recipe's width of a modality's classifier; None where it is the paper's or where there is no choice."""
    info = evaluation.store.info.modalities[name]
    network = made_for(info.kind, info.shape) if evaluation.protocol.classifiers == "released" else None
    return evaluation.spec.classifier_width if network and network.classifier_takes_width else None


def _metric(evaluation: Evaluation) -> str:
    return "accuracy" if evaluation.labels.kind == "class" else "mean average precision"


def _weakness(name: str, score: float, evaluation: Evaluation) -> str:
    """What is to be said of a classifier that is too weak; "" of any other."""
    labels = evaluation.store.labels("test")[evaluation.store.complete("test", [name])]
    guess = chance(torch.from_numpy(labels.astype("int64"))) if len(labels) else 0.0
    needed = guess + SANE_GAIN
    if evaluation.labels.kind == "class":
        needed = max(min(needed, (1 + guess) / 2), SANE_ACCURACY)
    said = f"the classifier of {name} reaches {_metric(evaluation)} {score:.3f} only, less than {needed:.3f}"
    return said if score < needed else ""


def _origin(network: nn.Module, evaluation: Evaluation) -> dict[str, str]:
    """What a kept classifier is and which data it was trained on. One that differs is not used."""
    return {
        "network": type(network).__name__,
        "version": CLASSIFIER_VERSION,
        "fingerprint": evaluation.store.fingerprint,
    }


def _save(path: Path, network: nn.Module, evaluation: Evaluation, score: Score) -> bool:
    """Whether it could be kept; that it could not is told."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    about = _origin(network, evaluation) | {"score": score.value, "per_label": score.per_label}
    try:
        path.parent.mkdir(exist_ok=True)
        about["digest"] = sealed.digest(tensors, json.dumps(about))
        sealed.write_tensors(path, tensors, {"mmvae-classifier": json.dumps(about)})
    except (OSError, Failure) as error:
        console.warn(f"the classifier is not kept, so it will be trained again next time ({error})")
        return False
    return True


def _load(path: Path, name: str, network: nn.Module, evaluation: Evaluation) -> Score | None:
    """The stored classifier's test score, its weights put into ``network``; None where it is missing or another's."""
    if not path.is_file():
        return None
    try:
        with sealed.reading_tensors(path, "is damaged and will be made again") as (weights, metadata):
            about = json.loads(metadata["mmvae-classifier"])
            if about.pop("digest") != sealed.digest(weights, json.dumps(about)):
                raise ValueError("the content does not match its digest")
            wanted = _origin(network, evaluation).items()
            odd = [f"{key} {about.get(key, 'unknown')}, not {new}" for key, new in wanted if about.get(key) != new]
            if odd:
                console.say(f"the kept classifier of {name} does not fit ({'; '.join(odd)}): it is trained again")
                return None
            network.load_state_dict(weights)
            return Score(float(about["score"]), dict(about["per_label"]))
    except Unreadable as problem:
        console.warn(f"{problem}; {problem.hint}: the classifier is trained again")
    except DataProblem as problem:
        console.warn(str(problem))
    return None
