"""Learning curves of the runs that are compared, and of those that are not finished."""

import json
import re
from pathlib import Path

import pytest

from mmvae_cli.comparison import collect, compare, curves, plots
from mmvae_cli.comparison.measures import subsets
from mmvae_cli.drawing.plots import COLOURS, SCREEN
from mmvae_cli.process.errors import DataProblem
from mmvae_cli.run.layout import Run

from made_runs import MST, VIEWS, collection, make_run, recipe

TERMS = ("loss", "elbo", "log_likelihood.mnist", "kl.shared", "kl.private.svhn", "items_per_second")


def log(folder, *, start: float = 100.0, steps: int = 40) -> None:
    Run(folder).log([
        {"step": step, "steps": 5, "epoch": 1, "learning_rate": 1e-3, "seconds": step / 10, "memory_mib": 9,
         **dict.fromkeys(TERMS, start - step / 10), "kl.mnist+svhn": step / 4, "kl.text": step / 8}
        for step in range(5, 5 * steps + 1, 5)
    ])  # fmt: skip


@pytest.fixture
def study(tmp_path):
    for method in ("mvae", "mopoe"):
        for seed in (0, 1):
            log(make_run(tmp_path, recipe("polymnist", MST, method, training__seed=seed), "polymnist"))
    return tmp_path


def young_run(parent, state: str = "running", name: str = "young"):
    folder = make_run(parent, recipe("polymnist", MST), "polymnist", evaluated=False, folder=name)
    Run(folder).set_status(state, epoch=1, step=100, total_steps=400)
    log(folder, steps=20)
    return folder


def lines(axis) -> list[str]:
    return [line.get_label() for line in axis.lines]


def test_a_panel_for_each_term_and_a_line_for_each_run(study):
    made = collection(study)
    terms, components = curves.wanted(made)
    figure = terms.drawing(made, SCREEN)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [
        "loss (weighted)",
        "ELBO",
        "log-likelihood mnist",
        "kl shared",
        "kl private svhn",
        "speed, items/s",
    ]
    assert lines(figure.axes[0]) == ["MVAE", "MVAE", "MoPoE-VAE", "MoPoE-VAE"]
    assert list(figure.axes[0].lines[0].get_xdata()[:2]) == [5, 10]
    assert figure.axes[0].lines[0].get_ydata()[0] == 99.5
    figure = components.drawing(made, SCREEN)
    assert [axis.get_title() for axis in figure.axes] == ["MVAE", "MoPoE-VAE"]
    assert lines(figure.axes[0]) == ["mnist+svhn", "text"]


def test_that_every_row_has_a_modality_is_no_curve(study):
    """As it is logged of complete data; a share below one is shown."""
    folder = next(study.iterdir())
    Run(folder).log([{"step": 300 + i, "loss": 2.0, "present.mnist": 1.0, "present.svhn": 0.5 + i / 2} for i in (0, 1)])
    made = collection(study)
    titles = {axis.get_title() for axis in curves.wanted(made)[0].drawing(made, SCREEN).axes}
    assert {title for title in titles if "present" in title} == {"present svhn"}


def test_many_components_are_told_apart_by_their_size(tmp_path):
    folder = make_run(tmp_path, recipe("polymnist", VIEWS), "polymnist")
    Run(folder).log([{"step": 1, "loss": 2.0, **{f"kl.{subset}": 1.0 for subset in subsets(VIEWS)}}])
    made = collection(tmp_path)
    (axis,) = curves.wanted(made)[1].drawing(made, SCREEN).axes
    assert len(axis.lines) == 31
    assert list(dict.fromkeys(lines(axis))) == ["1 modality", *(f"{size} modalities" for size in range(2, 6))]
    assert len({line.get_color() for line in axis.lines}) == 5


def test_components_of_single_modalities_bounds_are_drawn_on_one_axis_for_all(study):
    """MVAE adds the bounds of single modalities: theirs are components too."""
    for folder in study.glob("*mvae*"):
        Run(folder).log([{"step": 300 + i, "loss": 2.0, "unimodal.kl.mnist": 500.0} for i in (0, 1)])
    made = collection(study)
    terms, components = curves.wanted(made)
    axes = components.drawing(made, SCREEN).axes
    assert "mnist" in lines(axes[0])
    assert len({axis.get_ylim() for axis in axes}) == 1
    drawn = {line.get_color() for axis in axes for line in axis.lines}
    assert not drawn & set(COLOURS)
    assert not any("unimodal" in axis.get_title() for axis in terms.drawing(made, SCREEN).axes)


