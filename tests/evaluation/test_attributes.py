"""Attributes and private latents in an evaluation: average precision, its base rate, and where latents come from."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from tiny_recipes import tiny
from torch import nn

from mmvae_cli import store
from mmvae_cli.comparison.collect import collect
from mmvae_cli.evaluation import (
    classifier_training,
    classifiers,
    coherence,
    command,
    generation,
    latent,
    likelihood,
    report,
)
from mmvae_cli.evaluation.encoding import Evaluation, Experts, ShuffledSplit
from mmvae_cli.evaluation.scores import average_precisions, base_rates
from mmvae_cli.model.distributions import Gaussian
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.process.errors import Failure
from mmvae_cli.run import result
from mmvae_cli.run.layout import Run
from mmvae_cli.run.result import NotMeasured
from mmvae_cli.store import Store
from mmvae_cli.training.loop import Request, train

from faces import LABELS, face_store, faces


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return face_store(tmp_path_factory.mktemp("data") / "faces", other=40)


def evaluation_of(dataset, **changes):
    recipe = faces(**changes)
    torch.manual_seed(0)
    return Evaluation(MultimodalVAE(recipe).eval(), recipe, Store(dataset), torch.device("cpu"))


# --- average precision -----------------------------------------------------------------------------------------------

SCORES = torch.tensor([[3.0, -1.0, 0.0], [1.0, -1.0, 0.0], [2.0, -1.0, 0.0], [-1.0, -1.0, 0.0]])
TRUTH = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]])


def test_average_precision_by_hand(dataset):
    found = average_precisions([SCORES], [TRUTH], evaluation_of(dataset))
    assert found["bright"] == pytest.approx((1 + 2 / 3) / 2), "hits at ranks 1 and 3"
    assert found["red"] == pytest.approx(1 / 4), "one score for all: the base rate"
    assert found["never"] == NotMeasured("no evaluated item has this attribute")


def test_average_precision_of_hard_predictions_has_a_closed_form(dataset):
    """AP = r p + (1 - r) pi (equations 6.1), however the three positive scores are ordered."""
    found = average_precisions([SCORES], [TRUTH], evaluation_of(dataset), hard=True)
    recall, precision, base = 1.0, 2 / 3, 0.5
    assert found["bright"] == pytest.approx(recall * precision + (1 - recall) * base)
    found = average_precisions(
        [SCORES - 2.5], [TRUTH], evaluation_of(dataset), hard=True
    )  # one item predicted, a right one
    assert found["bright"] == pytest.approx(0.5 * 1.0 + 0.5 * base)


def test_released_scores_blocks_by_themselves_and_one_without_a_positive_as_zero(dataset):
    blocks = list(SCORES.split(2)), list(TRUTH.split(2))
    found = average_precisions(*blocks, evaluation_of(dataset, evaluation__protocol="released"))
    assert found["bright"] == pytest.approx((1.0 + 0.0) / 2)
    assert found["never"] == 0.0
    whole = average_precisions(*blocks, evaluation_of(dataset))
    assert whole["bright"] == pytest.approx((1 + 2 / 3) / 2), "default: blocks are one list"


# --- representation --------------------------------------------------------------------------------------------------


def experts(labels, informative):
    """Means that show attribute 0 in dimension 0 for the modalities in ``informative``, noise elsewhere."""
    generator = torch.Generator().manual_seed(len(labels))
    mean = torch.randn(2, len(labels), 3, generator=generator)
    for m in informative:
        mean[m, :, 0] = 4.0 * labels[:, 0] - 2.0
    return Experts(Gaussian(mean, torch.full_like(mean, -3.0)), None, labels, torch.arange(len(labels)))


def test_latent_scores_tell_the_modality_that_knows_from_the_one_that_does_not(dataset, monkeypatch):
    generator = torch.Generator().manual_seed(9)
    evaluation = evaluation_of(dataset)
    pool, test = (experts((torch.rand(n, 3, generator=generator) < torch.tensor([0.3, 0.2, 0.0])).long(), [1])
                  for n in (200, 600))  # fmt: skip
    monkeypatch.setattr(latent, "training_pool", lambda evaluation: pool)
    found = latent.measure(evaluation, test)
    base = base_rates(evaluation, test.labels)
    assert found["metric"] == "average_precision"
    assert found["per_label"]["text"]["bright"] == pytest.approx(1.0)
    assert found["per_label"]["image+text"]["bright"] > 0.95
    assert found["per_label"]["image"]["bright"] == pytest.approx(base["bright"], abs=0.1)
    assert found["values"]["text"] == pytest.approx((1.0 + found["per_label"]["text"]["red"]) / 2)
    assert found["per_label"]["text"]["never"] == NotMeasured("no evaluated item has this attribute")


def test_private_latents_are_no_features(dataset):
    """Representation is the shared latent's (equations 3.4): scores stay when every private latent is another."""
    evaluation = evaluation_of(dataset)

    def score():
        data = ShuffledSplit(evaluation, "validation", "evaluated items")
        return latent.measure(evaluation, data.encode(data.order))

    before = score()
    private = before.pop("private")
    for encoder in evaluation.model.encoders.values():
        nn.init.normal_(encoder.head.weight.data[6:], std=5.0)
    after = score()
    assert after.pop("private") != private
    assert after == before


