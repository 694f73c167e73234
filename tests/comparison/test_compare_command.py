"""The verb as a user drives it: formats, files, messages, exit codes."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.backends.backend_agg  # noqa: F401 - loaded once: the children have it
import pytest
from driving import completed

from mmvae_cli.comparison import plots, report, sample_images
from mmvae_cli.comparison.compare import compare
from mmvae_cli.comparison.groups import sweeps_of
from mmvae_cli.evaluation import report as measured
from mmvae_cli.process.errors import Stopped

from made_runs import MST, VIEWS, collection, evaluation, make_run, png, recipe, study

HOSTILE = '<script>alert("x")</script>$x_'


def mmvae(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return completed("compare", *arguments, cwd=cwd, **environment)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study(tmp_path_factory.mktemp("runs") / "poly", "polymnist", VIEWS, figures=True)


def test_table_is_plain_and_marks_the_best(runs: Path, tmp_path: Path) -> None:
    done = mmvae(runs, cwd=tmp_path, COLUMNS="110")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert "ddof 1" in done.stdout
    assert "MoPoE-VAE (n=3)" in done.stdout
    summary = done.stdout.split("\n\n")[1]
    assert summary.count("*") == 6
    assert max(len(line) for line in summary.splitlines()) <= 110
    assert list(tmp_path.iterdir()) == []


def test_csv_and_json_hold_the_same_numbers_at_full_precision(runs: Path) -> None:
    document = json.loads(compare([runs], "json"))
    assert "\n" not in compare([runs], "json")
    rows = list(csv.DictReader(io.StringIO(compare([runs], "csv"))))
    ours = [row for row in rows if row["source"] == "this comparison"]
    values = [value for group in document["groups"] for value in group["values"]]
    assert [float(row["mean"]) for row in ours] == [value["mean"] for value in values]
    assert [float(row["std"]) for row in ours] == [value["std"] for value in values]
    assert {row["n"] for row in ours} == {"3"}
    paper = [row for row in rows if row["source"].startswith("paper, caption")]
    assert [float(row["mean"]) for row in paper] == [0.036, 0.2, 0.121]


def test_markdown_tables_are_rectangular(runs: Path) -> None:
    for block in compare([runs], "md").split("\n\n"):
        lines = block.splitlines()
        if lines[0].startswith("|"):
            assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX on this machine")
def test_latex_compiles(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "tables.tex").write_text(compare([runs], "tex"))
    preamble = r"\documentclass{article}\usepackage[utf8]{inputenc}\usepackage{booktabs,longtable}"
    (tmp_path / "main.tex").write_text(preamble + r"\begin{document}\input{tables}\end{document}")
    done = subprocess.run(["pdflatex", "-halt-on-error", "main"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stdout[-2000:]


def test_latex_is_balanced_and_escaped(runs: Path) -> None:
    text = compare([runs], "tex")
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    assert text.count(r"\begin{") == text.count(r"\end{")
    assert not any(c in line.replace("\\_", "").replace("\\%", "") for line in lines for c in "_%#~")
    for line in lines:
        assert line.count("{") == line.count("}")


def test_latex_has_labels_short_captions_and_its_rules_once(runs: Path) -> None:
    text = compare([runs], "tex")
    labels = re.findall(r"\\label{tab:([a-z0-9-]+)}", text)
    assert len(labels) == len(set(labels)) == text.count(r"\caption{")
    visible = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert visible.count("Welch") == 1
    assert visible.count("sum w") <= 2, "both in one sentence"
    assert not any("Welch" in line or "sum w" in line for line in text.splitlines() if r"\caption" in line)


def test_a_latex_table_of_one_group_goes_down_the_page(tmp_path: Path) -> None:
    make_run(tmp_path, recipe("own", ["a", "b", "c"]), "own")
    tables = re.findall(r"begin{tabular}{(l\w*)}", compare([tmp_path], "tex"))
    assert tables
    assert all(len(columns) <= 4 for columns in tables), "values, their ceiling, effective samples"


def test_html_goes_to_reports_with_its_plots_and_is_not_overwritten(runs: Path, tmp_path: Path) -> None:
    done = mmvae(runs, "--format", "html", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == "reports/comparison.html\n"
    figures = {
        f"comparison-{figure}.{end}" for figure in ("by-number-of-inputs", "tradeoffs") for end in ("png", "svg")
    }
    names = {"comparison.html", *figures}
    assert {path.name for path in (tmp_path / "reports").iterdir()} == names
    again = mmvae(runs, "--format", "html", cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr.splitlines() == [
        "error: reports/comparison.html exists",
        "  hint: give --force to replace it, or --out for another folder",
    ]
    assert mmvae(runs, "--format", "html", "--force", cwd=tmp_path).returncode == 0
    assert (
        mmvae(runs, "--format", "md", "--out", "reports", cwd=tmp_path).returncode == 0
    )  # the same plots: no conflict


def test_report_is_self_contained_and_the_same_again(runs: Path, tmp_path: Path) -> None:
    first = Path(compare([runs], "html", tmp_path / "a")).read_text()
    second = Path(compare([runs], "html", tmp_path / "b")).read_text()
    assert first == second
    for wanted in (
        "data:image/svg+xml;base64,",
        "data:image/png;base64,",
        "MoPoE-VAE",
        "seed 0",
        "Content-Security-Policy",
    ):
        assert wanted in first
    for unwanted in ("<script", 'src="http', 'href="http', "@import", "url(http"):
        assert unwanted not in first


def test_names_from_files_are_escaped_everywhere(tmp_path: Path) -> None:
    made = recipe("own", ["a", "b"])
    data = evaluation(made, "own")["dataset"] | {"stand_in": HOSTILE + "\x1b[31m|`"}
    make_run(tmp_path / HOSTILE.replace("/", "_"), made, "own", dataset=data, reasons={HOSTILE: HOSTILE})
    page = Path(compare([tmp_path], "html", tmp_path / "out")).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    for kind in ("table", "md", "csv", "tex"):
        text = compare([tmp_path / HOSTILE.replace("/", "_")], kind)  # type: ignore[arg-type]
        assert "\x1b" not in text
        assert kind != "md" or "<script" not in text


def test_celeba_attributes_from_a_file_survive_drawing(tmp_path: Path) -> None:
    made = recipe("celeba", ["image", "text"])
    content = evaluation(made, "celeba")
    latent = content["latent"] | {"per_label": {"image": {HOSTILE: 0.5, "\u6f22\u5b57": 0.4, "=1+1": 0.3}}}
    make_run(tmp_path, made, "celeba", latent=latent)
    page = Path(compare([tmp_path], "html", tmp_path / "out")).read_text()
    assert "<script" not in page
    assert "'=1+1" in compare([tmp_path], "csv")


def test_only_real_pngs_of_sane_size_are_embedded(tmp_path: Path) -> None:
    folder = make_run(tmp_path, recipe("polymnist", VIEWS), "polymnist", figures=True)
    (folder / "figures" / "fake.png").write_text("not a picture")
    (folder / "figures" / "huge.png").write_bytes(png(20000, 1, 3))
    (folder / "figures" / "._prior.png").write_bytes(png(30, 30, 3))  # of a Mac
    page = Path(compare([folder], "html", tmp_path / "out")).read_text()
    assert page.count("data:image/png") == 1
    assert "fake.png" in page
    assert "huge.png" in page
    assert "._prior" not in page


def test_damaged_evaluation_is_warned_about_and_left_out(tmp_path: Path) -> None:
    study(tmp_path, "polymnist", VIEWS, seeds=2)
    (tmp_path / "polymnist_mvae-beta=2.5-seed1" / "evaluation.json").write_text('{"protocol": "default"}')
    done = mmvae(".", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("warning: left out: polymnist_mvae-beta=2.5-seed1: evaluation.json: ")
    assert "Left out of every average" in done.stdout
    assert "MVAE (n=1)" in done.stdout
    assert "MVAE: no usable run for seed 1" in done.stdout


def test_nothing_usable_is_exit_3_without_a_traceback_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = mmvae("empty", "gone", "--format", "html", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stdout == ""
    assert "empty: is no run and holds none" in done.stderr
    assert "gone: does not exist" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "htm"], "did you mean html?"),
        (["--json", "--format", "csv"], "contradict"),
        (["--format", "nonsense"], "is not one of 'table', 'md'"),
        (["--protocol", "mine"], "is not one of 'default', 'released'"),
        (["--out", "file", "--format", "md"], "file is a file"),
        (["--out", "new/table.txt"], "new/table.txt is a file's name"),
    ],
)
def test_wrong_commands_are_exit_2(runs: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "file").write_text("")
    done = mmvae(runs, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_json_is_short_for_the_format_json(runs: Path, tmp_path: Path) -> None:
    short, long = (mmvae(runs, *words, cwd=tmp_path).stdout for words in (["--json"], ["--format", "json"]))
    assert short == long != ""


def test_a_signal_leaves_nothing_behind(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmvae_cli.process.signals._received", "SIGTERM")
    with pytest.raises(Stopped):
        compare([runs], "html", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_beta_sweep_draws_figures_1_5_and_6(tmp_path: Path) -> None:
    study(tmp_path / "runs", "mnist-svhn-text", MST, betas=(1.0, 2.5, 5.0), seeds=2)
    page = Path(compare([tmp_path / "runs"], "html", tmp_path / "out")).read_text()
    for number in (1, 5, 6):
        assert f"(the paper&#39;s Figure {number})" in page
    assert len(list((tmp_path / "out").glob("*.svg"))) == 4


def test_only_what_differs_in_beta_alone_is_joined(tmp_path: Path) -> None:
    for beta, latent in ((1.0, 20), (5.0, 20), (1.0, 64), (5.0, 64)):
        made = recipe("mnist-svhn-text", MST, objective__beta=beta, model__latent_dim=latent)
        make_run(tmp_path / "runs", made, "mnist-svhn-text", folder=f"{beta}-{latent}")
    found = collection(tmp_path / "runs")
    names = {*sweeps_of(found.groups)}
    assert names == {"MoPoE-VAE latent_dim=20", "MoPoE-VAE latent_dim=64"}


def test_plots_of_stand_ins_say_so(tmp_path: Path) -> None:
    """A picture is passed on without its report."""
    drawn = []
    for stand_in in (None, "embedded digits"):
        made = recipe("polymnist", VIEWS)
        data = evaluation(made, "polymnist")["dataset"] | {"stand_in": stand_in, "name": "mine"}  # no published numbers
        make_run(tmp_path / str(stand_in), made, "mine", dataset=data)
        drawn.append(plots.draw(collection(tmp_path / str(stand_in)))[0])
    assert drawn[0].files["svg"].count(b'<g id="text_') + 1 == drawn[1].files["svg"].count(b'<g id="text_')


def test_repeated_images_are_a_note_and_no_warning(tmp_path: Path) -> None:
    """Own data stand in for nothing."""
    made, said = recipe("own", ["a", "b"]), "3 of 60 test images are training images too (a)"
    make_run(tmp_path, made, "own", dataset=evaluation(made, "own")["dataset"] | {"repeated": said})
    found = collection(tmp_path)
    assert found.notes[0].startswith(said)
    assert "stand-in" not in "\n".join(found.header)
    assert f"note: {said}" in measured.text(found.reference)


def test_latex_and_csv_say_what_the_other_formats_say(tmp_path: Path) -> None:
    """Stand-in data, protocol and what separates the groups, where a reader sees it: not in a comment."""
    for method, beta in (("mvae", 1.0), ("mopoe", 2.5)):
        made = recipe("polymnist", VIEWS, method, objective__beta=beta)
        data = evaluation(made, "polymnist")["dataset"] | {"stand_in": "embedded digits"}
        make_run(tmp_path / "runs", made, "polymnist", dataset=data)
    text = "\n".join(line for line in compare([tmp_path / "runs"], "tex").splitlines() if not line.startswith("%"))
    for part in (
        "Stand-in data: embedded digits",
        "Protocol: default",
        "Recipe keys that differ",
        r"objective.beta & 1",
    ):
        assert part in text
    rows = list(csv.DictReader(io.StringIO(compare([tmp_path / "runs"], "csv"))))
    ours = [row for row in rows if row["source"] == "this comparison"]
    assert {row["stand_in"] for row in ours} == {"embedded digits"}
    assert {"objective.beta=1.0" in row["differing"] for row in ours if row["group"] == "MVAE"} == {True}
    others = [row for row in rows if row["source"].startswith("Hwang")]
    assert others
    assert {row["n"] for row in others} == {""}, "of how many runs is not said there"


def test_celeba_draws_figures_12_and_13(tmp_path: Path) -> None:
    study(tmp_path / "runs", "celeba", ["image", "text"], seeds=1)
    page = Path(compare([tmp_path / "runs"], "html", tmp_path / "out")).read_text()
    assert "(the paper&#39;s Figure 12)" in page
    assert "(the paper&#39;s Figure 13)" in page


def test_compare_needs_no_torch(runs: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mmvae_cli.comparison.compare import compare;"
        f"compare([Path({str(runs)!r})], 'html', Path({str(tmp_path / 'out')!r}));"
        "assert not {'torch', 'sklearn', 'scipy', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.browser
def test_report_renders_in_a_browser(runs: Path, tmp_path: Path) -> None:
    """A real Chromium draws the page: full size, not blank, the colours of the plots on the screen."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    from PIL import Image

    page, shot = Path(compare([runs], "html", tmp_path / "out")), tmp_path / "shot.png"
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}",
        f"--screenshot={shot}", "--window-size=1200,3000", page.resolve().as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert shot.is_file(), done.stderr[-2000:]
    with Image.open(shot) as image:
        assert image.size == (1200, 3000)
        colours = image.convert("RGB").getcolors(1 << 24)
    counts = {colour: count for count, colour in colours}
    assert counts.get((255, 255, 255), 0) < 0.97 * 1200 * 3000
    for method_colour in ((0, 114, 178), (213, 94, 0), (0, 158, 115)):  # the three methods' lines in Figure 3
        assert counts.get(method_colour, 0) > 100
    assert "Refused" not in done.stderr  # the content security policy blocked nothing


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs on two data sets, one of them twice built, and one that is not finished."""
    folder = tmp_path_factory.mktemp("mixed")
    study(folder, "mnist-svhn-text", MST, seeds=2, figures=True)
    study(folder, "own", ["a", "b"], seeds=1)
    data = evaluation(recipe("own", ["a", "b"]), "own")["dataset"] | {"fingerprint": "f" * 16}
    make_run(folder, recipe("own", ["a", "b"]), "own", folder="rebuilt", dataset=data)
    make_run(folder, recipe("own", ["a", "b"]), "own", folder="begun", state="stopped", evaluated=False)
    return folder


NAMES = ["mnist-svhn-text", "own 01234567", "own ffffffff"]


def test_several_data_sets_are_compared_one_by_one_on_the_terminal(mixed: Path, tmp_path: Path) -> None:
    done = mmvae(mixed, cwd=tmp_path, COLUMNS="110")
    assert done.returncode == 0
    assert done.stderr == f"warning: left out: {mixed / 'begun'}: unfinished: stopped after 3 of 10 epochs\n"
    for name, counted in zip(NAMES, ("3 groups, 6 runs", "3 groups, 3 runs", "1 group, 1 run"), strict=True):
        title = f"{name}: {counted}"
        assert f"{title}\n{'=' * len(title)}\ndataset: " in done.stdout
    assert done.stdout.count("\nSummary\n") == 3
    assert done.stdout.count("Left out of every average") == 1


def test_every_document_has_a_section_for_each_data_set(mixed: Path) -> None:
    assert [line for line in compare([mixed], "md").splitlines() if line.startswith("# ")] == [
        "# mnist-svhn-text: 3 groups, 6 runs", "# own 01234567: 3 groups, 3 runs", "# own ffffffff: 1 group, 1 run",
        "# Left out of every average",
    ]  # fmt: skip
    text = compare([mixed], "tex")
    for name in NAMES:
        assert f"Data: {name}." in text


def test_csv_and_json_carry_the_data_set(mixed: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(compare([mixed], "csv"))))
    assert list(dict.fromkeys(row["dataset"] for row in rows)) == NAMES
    assert {row["dataset"] for row in rows if row["source"] != "this comparison"} == {"mnist-svhn-text"}
    assert {row["chance"] for row in rows if row["metric"] == "latent" and not row["source"].startswith("paper")} == {
        "0.1"
    }
    joint = [row["ceiling"] for row in rows if row["metric"] == "joint_coherence"]
    assert joint == ["0.92" if row["source"] == "this comparison" else "" for row in rows
                     if row["metric"] == "joint_coherence"]  # fmt: skip
    assert not any(row["ceiling"] for row in rows if row["metric"].startswith(("latent", "log_likelihood")))
    errors = {
        row["item_error"]
        for row in rows
        if row["metric"].startswith("log_likelihood") and row["source"] == "this comparison"
    }
    assert errors == {"3.5", ""}, "as measured, of log p(X); single modalities have none"
    of_one = next(row for row in rows if row["metric"] == "joint_coherence" and row["source"] == "this comparison")
    share = float(of_one["mean"])
    assert float(of_one["item_error"]) == pytest.approx((share * (1 - share) / 10000) ** 0.5)
    document = json.loads(compare([mixed], "json"))
    assert list(document["datasets"]) == NAMES
    assert [group["dataset"] for group in document["groups"]] == [NAMES[0]] * 3 + [NAMES[1]] * 3 + [NAMES[2]]
    assert {one["dataset"] for one in document["published"]} == {"mnist-svhn-text"}
    assert document["datasets"]["own ffffffff"]["fingerprint"] == "f" * 16
    assert [one["reason"] for one in document["left_out"]] == ["unfinished: stopped after 3 of 10 epochs"]
    latent = next(v for v in document["groups"][0]["values"] if v["metric"] == "latent")
    assert (latent["chance"], latent["at_chance"], latent["ceiling"]) == (0.1, False, None)
    joint = next(v for v in document["groups"][0]["values"] if v["metric"] == "joint_coherence")
    assert joint["ceiling"] == 0.92


def test_the_report_of_several_data_sets_has_all_their_plots(mixed: Path, tmp_path: Path) -> None:
    page = Path(compare([mixed], "html", tmp_path)).read_text()
    for number, name in enumerate(NAMES, 1):
        assert f'<a href="#data-{number}">{name}: ' in page
        assert f'<h2 class="data" id="data-{number}">{name}: ' in page
    assert "<title>3 datasets: mnist-svhn-text, own 01234567, own ffffffff</title>" in page
    names = {path.name for path in tmp_path.glob("*.svg")}
    stems = [f"comparison-{name.replace(' ', '-')}" for name in NAMES]
    several = {f"{stem}-tradeoffs.svg" for stem in stems[:2]}  # the third has one group
    assert names == {f"{stem}-by-number-of-inputs.svg" for stem in stems} | several
    assert page.count("data:image/svg+xml;base64,") == 5


def test_plots_of_data_sets_whose_names_make_no_file_names_are_numbered(tmp_path: Path) -> None:
    for name in ("a/b", "a b"):
        data = evaluation(recipe("own", ["a", "b"]), "own")["dataset"] | {"name": name}
        make_run(tmp_path / "runs", recipe("own", ["a", "b"]), "own", folder=name.replace("/", "_"), dataset=data)
    compare([tmp_path / "runs"], "md", tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert names == [f"comparison-{number}-by-number-of-inputs.png" for number in (1, 2)]


def test_all_figures_are_on_the_page(tmp_path: Path) -> None:
    for method in ("mvae", "mopoe"):
        folder = make_run(tmp_path / "runs", recipe("own", ["a", "b"], method), "own", figures=True)
        for number in range(20):
            (folder / "figures" / f"b_given_a-{number:02d}.png").write_bytes(png(20, 20, number))
    page = Path(compare([tmp_path / "runs"], "html", tmp_path / "out")).read_text()
    assert page.count("data:image/png") == 42
    assert (
        page.index("<summary>prior: 2 pictures<")
        < page.index("<summary>b given a-00: ")
        < page.index("<summary>b given a-19: ")
    )
    assert "not on this page" not in page


def test_figures_beyond_the_size_of_a_page_are_counted_and_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first figures of all groups come before the later ones of any."""
    folders = [
        make_run(tmp_path, recipe("own", ["a", "b"], method), "own", figures=True) for method in ("mvae", "mopoe")
    ]
    for folder in folders:
        for number in range(6):
            (folder / "figures" / f"x{number}.png").write_bytes(png(90, 90, number))
    kept = [len(sample_images.encoded((folder / "figures/prior.png").read_bytes()).uri) for folder in folders]
    monkeypatch.setattr(sample_images, "of_svg", lambda svg, width: sample_images.Image("", width))
    monkeypatch.setattr(report, "MAX_PAGE", sum(kept))
    page = Path(compare(folders, "html", tmp_path / "out")).read_text()
    assert page.count("data:image/png") == 2
    assert "<summary>prior: 2 pictures</summary>" in page
    for folder in folders:
        said = f"6 of {folder}/figures (this page would become too large): x0.png, x1.png, x2.png, x3.png and 2 more"
        assert said in page
