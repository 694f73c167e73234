"""What may be called best: every way in which noise could get a star, and that a clear lead gets one."""

from pathlib import Path
from typing import Any

import pytest
from scipy import stats as scipy_stats

from mmvae_cli.comparison import marking
from mmvae_cli.comparison.compare import compare
from mmvae_cli.comparison.content import Content
from mmvae_cli.comparison.measures import Key, Stat, stat
from mmvae_cli.comparison.tables import cell_text

from made_runs import collection, evaluation, make_run, recipe

LATENT, NATS, JOINT = Key("latent", "a"), Key("log_likelihood", "a"), Key("joint_coherence")
ITEMS = 10_000


def score(*values: float, chance: float = 0.1, trials: float = ITEMS) -> Stat:
    """Mean and deviation of one score per seed."""
    known = stat(list(values))
    error = (known.mean * (1 - known.mean) / trials) ** 0.5 if trials else None
    return Stat(known.mean, known.std, known.n, chance, trials, item_error=error)


def best(*stats: Stat | None, key: Key = LATENT) -> int | None:
    return marking.best(list(stats), key, 1 if key is NATS else 3)


NOISE = {
    "equal values": (score(0.5, 0.6), score(0.5, 0.6)),
    "equal values of single seeds": (score(0.5), score(0.5)),
    "what looks equal": (score(0.5, 0.5, trials=0), score(0.5001, 0.5001, trials=0)),
    "within a deviation": (score(0.60, 0.70, 0.80), score(0.65, 0.75, 0.85)),
    "within a deviation of many seeds": (score(*[0.6, 0.7] * 20), score(*[0.64, 0.74] * 20)),
    "more than a deviation, but of two seeds": (score(0.60, 0.62), score(0.63, 0.65)),
    "two seeds that happen to agree": (score(0.6000, 0.6000), score(0.6040, 0.6040)),
    "one seed against two": (score(0.5), score(0.8, 0.81)),
    "two seeds against one": (score(0.8, 0.81), score(0.5)),
    "single seeds within the items' error": (score(0.600, trials=200), score(0.680, trials=200)),
    "at chance": (score(0.100, 0.100), score(0.050, 0.050)),
    "a lonely group": (score(0.9, 0.9), None),
}


@pytest.mark.parametrize("what", NOISE)
def test_noise_gets_no_mark(what: str) -> None:
    assert best(*NOISE[what]) is None


@pytest.mark.parametrize(
    ("stats", "expected"),
    [
        ((score(0.5, 0.52, 0.51), score(0.8, 0.81, 0.82), score(0.7, 0.71, 0.72)), 1),
        ((score(0.8), score(0.5), None), 0),
        ((score(0.3, 0.3), score(0.9, 0.9)), 1),
    ],
)
def test_a_clear_lead_is_marked(stats: tuple[Stat | None, ...], expected: int) -> None:
    assert best(*stats) == expected


def test_the_lead_must_be_over_every_other_group() -> None:
    assert best(score(0.5, 0.51), score(0.8, 0.801), score(0.8, 0.802)) is None


def test_log_likelihoods_of_single_seeds_are_not_ranked() -> None:
    """How much another seed would change them is not known."""
    assert best(Stat(-1800, None, 1), Stat(-1900, None, 1), key=NATS) is None
    assert best(stat([-1800, -1801, -1802]), stat([-1900, -1901, -1902]), key=NATS) == 0


def test_a_collapsed_models_joint_coherence_is_not_the_best() -> None:
    assert best(score(1.0, chance=1.0), score(0.3, chance=0.001), key=JOINT) is None
    assert best(score(0.6, chance=0.001), score(0.3, chance=0.001), key=JOINT) == 0


def test_welchs_test_is_the_textbooks() -> None:
    """Welch's own degrees of freedom: two groups of equal variance and size have 2 (n - 1), unequal ones fewer."""
    assert marking._freedom((1.0, 1.0), (5, 5)) == pytest.approx(8)
    assert marking._freedom((1.0, 0.0), (5, 5)) == pytest.approx(4)
    for freedom, point in enumerate(marking._T, 1):
        assert point == pytest.approx(scipy_stats.t.ppf(0.975, freedom), abs=0.005)
    first, second = [0.61, 0.66, 0.64, 0.70], [0.75, 0.71, 0.78, 0.74]
    ours = marking.exceeds(score(*second), score(*first))
    assert ours == (scipy_stats.ttest_ind(first, second, equal_var=False).pvalue < 0.05) == True  # noqa: E712


