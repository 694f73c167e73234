"""Layouts, bests and the published numbers beside them."""

from pathlib import Path

import pytest

from mmvae_cli.comparison import published
from mmvae_cli.comparison.collect import collect
from mmvae_cli.comparison.content import Content
from mmvae_cli.comparison.measures import METRICS, Key, subsets
from mmvae_cli.comparison.tables import CEILING, EFFECTIVE, Table, cell_text
from mmvae_cli.disk.sealed import write_json
from mmvae_cli.recipe import load

from made_runs import MST, VIEWS, collection, evaluation, make_run, quality, recipe, study


def table(content: Content, part: str) -> Table:
    return next(table for table in content.tables if part in table.title)


def row(found: Table, label: str) -> list[str]:
    return [cell_text(cell) for cell in next(row for row in found.rows if row.label == label).cells]


def test_trimodal_tables_carry_the_papers_numbers_in_its_order(tmp_path: Path) -> None:
    study(tmp_path, "mnist-svhn-text", MST)
    content = collection(tmp_path)
    latent = table(content, "Table 2")
    assert [column.header for column in latent.columns] == ["M", "S", "T", "M,S", "M,T", "S,T", "M,S,T"]
    assert row(latent, "MVAE (the paper)")[:3] == ["0.90 ± 0.01", "0.44 ± 0.01", "0.85 ± 0.10"]
    coherence = table(content, "Tables 3 and 6")
    spans = ["", *["M given"] * 3, *["S given"] * 3, *["T given"] * 3]
    assert [column.span for column in coherence.columns] == spans
    assert [column.header for column in coherence.columns][1:7] == ["S", "T", "S,T", "M", "T", "M,T"]
    assert row(coherence, "MoPoE-VAE (the paper)")[:4] == ["0.31 ± 0.03", "0.74 ± 0.04", "0.99 ± 0.01", "0.94 ± 0.01"]
    assert row(coherence, "MMVAE (the paper)")[6] == "0.30 ± 0.03"
    likelihood = table(content, "Table 4")
    assert [column.header for column in likelihood.columns][:3] == ["X", "X|M", "X|S"]
    assert row(likelihood, "MVAE (the paper)")[:3] == ["-1790 ± 3.3", "-2090 ± 3.8", "-1895 ± 0.2"]
    assert not any("Table 7" in known.title for known in content.tables)


def test_table_7_appears_with_the_objective_of_equation_5(tmp_path: Path) -> None:
    for choice in ("stratified", "all"):
        made = recipe("mnist-svhn-text", MST, objective__beta=2.5, objective__component_choice=choice, name=choice)
        make_run(tmp_path, made, "mnist-svhn-text")
    seven = table(collection(tmp_path), "Table 7")
    labels = ["MoPoE-VAE Eq. (5)", "MoPoE-VAE Eq. (5) (the paper)", "MoPoE-VAE", "MoPoE-VAE (the paper)"]
    assert [known.label for known in seven.rows] == labels
    assert row(seven, "MoPoE-VAE Eq. (5) (the paper)")[0] == "-1810"
    assert row(seven, "MoPoE-VAE (the paper)")[0] == "-1815 ± 12.4"


def test_polymnist_shows_figure_3_and_its_caption(tmp_path: Path) -> None:
    study(tmp_path, "polymnist", VIEWS)
    content = collection(tmp_path)
    joint = table(content, "Joint coherence")
    assert [row(joint, f"{m} (the paper)")[0] for m in ("MVAE", "MMVAE", "MoPoE-VAE")] == [
        "0.036 ± 0.015", "0.200 ± 0.019", "0.121 ± 0.016",
    ]  # fmt: skip
    centre = table(content, "Figure 3, centre")
    assert [column.header for column in centre.columns] == ["1", "2", "3", "4"]
    assert row(centre, "MoPoE-VAE (the paper)") == ["0.66", "0.77", "0.81", "0.83"]
    assert "MultiVae" in " ".join(centre.notes)
    assert [len(table(content, part).columns) for part in ("left", "right")] == [5, 5]


