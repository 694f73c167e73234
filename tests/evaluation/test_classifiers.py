"""The classifiers of coherence: how long they learn, what they are kept as, and when one is too weak."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_recipes import tiny
from torchvision.transforms.functional import gaussian_blur

from mmvae_cli import recipe as recipes
from mmvae_cli import store
from mmvae_cli.datasets.polymnist.build import PolymnistOptions, build
from mmvae_cli.evaluation import classifier_training, classifiers, features
from mmvae_cli.evaluation.classifier_training import Score
from mmvae_cli.evaluation.encoding import Evaluation
from mmvae_cli.model.networks.classifiers import ImageClassifier
from mmvae_cli.model.networks.image import DigitClassifier
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.run.result import CLASSIFIER_VERSION, NotMeasured
from mmvae_cli.store import Store

from stores import image_store

SHAPE = (3, 8, 8)


def evaluation_of(folder, **changes):
    recipe = tiny(2, shape=SHAPE, **changes)
    return Evaluation(MultimodalVAE(recipe).eval(), recipe, Store(folder), torch.device("cpu"))


@pytest.fixture
def evaluation(tmp_path):
    return evaluation_of(image_store(tmp_path / "tiny", views=2, shape=SHAPE, counts=(60, 24)))


def judges(evaluation):
    return lambda: classifiers.ready(evaluation, force=False)


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(classifier_training, "MOST", 3)


# --- how long --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "looks", "best"),
    [
        ([0.5, 0.6, 0.7, 0.8, 0.9, 1.0], 6, 6),  # better every time: until there are no steps left
        ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 3, 1),  # cannot get better, but three looks are the least
        ([0.1, 0.5, 0.9, 0.9, 0.8, 0.9], 5, 3),  # the last third of five looks brought nothing
        ([0.9, 0.2, 0.2, 0.2, 0.2, 0.2], 3, 1),
        ([0.5, 0.6, 0.9, 0.9006, 0.9012, 0.9], 6, 5),  # little by little, all in all enough
        ([0.5, 0.6, 0.9, 0.9004, 0.9008, 1.0], 5, 5),  # too little, and the best of it
        ([0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 3, 1),
    ],
)
def test_training_ends_when_it_gets_no_better_and_keeps_the_best(evaluation, monkeypatch, scores, looks, best):
    for name, value in {"EVERY": 2, "LEAST": 6, "MOST": 12}.items():
        monkeypatch.setattr(classifier_training, name, value)
    seen, told = [], iter(scores)

    def look(name, network, data, items, labels, evaluation):
        seen.append({key: value.clone() for key, value in network.state_dict().items()})
        return Score(next(told, 0.123), {})

    monkeypatch.setattr(classifier_training, "_score", look)
    network = classifiers._network("m0", evaluation)
    classifier_training.train("m0", network, evaluation)
    assert len(seen) == looks + 1, "and one on the test split"
    assert all(torch.equal(value, seen[best - 1][key]) for key, value in network.state_dict().items())
    assert all(torch.equal(value, seen[-1][key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("shape", [(8, 3, 28, 28), (9, 1, 8, 8), (4, 3, 2, 2), (12, 7, 5), (12, 4)])
def test_a_part_of_a_batch_looks_as_models_generate_it(shape):
    torch.manual_seed(0)
    x = torch.rand(shape)
    if len(shape) == 3:
        x = x.softmax(-1)  # texts
    soft, part = classifier_training._softened(x), shape[0] // classifier_training.SOFT
    assert torch.equal(soft[part:], x[part:]), "the rest stays sharp"
    middle = x[:part].mean((2, 3), keepdim=True) if len(shape) == 4 else x.mean(0, keepdim=True)
    before, after = ((rows - middle).flatten(1).norm(dim=1) for rows in (x[:part], soft[:part]))
    assert (after < before).all(), "what varies gets less"
    if len(shape) == 3:
        assert torch.allclose(soft.sum(-1), torch.ones(shape[:2])), "characters are still distributions"


def test_few_rows_stay_as_they_are():
    x = torch.rand(3, 3, 8, 8)
    assert classifier_training._softened(x) is x


def test_the_papers_networks_see_the_data_as_they_are(evaluation, few_steps, monkeypatch):
    seen = []
    monkeypatch.setattr(classifier_training, "_softened", lambda x: seen.append(len(x)) or x)
    classifiers.ready(evaluation_of(evaluation.store.folder, evaluation__classifiers="released"), force=True)
    assert not seen
    classifiers.ready(evaluation, force=True)
    assert seen


def test_weights_are_a_mean_of_which_the_later_steps_have_most():
    mean = torch.zeros(1)
    shares = []
    for step in range(1, 101):
        mean = classifier_training._mean(mean, torch.ones(1), torch.tensor(step))
        shares.append(1 - mean.item())
    assert shares[0] == pytest.approx(1 - 9 / 10), "what the first step weighs after the second"
    assert shares == sorted(shares, reverse=True)
    assert classifier_training._mean(torch.tensor(3), torch.tensor(4), torch.tensor(9)) == 4, "a counter is no mean"


def test_the_same_data_give_the_same_classifier(evaluation, few_steps):
    networks = [classifiers._network("m1", evaluation) for _ in range(2)]
    for network in networks:
        torch.rand(1)
        classifier_training.train("m1", network, evaluation)
    first, second = (network.state_dict() for network in networks)
    assert all(torch.equal(value, second[key]) for key, value in first.items())


# --- on what ---------------------------------------------------------------------------------------------------------


def indexed(folder, rows, items):
    """Of two classes; ``items`` training items of which each shows one of ``rows`` stored pictures."""
    image_store(folder, views=1, shape=SHAPE, counts=(items, 4), classes=2)
    info = Store(folder).info
    store.new_array(folder, "train/m0.npy", (rows, *SHAPE))[:] = 9
    store.new_array(folder, "train/m0.index.npy", (items,), np.int32)[:] = np.arange(items) % rows
    store.finish(folder, info.model_copy(update={"files": {}}), replace=True)
    return evaluation_of(folder)


def test_what_is_held_out_is_not_learned_from_by_way_of_another_item(tmp_path):
    evaluation = indexed(tmp_path / "s", rows=40, items=130)
    learned, held_out = classifier_training._divided("m0", evaluation, 0)
    index = torch.from_numpy(evaluation.store.index("train", "m0")).long()
    assert len(held_out) == len(index[held_out].unique()) == 4, "a tenth of the pictures, each once"
    assert not set(index[held_out].tolist()) & set(index[learned].tolist())
    assert len(learned) == 130 - sum(int((index == row).sum()) for row in index[held_out])


def test_too_few_pictures_to_hold_any_out_are_all_learned_from(tmp_path):
    evaluation = indexed(tmp_path / "s", rows=19, items=130)
    learned, held_out = classifier_training._divided("m0", evaluation, 0)
    assert learned.tolist() == list(range(130))
    assert len(held_out) == 19


def test_one_training_item_is_enough_to_run(tmp_path, few_steps):
    evaluation = evaluation_of(image_store(tmp_path / "s", views=2, shape=SHAPE, counts=(1, 4), classes=1))
    assert classifier_training.train("m0", classifiers._network("m0", evaluation), evaluation).value == 1.0


def test_a_hundred_items_are_learned(tmp_path):
    """Pictures whose brightness tells the label."""
    evaluation = evaluation_of(image_store(tmp_path / "s", views=2, shape=SHAPE, counts=(100, 40)))
    assert classifier_training.train("m0", classifiers._network("m0", evaluation), evaluation).value == 1.0


@pytest.mark.slow
def test_digits_on_builtin_backgrounds_are_known_also_blurred_and_pale_as_models_generate_them(tmp_path, monkeypatch):
    """A network that saw sharp digits only reads such ones worse than chance."""
    build(PolymnistOptions(digits="embedded", repeat=4), tmp_path / "p", tmp_path)
    recipe = recipes.load("quickstart", [])
    evaluation = Evaluation(MultimodalVAE(recipe).eval(), recipe, Store(tmp_path / "p"), torch.device("cpu"))
    network = classifiers._network("m1", evaluation)
    assert classifier_training.train("m1", network, evaluation).value >= 0.97

    def pale(x):
        return x.mean((0, 2, 3), keepdim=True) + 0.4 * (x - x.mean((2, 3), keepdim=True))

    for generated in (lambda x: gaussian_blur(x, [5, 5], [1.0, 1.0]), pale):
        with monkeypatch.context() as patch:
            sharp = classifier_training.as_mean
            patch.setattr(classifier_training, "as_mean", lambda *a, sharp=sharp, made=generated: made(sharp(*a)))
            assert classifier_training.score("m1", network, evaluation).value >= 0.92


# --- kept with the dataset -------------------------------------------------------------------------------------------


def kept(evaluation):
    return sorted(path.name for path in (evaluation.store.folder / "classifiers").iterdir())


def test_the_papers_networks_are_kept_beside_the_others_and_none_is_trained_twice(evaluation, few_steps, monkeypatch):
    paper = evaluation_of(evaluation.store.folder, evaluation__classifiers="released")
    assert all(isinstance(one, ImageClassifier) for one in classifiers.ready(evaluation, force=True)[0].values())
    found, _ = classifiers.ready(paper, force=True)
    assert all(isinstance(network, DigitClassifier) for network in found.values())
    assert kept(evaluation) == [
        "m0.released.safetensors",
        "m0.safetensors",
        "m1.released.safetensors",
        "m1.safetensors",
    ]
    monkeypatch.setattr(classifier_training, "train", None)  # would fail if it were called
    classifiers.ready(evaluation, force=True)
    again = classifiers.ready(paper, force=True)[0]["m1"].state_dict()
    assert all(torch.equal(value, again[key]) for key, value in found["m1"].state_dict().items())


@pytest.mark.parametrize(
    ("changes", "networks"),
    [({}, "default"), ({"evaluation__protocol": "released"}, "released"),
     ({"evaluation__protocol": "released", "evaluation__classifiers": "default"}, "default"),
     ({"evaluation__classifiers": "released"}, "released")],
)  # fmt: skip
def test_the_protocol_chooses_the_networks_unless_they_are_named(evaluation, changes, networks):
    assert evaluation_of(evaluation.store.folder, **changes).protocol.classifiers == networks


def test_another_network_of_the_same_name_is_trained_again_and_told(evaluation, few_steps, capsys):
    paper = evaluation_of(evaluation.store.folder, evaluation__classifiers="released")
    classifiers.ready(paper, force=True)
    folder = evaluation.store.folder / "classifiers"
    shutil.move(folder / "m0.released.safetensors", folder / "m0.safetensors")
    capsys.readouterr()
    classifiers.ready(evaluation, force=True)
    told = [line for line in capsys.readouterr().err.splitlines() if "kept classifier" in line]
    assert told == ["the kept classifier of m0 does not fit (network DigitClassifier, not ImageClassifier): "
                    "it is trained again"]  # fmt: skip


def test_one_of_another_version_is_trained_again_and_told(evaluation, few_steps, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(classifiers, "CLASSIFIER_VERSION", "3")
        classifiers.ready(evaluation, force=True)
    capsys.readouterr()
    classifiers.ready(evaluation, force=True)
    told = capsys.readouterr().err
    assert f"the kept classifier of m0 does not fit (version 3, not {CLASSIFIER_VERSION}): it is trained again" in told
    assert "the kept classifier of m1" in told
    classifiers.ready(evaluation, force=True)
    assert "kept classifier" not in capsys.readouterr().err


def test_what_was_kept_before_networks_had_names_is_unknown(evaluation, few_steps, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(classifiers, "_origin", lambda network, evaluation: {
            "fingerprint": evaluation.store.fingerprint, "version": "3"})  # fmt: skip
        classifiers.ready(evaluation, force=True)
    capsys.readouterr()
    classifiers.ready(evaluation, force=True)
    assert f"(network unknown, not ImageClassifier; version 3, not {CLASSIFIER_VERSION})" in capsys.readouterr().err


def test_a_weak_one_is_not_used_and_its_accuracy_on_the_test_split_is_told(evaluation, few_steps, monkeypatch, capsys):
    monkeypatch.setattr(classifier_training, "score", lambda *_: Score(0.69, {}))
    _, weak = classifiers.ready(evaluation, force=False)
    assert weak == {name: NotMeasured(f"the classifier of {name} reaches accuracy 0.690 only, less than 0.700 "
                                      "(--force accepts it)") for name in ("m0", "m1")}  # fmt: skip
    features_of = features.ready(evaluation, evaluation.store.folder, judges(evaluation), force=False)
    assert all(isinstance(one, NotMeasured) for one in features_of.values())
    networks, weak = classifiers.ready(evaluation, force=True)
    assert set(networks) == {"m0", "m1"}
    assert not weak
    assert "warning: the classifier of m1 reaches accuracy 0.690 only" in capsys.readouterr().err


def test_features_of_the_others_stay_where_one_is_weak(evaluation, few_steps, monkeypatch):
    scores = {"m0": 0.97, "m1": 0.478}
    monkeypatch.setattr(classifier_training, "score", lambda name, *_: Score(scores[name], {}))
    assert set(classifiers.ready(evaluation, force=False)[1]) == {"m1"}
    found = features.ready(evaluation, evaluation.store.folder, judges(evaluation), force=False)
    assert isinstance(found["m0"], features.Features)
    assert "the classifier of m1 reaches accuracy 0.478 only" in found["m1"].why


def test_attributes_that_no_test_item_has_do_not_make_a_weak_classifier_good():
    """Its precision is a mean over those that occur, and so is what a guess has: 0.5, not 0.25."""
    labels = np.array([[1, 0, 0, 0], [0, 1, 0, 0]])
    store = SimpleNamespace(labels=lambda split: labels, complete=lambda split, names: np.arange(2))
    data = SimpleNamespace(labels=SimpleNamespace(kind="attributes"), store=store)
    told = classifiers._weakness("image", 0.54, data)
    assert told.endswith("0.540 only, less than 0.550")
    assert classifiers._weakness("image", 0.56, data) == ""


def test_a_classifier_that_always_says_the_most_frequent_class_is_too_weak():
    """Of classes of 90 and 10 % it reaches 0.9 by that."""
    store = SimpleNamespace(
        labels=lambda split: np.repeat([0, 1], [18, 2]), complete=lambda split, names: np.arange(20)
    )
    data = SimpleNamespace(labels=SimpleNamespace(kind="class"), store=store)
    assert classifiers._weakness("image", 0.9, data).endswith("0.900 only, less than 0.950")
    assert classifiers._weakness("image", 0.96, data) == ""
