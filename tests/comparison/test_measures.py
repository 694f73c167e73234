"""Averages against brute force."""

import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmvae_cli.comparison.groups import Group, Member, different_classifiers
from mmvae_cli.comparison.measures import Key, Stat, ceiling, of_run, stat, subsets
from mmvae_cli.run.result import CLASSIFIER_VERSION, EvaluationResult

from made_runs import VIEWS, collection, evaluation, make_run, quality, recipe


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20))
def test_mean_and_sample_deviation(values: list[float]) -> None:
    found = stat(values)
    assert found.n == len(values)
    assert found.mean == pytest.approx(statistics.fmean(values), abs=1e-6)
    assert found.std == pytest.approx(statistics.stdev(values), rel=1e-6, abs=1e-6)


def test_a_score_of_an_attribute_rests_on_the_items_that_have_its_source(tmp_path: Path) -> None:
    """Of 1,000 items 200 have the source, and a tenth of those the attribute."""
    data = {"name": "celeba", "fingerprint": "0", "split": "test", "count": 1000, "rows": {"image": 200, "text": 900}}
    make_run(tmp_path, recipe("celeba", ["image", "text"]), "celeba", dataset=data, base_rates={"Bald": 0.1})
    stats = collection(tmp_path).groups[0].stats
    assert stats[Key("latent_per_label", "image", "", "Bald")].trials == pytest.approx(20)
    assert stats[Key("coherence_per_label", "text", "image", "Bald")].trials == pytest.approx(90)


def test_a_mean_over_sources_rests_on_no_more_items_than_the_scarcest_of_them_has(tmp_path: Path) -> None:
    data = {"name": "own", "fingerprint": "0", "split": "test", "count": 1000, "rows": {"a": 900, "b": 200, "a+b": 100}}
    make_run(tmp_path / "holes", recipe("own", ["a", "b"]), "own", dataset=data)
    make_run(tmp_path / "whole", recipe("own", ["a", "b"]), "own", dataset=data | {"rows": {}})
    holes, whole = (collection(tmp_path / name).groups[0].stats for name in ("holes", "whole"))
    assert [holes[Key("latent_by_size", k)].trials for k in ("1", "2")] == [200, 100]
    assert holes[Key("coherence_by_size", "1")].trials == 200
    assert whole[Key("latent_by_size", "1")].trials == 1000


def test_one_seed_has_no_deviation() -> None:
    assert stat([0.5]).std is None


def test_by_size_is_the_mean_over_subsets_and_over_targets_not_given() -> None:
    made = EvaluationResult.model_validate(evaluation(recipe("polymnist", VIEWS), "polymnist"))
    numbers = of_run(made)
    assert made.coherence is not None
    assert made.latent is not None
    pairs = [s for s in subsets(VIEWS) if s.count("+") == 1]
    assert len(pairs) == 10
    by_hand = [
        statistics.fmean(v for t, v in made.coherence.conditional[s].items() if v is not None and t not in s.split("+"))
        for s in pairs
    ]
    assert numbers[Key("coherence_by_size", "2")] == pytest.approx(statistics.fmean(by_hand))
    assert numbers[Key("latent_by_size", "2")] == pytest.approx(
        statistics.fmean(value for s in pairs if (value := made.latent.values[s]) is not None)
    )
    assert Key("coherence_by_size", "5") not in numbers  # nothing is left to be generated


def test_an_unmeasured_value_is_absent_and_takes_its_mean_along() -> None:
    content = evaluation(recipe("polymnist", VIEWS), "polymnist")
    content["latent"]["values"]["m0+m1"] = None
    numbers = of_run(EvaluationResult.model_validate(content))
    assert Key("latent", "m0+m1") not in numbers
    assert Key("latent_by_size", "2") not in numbers
    assert Key("latent_by_size", "3") in numbers


def test_a_distance_that_is_no_number_takes_its_mean_along_and_a_modality_without_features_does_not() -> None:
    content = evaluation(recipe("polymnist", VIEWS), "polymnist") | {"quality": quality(VIEWS)}
    numbers = of_run(EvaluationResult.model_validate(content))
    assert (numbers[Key("frechet_conditional")], numbers[Key("frechet_unconditional")]) == (2, 3)
    del content["quality"]["feature_size"]["m1"]
    content["quality"]["unconditional"]["frechet"]["m1"] = None
    assert of_run(EvaluationResult.model_validate(content))[Key("frechet_unconditional")] == 3
    content["quality"]["unconditional"]["frechet"]["m0"] = None
    content["quality"]["conditional"]["frechet"]["m2"]["m0"] = None
    numbers = of_run(EvaluationResult.model_validate(content))
    assert Key("frechet_unconditional") not in numbers
    assert Key("frechet_conditional") not in numbers, "a mean over fewer pairs could not be compared"


