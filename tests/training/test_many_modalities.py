"""Twelve modalities are 4,095 subsets: they train and are measured, or one line refuses before memory runs out."""

import pytest
import torch
from tiny_recipes import tiny

from mmvae_cli.compute import devices
from mmvae_cli.evaluation import likelihood
from mmvae_cli.evaluation.encoding import Evaluation, ShuffledSplit, sampled_subsets
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.recipe.families import powerset
from mmvae_cli.run.layout import Run
from mmvae_cli.store import Store
from mmvae_cli.training import estimate
from mmvae_cli.training.loop import Request, train

from stores import image_store

SHAPE = (1, 8, 8)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def twelve(tmp_path_factory):
    return image_store(tmp_path_factory.mktemp("twelve") / "s", views=12, shape=SHAPE, counts=(16, 24))


def test_twelve_modalities_train_with_every_subset(twelve, tmp_path):
    recipe = tiny(12, shape=SHAPE, training__epochs=1, training__batch_size=8)
    run = Run(train(recipe, Request(tmp_path / "run", twelve)))
    assert run.status()["state"] == "finished"


def test_more_subsets_than_the_limit_are_refused_with_the_way_out():
    with pytest.raises(UsageProblem, match=r"8,191 subsets of 13 modalities.*max_size"):
        tiny(13, shape=SHAPE)
    assert len(tiny(13, shape=SHAPE, model__subsets={"max_size": 2}).families()) == 13 + 78


@pytest.mark.parametrize(("setting", "culprit"), [
    ({"objective__component_choice": "all"}, "activations"),
    ({"objective__kl": "mixture", "model__latent_dim": 1024}, "components"),
])  # fmt: skip
def test_a_step_that_does_not_fit_is_refused_before_anything_is_written(
    setting, culprit, twelve, tmp_path, monkeypatch
):
    monkeypatch.setattr(devices, "memory_left", lambda device: 2.0**30)
    recipe = tiny(11, shape=SHAPE, training__batch_size=16, **{"model__latent_dim": 64} | setting)
    with pytest.raises(UsageProblem, match=rf"GiB of memory, .* for {culprit}; cpu has 1.0 left") as caught:
        train(recipe, Request(tmp_path / "run", twelve))
    assert "max_size" in caught.value.hint
    assert not (tmp_path / "run").exists()


def needs(recipe):
    return estimate.memory_needs(recipe, estimate.without_weights(recipe))


def test_the_estimate_grows_with_what_is_held():
    few, many = (needs(tiny(views, shape=SHAPE, objective__kl="mixture")) for views in (4, 8))
    assert many["components"] == pytest.approx(few["components"] * 255 / 15)
    assert needs(tiny(8, shape=SHAPE))["components"] == 0
    assert devices.memory_left(CPU) > 0


def test_sampled_subsets_are_some_of_each_size_and_a_function_of_the_seed():
    chosen = sampled_subsets(12, 10, seed=3)
    assert [sum(len(subset) == size for subset in chosen) for size in range(1, 13)] == [10] * 11 + [1]
    assert len(set(chosen)) == len(chosen)
    assert chosen == sorted(chosen, key=lambda subset: (len(subset), subset))
    assert chosen == sampled_subsets(12, 10, seed=3) != sampled_subsets(12, 10, seed=4)
    assert sampled_subsets(4, 100, seed=0) == powerset(range(4))
    assert len(sampled_subsets(64, 2, seed=0)) == 2 * 63 + 1, "the power set of 64 is never written out"


def evaluation_of(twelve, **changes):
    recipe = tiny(12, shape=SHAPE, evaluation__likelihood_items=4, **changes)
    return Evaluation(MultimodalVAE(recipe).eval(), recipe, Store(twelve), CPU)


def test_a_sample_of_the_subsets_is_measured_as_in_the_whole(twelve, monkeypatch):
    """The same subset has the same likelihood, whether it is one of all or one of a sample."""
    torch.manual_seed(0)
    evaluation = evaluation_of(twelve, evaluation__subsets_per_size=2)
    data = ShuffledSplit(evaluation, "test", "evaluated items")
    found = likelihood.measure(evaluation, data, data.encode(data.order[:4]))["joint"]
    assert len(found) == 2 * 11 + 1
    monkeypatch.setitem(evaluation.__dict__, "subsets", [evaluation.subsets[5], evaluation.subsets[-1]])
    again = likelihood.measure(evaluation, data, data.encode(data.order[:4]))["joint"]
    for name, value in again.items():
        assert value == pytest.approx(found[name], rel=1e-5)


def test_too_many_subsets_to_measure_are_refused_with_the_way_out(twelve, tmp_path):
    store = image_store(tmp_path / "s", views=13, shape=SHAPE)
    recipe = tiny(13, shape=SHAPE, model__method="mmvae")
    evaluation = Evaluation(MultimodalVAE(recipe).eval(), recipe, Store(store), CPU)
    with pytest.raises(UsageProblem, match="8,191 subsets") as caught:
        _ = evaluation.subsets
    assert "--subsets-per-size" in caught.value.hint