def test_celeba_shows_table_5(tmp_path: Path) -> None:
    study(tmp_path, "celeba", ["image", "text"], seeds=2)
    five = table(collection(tmp_path), "Table 5")
    assert [column.header for column in five.columns] == ["I", "T", "Joint", "I → T", "T → I"]
    assert row(five, "MoPoE-VAE (the paper)") == ["0.40", "0.39", "0.39", "0.15", "0.43"]


@pytest.mark.parametrize(("classifiers", "told"), [("default, version 4", True), ("released, version 4", False),
                                                   (None, False)])  # fmt: skip
def test_coherence_judged_by_other_networks_than_the_papers_says_so(
    tmp_path: Path, classifiers: str | None, told: bool
) -> None:
    settings = {"latent_samples": 500} | ({"classifiers": classifiers} if classifiers else {})
    make_run(tmp_path, recipe("celeba", ["image", "text"]), "celeba", settings=settings)
    five = table(collection(tmp_path), "Table 5")
    assert ("measured by other classifiers than the paper's" in " ".join(five.notes)) == told


def test_celeba_tells_the_base_rate_and_every_difference_to_the_papers_setting(tmp_path: Path) -> None:
    made = recipe("celeba", ["image", "text"], objective__beta=1.0)
    make_run(tmp_path, made, "celeba", base_rates={"bald": 0.02, "young": 0.78, "never": 0.0})
    five = table(collection(tmp_path), "Table 5")
    assert five.title.endswith("a guess has 0.400, the mean base rate")
    assert row(five, "MoPoE-VAE (the paper)")[0] == "0.40"
    assert "objective.beta 1 here, 2.5 there" in " ".join(five.notes)


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, True), ({"objective__beta": 1.0}, False), ({"model__prior_expert": "none"}, False),
        ({"model__private_dim": 4}, False), ({"training__epochs": 20}, True),
    ],
)  # fmt: skip
def test_published_numbers_stand_only_beside_the_same_method(
    tmp_path: Path, changes: dict[str, object], shown: bool
) -> None:
    make_run(tmp_path, recipe("polymnist", VIEWS, **changes), "polymnist")
    assert bool(published.beside(collection(tmp_path))) == shown


def test_latents_of_a_fitted_mixture_are_not_the_papers(tmp_path: Path) -> None:
    make_run(tmp_path, recipe("polymnist", VIEWS), "polymnist", sampler="gmm")
    content = collection(tmp_path)
    assert "latents drawn from gmm here, from the prior there" in " ".join(table(content, "Joint coherence").notes)
    assert "drawn from gmm" not in " ".join(table(content, "Figure 3, centre").notes)


def test_differences_to_the_paper_are_told(tmp_path: Path) -> None:
    made = recipe("polymnist", VIEWS, training__epochs=20, model__latent_dim=64)
    data = evaluation(made, "polymnist")["dataset"] | {"stand_in": "embedded digits"}
    make_run(tmp_path, made, "polymnist", dataset=data)
    content = collection(tmp_path)
    note = " ".join(table(content, "Joint coherence").notes)
    for part in ("stand-in data", "model.latent_dim 64 here, 512 there", "training.epochs 20 here", "eval mode"):
        assert part in note
    assert content.warning == "embedded digits"


