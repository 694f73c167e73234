import io
import re

import numpy as np
import pytest
from PIL import Image

from mmvae_cli.drawing import grids, plots


def grid(rows, **words):
    """The image of a grid."""
    return grids.Grid(rows, **words).image()


def picture(*shape: int, value: int = 0) -> np.ndarray:
    return np.full(shape, value, dtype=np.uint8)


def colours(image) -> set[tuple[int, ...]]:
    return {tuple(c) for c in np.asarray(image).reshape(-1, 3)}


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3), (1, 28, 28), (3, 28, 28)])
def test_every_form_of_picture_is_enlarged_by_the_scale(shape):
    pixels = np.asarray(grid([[picture(*shape, value=7)]], scale=3))
    assert np.count_nonzero((pixels == 7).all(-1)) == (28 * 3) ** 2


def test_channels_first_keeps_its_colours():
    cell = picture(3, 8, 8)
    cell[1] = 200
    assert (0, 200, 0) in colours(grid([[cell]]))


def test_small_pictures_are_centred_and_enlarged_by_whole_factors():
    pixels = np.asarray(grid([[picture(64, 64, value=9), picture(28, 28, value=77)]], scale=1))
    rows, columns = np.nonzero((pixels == 77).all(-1))
    assert len(rows) == 56 * 56
    big = np.nonzero((pixels == 9).all(-1))[0]
    assert abs((rows.min() + rows.max()) - (big.min() + big.max())) <= 1
    assert len(set(columns)) == 56


def ink(image) -> np.ndarray:
    return np.argwhere((np.asarray(image) < 120).all(-1))


LONG = "supercalifragilistic " * 6


@pytest.mark.parametrize("where", ["title", "row_labels", "column_labels", "cell"])
def test_long_texts_are_never_cut_at_the_edge(where):
    image = {
        "title": lambda: grid([[None, None]], title=LONG),
        "row_labels": lambda: grid([[None]], row_labels=[LONG]),
        "column_labels": lambda: grid([[None, None]], column_labels=[LONG, LONG]),
        "cell": lambda: grid([[LONG]]),
    }[where]()
    places, (width, height) = ink(image), image.size
    assert len(places) > 500
    assert places.min() >= 2
    assert places[:, 0].max() <= height - 3
    assert places[:, 1].max() <= width - 3


def test_neighbouring_column_labels_do_not_overlap():
    """Each label alone has as much ink as its share of all together."""
    labels = ["Arched_Eyebrows", "5_o_Clock_Shadow", "Wearing_Necktie"]
    together = len(ink(grid([[None] * 3], column_labels=labels)))
    single = [[one if one == label else "" for one in labels] for label in labels]
    alone = [len(ink(grid([[None] * 3], column_labels=heads))) for heads in single]
    assert together == sum(alone)


def test_wrapping_keeps_every_character():
    block = grids._wrap("Wearing_Necktie, 5 o'Clock Shadow\nx", 40, 12)
    assert "".join(block.lines).replace(" ", "") == "Wearing_Necktie,5o'ClockShadowx"
    assert all(grids._font(12).getlength(line) <= 40 for line in block.lines)


def test_a_png_holds_the_image_and_its_words():
    made = grids.Grid([[picture(28, 28, value=5), "five", None]], title="Cells → β", about="A cell each.")
    with Image.open(io.BytesIO(made.png())) as read:
        assert np.array_equal(np.asarray(read), np.asarray(made.image()))
        assert (read.text["Title"], read.text["Description"]) == ("Cells → β", "A cell each.")


def test_a_grid_for_a_paper_fits_its_column_and_leaves_the_origin_out():
    cells = [picture(3, 28, 28, value=value) for value in range(10)]
    made = grids.Grid([cells, [str(value) for value in range(10)]], row_labels=["given", "what was generated of it"],
                      column_labels=list("0123456789"), title="A title", origin="run of mine")  # fmt: skip
    for columns, points in ((1, 234), (2, 486)):
        drawn = made.paper(plots.PAPER[columns], "svg").decode()
        width = float(re.search(r'width="([0-9.]+)pt"', drawn)[1])
        assert 0.9 * points < width <= points
        assert drawn.count("<image") == 10
        assert "what was" in drawn, "words that can be searched for stand in comments"
        assert "run of mine" not in drawn
        assert "A title" not in drawn
    pdf = made.paper(plots.PAPER[1], "pdf")
    assert pdf.startswith(b"%PDF")
    assert made.paper(plots.PAPER[1], "pdf") == pdf, "no dates"


@pytest.mark.parametrize(("columns", "count", "rows"), [(1, 3, 3), (1, 6, 3), (2, 6, 2), (2, 17, 4)])
def test_panels_for_a_paper_fit_its_page(columns, count, rows):
    made, axes = plots.panels(plots.PAPER[columns], count, 4, 2.6, 2.1)
    assert len(axes) == count
    assert axes[0].get_gridspec().nrows == rows
    assert made.get_figheight() < 7.5


def test_a_vector_is_a_strip_of_bars_from_the_middle():
    picture = grids.bars(np.array([3.0, -1.5, 0.0]), ["age", "bmi", "crp"], 3.0, np.array([71.0, 24.5, 0.001]))
    assert picture.shape[0] == 3
    assert picture.dtype == np.uint8
    height, middle = picture.shape[1] // 3, picture.shape[2] // 2
    right, left, none = (picture[:, row * height + height // 2] for row in range(3))
    assert tuple(right[:, middle + 10]) == grids._UP != tuple(right[:, middle - 10])
    assert tuple(left[:, middle - 10]) == grids._DOWN != tuple(left[:, middle + 10])
    assert (none[:, middle - 10 : middle] == none[:, middle + 1 : middle + 11]).all()
    grid([[picture, np.zeros((3, 28, 28), np.uint8)]])


def test_numbers_stand_on_their_bars_as_they_were_measured():
    """A bar alone is the standardised number, which nobody measured."""
    drawn = [grids.cell("vector", np.array([1.0]), ["weight"], 3.0, measured) for measured in (None, [1.0], [70.0])]
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] != drawn[2]).any(0)[:, 80:].any(), "at the right"
    assert not (drawn[0] != drawn[2]).any(0)[:, :80].any()


def test_the_full_bar_of_a_probability_is_that_of_a_one():
    """Else the largest of several that are unsure would look sure."""
    unsure = np.array([0.5, 0.5])
    half, full = grids.cell("vector", unsure, most=1.0), grids.cell("vector", unsure)
    assert tuple(half[:, 0, 70]) == tuple(full[:, 0, 70]) == grids._UP
    assert tuple(half[:, 10, 108]) != tuple(full[:, 10, 108]) == grids._UP


def test_a_vector_of_many_numbers_or_of_zeros_is_drawn():
    many = np.random.default_rng(0).normal(size=2000)
    assert grids.bars(many, range(2000), None, many).shape[1] < 200
    assert grids.bars(np.zeros(1), ["x"], None, np.zeros(1)).shape == (3, 12, 112)