def test_a_regulariser_of_another_prior_is_no_kl_of_a_component(tmp_path):
    """With a pairwise prior a bound of one modality pays other distances than that to p(z)."""
    custom = {"model__subsets": "full_and_singletons", "model__fusion": "product", "model__prior_expert": "none",
              "objective__component_weights": "sum", "objective__component_choice": "all"}  # fmt: skip
    folder = make_run(tmp_path, recipe("polymnist", MST, "custom", objective__prior="pairwise", **custom), "polymnist")
    Run(folder).log([{"step": 1, "loss": 2.0, "kl.mnist": 3.0, "unimodal.kl.mnist": 500.0}])
    made = collection(tmp_path)
    terms, components = curves.wanted(made)
    (axis,) = components.drawing(made, SCREEN).axes
    assert [list(line.get_ydata()) for line in axis.lines] == [[3.0]]
    assert "unimodal kl mnist" in [one.get_title() for one in terms.drawing(made, SCREEN).axes]


def test_long_curves_are_thinned_and_a_change_of_the_terms_is_no_trouble(study):
    folder = next(study.iterdir())
    log(folder, steps=2000)
    Run(folder).log([{"step": 20000, "new": 1.0}])
    made = collection(study)
    found = curves.wanted(made)[0].drawing(made, SCREEN)
    assert max(len(line.get_xdata()) for axis in found.axes for line in axis.lines) <= 200


def test_a_point_of_a_thinned_curve_is_the_mean_over_all_of_its_steps():
    part = [{"step": 50, "steps": 50, "loss": 1.0}, {"step": 60, "steps": 10, "loss": 7.0, "kl.m0": 3.0}]
    assert curves._means(part) == pytest.approx({"steps": 130 / 3, "loss": 2.0, "kl.m0": 3.0})


def test_runs_without_records_have_no_curves(tmp_path):
    make_run(tmp_path, recipe("polymnist", MST), "polymnist")
    assert not [plot for plot in plots.draw(collection(tmp_path)) if "curves" in plot.name]


def test_curves_are_files_beside_the_comparison(study, tmp_path):
    compare.compare([study], "md", tmp_path / "out")
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert {
        "comparison-learning-curves.png",
        "comparison-learning-curves.svg",
        "comparison-kl-by-component.svg",
    } <= made
    assert "![How training went](comparison-learning-curves.png)" in (tmp_path / "out" / "comparison.md").read_text()


# unfinished runs -----------------------------------------------------------------------------------------------------


def test_an_unfinished_run_alone_shows_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    young = young_run(Path())
    text = compare.compare([young])
    assert "Unfinished runs, in no average" in text
    assert re.search(r"running +1 of 300 +100 of 400 +90\.0 +90\.0 +90\.0 +30s", text)
    found = json.loads(compare.compare([young], "json"))
    assert found["groups"] == []
    assert found["unfinished"][0]["last"]["loss"] == 90.0
    assert found["unfinished"][0]["seconds_left"] == pytest.approx(30.0)


def test_unfinished_runs_stand_beside_finished_ones_in_no_average(study, tmp_path):
    young_run(study, "stopped", "a <b>young run")
    found = collect.collect([study])
    assert [run.name for run in found.unfinished] == ["a <b>young run"]
    assert len(found.contents[0].members) == 4
    path = compare.compare([study], "html", tmp_path / "out")
    page = Path(path).read_text(encoding="utf-8")
    assert "How training went, of unfinished runs." in page
    assert "a &lt;b&gt;young run" in page
    assert "<b>young" not in page
    assert (tmp_path / "out" / "comparison-unfinished-learning-curves.png").is_file()


@pytest.mark.parametrize("kind", ["md", "csv", "tex", "json", "html", "table"])
def test_every_format_takes_unfinished_runs_alone(tmp_path, kind):
    path = compare.compare([young_run(tmp_path)], kind, tmp_path / "out")
    assert (tmp_path / "out").joinpath(path).stat().st_size > 0


def test_a_run_that_has_logged_nothing_is_left_out_as_ever(tmp_path):
    folder = make_run(tmp_path, recipe("polymnist", MST), "polymnist", evaluated=False, state="running")
    with pytest.raises(DataProblem, match="no run can be compared"):
        compare.compare([folder])
    Run(folder).log([{"step": 1, "loss": 2.0}])
    assert "running" in compare.compare([folder])
