"""The page as people meet it: by eye, by ear, on paper and on a telephone."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mmvae_cli.comparison import curves, looks, report, same_items
from mmvae_cli.comparison.compare import compare
from mmvae_cli.comparison.same_items import grids
from mmvae_cli.drawing.grids import STANDARDISED, Grid
from mmvae_cli.drawing.plots import COLOURS, style
from mmvae_cli.recipe.methods import METHODS

from made_runs import MST, VIEWS, collection, evaluation, make_run, recipe, study

PAPER = "Sutter, Daunhawer and Vogt, Generalized Multimodal ELBO, ICLR 2021"


class Page(HTMLParser):
    """What a reader that cannot see is told. ``parts``: tags in order, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.parts: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.parts.append((tag, {name: value or "" for name, value in attrs}))

    def all(self, *tags: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.parts if tag in tags]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Reports of one data set and of two, with figures, published numbers, letters and a run that is left out."""
    folder = tmp_path_factory.mktemp("pages")
    study(folder / "views", "polymnist", VIEWS, seeds=2, figures=True)
    study(folder / "both/three", "mnist-svhn-text", MST, seeds=1, betas=(1.0, 5.0), figures=True)
    data = evaluation(recipe("own", ["a", "b"]), "own")["dataset"] | {"stand_in": "drawn at random"}
    make_run(folder / "both", recipe("own", ["a", "b"]), "own", dataset=data)
    make_run(folder / "both", recipe("own", ["a", "b"]), "own", folder="begun", state="stopped", evaluated=False)
    return {name: Path(compare([folder / name], "html", folder / f"{name}-out")).read_text()
            for name in ("views", "both")}  # fmt: skip


@pytest.mark.parametrize("name", ["views", "both"])
def test_headings_go_down_step_by_step_and_everything_is_named(pages: dict[str, str], name: str) -> None:
    page = Page(pages[name])
    assert page.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.parts if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(image["alt"] for image in page.all("img"))
    assert any(image["src"].startswith("data:image/svg+xml;base64,") for image in page.all("img"))
    assert all("scope" in cell for cell in page.all("th"))
    assert all(region["aria-label"] for region in page.all("div", "nav") if region.get("role") == "region")


@pytest.mark.parametrize("name", ["views", "both"])
def test_every_link_of_the_page_leads_somewhere(pages: dict[str, str], name: str) -> None:
    page = Page(pages[name])
    places = [attributes["id"] for _, attributes in page.parts if "id" in attributes]
    assert len(places) == len(set(places))
    links = [attributes["href"] for attributes in page.all("a")]
    assert all(link.startswith("#") for link in links)
    assert {link[1:] for link in links} <= set(places)
    parts = [attributes["id"] for attributes in page.all("h2", "h3") if attributes.get("class") == "part"]
    assert {f"#{part}" for part in parts} <= set(links), "the index has every part"


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb``, as WCAG 2 defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_words_stand_out_from_their_paper(pages: dict[str, str]) -> None:
    """WCAG 2, level AA: 4.5 to one for text."""
    variables = re.search(r":root \{([^}]*)\}", pages["views"])
    assert variables
    palette = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", variables[1]))
    for ink, paper in [*product(("ink", "soft", "accent"), ("paper", "faint")), ("warn", "warnpaper")]:
        assert contrast(palette[ink], palette[paper]) >= 4.5, (ink, paper)
    assert set(re.findall(r"[; {]color: (#\w+|var\(--\w+\))", pages["views"])) <= {
        *(f"var(--{ink})" for ink in ("ink", "soft", "accent", "warn")), "#000000",
    }  # fmt: skip


def test_lines_stand_out_from_their_paper() -> None:
    """WCAG 2, level AA: 3 to one for what is drawn."""
    with style():
        shades = [shade for count in (1, 2, 5, 9) for shade in looks.shades(count)]
        shades += looks.shades(5, "bone", curves.LIGHTEST)
    assert min(contrast(colour, "#ffffff") for colour in [*COLOURS, *shades, looks.CHANCE_COLOUR]) >= 3
    assert len(set(COLOURS)) == len(COLOURS)


def test_a_row_says_what_its_method_is(pages: dict[str, str]) -> None:
    assert f'<a href="#methods" title="{PAPER}">MoPoE-VAE</a>' in pages["views"]
    legend = pages["views"].partition('id="methods"')[2].partition("</dl>")[0]
    assert (
        f"<dt>MoPoE-VAE</dt><dd>{METHODS['mopoe'].idea}.<br>{PAPER}<br><code>subsets=all, prior_expert=full</code></dd>"
        in legend
    )
    assert legend.count("<dt>") == 3


def test_letters_are_explained_where_they_are_used(pages: dict[str, str], tmp_path: Path) -> None:
    assert pages["both"].count("M: mnist, S: svhn, T: text</p>") == 3
    assert "M: mnist" not in pages["views"]
    found = study(tmp_path, "mnist-svhn-text", MST, seeds=1)
    for kind in ("table", "md", "tex"):
        assert "M: mnist, S: svhn, T: text" in compare([found], kind), kind  # type: ignore[arg-type]


def test_a_report_of_twenty_runs_can_be_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large pictures become small ones, and those beyond the size of a page are counted."""
    noise = np.random.default_rng(0).integers(0, 256, (100, 120, 3), np.uint8).repeat(6, 0).repeat(6, 1)
    picture = Grid([[noise]], scale=1, title="Noise", about="Nothing but noise.").png()
    assert len(picture) > report.MAX_PAGE / 400
    monkeypatch.setattr(report, "MAX_PAGE", 1 << 20)
    for number in range(20):
        made = make_run(tmp_path / "runs", recipe("own", ["a", "b"], model__latent_dim=number + 1), "own",
                        folder=f"run{number:02d}", figures=True)  # fmt: skip
        (made / "figures/x.png").write_bytes(picture)
    page = Path(compare([tmp_path / "runs"], "html", tmp_path / "out")).read_text()
    shown = page.count("data:image/webp")
    assert 0 < shown < 20
    assert page.count("this page would become too large") == 20 - shown
    assert len(page) < 1.2 * report.MAX_PAGE
    assert f"<summary>Noise: {shown} picture" in page
    assert "Nothing but noise." in page


