"""Representation and coherence on cases whose answer is known."""

import dataclasses

import numpy as np
import pytest
import torch
from known_answers import Classifier, Constant, Flat
from torch import nn

from mmvae_cli.evaluation import alignment, coherence, command, generation, joint, latent
from mmvae_cli.evaluation.encoding import ShuffledSplit
from mmvae_cli.evaluation.scores import chance
from mmvae_cli.run.result import NotMeasured
from mmvae_cli.store import Store

METHODS = [{}, {"model__method": "mmvae"}, {"model__method": "mvae", "model__prior_expert": "none"}]


@pytest.mark.parametrize(("evaluation", "why"), [
    ({"model__method": "mmvm"}, "there is no joint generative model"), ({"model__method": "mmvae"}, None),
], indirect=["evaluation"])  # fmt: skip
def test_log_likelihood_is_null_with_the_reason_where_there_is_no_joint_model(evaluation, why):
    data = ShuffledSplit(evaluation, "test", "evaluated items")
    found = command._undefined("likelihood", evaluation, data.encode(data.order))
    assert found is None if why is None else str(found.why).startswith(why)


@pytest.mark.parametrize("evaluation", [{"model__method": "mmvm"}], indirect=True)
def test_nothing_is_drawn_from_n0_where_z_has_no_prior(evaluation):
    data = ShuffledSplit(evaluation, "test", "evaluated items")
    classifiers = dict.fromkeys(evaluation.model.names, Classifier())
    found = coherence.measure(evaluation, data, data.encode(data.order), classifiers)
    assert "each modality has a latent of its own" in found["joint"].why
    assert "--sampler gmm" in found["joint"].why
    assert found["joint_ceiling"] == 1.0
    assert generation.joint_sizes(evaluation) == []
    spec = evaluation.spec.model_copy(update={"sampler": "gmm"})
    drawn = dataclasses.replace(evaluation, recipe=evaluation.recipe.model_copy(update={"evaluation": spec}))
    assert joint.measure(drawn, classifiers)["joint"] == 1.0


@pytest.mark.parametrize("evaluation", METHODS, indirect=True)
def test_a_representation_that_holds_the_label_is_classified_perfectly(evaluation):
    data = ShuffledSplit(evaluation, "test", "evaluated items")
    found = latent.measure(evaluation, data.encode(data.order))
    assert set(found["values"].values()) == {1.0}
    assert found["constant"] == {}


@pytest.mark.parametrize("evaluation", METHODS, indirect=True)
def test_conditional_coherence_counts_right_labels_and_joint_counts_agreement(evaluation):
    data = ShuffledSplit(evaluation, "test", "evaluated items")
    classifiers = dict.fromkeys(evaluation.model.names, Classifier())
    found = coherence.measure(evaluation, data, data.encode(data.order), classifiers)
    for source, targets in found["conditional"].items():
        assert targets["m0"] == targets["m1"] == 1.0, source
        assert targets["m2"] == pytest.approx(0.25), "a black picture reads as label 0, a quarter of the items"
    assert found["joint"] == 1.0, "prior samples are dark: every classifier reads label 0, and so they agree"
    assert found["joint_samples"] == 40
    assert found["joint_chance"] == 1.0, "three modalities that always show the same label agree by chance"
    assert found["joint_constant"] == {"m0": "0", "m1": "0", "m2": "0"}
    assert found["constant"] == {source: {"m2": "0"} for source in found["conditional"]}
    classifiers["m1"] = Constant()
    other = coherence.measure(evaluation, data, data.encode(data.order), classifiers)
    assert other["joint"] == other["joint_chance"] == 0.0
    assert other["constant"]["m0"] == {"m1": "1", "m2": "0"}


class Darkness(nn.Module):
    """Says label 1 of the darker half of what it sees, label 0 of the rest."""

    def forward(self, x):
        dark = (x.mean((1, 2, 3)) <= x.mean((1, 2, 3)).median()).float()
        return torch.stack([1 - dark, dark, 0 * dark - 1, 0 * dark - 1], -1)


def test_chance_of_the_joint_coherence_is_the_agreement_of_independent_modalities(evaluation):
    evaluation.model.decoders["m2"] = Flat()
    data = ShuffledSplit(evaluation, "test", "evaluated items")
    classifiers = dict.fromkeys(evaluation.model.names, Darkness())
    found = coherence.measure(evaluation, data, data.encode(data.order), classifiers)
    assert found["joint"] == 1.0, "all decoders paint the same"
    assert found["joint_chance"] == pytest.approx(0.5**3 + 0.5**3)
    assert found["joint_constant"] == {}


def test_a_representation_without_the_label_gives_a_constant_classifier(evaluation):
    for name in evaluation.model.names:
        evaluation.model.encoders[name] = Blind()
    data = ShuffledSplit(evaluation, "test", "evaluated items")
    test = data.encode(data.order)
    found = latent.measure(evaluation, test)
    assert set(found["constant"]) == set(found["values"])
    assert len(set(found["constant"].values())) == 1
    assert max(found["values"].values()) <= chance(test.labels) == 0.25


class Blind(nn.Module):
    """An encoder that sees nothing."""

    def forward(self, x):
        mean = torch.zeros(len(x), 6)
        return mean, mean, mean[:, :0], mean[:, :0]


