"""The picture of the latent space: where test items lie, by label and by modality. No torch."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mmvae_cli.drawing import plots
from mmvae_cli.drawing.grids import Grid
from mmvae_cli.drawing.plots import COLOURS, MARKERS, SCREEN, Page
from mmvae_cli.store import LabelInfo

_MOST_CLASSES = len(COLOURS)
TITLE = "The latent space, seen along its two main directions"


def principal(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal components: ``points`` (N, D) centred and turned, the two directions of most variance, (N, 2), and the
    share of the variance along each, (2,). The sign of a direction is that of its largest weight."""
    centred = points - points.mean(0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions * np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(1)])[:, None]
    coordinates, shares = np.zeros((len(points), 2)), np.zeros(2)
    kept = min(2, len(sizes))
    coordinates[:, :kept] = centred @ directions[:kept].T
    shares[:kept] = sizes[:kept] ** 2 / max(float((sizes**2).sum()), 1e-30)
    return coordinates, shares


@dataclass(frozen=True)
class LatentSpace:
    """``arrays``: point_m (N, 2) of each modality of ``names``, share (2,), and the items' labels. ``origin``: run and
    data."""

    names: tuple[str, ...]
    arrays: dict[str, np.ndarray]
    labels: LabelInfo | None
    split: str
    origin: str

    @property
    def about(self) -> str:
        count = len(self.arrays["items"])
        return (f"Each point is the mean of q(z | x) for one modality of one of {count} {self.split} items. Where "
                "modalities lie apart, the model has not found what they have in common.")  # fmt: skip

    def png(self) -> bytes:
        with plots.style():
            picture = plots.pixels(self._drawn(SCREEN), dpi=100)
        return Grid([[picture]], title=TITLE, about=self.about, origin=self.origin, scale=1).png()

    def paper(self, page: Page, ending: str) -> bytes:
        with plots.style(page):
            return plots.written(self._drawn(page), ending, "latent")

    def _drawn(self, page: Page) -> Any:
        """The same points twice: coloured by label, where there are labels, and by modality."""
        coloured = self._by_label()
        made, axes = plots.panels(page, 1 + bool(coloured), 2, 5.2, 4.6)
        if coloured:
            title, groups = coloured
            self._scatter(axes[0], title, {name: [(point, chosen) for point in self._points()]
                                           for name, chosen in groups.items()})  # fmt: skip
        modalities = {name: [(point, slice(None))] for name, point in zip(self.names, self._points(), strict=True)}
        self._scatter(axes[-1], "by modality", modalities)
        return made

    def _points(self) -> list[np.ndarray]:
        return [self.arrays[f"point_{name}"] for name in self.names]

    def _by_label(self) -> tuple[str, dict[str, Any]] | None:
        """What the left panel shows: classes, or of attributes the one that splits the items most evenly."""
        if self.labels is None:
            return None
        known, names = self.arrays["labels"], self.labels.names
        if self.labels.kind == "class":
            there = [label for label in range(len(names)) if (known == label).any()][:_MOST_CLASSES]
            return "by label", {names[label]: known == label for label in there}
        even = int(np.abs(known.mean(0) - 0.5).argmin())
        name = names[even].replace("_", " ")
        return f"by label: {name}", {name: known[:, even] == 1, f"not {name}": known[:, even] == 0}

    def _scatter(self, axis: Any, title: str, groups: dict[str, list[tuple[np.ndarray, Any]]]) -> None:
        for i, (name, parts) in enumerate(groups.items()):
            x, y = np.concatenate([point[chosen] for point, chosen in parts]).T
            axis.scatter(x, y, s=9, color=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)], alpha=0.6,
                         linewidths=0, label=name)  # fmt: skip
        share = self.arrays["share"]
        axis.set_title(title, fontweight="normal")
        axis.set(xlabel=f"first direction, {share[0]:.0%} of the variance", ylabel=f"second direction, {share[1]:.0%}")
        axis.legend(loc="upper left", bbox_to_anchor=(1, 1), markerscale=1.6, borderaxespad=0.2, handletextpad=0.2)
