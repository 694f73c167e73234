"""Evaluation of incomplete data: which rows each number rests on."""

import numpy as np
import pytest
import torch
from tiny_recipes import tiny

from mmvae_cli.comparison import measures
from mmvae_cli.comparison.measures import Key
from mmvae_cli.compute import devices
from mmvae_cli.evaluation import classifier_training, command, latent, report
from mmvae_cli.evaluation.encoding import Evaluation, ShuffledSplit
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.process.errors import DataProblem, Failure, UsageProblem
from mmvae_cli.run.result import METRICS
from mmvae_cli.store import Store
from mmvae_cli.store import folder as store
from mmvae_cli.training.loop import Request, train

from stores import image_store

SHAPE = (3, 8, 8)


@pytest.fixture(autouse=True)
def quick_classifiers(monkeypatch):
    monkeypatch.setattr(classifier_training, "MOST", 100)


def take(folder, split, name, absent):
    rows = np.load(folder / split / f"{name}.npy")
    np.save(folder / split / f"{name}.npy", rows[~absent])
    np.save(folder / split / f"{name}.index.npy", np.where(absent, -1, np.cumsum(~absent) - 1).astype(np.int32))


def incomplete(folder, train=0.2, test=0.25):
    """m1 and m2 are missing here and there, never both."""
    image_store(folder, shape=SHAPE, counts=(160, 80))
    for split, share, count in (("train", train, 160), ("test", test, 80)):
        drawn = np.random.default_rng(0).random(count)
        take(folder, split, "m1", drawn < share)
        take(folder, split, "m2", drawn > 1 - share)
    store.finish(folder, Store(folder, verify=False).info, replace=True)
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    place = tmp_path_factory.mktemp("holes")
    recipe = tiny(3, shape=SHAPE, dataset__name=str(incomplete(place / "data")), training__epochs=20,
                  training__learning_rate=3e-3)  # fmt: skip
    train(recipe, Request(place / "run", place / "data", "cpu"))
    return place, recipe


def evaluated(place, **more):
    settings = {"metrics": list(METRICS), "protocol": None, "chosen": None, "device": "cpu",
                "force": True, "verify": True, "data_dir": place, "out": place / "out.json"}  # fmt: skip
    return command.run(place / "run", **settings | more)[1]


def test_every_number_says_on_which_rows_it_rests(world):
    place, _ = world
    found = evaluated(place)
    table = Store(place / "data").present("test", ["m0", "m1", "m2"])
    rows = found.dataset.rows
    assert found.dataset.count == 80
    assert (rows["m0"], rows["m1"], rows["m2"]) == (80, *table[:, 1:].sum(0))
    assert rows["m0+m1+m2"] == rows["m1+m2"] == table.all(1).sum() == found.likelihood.count
    assert found.latent.samples["m0"] == 40
    assert found.latent.samples["m1+m2"] < 40
    assert all(value is not None for row in found.coherence.conditional.values() for value in row.values())
    assert min(found.latent.values.values()) > 0.5, "brightness follows the label"
    text = report.text(found)
    assert "incomplete data: how many items have a source" in text
    assert f"{rows['m1']}" in text
    assert f"m0 ~ m1 ({rows['m0+m1']})" in text, "the chance of its recall is k / N"


def test_scores_are_those_of_the_rows_that_have_the_source(world):
    """The latent score of m1 is that of data from which the rows without m1 were left out."""
    place, recipe = world
    model = MultimodalVAE(recipe).eval()
    evaluation = Evaluation(model, recipe, Store(place / "data"), devices.pick_device("cpu"))
    data = ShuffledSplit(evaluation, "test", "evaluated items")
    experts = data.encode(data.order)
    own = experts.having((1,))
    alone = model.encode({"m1": data.batch(own.items)["m1"]})
    torch.testing.assert_close(own.shared.mean[1], alone.shared.mean[0], rtol=1e-5, atol=1e-5)
    assert torch.equal(own.labels, data.labels[own.items])

    def scored(items):
        return latent._probe(evaluation, (1,), items, [items], lambda block: latent.means(evaluation, block, (1,)))

    assert scored(experts) == scored(own)
    assert evaluation.rows_having(experts)["m1"] == len(own.items) < 80


