"""Scores that a guess reaches too: marked, and warned about where there is nothing else."""

import pytest

from mmvae_cli.evaluation import report
from mmvae_cli.run.result import EvaluationResult, at_chance

NAMES = ["a", "b"]


def made(latent=0.1, conditional=0.1, joint=0.9, joint_chance=0.9, count=1000, **changes):
    """An evaluation of two modalities whose subsets all have the same scores."""
    return EvaluationResult.model_validate({
        "protocol": "default", "modalities": NAMES, "chance": 0.1,
        "run": {"recipe": "made", "method": "mopoe", "seed": 0, "checkpoint": "c", "step": 1, "epoch": 1},
        "dataset": {"name": "own", "fingerprint": "0" * 16, "split": "test", "count": count},
        "latent": {"metric": "accuracy", "values": dict.fromkeys(["a", "b", "a+b"], latent)},
        "coherence": {"metric": "accuracy", "joint": joint, "joint_chance": joint_chance, "joint_samples": count,
                      "conditional": {s: dict.fromkeys(NAMES, conditional) for s in ("a", "b", "a+b")},
                      "classifiers": {"a": 0.9, "b": 0.93}, "joint_ceiling": 0.85},
    } | changes)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "chance", "trials", "expected"),
    [(0.1, 0.1, 1e9, True), (0.05, 0.1, 100, True), (0.118, 0.1, 1000, True), (0.12, 0.1, 1000, False),
     (1.0, 1.0, 1000, True), (0.0002, 0.0001, 10000, True), (0.01, 0.0001, 10000, False), (0.9, 0.1, 0, True)],
)  # fmt: skip
def test_a_score_is_at_chance_within_two_standard_errors_of_a_guess(value, chance, trials, expected):
    assert at_chance(value, chance, trials) == expected


def test_of_incomplete_data_a_score_rests_on_the_items_that_have_the_source():
    found = made(latent=0.3)
    assert report._score(found, 0.3, "a") == "0.300"
    found.dataset.rows = {"a": 4, "b": 1000}
    assert [report._score(found, 0.3, source) for source in "ab"] == ["0.300°", "0.300"]


def test_the_report_marks_what_is_at_chance_and_says_what_that_means():
    lines = report.text(made(latent=0.5)).splitlines()
    assert "a+b     0.500" in lines
    assert "a+b        0.100°  0.100°" in lines
    assert "coherence (accuracy): joint 0.900° (by chance 0.900, real data 0.850)" in lines
    assert "real data   0.900   0.930" in lines, "no coherence can be higher"
    assert "° at chance: no better than a guess, which has 0.100 (of the joint coherence: its own chance)" in lines
    good = report.text(made(latent=0.5, conditional=0.4, joint_chance=0.01))
    assert "at chance" not in good
    assert "joint 0.900 (by chance 0.010, real data 0.850)" in good


def test_answers_that_are_always_the_same_are_named():
    found = made()
    found.latent.constant = {"a": "7", "a+b": "3"}
    found.coherence.constant = {"a": {"b": "3"}, "b": {"a": "1", "b": "2"}, "a+b": {"a": "1", "b": "3"}}
    found.coherence.joint_constant = {"a": "1"}
    assert report.text(found).splitlines()[-3:] == [
        "the latent classifier gives every item the same class (a: 7, a+b: 3)",
        "what is generated is always classified alike (a -> b: 3, b -> a: 1, b -> b: 2, a+b -> a: 1 and 1 more)",
        "samples from the prior are always classified alike (a: 1)",
    ]
    found.settings["sampler"] = "gmm of 10"
    assert found.constants()[-1] == "samples from the gmm are always classified alike (a: 1)"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (made(), "the latent representation and what is generated from other modalities: every score is at chance"),
        (made(latent=0.5), "what is generated from other modalities: every score is at chance"),
        (made(latent=0.5, conditional=0.5), ""),
        (made(latent=0.5, coherence=None), ""),
        (made(latent=None, coherence=None), ""),
        (made(chance=None), ""),
    ],
)
def test_nothing_but_chance_is_warned_about(found, said):
    text = report.warning(found)
    assert text.startswith(said)
    assert bool(text) == bool(said)
    assert "\n" not in text


def test_scores_of_what_is_given_are_no_sign_of_life():
    """A modality that is reconstructed, and never generated from another one."""
    found = made(latent=0.5)
    for source, row in found.coherence.conditional.items():
        row |= dict.fromkeys(source.split("+"), 0.9)
    assert report.warning(found).startswith("what is generated from other modalities")


def test_of_incomplete_data_a_score_rests_on_the_items_that_have_its_source():
    found = made(latent=0.17, conditional=0.17)
    assert report.warning(found) == ""
    found.dataset.rows = dict.fromkeys(found.latent.values, 50)
    assert report.warning(found)


def test_an_average_precision_rests_on_the_items_that_have_the_attribute():
    assert made().trials_of("") == 1000
    assert made(base_rates={"bald": 0.1}).trials_of("") == pytest.approx(100)


def test_below_the_clusters_stands_why_they_may_be_far_from_the_linear_classifier():
    clusters = {"a+b": {"accuracy": 0.3, "one_to_one": 0.3, "nmi": 0.1, "ari": 0.1}}
    latent = {"metric": "accuracy", "values": {"a+b": 0.9}, "clusters": 4, "clustering": clusters}
    told = report.text(EvaluationResult.model_validate(made().model_dump() | {"latent": latent}))
    assert "nothing is standardised" in told
    assert "nothing is standardised" not in report.text(made())
