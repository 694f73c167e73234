"""The importance-sampled likelihood on a model whose evidence is known, and the released grouping."""

import numpy as np
import pytest
import torch

from mmvae_cli import store
from mmvae_cli.evaluation import likelihood
from mmvae_cli.evaluation.encoding import Evaluation, ShuffledSplit

from linear_gaussian import SIZE, evidence, linear_model


@pytest.fixture(scope="module")
def linear_store(tmp_path_factory):
    """100 items of three 1x1x4 modalities; uint8 values are what the model sees after division by 255."""
    folder, rng = tmp_path_factory.mktemp("data") / "linear", np.random.default_rng(3)
    for split, count in (("train", 8), ("test", 100)):
        for name in ("m0", "m1", "m2"):
            store.new_array(folder, f"{split}/{name}.npy", (count, 1, 1, SIZE))[:] = rng.integers(
                0, 256, (count, 1, 1, SIZE)
            )
        store.new_array(folder, f"{split}/labels.npy", (count,), np.int64)[:] = np.arange(count) % 2
    image = store.ModalityInfo(kind="image", shape=(1, 1, SIZE))
    store.finish(folder, store.StoreInfo(
        name="linear", modalities={"m0": image, "m1": image, "m2": image},
        splits={"train": store.SplitInfo(count=8), "test": store.SplitInfo(count=100)},
        labels=store.LabelInfo(kind="class", names=("a", "b")),
    ))  # fmt: skip
    return store.Store(folder)


def measure(linear_store, blur, samples, protocol="default", **changes):
    recipe, model = linear_model(blur, evaluation__importance_samples=samples, evaluation__protocol=protocol, **changes)
    evaluation = Evaluation(model.eval(), recipe, linear_store, torch.device("cpu"))
    data = ShuffledSplit(evaluation, "test", "evaluated items")
    test = data.encode(data.order)
    found = likelihood.measure(evaluation, data, test)
    return found, evidence(data.batch(data.order)).mean().item()


def test_one_sample_of_the_exact_posterior_is_the_evidence(linear_store):
    found, truth = measure(linear_store, 0.0, 1, model__subsets="full", model__prior_expert="all")
    assert found["joint"]["m0+m1+m2"] == pytest.approx(truth, abs=2e-3)


def test_the_standard_error_is_that_of_the_items_evidence(linear_store):
    recipe, model = linear_model(
        0.0, evaluation__importance_samples=1, model__subsets="full", model__prior_expert="all"
    )
    evaluation = Evaluation(model.eval(), recipe, linear_store, torch.device("cpu"))
    data = ShuffledSplit(evaluation, "test", "evaluated items")
    found = likelihood.measure(evaluation, data, data.encode(data.order))
    each = evidence(data.batch(data.order))
    assert found["standard_errors"]["m0+m1+m2"] == pytest.approx((each.std() / 10).item(), rel=1e-3)


@pytest.mark.parametrize("changes", [{}, {"model__method": "mmvae"}, {"model__method": "mvae"}])
def test_every_subset_converges_to_the_evidence_from_below(linear_store, changes):
    few, truth = measure(linear_store, 0.3, 2, **changes)
    many, _ = measure(linear_store, 0.3, 3000, **changes)
    for subset, value in many["joint"].items():
        assert few["joint"][subset] < truth + 0.1, subset
        # one wide unimodal expert is a poor proposal for all three modalities: it converges slowly
        assert value == pytest.approx(truth, abs=0.25), subset


def test_a_modality_may_be_called_joint(linear_store):
    recipe, model = linear_model(0.3)
    evaluation = Evaluation(model.eval(), recipe, linear_store, torch.device("cpu"))
    data = ShuffledSplit(evaluation, "test", "evaluated items")
    test = data.encode(data.order)
    usual = likelihood.measure(evaluation, data, test)
    for parts in (model.likelihoods, data.info, data._rows):
        parts["joint"] = parts.pop("m2")
    model.encoders["joint"], model.decoders["joint"] = model.encoders.pop("m2"), model.decoders.pop("m2")
    model.names[2] = "joint"
    found = likelihood.measure(evaluation, data, test)
    assert list(found["joint"].values()) == list(usual["joint"].values())
    assert found["per_modality"]["m0"]["joint"] == usual["per_modality"]["m0"]["m2"]


def test_released_grouping_mixes_items_and_is_optimistic(linear_store):
    sound, truth = measure(linear_store, 0.0, 12, model__subsets="full", model__prior_expert="all")
    released, _ = measure(linear_store, 0.0, 12, "released", model__subsets="full", model__prior_expert="all")
    assert (released["grouping"], released["importance_samples"], released["count"]) == ("released", 12, 64)
    assert not released["standard_errors"], "each of its groups mixes items"
    assert sound["joint"]["m0+m1+m2"] == pytest.approx(truth, abs=2e-3)
    assert released["joint"]["m0+m1+m2"] > truth + 0.5


def test_released_groups_are_those_of_a_sample_major_reshape():
    log_w = torch.arange(12 * 64.0).reshape(12, 64)
    first = torch.logsumexp(torch.arange(12.0).double(), 0) - np.log(12)
    assert likelihood._estimate(log_w, "released")[0].item() == pytest.approx(first.item())


def test_effective_samples_count_equal_weights_and_take_one_of_a_single_heavy_one():
    weights = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, -100.0], [1.0, -100.0]])
    assert likelihood.effective_samples(weights).tolist() == pytest.approx([4, 2])
    assert likelihood.effective_samples(torch.tensor([[0.0], [-80.0]])).tolist() == pytest.approx([1])