# the same items through all methods ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("likelihood", "key", "full"), [
    ("poisson", "sample_b", 20.0), ("onehot", "sample_b", 1.0), ("normal", "measured_sample_b", STANDARDISED),
])  # fmt: skip
def test_bars_have_one_scale_in_all_rows(likelihood: str, key: str, full: float) -> None:
    """Else a tenth of the numbers would be the same picture."""
    made = SimpleNamespace(modalities={"b": SimpleNamespace(likelihood=likelihood)})
    content: Any = SimpleNamespace(groups=[SimpleNamespace(recipe=made)])
    small, large = (
        {"sample_b": full * row, key: full * row} for row in (np.array([[0.05, 0.1]]), np.array([[0.5, 1.0]]))
    )
    found = same_items._full_bar("b", content, [small, large])
    assert found == full
    pictures = [same_items._cells(arrays, "sample_b", found)[0] for arrays in (small, large)]
    assert not np.array_equal(*pictures)
    assert same_items._full_bar("b", content, [{"true_b": np.zeros((1, 3, 8, 8), np.uint8)}]) is None


def drawn(run: Path, items: list[int], given: str = "a", value: int = 7, **changes: object) -> None:
    """A conditional figure as ``sample`` writes it."""
    count = len(items)
    about = {"fingerprint": "f", "split": "test", "given": [given], "target": ["b"]} | changes
    (run / "figures").mkdir(exist_ok=True)
    np.savez(run / "figures" / f"b_given_{given}.npz", items=np.array(items), about=np.array(json.dumps(about)),
             input_a=np.full((count, 3, 8, 8), 1, np.uint8), true_b=np.full((count, 3, 8, 8), 2, np.uint8),
             sample_b=np.full((10, count, 3, 8, 8), value, np.uint8))  # fmt: skip