def test_n_counts_the_runs_that_have_the_value(tmp_path: Path) -> None:
    make_run(tmp_path, recipe("polymnist", VIEWS), "polymnist")
    make_run(tmp_path, recipe("polymnist", VIEWS, training__seed=1), "polymnist", likelihood=None)
    stats = collection(tmp_path).groups[0].stats
    assert stats[Key("joint_coherence")].n == 2
    assert stats[Key("log_likelihood", "m0")].n == 1


def test_ceilings_are_what_real_data_score_averaged_as_the_coherence_is(tmp_path: Path) -> None:
    made = EvaluationResult.model_validate(evaluation(recipe("polymnist", VIEWS), "polymnist"))
    assert made.coherence is not None
    real = made.coherence.classifiers
    found = Group("", [Member(tmp_path, recipe("polymnist", VIEWS), made, {}, given=tmp_path)]).stats
    assert found[Key("coherence", "m0+m1", "m3")].ceiling == real["m3"]
    given = found[Key("coherence_given", "m0+m1")].ceiling
    assert given == pytest.approx(statistics.fmean(real[name] or 0 for name in VIEWS[2:]))
    assert found[Key("coherence_by_size", "2")].ceiling == pytest.approx(
        statistics.fmean(v or 0 for v in real.values())
    )
    assert found[Key("joint_coherence")].ceiling == 0.92
    assert found[Key("latent", "m0")].ceiling is None
    assert ceiling([found[Key("latent", "m0")], None]) is None
    assert ceiling([Stat(0.5, None, 1, ceiling=0.9), Stat(0.5, None, 1, ceiling=0.8), Stat(0.5, None, 1)]) == (
        pytest.approx(0.85))  # fmt: skip


def test_means_are_over_the_modalities_that_could_be_judged(tmp_path: Path) -> None:
    """A classifier that is too weak takes its own column away, and none of the others'."""
    made = EvaluationResult.model_validate(evaluation(recipe("polymnist", VIEWS), "polymnist"))
    known = made.coherence
    assert known is not None
    weak = {source: row | {"m3": None, "m4": None} for source, row in known.conditional.items()}
    some = made.model_copy(update={"coherence": known.model_copy(update={"conditional": weak})})
    found = Group("", [Member(tmp_path, recipe("polymnist", VIEWS), some, {}, given=tmp_path)]).stats
    expected = statistics.fmean(known.conditional["m0"][name] or 0 for name in ("m1", "m2"))
    assert found[Key("coherence_given", "m0")].mean == pytest.approx(expected)
    real = statistics.fmean(known.classifiers[name] or 0 for name in ("m1", "m2"))
    assert found[Key("coherence_given", "m0")].ceiling == pytest.approx(real)
    assert Key("coherence_given", "m0+m1+m2") not in found
    assert Key("coherence_by_size", "3") in found
    assert Key("coherence", "m0", "m3") not in found


def test_an_average_precision_is_no_share_of_answers(tmp_path: Path) -> None:
    """So it has no binomial error over the items."""
    shares, precisions = (
        Group("", [Member(tmp_path, made, EvaluationResult.model_validate(content), {}, given=tmp_path)])
        for made, content in (
            (recipe("own", ["a", "b"]), evaluation(recipe("own", ["a", "b"]), "own")),
            (
                recipe("celeba", ["image", "text"]),
                evaluation(recipe("celeba", ["image", "text"]), "celeba", base_rates={"Male": 0.4}),
            ),
        )
    )
    of_share = shares.stats[Key("latent", "a")]
    assert of_share.item_error == pytest.approx((of_share.mean * (1 - of_share.mean) / 10000) ** 0.5)
    assert precisions.stats[Key("latent", "image")].item_error is None
    assert precisions.stats[Key("log_likelihood", "image")].item_error == 3.5


def test_different_classifiers_are_told(tmp_path: Path) -> None:
    made = [EvaluationResult.model_validate(evaluation(recipe("own", ["a", "b"]), "own")) for _ in range(2)]
    assert made[1].coherence is not None
    made[1].coherence.classifiers = {"a": 0.95, "b": None}
    groups = [Group("", [Member(tmp_path, recipe("own", ["a", "b"]), one, {}, given=tmp_path) for one in made])]
    assert different_classifiers(groups) == [
        "coherence was measured by different classifiers of b (on real data 0.0000, 0.9600)"
    ]


@pytest.mark.parametrize(
    ("settings", "said"), [({"classifiers": "default, version 3"}, "default, version 3"), ({}, "unknown")]
)
def test_classifiers_of_another_version_are_told(settings: dict[str, str], said: str, tmp_path: Path) -> None:
    made = recipe("polymnist", VIEWS)
    make_run(tmp_path, made, "polymnist", settings=settings)
    (note,) = collection(tmp_path).notes
    assert note == (f"coherence was measured by classifiers of another version ({said}; those of now: "
                    f"{CLASSIFIER_VERSION}): evaluate again")  # fmt: skip
    make_run(tmp_path, made, "polymnist", folder="without", settings=settings, coherence=None)
    assert collection(tmp_path / "without").notes == []