# --- generation ------------------------------------------------------------------------------------------------------


class Recorder(nn.Module):
    """Stands for a decoder: keeps the latents that it is given."""

    def __init__(self, shape):
        super().__init__()
        self.shape, self.seen = shape, []

    def forward(self, latent):
        self.seen.append(latent)
        return torch.zeros(len(latent), *self.shape)


def test_generation_draws_every_private_latent_from_its_prior(dataset):
    evaluation = evaluation_of(dataset)
    model, recorders = evaluation.model, {"image": Recorder((3, 64, 64)), "text": Recorder((256, 71))}
    for name, recorder in recorders.items():
        model.decoders[name] = recorder
        nn.init.constant_(model.encoders[name].head.bias.data[6:], 50.0)  # its posteriors are far from the prior
    data = ShuffledSplit(evaluation, "validation", "evaluated items")
    list(generation.conditional(evaluation, 0, data.encode(data.order)))
    private = {}
    for name, recorder in recorders.items():
        latents = torch.cat(recorder.seen).unflatten(0, (3, 40))
        assert latents.shape == (3, 40, 4 + 3)
        private[name] = latents[..., :4]
        assert torch.equal(private[name][0], private[name][2]), "one set for all subsets (equations 6.2)"
        assert abs(private[name][0].mean()) < 0.3
        assert 0.75 < private[name][0].std() < 1.25
    assert not torch.equal(private["image"], private["text"]), "each modality has its own (a defect of the release)"


def test_coherence_is_high_where_the_generated_face_shows_the_attribute(dataset, monkeypatch):
    """A classifier that reads the first shared dimension off the 'picture'; the text's posterior carries it."""
    evaluation = evaluation_of(dataset)
    labels = (torch.rand(400, 3, generator=torch.Generator().manual_seed(3)) < 0.25).long()
    monkeypatch.setattr(evaluation.model, "decode", lambda name, z, private: z)
    monkeypatch.setattr(evaluation.model, "likelihoods", {n: Plain() for n in evaluation.model.names})
    classifiers = {name: Reader() for name in evaluation.model.names}
    monkeypatch.setattr(coherence, "_real", lambda *given: given[3].labels.float().expand(2, -1, -1))
    found = coherence.measure(evaluation, None, experts(labels, [1]), classifiers)
    base = labels[:, 0].float().mean().item()
    assert found["per_label"]["text"]["image"]["bright"] > 0.99
    assert found["per_label"]["image"]["text"]["bright"] == pytest.approx(base, abs=0.1)
    assert found["joint"] == found["joint_ceiling"] == found["joint_chance"]
    assert "attributes" in found["joint"].why
    assert found["classifiers"] == {"image": 1.0, "text": 1.0}
    assert found["classifiers_per_label"]["image"] == {"bright": 1.0, "red": 1.0, "never": 1.0}


class Plain:
    def mean(self, output):
        return output


class Reader(nn.Module):
    def forward(self, z):
        return z[:, :1].expand(-1, 3)


# --- likelihood ------------------------------------------------------------------------------------------------------

SHARED, OWN, SCALE, SIZE = (1.0, -0.6), (0.5, 0.8), 0.7, 2