def three_runs(folder: Path) -> list[Path]:
    return [make_run(folder, recipe("own", ["a", "b"], method), "own") for method in ("mvae", "mmvae", "mopoe")]


def test_the_same_items_stand_in_one_grid(tmp_path: Path) -> None:
    for number, run in enumerate(three_runs(tmp_path)):
        drawn(run, list(range(12)), value=10 + number)
    ((name, grid),) = grids(collection(tmp_path))
    assert name == "same-items-b_given_a"
    assert grid.row_labels == ["a input", "true b", "MVAE", "MMVAE", "MoPoE-VAE"]
    assert [{int(cell.max()) for cell in row} for row in grid.rows] == [{1}, {2}, {10}, {11}, {12}]
    assert {len(row) for row in grid.rows} == {10}
    out = Path(compare([tmp_path], "md", tmp_path / "out", paper=1))
    assert {path.name for path in out.parent.glob("*same-items*")} == {
        f"comparison-same-items-b_given_a.{ending}" for ending in ("png", "svg", "pdf")
    }
    assert "![b generated from a](comparison-same-items-b_given_a.png)" in out.read_text()


def test_other_items_other_data_and_damage_are_not_in_the_grid(tmp_path: Path) -> None:
    mvae, mmvae, mopoe = three_runs(tmp_path)
    drawn(mvae, [1, 2, 3])
    drawn(mmvae, [1, 2, 4])
    drawn(mopoe, [1, 2, 3], fingerprint="other")
    assert grids(collection(tmp_path)) == []
    drawn(mopoe, [1, 2, 3], step=300)
    assert grids(collection(tmp_path)) == [], "drawn before the training ended"
    drawn(mopoe, [1, 2, 3], step=1000)
    (mmvae / "figures/b_given_a.npz").write_bytes(b"no arrays")
    ((_, grid),) = grids(collection(tmp_path))
    assert grid.row_labels[2:] == ["MVAE", "MoPoE-VAE"]


# in a real browser ---------------------------------------------------------------------------------------------------

MEASURE = """<!doctype html><iframe id="frame" width="390" height="800" src="page.html"></iframe><pre id="out"></pre>
<script>frame.onload = () => {
  const page = frame.contentDocument.documentElement, pictures = [...page.querySelectorAll('figure img')];
  const small = pictures.filter(one => one.offsetParent && one.offsetWidth < one.getAttribute('width'));
  pictures[0].closest('a').click();
  setTimeout(() => { const full = page.querySelector('figure:target');
    out.textContent = JSON.stringify({wide: page.scrollWidth, seen: page.clientWidth, small: small.length,
                                      full: full && getComputedStyle(full).position}); }, 200);
};</script>"""


@pytest.mark.browser
def test_a_telephone_shows_the_page_without_scrolling_sideways(pages: dict[str, str], tmp_path: Path) -> None:
    """Pictures keep the size at which their words can be read, and a tap fills the screen with one."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    for name, page in pages.items():
        (tmp_path / "page.html").write_text(page)
        (tmp_path / "frame.html").write_text(MEASURE)
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--dump-dom",
                   "--virtual-time-budget=5000", "--allow-file-access-from-files",
                   f"--user-data-dir={tmp_path / 'profile'}",
                   (tmp_path / "frame.html").as_uri()]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        found = re.search(r'<pre id="out">(\{.*?\})</pre>', done.stdout)
        assert found, (name, done.stderr[-2000:])
        measured = json.loads(found[1])
        assert measured["wide"] <= measured["seen"] <= 390
        assert (measured["small"], measured["full"]) == (0, "fixed")