@pytest.mark.parametrize(("values", "trials", "error"), [
    ([0.5], 100, 0.05), ([0.5, 0.5], 100, 0.05), ([0.4, 0.6], 10**9, 0.1), ([0.5], 0, None),
])  # fmt: skip
def test_a_standard_error_is_at_least_that_of_the_items(
    values: list[float], trials: float, error: float | None
) -> None:
    assert marking.standard_error(score(*values, trials=trials)) == pytest.approx(error)


def study(folder: Path, *, latent: dict[str, list[float]], **changes: Any) -> Content:
    """Two modalities; per method one latent score a seed, for every subset."""
    for method, values in latent.items():
        for seed, value in enumerate(values):
            made = recipe("own", ["a", "b"], method, training__seed=seed)
            scores = {"metric": "accuracy", "values": dict.fromkeys(["a", "b", "a+b"], value)}
            make_run(folder, made, "own", latent=scores, **changes)
    return collection(folder)


def test_scores_at_chance_say_so_in_every_format(tmp_path: Path) -> None:
    found = study(tmp_path, latent={"mvae": [0.1, 0.104], "mopoe": [0.7, 0.71]})
    summary = found.tables[0]
    assert [cell_text(row.cells[0]) for row in summary.rows] == ["0.102 ± 0.003°", "0.705 ± 0.007", "-"]
    assert [row.cells[0].best for row in summary.rows] == [False, True, False]
    assert summary.remarks == ["° at chance: no better than a guess (0.100)"]
    sentence = "at chance: no better than a guess (0.100)"
    for kind, mark in (("table", "0.102 ± 0.003° "), ("md", "0.102 ± 0.003°"), ("tex", r"0.003^{\circ}$")):
        text = compare([tmp_path], kind)  # type: ignore[arg-type]
        assert mark in text
        assert sentence in text
    page = Path(compare([tmp_path], "html", tmp_path / "out")).read_text()
    assert '<td class="chance">0.102 ± 0.003°</td>' in page
    assert sentence in page


def test_the_rule_is_told_where_something_could_be_marked(tmp_path: Path) -> None:
    found = study(tmp_path, latent={"mvae": [0.1], "mopoe": [0.7]})
    assert ("marked", marking.RULE) in found.facts
    assert ("chance", "a guess has 0.100, the share of the most frequent class") in found.facts
    assert "Welch" in compare([tmp_path], "tex").partition(r"\caption")[2]


def test_scores_whose_chance_is_not_known_are_not_marked(tmp_path: Path) -> None:
    """An evaluation of an earlier version: its joint coherence may be a collapsed model's."""
    found = study(tmp_path, latent={"mvae": [0.3], "mopoe": [0.7]}, chance=None)
    assert [row.cells[0].best for row in found.tables[0].rows] == [False] * 3
    assert dict(found.facts)["chance"].endswith("so no score is marked: evaluate again")


def test_the_joint_coherence_of_a_collapsed_model_is_at_chance(tmp_path: Path) -> None:
    made = recipe("own", ["a", "b"])
    coherence = evaluation(made, "own")["coherence"]
    collapsed = coherence | {"joint": 0.98, "joint_chance": 0.98, "joint_constant": {"a": "7", "b": "7"}}
    make_run(tmp_path, made, "own", coherence=collapsed)
    honest = recipe("own", ["a", "b"], "mvae")
    make_run(tmp_path, honest, "own", coherence=coherence | {"joint": 0.5, "joint_chance": 0.1})
    content = collection(tmp_path)
    joint = [row.cells[2] for row in content.tables[0].rows]
    assert [(cell_text(cell), cell.best) for cell in joint] == [
        ("0.500", False), ("0.980°", False), ("0.920", False)]  # fmt: skip
    assert (
        "a joint coherence no better than that of modalities without anything in common (0.980)"
        in content.tables[0].remarks[0]
    )
    assert content.notes == ["MoPoE-VAE, seed 0: samples from the prior are always classified alike (a: 7, b: 7)"]


def test_chance_of_an_attribute_is_its_base_rate(tmp_path: Path) -> None:
    made = recipe("celeba", ["image", "text"])
    make_run(tmp_path, made, "celeba", base_rates={"Bald": 0.02, "Young": 0.78}, chance=0.4)
    known = collection(tmp_path).groups[0].stats
    bald = known[Key("latent_per_label", "image", "", "Bald")]
    assert (bald.chance, bald.trials) == (0.02, pytest.approx(0.02 * 19867))
    assert known[Key("latent", "image")].trials == pytest.approx(0.4 * 19867)
    assert known[Key("log_likelihood", "image")].chance is None