class Message(nn.Module):
    """x = a z + b s + noise: the exact posteriors of z and of s given one x."""

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = a, b

    def forward(self, x):
        flat, rest = x.flatten(1), self.b**2 + SCALE**2
        total = self.a**2 + rest
        private_mean, private_variance = self.b * flat / total, 1 - self.b**2 / total
        return (flat / self.a, torch.full_like(flat, math.log(rest / self.a**2)),
                private_mean, torch.full_like(flat, math.log(private_variance)))  # fmt: skip


class Line(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = a, b

    def forward(self, latent):
        private, shared = latent.split(SIZE, -1)
        return (self.a * shared + self.b * private).unflatten(1, (1, 1, SIZE))


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("data") / "lines", np.random.default_rng(3)
    for split in ("train", "test"):
        for name in ("m0", "m1"):
            store.new_array(folder, f"{split}/{name}.npy", (64, 1, 1, SIZE))[:] = rng.integers(0, 256, (64, 1, 1, SIZE))
        store.new_array(folder, f"{split}/labels.npy", (64,), np.int64)[:] = np.arange(64) % 2
    image = store.ModalityInfo(kind="image", shape=(1, 1, SIZE))
    store.finish(folder, store.StoreInfo(
        name="lines", modalities={"m0": image, "m1": image}, labels=store.LabelInfo(kind="class", names=("a", "b")),
        splits={"train": store.SplitInfo(count=64), "test": store.SplitInfo(count=64)},
    ))  # fmt: skip
    return Store(folder)


@pytest.mark.parametrize("method", ["mopoe", "mmvae", "mvae"])
def test_likelihood_with_private_latents_converges_to_the_evidence(lines, method):
    """Private latents are integrated out for modalities inside and outside the source alike."""
    modality = {"network": "conv", "shape": [1, 1, SIZE], "likelihood": "normal", "scale": SCALE}
    recipe = tiny(2, modalities__m0=modality, modalities__m1=modality, model__method=method, model__latent_dim=SIZE,
                  model__private_dim=SIZE, evaluation__importance_samples=4000)  # fmt: skip
    model = MultimodalVAE(recipe)
    for name, a, b in zip(model.names, SHARED, OWN, strict=True):
        model.encoders[name], model.decoders[name] = Message(a, b), Line(a, b)
    evaluation = Evaluation(model.eval(), recipe, lines, torch.device("cpu"))
    data = ShuffledSplit(evaluation, "test", "evaluated items")
    found = likelihood.measure(evaluation, data, data.encode(data.order))
    a, b = torch.tensor(SHARED).double(), torch.tensor(OWN).double()
    covariance = torch.outer(a, a) + torch.diag(b**2 + SCALE**2)
    x = torch.stack([part.flatten(1).double() for part in data.batch(data.order).values()], -1)
    together = torch.distributions.MultivariateNormal(torch.zeros(2).double(), covariance).log_prob(x).sum(-1).mean()
    each = torch.distributions.Normal(0.0, covariance.diag().sqrt()).log_prob(x).sum(1).mean(0)
    for source, value in found["joint"].items():
        assert value == pytest.approx(together.item(), abs=0.05), source
        for m, name in enumerate(model.names):
            assert found["per_modality"][source][name] == pytest.approx(each[m].item(), abs=0.05), (source, name)


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    return train(faces(training__epochs=1), Request(tmp_path_factory.mktemp("runs") / "run", dataset))


def evaluate(trained, dataset, monkeypatch, **options):
    monkeypatch.setattr(classifier_training, "MOST", 3)
    plain = {"metrics": "latent,coherence,likelihood", "protocol": None, "chosen": None, "device": "cpu",
             "data_dir": dataset.parent, "force": True, "verify": True}  # fmt: skip
    asked = plain | options
    return command.run(trained, **(asked | {"metrics": result.metrics(asked["metrics"])}))


def test_evaluate_reports_attributes_beside_their_base_rates(trained, dataset, monkeypatch):
    path, found = evaluate(trained, dataset, monkeypatch)
    labels = Store(dataset).labels("validation")
    assert found.base_rates == pytest.approx(dict(zip(LABELS, labels.mean(0), strict=True)))
    assert (found.dataset.split, found.dataset.count) == ("validation", 40)
    assert set(found.latent.per_label) == {"image", "text", "image+text"}
    assert set(found.coherence.classifiers_per_label["image"]) == set(LABELS)
    assert found.coherence.classifiers_per_label["image"]["never"] is None
    assert found.settings["classifier_width"] == 2
    assert set(found.likelihood.joint) == {"image", "text", "image+text"}
    assert json.loads(path.read_text())["base_rates"]["never"] == 0.0
    told = report.text(found)
    for expected in ("average precision by attribute", "base rate", "image->text", "text->image", "classifier text"):
        assert expected in told
    row = next(line.split() for line in told.splitlines() if line.startswith("never"))
    assert row[1:] == ["0.000", *["-"] * (len(row) - 2)]
    occur = labels.mean(0)[labels.any(0)]
    assert len(occur) < len(LABELS)
    assert next(line.split() for line in told.splitlines() if line.startswith("mean"))[1] == f"{occur.mean():.3f}"


def test_a_run_that_may_only_be_read_is_evaluated_elsewhere(trained, dataset, monkeypatch, tmp_path):
    """The run's folder stays as it is, also where an evaluation of it is there; a second one joins the first."""
    before = {path: path.stat().st_mtime_ns for path in [trained, *trained.rglob("*")]}
    path, found = evaluate(trained, dataset, monkeypatch, metrics="latent", items=9, out=tmp_path / "mine")
    assert path == tmp_path / "mine" / "evaluation.json"
    assert (found.dataset.count, found.settings["items"]) == (9, 9)
    path, found = evaluate(trained, dataset, monkeypatch, metrics="likelihood", items=9, out=path)
    assert result.load(path) == found
    assert found.latent
    assert found.likelihood
    path, _ = evaluate(trained, dataset, monkeypatch, metrics="latent", out=tmp_path / "r.json", protocol="released")
    assert path == tmp_path / "r.json"
    assert collect([path, tmp_path / "mine"]).contents[0].members[0].folder == trained
    assert {path: path.stat().st_mtime_ns for path in [trained, *trained.rglob("*")]} == before


def test_a_run_that_cannot_be_written_is_told_of_out(trained, dataset, monkeypatch, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "evaluation.released.json").mkdir()
    with pytest.raises(Failure, match="cannot write") as caught:
        evaluate(tmp_path / "run", dataset, monkeypatch, metrics="latent", protocol="released")
    assert caught.value.hint.endswith("--out FOLDER writes the evaluation elsewhere")


def test_the_papers_classifiers_are_kept_by_width_beside_the_others_and_read_again(trained, dataset, monkeypatch):
    shutil.rmtree(dataset / "classifiers", ignore_errors=True)
    evaluate(trained, dataset, monkeypatch, metrics="coherence")
    _, first = evaluate(trained, dataset, monkeypatch, metrics="coherence", classifiers="released")
    assert {p.name for p in (dataset / "classifiers").iterdir()} == {
        "image.safetensors", "text.safetensors",
        "image.released.width2.safetensors", "text.released.width2.safetensors"}  # fmt: skip
    monkeypatch.setattr(classifier_training, "train", None)  # would fail if it were called
    _, again = evaluate(trained, dataset, monkeypatch, metrics="coherence", classifiers="released")
    assert again.coherence == first.coherence


def test_a_classifier_near_the_base_rate_is_not_used(trained, dataset, monkeypatch):
    monkeypatch.setattr(classifiers, "SANE_GAIN", 0.9)
    _, found = evaluate(trained, dataset, monkeypatch, metrics="coherence", force=False)
    assert found.coherence is None
    assert "the classifier of image reaches mean average precision" in found.reasons["coherence"]


def test_released_protocol_on_attributes(trained, dataset, monkeypatch):
    path, found = evaluate(trained, dataset, monkeypatch, metrics="latent,coherence", protocol="released")
    assert path == Run(trained).evaluation_path("released")
    assert found.settings["classifier_mode"] == "train"
    assert found.latent.per_label["image"]["never"] == 0.0
    assert 0 < found.latent.per_label["image"]["bright"] <= 1


@pytest.mark.slow
def test_a_narrow_face_classifier_learns_to_see(dataset, monkeypatch):
    monkeypatch.setattr(classifier_training, "MOST", 60)
    evaluation = evaluation_of(dataset, evaluation__classifier_width=4, evaluation__classifiers="released")
    network = classifiers._network("image", evaluation)
    assert classifier_training.train("image", network, evaluation).per_label["bright"] > 0.9