def test_a_guess_is_that_of_the_items_that_have_the_source(tmp_path):
    """Where presence tells the label, as a scan that the ill have taken, a guess of all items' is far too low."""
    data = image_store(tmp_path / "data", shape=SHAPE, counts=(160, 80), classes=2)
    for split, count in (("train", 160), ("test", 80)):
        labels = np.arange(count) % 2
        take(data, split, "m1", (labels == 1) & (np.arange(count) % 20 != 1))  # mostly class 0 has m1
    trained(data)
    found = evaluated(tmp_path)
    labels, has = np.arange(80) % 2, Store(data).present("test", ["m1"])[:, 0]
    share = (labels[has] == 0).mean()
    assert share > 0.9
    assert found.chance == 0.5
    assert found.chance_of("m1") == found.dataset.chances["m0+m1"] == pytest.approx(share)
    assert found.chance_of("m0") == found.chance_of("m2") == 0.5
    guessing = found.model_copy(
        update={"latent": found.latent.model_copy(update={"values": {"m0": share, "m1": share}})}
    )
    rows = [line.split() for line in report.text(guessing).splitlines()]
    assert ["m1", f"{share:.3f}°"] in rows
    assert ["m0", f"{share:.3f}"] in rows
    assert f"a guess, which has 0.500 to {share:.3f}, depending on what is given" in report.text(guessing)
    stats = measures.of_seeds([guessing])
    assert (stats[Key("latent", "m1")].at_chance, stats[Key("latent", "m0")].at_chance) == (True, False)


def trained(data):
    """A run beside ``data``, of one epoch, once what is taken is taken."""
    store.finish(data, Store(data, verify=False).info, replace=True)
    recipe = tiny(3, shape=SHAPE, dataset__name=str(data), training__epochs=1)
    train(recipe, Request(data.parent / "run", data, "cpu"))


def test_what_nobody_has_is_not_measured(tmp_path):
    data = image_store(tmp_path / "data", shape=SHAPE, counts=(160, 80))
    half = np.arange(80) < 40
    take(data, "test", "m1", half)
    take(data, "test", "m2", ~half)
    trained(data)
    found = evaluated(tmp_path)
    assert found.latent.samples["m1+m2"] == 40, "labelled training items, which are complete"
    assert found.reasons["likelihood"] == "no item has all modalities"
    assert found.reasons["latent.values.m1+m2"] == found.reasons["coherence.conditional.m1+m2.m0"]
    assert found.latent.values["m0+m1"] is not None
    assert found.latent.values["m0+m1+m2"] is None
    assert found.reasons["coherence.joint_ceiling"] == "no item has all of it"
    assert "not measured: likelihood" in report.text(found)
    assert found.reasons["alignment.pairs.m1 ~ m2.foscttm"] == "needs two items that have both"
    assert found.alignment.pairs["m0 ~ m1"]["foscttm"] is not None


def test_what_cannot_be_measured_on_incomplete_data_is_refused(world, tmp_path):
    place, _ = world
    with pytest.raises(UsageProblem, match=r"protocol released measures complete data; .* lacks modalities in test"):
        evaluated(place, protocol="released")
    data = image_store(tmp_path / "data", shape=SHAPE, counts=(160, 80))
    take(data, "train", "m2", np.ones(160, bool))
    trained(data)
    with pytest.raises(DataProblem, match="no item of train has m2, so no classifier can learn it"):
        evaluated(tmp_path)
    assert evaluated(tmp_path, metrics=["latent"]).latent.values["m0"] is not None


def test_without_a_complete_training_item_there_is_no_mixture_and_nothing_to_compare_with(tmp_path):
    data = image_store(tmp_path / "data", shape=SHAPE, counts=(160, 80))
    half = np.arange(160) < 80
    take(data, "train", "m1", half)
    take(data, "train", "m2", ~half)
    trained(data)
    with pytest.raises(Failure, match="no mixture can be fitted to z: needs two training items that have all of it"):
        evaluated(tmp_path, metrics=["quality"], sampler="gmm")
    found = evaluated(tmp_path, metrics=["quality"], pairs="mvtcae")
    assert found.reasons["quality.unconditional.frechet.m0"] == "no training item has all modalities"
    text = report.text(found)
    assert "reconstruction" in text
    assert "FD (" not in text


def test_the_released_draw_takes_items_that_have_something(tmp_path):
    data = image_store(tmp_path / "data", views=2, shape=SHAPE, counts=(600, 80))
    take(data, "train", "m0", np.arange(600) % 4 != 1)
    store.finish(data, Store(data, verify=False).info, replace=True)
    recipe = tiny(1, shape=SHAPE, evaluation__protocol="released", evaluation__latent_samples=400)
    evaluation = Evaluation(MultimodalVAE(recipe).eval(), recipe, Store(data), devices.pick_device("cpu"))
    assert set(latent.training_pool(evaluation).labels.tolist()) <= {0, 1}, "rows of the last batch have label 0"
