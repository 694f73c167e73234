"""PolyMNIST (paper, section 4.2 and appendix D): M views of one digit class, each digit inverted into a crop of its
view's background. Built here from digits and backgrounds, or imported (official.py, tensors.py)."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mmvae_cli.datasets import building, placing, repeats, sources
from mmvae_cli.datasets.polymnist import backgrounds, official, tensors, trees
from mmvae_cli.datasets.sources import LABELS, SIDE, Pictures
from mmvae_cli.datasets.spread import spread
from mmvae_cli.process import console
from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.store import ModalityInfo, new_array

PAPER_VIEWS, MOST_VIEWS = 5, 64
SHAPE = (3, SIDE, SIDE)
_SPLITS = ("train", "test", "validation")
Mover = Callable[[np.ndarray, int], np.ndarray]
OFFICIAL_COUNTS = {  # tuples per label 0..9 (equations 7.1), those of MNIST
    "train": (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    "test": (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
}


@dataclass(frozen=True)
class PolymnistOptions:
    """What to build. ``views`` None: as many as there are backgrounds, 5 of the builtin ones. ``scale`` and ``rotate``:
    of the digits' side, and degrees at most."""

    digits: str = "mnist"
    backgrounds: str = "builtin"
    views: int | None = None
    repeat: int = 1
    seed: int = 0
    limit: int | None = None
    validation: int = 0
    scale: float = 1.0
    rotate: float = 0.0

    @property
    def moved(self) -> bool:
        """Whether digits are not where MNIST has them."""
        return self.scale < 1 or self.rotate > 0


def build(options: PolymnistOptions, out: Path, data_dir: Path, *, png: bool = False, force: bool = False) -> None:
    """Build PolyMNIST into the folder ``out``. Raises UsageProblem, DataProblem or Failure; then nothing is written."""
    with building.dataset_folder(out, force=force) as folder:
        pictures, about, note = _backgrounds(options)
        source = sources.digits(options.digits, data_dir).hold_out(options.validation, options.seed)
        train, test = source.splits["train"], source.splits["test"]
        repeated = repeats.count(train.images, test.images)  # later they stand before other crops
        twice = repeats.tell(repeated, len(test.images), "test digits")
        full = options.repeat * max(len(train.labels), len(test.labels))
        fewer = options.limit is not None and options.limit < full
        pairings = {s: pairing(known.labels, len(pictures), options, s) for s, known in source.splits.items()}
        counts = {split: len(rows[0]) for split, rows in pairings.items()}
        with console.progress("polymnist", sum(counts.values()) * len(pictures), "images") as bar:
            for split, known in source.splits.items():
                _write_split(folder, split, known, pairings[split], pictures, options, bar)
        moved = f"digits scaled by {options.scale:g} and turned by up to {options.rotate:g} degrees"
        notes = [source.stand_in, note, twice, sources.part_of(counts) if fewer else None,
                 sources.held_out(options.validation), moved if options.moved else None]  # fmt: skip
        told = {key: value if value in ("mnist", "embedded", "builtin") else Path(value).resolve().name
                for key, value in (("digits", options.digits), ("backgrounds", options.backgrounds))}  # fmt: skip
        _finish(folder, len(pictures), counts, notes, options.seed, png, {
            "construction": "Generalized Multimodal ELBO, section 4.2 and appendix D",
            "options": asdict(options) | told, "digits": source.provenance, "backgrounds": about,
        })  # fmt: skip


def import_from(
    path: Path, out: Path, *, views: int | None = None, limit: int | None = None, png: bool = False, force: bool = False
) -> None:
    """Import an existing PolyMNIST (folders of PNG, a zip, or tensors) into the folder ``out``.

    Raises DataProblem naming what is missing or damaged; then nothing is written.
    """
    with trees.opened(path) as tree, building.dataset_folder(out, force=force) as folder:
        room = tensors if tensors.found(tree) else official
        counts, per_label, about = room.read_into(folder, tree, views, limit)
        said = tree.read(trees.STAND_IN, 4096) if trees.STAND_IN in tree.names else b""
        note = said.decode("utf-8", "replace").strip()
        if not note and per_label != OFFICIAL_COUNTS:
            note = "imported tuples whose counts are not those of the official PolyMNIST"
        notes = [note, sources.part_of(counts) if sum(counts.values()) < sum(map(sum, per_label.values())) else ""]
        modalities = len(list((folder / "train").glob("m*.npy")))
        _finish(folder, modalities, counts, notes, None, png, {
            "imported": path.resolve().name, **about, "options": {"views": views, "limit": limit},
        })  # fmt: skip


def _finish(
    folder: Path, views: int, counts: dict[str, int], notes: Sequence[str | None], seed: int | None, png: bool,
    provenance: dict[str, Any],
) -> None:  # fmt: skip
    modalities = {f"m{view}": ModalityInfo(kind="image", shape=SHAPE) for view in range(views)}
    made = placing.finish(folder, "polymnist", modalities, counts, LABELS, provenance, notes, seed=seed)
    if png:
        official.write(folder / "png" / "PolyMNIST", folder, made)


