"""What figures show: sweeps of any data, groups that can be told apart, axes that claim nothing."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmvae_cli.comparison import groups as grouping
from mmvae_cli.comparison import looks, plots
from mmvae_cli.comparison.content import Content
from mmvae_cli.comparison.groups import Group, Member, group
from mmvae_cli.comparison.measures import Key, Stat
from mmvae_cli.comparison.tables import CEILING
from mmvae_cli.drawing import plots as drawing
from mmvae_cli.drawing.plots import SCREEN
from mmvae_cli.recipe import Recipe
from mmvae_cli.recipe.methods import Method

from made_runs import MST, VIEWS, collection, evaluation, make_run, recipe, study


def content(folder: Path) -> Content:
    return collection(folder)


def drawn(found: Content, name: str) -> Any:
    """The matplotlib figure of that name."""
    with drawing.style():
        return next(one for one in plots.wanted(found) if one.name == name).drawing(found, SCREEN)


def grouped(recipes: list[Recipe]) -> list[Group]:
    return group([Member(Path(), made, SimpleNamespace(), {}, given=Path()) for made in recipes])  # type: ignore[arg-type]


def of_method(monkeypatch: pytest.MonkeyPatch, method: str) -> Recipe:
    """A recipe of a method that the schema need not know."""
    monkeypatch.setitem(grouping.METHODS, method, Method(method, "an idea", "a paper", 2026, {}))
    made = recipe("own", VIEWS)
    return made.model_copy(update={"name": method, "model": made.model.model_copy(update={"method": method})})


def test_a_method_with_an_underscore_is_a_method_of_its_own() -> None:
    found = grouped([recipe("own", VIEWS, name) for name in ("mvae_original", "mmvae_dreg", "mvae", "mmvae")])
    assert {one.label: one.method for one in found} == {
        "MVAE": "mvae", "MVAE (original)": "mvae_original", "MMVAE": "mmvae", "MMVAE (DReG)": "mmvae_dreg",
    }  # fmt: skip


def test_all_components_are_equation_5_for_the_papers_method_alone() -> None:
    made = [recipe("own", VIEWS, method, objective__component_choice=choice)
            for method in ("mmvae", "mopoe") for choice in ("stratified", "all")]  # fmt: skip
    labels = [one.label for one in grouped(made)]
    assert labels == ["MMVAE component_choice=all", "MMVAE", "MoPoE-VAE Eq. (5)", "MoPoE-VAE"]


def test_a_label_names_as_many_differences_as_there_is_room_for() -> None:
    made = [recipe("own", ["a", "b"], objective__beta=beta, model__latent_dim=latent, training__batch_size=latent,
                   training__learning_rate=beta / 1e4) for beta, latent in ((1.0, 16), (5.0, 64))]  # fmt: skip
    labels = [one.label for one in grouped(made)]
    assert len({*labels}) == 2
    for label in labels:
        assert label.startswith("MoPoE-VAE latent_dim=")
        assert label.endswith(", ...")


def test_many_groups_have_looks_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    found = grouped([of_method(monkeypatch, f"method_{i}") for i in range(40)])
    chosen = looks.looks(found)
    assert len({(look.colour, look.marker) for look in chosen}) == 40
    assert len({look.colour for look in chosen[:16]}) == len({look.marker for look in chosen[:16]}) == 16


def test_a_sweep_has_a_colour_for_each_beta_and_a_marker_for_each_method(tmp_path: Path) -> None:
    found = content(study(tmp_path, "own", VIEWS, betas=(0.5, 1.0, 5.0), seeds=1))
    chosen = dict(zip([one.label for one in found.groups], looks.looks(found.groups), strict=True))
    for beta in ("0.5", "1", "5"):
        assert len({look.colour for label, look in chosen.items() if label.endswith(f"={beta}")}) == 1
    assert len({look.colour for look in chosen.values()}) == 3
    assert len({look.marker for look in chosen.values()}) == 3
    axis = drawn(found, "by-number-of-inputs").axes[0]
    assert len({line.get_color() for line in axis.lines if line.get_label() not in ("chance", CEILING)}) == 3


def test_published_lines_have_the_marker_of_their_method(tmp_path: Path) -> None:
    """Two methods of one beta share a colour in a sweep."""
    found = content(study(tmp_path, "polymnist", VIEWS, betas=(1.0, 2.5), seeds=1))
    lines = {line.get_label(): line for line in drawn(found, "by-number-of-inputs").axes[1].lines}
    ours, theirs = lines["MVAE beta=2.5"], lines["MVAE (MVTCAE paper)"]
    assert (ours.get_color(), ours.get_marker()) == (theirs.get_color(), theirs.get_marker())
    other = lines["MoPoE-VAE (the paper)"]
    assert (other.get_color(), other.get_marker()) == (theirs.get_color(), lines["MoPoE-VAE beta=1"].get_marker())
    assert other.get_marker() != theirs.get_marker()
    assert list(other.get_ydata()) == [0.66, 0.77, 0.81, 0.83]


def test_published_values_that_were_measured_otherwise_are_told_and_not_drawn(tmp_path: Path) -> None:
    for method in ("mopoe", "mmjsd"):
        make_run(tmp_path, recipe("polymnist", VIEWS, method), "polymnist")
    found = content(tmp_path)
    left, centre, _ = drawn(found, "by-number-of-inputs").axes
    assert not [line for line in left.lines if "paper" in str(line.get_label())]
    assert {line.get_label() for line in centre.lines if "(" in str(line.get_label())} == {
        "MoPoE-VAE (the paper)", "MoPoE-VAE (MVTCAE paper)", "MoPoE-VAE (MultiVae)"}  # fmt: skip
    about = next(plot.about for plot in plots.draw(found) if plot.name == "by-number-of-inputs")
    assert "the released code leaves them in train mode" in about
    assert "MoPoE-VAE (MVTCAE paper): one classifier for all subsets there, one for each here" in about
    assert "mmJSD (MVTCAE paper): the posterior of several views is their dynamic prior there" in about


def test_captions_say_what_joint_samples_are_drawn_from(tmp_path: Path) -> None:
    for sampler in ("prior", "gmm"):
        found = content(study(tmp_path / sampler, "own", ["a", "b"], betas=(1.0, 5.0), seeds=1, sampler=sampler))
        about = next(one.about for one in plots.wanted(found) if one.name == "joint-tradeoff")
        assert f"the share of samples from the {sampler} that" in about


def test_chance_is_drawn_where_scores_are(tmp_path: Path) -> None:
    found = content(study(tmp_path, "own", ["a", "b"], betas=(1.0, 5.0), seeds=1))
    figure = drawn(found, "by-number-of-inputs")
    lines = [{line.get_label(): line.get_ydata()[0] for line in axis.lines} for axis in figure.axes]
    assert [known.get("chance", 0) for known in lines] == pytest.approx([0.1, 0.1, 0]), "log-likelihoods have none"
    assert [text.get_text() for text in figure.legends[0].get_texts()][-1] == "chance"
    assert {line.get_label() for line in drawn(found, "one-given-one").axes[0].lines} >= {"chance"}
    (joint,) = drawn(found, "joint-tradeoff").axes
    marks = next(one for one in joint.collections if one.get_label() == looks.JOINT_CHANCE)
    assert {y for _, y in marks.get_offsets().tolist()} == {0.001}
    assert len(marks.get_offsets()) == 6


def test_what_real_data_score_is_drawn_where_coherence_is(tmp_path: Path) -> None:
    found = content(study(tmp_path, "own", ["a", "b"], betas=(1.0, 5.0), seeds=1))
    figure = drawn(found, "by-number-of-inputs")
    lines = [{line.get_label(): line.get_ydata()[0] for line in axis.lines} for axis in figure.axes]
    assert [known.get(CEILING, 0) for known in lines] == pytest.approx([0, 0.955, 0])
    each = {axis.get_title(): axis for axis in drawn(found, "one-given-one").axes}
    heights = {title: line.get_ydata()[0] for title, axis in each.items()
               for line in axis.lines if line.get_label() == CEILING}  # fmt: skip
    assert heights == pytest.approx({"b given a": 0.96, "a given b": 0.95}), "the target's"
    (joint,) = drawn(found, "joint-tradeoff").axes
    assert joint.get_ylim()[1] == 0.5
    assert CEILING not in {line.get_label() for line in joint.lines}, "0.92 is outside"


@pytest.mark.parametrize(("data", "modalities", "names"), [
    ("own", VIEWS, {"joint-tradeoff", "tradeoff-by-number-of-inputs"}),
    ("own", ["a", "b", "c"], {"joint-tradeoff", "one-given-two", "two-given-one"}),
    ("own", ["a", "b"], {"joint-tradeoff", "one-given-one"}),
    ("mnist-svhn-text", MST, {"joint-tradeoff", "one-given-two", "two-given-one"}),
    ("celeba", ["image", "text"], {"one-given-one", "attributes-generation", "attributes-representation"}),
])  # fmt: skip
def test_sweeps_over_beta_are_drawn_for_any_data(
    tmp_path: Path, data: str, modalities: list[str], names: set[str]
) -> None:
    found = plots.draw(content(study(tmp_path, data, modalities, betas=(1.0, 5.0), seeds=1)))
    assert {plot.name for plot in found} - {"by-number-of-inputs"} == names
    assert any("(the paper's Figure 1)" in plot.title for plot in found) == (data == "mnist-svhn-text")
    told = {plot.name: plot.about for plot in found}.get("one-given-one", "")
    assert ("average precision" in told) == (data == "celeba")


def test_without_a_sweep_each_method_is_a_mark(tmp_path: Path) -> None:
    """Two methods, each with one beta of its own, and one without a log-likelihood."""
    for method, beta in (("mvae", 1.0), ("mopoe", 2.5)):
        make_run(tmp_path, recipe("own", VIEWS, method, objective__beta=beta), "own")
    make_run(tmp_path, recipe("own", VIEWS, "mmvm"), "own", likelihood=None)
    found = content(tmp_path)
    assert [plot.name for plot in plots.draw(found)] == ["by-number-of-inputs", "tradeoffs"]
    figure = drawn(found, "tradeoffs")
    labels = [[one.get_label() for one in axis.containers] for axis in figure.axes]
    assert labels == [["MVAE", "MoPoE-VAE"], ["MVAE", "MoPoE-VAE"], ["MVAE", "MoPoE-VAE", "MMVM-VAE"]]
    stats = found.groups[0].stats
    (x,), (y,) = figure.axes[2].containers[0].lines[0].get_data()
    assert (x, y) == (stats[Key("coherence_by_size", "1")].mean, stats[Key("joint_coherence")].mean)
    assert figure.axes[2].get_xlim() == (0, 1)


def test_one_method_has_no_tradeoff(tmp_path: Path) -> None:
    make_run(tmp_path, recipe("own", VIEWS), "own")
    assert [plot.name for plot in plots.draw(content(tmp_path))] == ["by-number-of-inputs"]


def test_attributes_of_any_data_are_drawn(tmp_path: Path) -> None:
    made = recipe("mine", ["a", "b"])
    faces = evaluation(recipe("celeba", ["a", "b"]), "celeba")
    make_run(tmp_path, made, "mine", latent=faces["latent"], coherence=faces["coherence"])
    titles = [plot.title for plot in plots.draw(content(tmp_path))]
    assert titles[1:] == ["How well generated samples show each attribute",
                          "How well each attribute can be read off the latent representation"]  # fmt: skip
    for name, known in (("attributes-generation", True), ("attributes-representation", False)):
        marks = [one for one in drawn(content(tmp_path), name).axes[0].collections if one.get_label() == CEILING]
        assert bool(marks) == known
        assert all(y == 0.97 for one in marks for segment in one.get_segments() for _, y in segment)


def test_score_axes_show_what_a_score_can_be(tmp_path: Path) -> None:
    for seed, value in enumerate((0.7, 1.0)):
        made = recipe("own", ["a", "b"], training__seed=seed)
        latent = {"metric": "accuracy", "values": {"a": value, "b": value, "a+b": value}}
        make_run(tmp_path, made, "own", latent=latent)
    axis = drawn(content(tmp_path), "by-number-of-inputs").axes[0]
    assert axis.get_ylim() == (0, 1)
    (band,) = axis.collections
    heights = [y for path in band.get_paths() for _, y in path.vertices]
    assert max(heights) == 1.0
    assert min(heights) == pytest.approx(0.85 - 0.3 / 2**0.5)


@pytest.mark.parametrize(("values", "top"), [([0.1, 0.102], 0.5), ([0.1, 0.6], 1.0), ([], 1.0)])
def test_a_score_axis_is_not_zoomed_into_noise(values: list[float], top: float) -> None:
    axis = drawing.figure(3, 3).subplots()
    looks.score_axis(axis, [Stat(value, None, 1) for value in values])
    assert axis.get_ylim() == (0, top)


def test_a_likelihood_axis_is_not_zoomed_into_noise() -> None:
    low, high = looks.nats_limits([Stat(-1800.0, 2.0, 3), Stat(-1801.0, None, 1)])
    assert high - low == pytest.approx(18.02)
    assert low < -1802
    assert high > -1798
    low, high = looks.nats_limits([Stat(-1800.0, 10.0, 3), Stat(-2000.0, None, 1)])
    assert (low, high) == pytest.approx((-2021.0, -1769.0))


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "qt4agg"])
def test_settings_of_a_notebook_or_another_program_change_nothing(tmp_path: Path, backend: str) -> None:
    make_run(tmp_path / "runs", recipe("own", ["a", "b"]), "own")
    for where, rc in (
        ("plain", ""),
        ("set", "axes.facecolor: red\nfont.size: 30\ntext.usetex: True\nsavefig.dpi: 20\n"),
    ):
        folder = tmp_path / where
        folder.mkdir()
        (folder / "matplotlibrc").write_text(rc)
        environment = {"MPLBACKEND": backend} if rc else {}
        command = [sys.executable, "-m", "mmvae_cli", "compare", "../runs", "--format", "html", "--out", "out"]
        done = subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
    for name in ("comparison.html", "comparison-by-number-of-inputs.png"):
        assert (tmp_path / "set/out" / name).read_bytes() == (tmp_path / "plain/out" / name).read_bytes()


def test_a_matplotlibrc_that_is_no_text_is_named(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", recipe("own", ["a", "b"]), "own")
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe")
    command = [sys.executable, "-m", "mmvae_cli", "compare", "runs", "--format", "html"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the file matplotlibrc in this folder is no UTF-8 text\n")