def test_a_guess_has_the_most_frequent_class_or_the_mean_base_rate(evaluation):
    assert chance(torch.tensor([2, 2, 1, 0, 2])) == 0.6
    assert chance(torch.tensor([[1, 0, 1], [1, 0, 0]])) == 0.75, "an attribute that nobody has is not scored"
    assert chance(torch.zeros(3, 2)) == 0.0


def test_one_class_in_the_training_samples_is_not_measured(evaluation, monkeypatch):
    monkeypatch.setattr(Store, "labels", lambda self, split: np.zeros(self.count(split), np.int64))
    data = ShuffledSplit(evaluation, "test", "evaluated items")
    found = latent.measure(evaluation, data.encode(data.order))
    assert set(found["values"].values()) == {NotMeasured("the training samples have one class only")}


@pytest.mark.parametrize("evaluation", [{"evaluation__protocol": "released", "model__private_dim": 2}], indirect=True)
def test_released_draws_with_replacement_and_keeps_empty_rows(evaluation):
    for encoder in evaluation.model.encoders.values():
        encoder.forward = lambda x: (torch.ones(len(x), 6),) * 2 + (torch.ones(len(x), 2),) * 2
    pool = latent.training_pool(evaluation)
    assert len(pool.items) == 40
    for q in (pool.shared, pool.private):
        empty = (q.mean == 0).all(-1).all(0)
        assert empty.all(), "40 training items are less than one batch of 256: the released pool is empty rows only"
    assert (pool.labels == 0).all()


def test_agreement_counts_pairs_of_targets_and_balanced_accuracy_weighs_classes_alike(evaluation):
    data = ShuffledSplit(evaluation, "test", "evaluated items")
    test = data.encode(data.order)
    classifiers = dict.fromkeys(evaluation.model.names, Classifier())
    found = coherence.measure(evaluation, data, test, classifiers)
    assert set(found["agreement"]) == {"m0", "m1", "m2"}, "one target alone has nobody to agree with"
    assert found["agreement"]["m2"] == 1.0, "m0 and m1 show what m2 shows"
    assert found["agreement"]["m0"] == pytest.approx(0.25), "m2 is black: label 0"
    uneven = test.block(slice(0, len(test.items)))._replace(labels=torch.zeros(24, dtype=torch.long))
    uneven.labels[:4] = 1  # 20 items said to be of class 0, 4 of class 1
    classifiers = {"m0": Constant(), "m1": Constant(), "m2": Classifier()}
    other = coherence.measure(evaluation, data, uneven, classifiers)
    assert other["conditional"]["m1"] == pytest.approx({"m0": 4 / 24, "m1": 4 / 24, "m2": 20 / 24})
    assert other["balanced"]["m1"] == pytest.approx({"m0": 0.5, "m1": 0.5, "m2": 0.5})
    assert other["agreement"]["m2"] == 1.0, "they agree, though both are wrong"


def test_prior_samples_are_counted_by_how_many_modalities_agree(evaluation):
    classifiers = {"m0": Classifier(), "m1": Constant(), "m2": Classifier()}  # dark: 0, always 1, black: 0
    found = coherence.joint.measure(evaluation, classifiers)
    assert found["joint"] == 0.0
    assert found["joint_at_least"] == {"2": 1.0, "3": 0.0}


def test_clusters_are_the_classes_where_the_representation_is_the_label(evaluation):
    data = ShuffledSplit(evaluation, "test", "evaluated items")
    found = latent.measure(evaluation, data.encode(data.order))
    assert found["clusters"] == 4
    assert set(found["clustering"]) == {"m0", "m1", "m2", "m0+m1+m2"}
    assert found["clustering"]["m0"] == pytest.approx({"accuracy": 1, "one_to_one": 1, "nmi": 1, "ari": 1})
    assert found["private"] == {}, "there are no private latents"


@pytest.mark.parametrize("evaluation", [{"model__private_dim": 2}], indirect=True)
def test_private_latents_are_probed_by_themselves(evaluation):
    for name in evaluation.model.names:
        evaluation.model.encoders[name] = Private(knows=name == "m1")
    data = ShuffledSplit(evaluation, "test", "evaluated items")
    found = latent.measure(evaluation, data.encode(data.order))
    assert found["private"] == {"m0": 0.25, "m1": 1.0, "m2": 0.25}


class Private(nn.Module):
    """An encoder that puts the label into its private latent, or nothing."""

    def __init__(self, knows):
        super().__init__()
        self.knows = knows

    def forward(self, x):
        own = 20 * x.mean((1, 2, 3))[:, None].expand(-1, 2) * self.knows
        shared = torch.zeros(len(x), 6)
        return shared, shared, own, torch.zeros_like(own)


def test_modalities_that_encode_the_same_are_aligned_by_class(evaluation):
    data = ShuffledSplit(evaluation, "test", "evaluated items")
    found = alignment.measure(evaluation, data.encode(data.order))
    assert found["items"] == dict.fromkeys(found["pairs"], 24)
    assert set(found["pairs"]) == {"m0 ~ m1", "m0 ~ m2", "m1 ~ m2"}
    for values in found["pairs"].values():
        assert values["class_recall@1"] == 1.0
        assert values["foscttm"] < 0.2, "no more than the other items of the class can be closer"