def pairing(labels: np.ndarray, views: int, options: PolymnistOptions, split: str) -> np.ndarray:
    """(M, N): the digit behind view m of tuple n, N = repeat x digits before the limit.

    Per view and label an independent permutation of the label's digits, ``repeat`` of them one after the other; tuple i
    of a label is the i-th element of each view's permutation (equations 7.1), so the views of a tuple share its label.
    Tuples are ordered by label, as in the official files; mixing them is the reader's business.
    """
    rows = []
    for view in range(views):
        rng = _stream(options.seed, split, view, 0)
        rows.append(np.concatenate([
            rng.permutation(np.flatnonzero(labels == label)) for label in range(10) for _ in range(options.repeat)
        ]))  # fmt: skip
    return np.stack(rows)[:, spread(len(rows[0]), options.limit)]


def fuse(images: np.ndarray, background: np.ndarray, top: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Digits (B, 28, 28) into the crops of ``background`` (3, H, W) at ``top``, ``left`` (B,): uint8 (B, 3, 28, 28).

    The mask is raw > 128, and on it every channel becomes 255 - value: what crop/255, 1 - v and the PNG writer's
    x255 + 0.5 truncated amount to on bytes (equations 7.1; exact for all 256 values).
    """
    crops = sliding_window_view(background, (SIDE, SIDE), axis=(1, 2))[:, top, left].swapaxes(0, 1)
    return np.asarray(np.where(images[:, None] > 128, 255 - crops, crops))


def _write_split(
    folder: Path, split: str, digits: Pictures, rows: np.ndarray, pictures: list[np.ndarray],
    options: PolymnistOptions, bar: console.Progress,
) -> None:  # fmt: skip
    new_array(folder, f"{split}/labels.npy", rows.shape[1:], np.int64)[:] = digits.labels[rows[0]]
    for view, (chosen, picture) in enumerate(zip(rows, pictures, strict=True)):
        array = new_array(folder, f"{split}/m{view}.npy", (len(chosen), *SHAPE))
        draws = _stream(options.seed, split, view, 2)
        move = mover(options.scale, options.rotate, len(chosen), draws) if options.moved else None
        views = _views(digits.images, chosen, picture, _stream(options.seed, split, view, 1), move)
        building.fill(array, views, np.arange(len(chosen)), bar, f"{split} m{view}")


def _views(
    images: np.ndarray, chosen: np.ndarray, picture: np.ndarray, rng: np.random.Generator, move: Mover | None
) -> Callable[[np.ndarray], np.ndarray]:
    """Numbers of tuples -> the ``chosen`` digits in crops of ``picture``. The upper end of a corner is exclusive at
    H - 28, W - 28: the last possible one is never used (equations 7.1)."""
    top, left = (rng.integers(0, side - SIDE, len(chosen)) for side in picture.shape[1:])

    def views(some: np.ndarray) -> np.ndarray:
        own = images[chosen[some]]
        if move is not None:
            own = np.stack([move(digit, number) for digit, number in zip(own, some, strict=True)])
        return fuse(own, picture, top[some], left[some])

    return views


def mover(scale: float, degrees: float, count: int, rng: np.random.Generator) -> Mover:
    """A function of a digit (28, 28) and its number below ``count``: turned by an angle uniform in [-degrees, degrees],
    resized to ``scale`` of its side and put on black at a place uniform among all that hold it whole."""
    from PIL import Image

    side = max(1, round(scale * SIDE))
    angles = rng.uniform(-degrees, degrees, count)
    places = rng.integers(0, SIDE - side + 1, (count, 2))

    def moved(digit: np.ndarray, number: int) -> np.ndarray:
        picture = Image.fromarray(digit)
        if degrees:
            picture = picture.rotate(angles[number], Image.Resampling.BILINEAR)
        if side == SIDE:
            return np.asarray(picture)
        field = np.zeros((SIDE, SIDE), np.uint8)
        top, left = places[number]
        small = picture.resize((side, side), Image.Resampling.BILINEAR)
        field[top : top + side, left : left + side] = np.asarray(small)
        return field

    return moved


def _stream(seed: int, split: str, view: int, use: int) -> np.random.Generator:
    """Random numbers of their own for each split, view and use: view 1 is the same whatever the number of views."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_SPLITS.index(split), view, use)))


def _backgrounds(options: PolymnistOptions) -> tuple[list[np.ndarray], dict[str, Any], str]:
    """Pictures uint8 (3, H, W), one per view; what provenance says of them; what reports say of them."""
    if options.backgrounds == "builtin":
        views = options.views or PAPER_VIEWS
        drawn = [backgrounds.builtin(view, options.seed) for view in range(views)]
        return drawn, {"source": "builtin"}, "backgrounds drawn by the program, not the paper's"
    folder = Path(options.backgrounds)
    available = backgrounds.picture_paths(folder)
    if options.views is None and len(available) > MOST_VIEWS:
        raise UsageProblem(
            f"--backgrounds {folder}: {len(available)} images, a view each, and {MOST_VIEWS} views are the most",
            f"give --views {PAPER_VIEWS} for the first {PAPER_VIEWS} of them",
        )
    paths = backgrounds.choose(available, options.views or len(available), folder)
    pictures = [backgrounds.read(path) for path in paths]
    for view, path in enumerate(paths):
        console.say(f"background of m{view}: {path.name}")
    if len(available) > len(paths):
        console.warn(f"{len(available) - len(paths)} of the {len(available)} images in {folder} are not used")
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    names = ", ".join(sums) if len(sums) <= 8 else f"{len(sums)} images"
    note = f"backgrounds from a folder, not known to be the paper's: {names}"
    return pictures, {"source": "folder", "sha256": sums}, note
