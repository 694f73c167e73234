"""Labels beside the points of a sweep can be told apart, and each is nearest to its own point."""

import itertools
import math

import pytest

from mmvae_cli.comparison.tradeoffs import _label_points
from mmvae_cli.drawing import plots
from mmvae_cli.drawing.plots import SCREEN


@pytest.mark.parametrize("gap", [0.5, 0.06, 0.01])
def test_labels_overlap_nothing_and_are_nearest_to_their_own_point(gap):
    figure, (axis,) = plots.panels(SCREEN, 1, 1, 3.4, 2.9)
    axis.set(xlim=(-1, 1), ylim=(0, 1))
    points = [(k * gap, 0.5 + k * gap / 4, f"β={k}") for k in range(-1, 2)]
    axis.plot([x for x, _, _ in points], [y for _, y, _ in points], "o")
    _label_points(axis, points)
    figure.canvas.draw()
    boxes = {text.get_text(): text.get_window_extent() for text in axis.texts}
    assert len(boxes) >= (3 if gap == 0.5 else 2)
    marks = {label: axis.transData.transform((x, y)) for x, y, label in points}
    for label, box in boxes.items():
        middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
        assert min(marks, key=lambda other: math.dist(marks[other], middle)) == label
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes.values(), 2))
