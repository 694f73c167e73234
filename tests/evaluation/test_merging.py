"""Metrics of one checkpoint measured at different times come together; those of others do not."""

import os
import shutil

import pytest
from tiny_recipes import tiny

from mmvae_cli.disk import sealed
from mmvae_cli.evaluation import classifier_training, classifiers, command, report
from mmvae_cli.evaluation.classifier_training import Score
from mmvae_cli.training.loop import Request, train

from stores import image_store

SHAPE = (3, 8, 8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run, and one of the same name, seed and steps with other weights."""
    place = tmp_path_factory.mktemp("merging")
    image_store(place / "data" / "tiny", shape=SHAPE)
    for name, rate in (("run", 1e-3), ("other", 2e-3)):
        recipe = tiny(3, shape=SHAPE, training__learning_rate=rate, evaluation__likelihood_items=8)
        train(recipe, Request(place / name, place / "data" / "tiny", "cpu"))
    return place


@pytest.fixture
def place(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "copy")


def evaluated(place, *metrics, force=True):
    return command.run(place / "run", metrics=[*metrics], protocol=None, chosen=None, data_dir=place / "data",
                       device="cpu", force=force, verify=True)  # fmt: skip


def trained_again(place):
    """The run is deleted and trained again: its evaluation stays, by whatever way."""
    shutil.rmtree(place / "run" / "checkpoints")
    shutil.copytree(place / "other" / "checkpoints", place / "run" / "checkpoints")
    shutil.copy(place / "other" / "environment.json", place / "run")


def test_metrics_of_one_checkpoint_come_together(place):
    path, first = evaluated(place, "likelihood")
    _, both = evaluated(place, "latent")
    assert both.likelihood == first.likelihood
    assert both.latent
    assert len(first.run.weights) == 64
    effective = f"{first.likelihood.effective_samples['m0']:.1f}"
    told = report.text(first)
    assert next(line for line in told.splitlines() if line.strip().startswith("m0 ")).endswith(effective)
    assert "effective samples: (sum w)^2 / sum w^2 of an item's importance weights; near 1, one sample" in told
    assert [*(place / "run").glob("evaluation*.json")] == [path]


def test_other_weights_of_the_same_name_and_step_are_kept_apart(place, capsys):
    _, first = evaluated(place, "likelihood")
    trained_again(place)
    _, second = evaluated(place, "latent")
    assert first.run.model_copy(update={"weights": None}) == second.run.model_copy(update={"weights": None})
    assert second.likelihood is None
    (aside,) = (place / "run").glob("evaluation.step-*.json")
    assert sealed.read_json(aside)["likelihood"]
    assert "the evaluation that was there" in capsys.readouterr().err


def test_a_file_that_does_not_name_the_weights_belongs_to_those_that_were_there(place):
    path, first = evaluated(place, "likelihood")
    content = sealed.read_json(path)
    del content["run"]["weights"]
    sealed.write_json(path, content)
    assert evaluated(place, "latent")[1].likelihood == first.likelihood
    sealed.write_json(path, content)
    for checkpoint in (place / "run" / "checkpoints").iterdir():
        os.utime(checkpoint, (path.stat().st_mtime + 10,) * 2)
    assert evaluated(place, "latent")[1].likelihood is None


def test_one_weak_classifier_leaves_the_columns_of_the_others(place, monkeypatch):
    monkeypatch.setattr(classifier_training, "MOST", 3)
    monkeypatch.setattr(classifier_training, "score", lambda name, *_: Score(0.478 if name == "m2" else 0.97, {}))
    _, found = evaluated(place, "coherence", force=False)
    _, forced = evaluated(place, "coherence")
    for source, row in found.coherence.conditional.items():
        assert row == forced.coherence.conditional[source] | {"m2": None}
        assert found.reasons[f"coherence.conditional.{source}.m2"].startswith("the classifier of m2 reaches accuracy")
    assert found.coherence.joint is found.coherence.joint_ceiling is None
    assert found.coherence.agreement == forced.coherence.agreement | dict.fromkeys(["m0", "m1"], None)
    assert found.coherence.agreement["m2"] is not None
    assert found.coherence.classifiers == forced.coherence.classifiers
    assert "joint -" in report.text(found)


def test_what_a_weak_classifier_cannot_tell_is_left_out_with_the_reason_until_it_is_forced(place, monkeypatch):
    monkeypatch.setattr(classifier_training, "MOST", 3)
    _, first = evaluated(place, "latent", "coherence", "quality", force=False)
    assert (first.latent is not None, first.coherence) == (True, None)
    assert "the classifier of m0 reaches accuracy" in first.reasons["coherence"]
    assert "(--force accepts it)" in first.reasons["quality.unconditional.frechet.m0"]
    assert "not measured: coherence" in report.text(first)
    _, forced = evaluated(place, "coherence")
    assert forced.coherence
    assert "coherence" not in forced.reasons
    _, again = evaluated(place, "latent", "coherence", force=False)
    assert again.coherence == forced.coherence
    assert "coherence" not in again.reasons


def test_classifiers_that_cannot_be_kept_are_trained_once_for_all_metrics(place, monkeypatch):
    """As beside a dataset that may only be read."""
    names, train_one = [], classifier_training.train
    monkeypatch.setattr(classifier_training, "MOST", 3)
    monkeypatch.setattr(classifier_training, "train", lambda name, *rest: names.append(name) or train_one(name, *rest))
    monkeypatch.setattr(classifiers, "_save", lambda *_: False)
    _, found = evaluated(place, "coherence", "quality")
    assert names == ["m0", "m1", "m2"]
    assert found.coherence
    assert found.quality