@pytest.mark.parametrize(("changes", "told"), [
    ({}, ""),
    ({"objective__beta": 10.0, "objective__beta_content": 0.5}, "objective.beta_content 0.5 here, 1 there"),
    ({"objective__kl": "mixture"}, "objective.kl mixture here, components there"),
    ({"objective__likelihood_weights": "equal"}, "objective.likelihood_weights equal here, by_size there"),
    ({"objective__component_choice": "random"}, "objective.component_choice random here, stratified there"),
    ({"training__batch_size": 64}, "training.batch_size 64 here, 256 there"),
    ({"training__precision": "bf16"}, "training.precision bf16 here, fp32 there"),
    ({"training__learning_rate": 5e-4}, "training.learning_rate 0.0005 here, 0.001 there"),
    ({"training__missing__rate": 0.2}, "training.missing.rate 0.2, rows keep here; all items, complete, there"),
    ({"training__missing__rate": 0.2, "training__missing__rows": "drop"}, "training.missing.rate 0.2, rows drop here"),
    ({"training__missing__rate": 0.0}, ""),
])  # fmt: skip
def test_every_setting_that_is_not_the_papers_is_told(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    """All that the shipped recipe says, the likelihoods and networks of every modality included."""
    made = load("mst_mopoe", [f"{key.replace('__', '.')}={value}" for key, value in changes.items()])
    data = evaluation(made, "mnist-svhn-text")["dataset"] | {"count": 200000}
    make_run(tmp_path, made, "mnist-svhn-text", dataset=data)
    (latent,) = [p for p in published.beside(collection(tmp_path)) if p.key_metrics == {"latent"}]
    always = {"protocol default here, the released code there",
              "modalities.text.likelihood categorical here; the released code's is categorical_released"}  # fmt: skip
    assert told in " | ".join(latent.differences)
    assert bool(set(latent.differences) - always) == bool(told)


@pytest.mark.parametrize(("name", "by", "coherence", "told"), [
    ("polymnist_mvtcae", "MVTCAE paper", "0.590", set()), 
    ("polymnist_mmjsd", "MVTCAE paper", "0.692",
     {"the posterior of several views is their dynamic prior there, a mixture of them here"}),
    ("polymnist_mmvaeplus", "MMVAE+ paper", "0.869", set()), ("polymnist_mopoe", "MultiVae", "0.67", set()),
    ("polymnist_mvtcae", "MultiVae", "0.64", {"model.latent_dim 512 here, 128 there",
     "modalities.*.network image28 here, resnet28 there", "modalities.*.scale 0.75 here, 1 there",
     "training.batch_size 256 here, 128 there"}),
])  # fmt: skip
def test_numbers_of_other_papers_stand_beside_their_methods_with_what_differs(
    tmp_path: Path, name: str, by: str, coherence: str, told: set[str]
) -> None:
    """MVTCAE's authors left the classifiers in train mode, the others did not."""
    make_run(tmp_path, load(name), "polymnist")
    found = collection(tmp_path)
    (one,) = [p for p in published.beside(found) if p.by == by and p.key_metrics == {"coherence_by_size"}]
    train = {"protocol default has its classifiers in eval mode; the released code leaves them in train mode"}
    items = {remark for remark in one.differences if "items evaluated" in remark}
    classifiers = {"measured by other classifiers than the paper's"}
    assert set(one.differences) - items == told | classifiers | (train if by == "MVTCAE paper" else set())
    centre = table(found, "centre")
    assert row(centre, one.label)[0] == coherence


def test_beta_counts_as_it_acts(tmp_path: Path) -> None:
    make_run(tmp_path, recipe("polymnist", VIEWS, objective__beta_content=0.5), "polymnist")
    assert published.beside(collection(tmp_path)) == [], "2.5 * 0.5 is not the paper's beta"


def test_what_differs_in_all_modalities_is_told_once_and_the_evaluations_settings_too(tmp_path: Path) -> None:
    made = recipe("polymnist", VIEWS)
    known = evaluation(made, "polymnist")
    settings = known["settings"] | {"subsets_per_size": 2, "latent_samples": 5000}
    likelihood = known["likelihood"] | {"count": 100}
    make_run(tmp_path, made, "polymnist", settings=settings, likelihood=likelihood)
    found = collection(tmp_path)
    notes = " ".join(remark for one in published.beside(found) for remark in one.differences)
    assert "modalities.*.network conv here, image28 there" in notes
    assert "at most 2 subsets of each size here" in notes
    assert "5,000 items to fit the classifiers here, 500 there" in notes
    assert "means by size over at most 2 drawn subsets of each" in " ".join(found.header)


@pytest.mark.parametrize("views", [VIEWS[:3], [*VIEWS[1:], "m5"]])
def test_other_views_have_no_published_numbers(tmp_path: Path, views: list[str]) -> None:
    make_run(tmp_path, recipe("polymnist", views), "polymnist")
    assert published.beside(collection(tmp_path)) == []


@pytest.mark.parametrize(("name", "modalities"), [("polymnist_mine", VIEWS), ("celeba-hq", ["image", "text"])])
def test_data_of_another_name_have_no_published_numbers(tmp_path: Path, name: str, modalities: list[str]) -> None:
    made = recipe(name, modalities, objective__beta=2.5)
    make_run(tmp_path, made, name)
    assert published.beside(collection(tmp_path)) == []
    assert published.experiment(collection(tmp_path)) == ""


def test_published_file_names_known_metrics_and_modalities() -> None:
    modalities = {"polymnist": VIEWS, "mnist-svhn-text": MST, "celeba": ["image", "text"]}
    for entry in published.contents()["entries"]:
        assert entry["metric"] in METRICS
        known = set(subsets(modalities[entry["dataset"]])) | {"", *"12345"}
        for values in entry["values"].values():
            for name, value in values.items():
                key = Key(entry["metric"], *name.split(" -> "))
                assert key.subset in known
                assert key.target in {"", *modalities[entry["dataset"]]}
                assert len(value) in (1, 2)


def test_best_is_the_largest_mean_by_far_and_none_for_one_group(tmp_path: Path) -> None:
    study(tmp_path / "three", "polymnist", VIEWS)
    summary = collection(tmp_path / "three").tables[0]
    best = [*[[False] * 6] * 2, [True] * 6, [False] * 6]
    assert [[cell.best for cell in known.cells] for known in summary.rows] == best
    study(tmp_path / "one", "polymnist", VIEWS)
    alone = collection(*(tmp_path / "one").glob("*mopoe*")).tables[0]
    assert not any(cell.best for cell in alone.rows[0].cells)


def test_tables_of_coherence_end_with_what_real_data_score(tmp_path: Path) -> None:
    study(tmp_path / "mst", "mnist-svhn-text", MST)
    content = collection(tmp_path / "mst")
    coherence, rows = table(content, "Tables 3 and 6"), {t.title: [r.label for r in t.rows] for t in content.tables}
    assert coherence.rows[-1].label == CEILING
    assert row(coherence, CEILING) == ["0.920", *["0.950"] * 3, *["0.960"] * 3, *["0.970"] * 3]
    assert row(table(content, "Summary"), CEILING) == ["-", "-", "0.920", "0.960", "0.960", "-"]
    assert not any(CEILING in labels for title, labels in rows.items() if "Table 2" in title or "Table 4" in title)
    study(tmp_path / "celeba", "celeba", ["image", "text"], seeds=1)
    content = collection(tmp_path / "celeba")
    assert row(table(content, "Table 5"), CEILING)[-2:] == ["0.960", "0.950"], "of the target"
    assert set(row(table(content, "Figure 12"), CEILING)) == {"0.970"}


def test_an_evaluation_without_ceilings_of_the_joint_has_a_dash(tmp_path: Path) -> None:
    made = recipe("own", ["a", "b"])
    make_run(tmp_path, made, "own", coherence=evaluation(made, "own")["coherence"] | {"joint_ceiling": None})
    assert row(collection(tmp_path).tables[0], CEILING)[2:4] == ["-", "0.955"]


def test_unknown_data_get_every_subset(tmp_path: Path) -> None:
    study(tmp_path, "own", ["a", "b", "c"], seeds=2)
    content = collection(tmp_path)
    assert [c.key for c in table(content, "per subset").columns] == [Key("latent", s) for s in subsets(["a", "b", "c"])]
    assert len(table(content, "source → target").columns) == 9
    assert content.published == []


def test_effective_samples_stand_below_the_log_likelihoods_with_what_they_mean(tmp_path: Path) -> None:
    for seed, few in enumerate((1.1, 1.5)):
        made = recipe("mnist-svhn-text", MST, training__seed=seed)
        content = evaluation(made, "mnist-svhn-text")["likelihood"]
        counts = {s: few * (s.count("+") + 1) for s in subsets(MST)}
        make_run(tmp_path, made, "mnist-svhn-text", likelihood=content | {"effective_samples": counts})
    likelihood = table(collection(tmp_path), "Table 4")
    assert [known.label for known in likelihood.rows] == ["MoPoE-VAE", EFFECTIVE, "MoPoE-VAE (the paper)"]
    assert row(likelihood, EFFECTIVE)[:2] == ["3.9 ± 0.8", "1.3 ± 0.3"]
    assert "near 1, one sample outweighs all others" in likelihood.remarks[-1]
    assert not likelihood.rows[1].cells[0].best
    study(tmp_path / "earlier", "mnist-svhn-text", MST, seeds=1)
    earlier = table(collection(tmp_path / "earlier"), "Table 4")
    assert EFFECTIVE not in [known.label for known in earlier.rows]
    assert not any("effective" in remark for remark in earlier.remarks)


def test_four_numbers_of_every_method_with_the_lower_distance_marked(tmp_path: Path) -> None:
    for method, near in (("mopoe", 4.0), ("mmvae", 2.0)):
        for seed in range(3):
            make_run(tmp_path, recipe("polymnist", VIEWS, method, training__seed=seed), "polymnist",
                     quality=quality(VIEWS, near + seed / 100, 9.0))  # fmt: skip
    four = table(collection(tmp_path), "Coherence from one modality, and FD in the classifiers' features")
    assert {c.span for c in four.columns[2:]} == {"FD in the classifiers' features"}
    assert [c.header for c in four.columns[2:]] == ["conditional, mean of all pairs", "unconditional"]
    assert row(four, "MMVAE")[2:] == ["2.01 ± 0.01", "9.00 ± 0.00"]
    assert [cell.best for known in four.rows[:2] for cell in known.cells[2:]] == [True, False, False, False]
    assert "pairs default, 10,000 real test items" in four.title


def test_a_papers_fid_stands_beside_with_what_is_not_the_same(tmp_path: Path) -> None:
    made = recipe("polymnist", VIEWS, "mopoe")
    path = make_run(tmp_path, made, "polymnist", quality=quality(VIEWS))
    each = table(collection(tmp_path), "features, source → target")
    beside = next(known for known in each.rows if known.label == "MoPoE-VAE (MVTCAE paper)")
    column = [c.header for c in each.columns].index("m1 → m0")
    assert cell_text(beside.cells[column]) == "170"
    note = each.notes[beside.marks[0] - 1]
    assert "features classifier here, inception there; pairs default here, mvtcae there" in note
    assert "real samples test here, train there; distances in other features are on another scale" in note
    same = quality(VIEWS, features="inception", pairs="mvtcae", reference_split="train")
    write_json(path / "evaluation.json", evaluation(made, "polymnist", quality=same))
    again = table(collection(tmp_path), "FID, source → target")
    assert "inception there" not in " ".join(again.notes)
    assert "on another scale" not in " ".join(again.notes)
    write_json(path / "evaluation.json", evaluation(made, "polymnist", quality=same | {"weights": {"m0": "ab12"}}))
    forced = table(collection(tmp_path), "FD (Inception of other weights, ab12...), source → target")
    assert "on another scale" in " ".join(forced.notes), "weights taken by --force give no FID"


def test_the_fid_of_mmvaeplus_is_told_to_hold_reconstructions_of_another_kind(tmp_path: Path) -> None:
    """A view from itself: with its own private latent there, with one of the prior here (equations 6.6)."""
    measured = quality(VIEWS, features="inception", pairs="mmvaeplus")
    few = {"latent_samples": 500, "subsets_per_size": 2}
    make_run(tmp_path, load("polymnist_mmvaeplus"), "polymnist", quality=measured, settings=few)
    four = table(collection(tmp_path), "Coherence from one modality, and FID")
    assert row(four, "MMVAE+ (MMVAE+ paper)")[2] == "92.81"
    assert "keeps its own private latent there" in " ".join(four.notes)
    assert "at most 2 subsets of each size here" in " ".join(four.notes)


def test_runs_of_other_features_or_counts_do_not_stand_in_one_column(tmp_path: Path) -> None:
    for seed, changes in enumerate([{}, {}, {"features": "inception"}, {"generated": 500}]):
        make_run(tmp_path, recipe("polymnist", VIEWS, training__seed=seed), "polymnist",
                 quality=quality(VIEWS, **changes))  # fmt: skip
    found = collect([tmp_path])
    assert [m.evaluation.quality is not None for m in found.contents[0].members] == [True, True, False, False]
    assert {item.reason for item in found.left_out} == {
        "quality: measured differently: features inception (the others: classifier)",
        "quality: measured differently: generated 500 (the others: 10000)"}  # fmt: skip
