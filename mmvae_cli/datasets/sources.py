"""Handwritten digits to build datasets from: MNIST, IDX files of any folder, or the digits inside scikit-learn."""

import glob
import hashlib
import os
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmvae_cli.datasets import idx
from mmvae_cli.datasets.fetching import downloading
from mmvae_cli.datasets.spread import ranks, spread
from mmvae_cli.process import console, signals
from mmvae_cli.process.errors import DataProblem, UsageProblem
from mmvae_cli.store import LabelInfo

SIDE = 28
"""Pixels: height and width of a digit."""

_MNIST_SHA256 = (  # of the unpacked files, in the order of idx.NAMES
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)


class Pictures(NamedTuple):
    """``images`` uint8 (N, ...), ``labels`` int64 (N,) in 0..9."""

    images: np.ndarray
    labels: np.ndarray


LABELS = LabelInfo(kind="class", names=tuple("0123456789"))


@dataclass(frozen=True)
class Digits:
    """Pictures of digits: ``splits`` train, test and, where some are held out, validation; they are disjoint.

    MNIST's are (N, 28, 28), white strokes on black; SVHN's (N, 3, 32, 32). ``stand_in`` says what the pictures are
    where they are not the official ones, else None; ``provenance`` goes into the store.
    """

    splits: dict[str, Pictures]
    stand_in: str | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def hold_out(self, count: int, seed: int) -> "Digits":
        """``count`` training pictures become the split ``validation``: drawn by ``seed``, labels in proportion."""
        if not count:
            return self
        images, labels = self.splits["train"]
        order = np.random.default_rng([seed, len(labels)]).permutation(len(labels))
        order = order[np.argsort(labels[order], kind="stable")]
        held = np.zeros(len(order), bool)
        held[order[spread(len(order), count)]] = True
        if held.all():
            raise UsageProblem(
                f"--validation {count:,}: there are {len(held):,} training pictures", "leave some to learn from"
            )
        parts = {"train": Pictures(images[~held], labels[~held]), "validation": Pictures(images[held], labels[held])}
        return replace(self, splits=self.splits | parts)


def part_of(counts: dict[str, int]) -> str:
    """What a dataset says where ``--limit`` left so many tuples of each split."""
    return "a subset of " + " and ".join(f"{count:,} {split}" for split, count in counts.items()) + " tuples"


def held_out(validation: int) -> str | None:
    """What a dataset says of training pictures that were held out."""
    return f"{validation:,} training pictures of each source held out for validation" if validation else None


def digits(source: str, data_dir: Path) -> Digits:
    """The digits named by ``source``: ``mnist`` (found under ``data_dir`` or downloaded there), ``embedded``
    (scikit-learn's) or a folder with four IDX files, if need be with the beginning of their names.

    Raises DataProblem for whatever is missing, truncated or not digits 0..9.
    """
    if source == "embedded":
        return _embedded()
    if source == "mnist":
        places = [data_dir / "MNIST" / "raw", data_dir / "MNIST", data_dir]
        folder = next((place for place in places if any(idx.by_name(place))), None) or _download_mnist(data_dir)
        console.say(f"digits: MNIST in {folder}")
        return _read(folder, idx.four(folder))
    folder, start = _place(source)
    paths = idx.four(folder, start)
    console.say(f"digits: {folder}: {', '.join(path.name for path in paths)}")
    return _read(folder, paths)


# IDX files -----------------------------------------------------------------------------------------------------------


def _place(source: str) -> tuple[Path, str]:
    """The folder that ``source`` means, and how the names of its files begin (``EMNIST/raw/emnist-digits``). The first
    one that holds any IDX file, so that an incomplete one is reported, not passed over."""
    path = Path(source)
    if path.is_dir():
        return next((p for p in (path, path / "raw", path / "MNIST" / "raw") if idx.found(p)), path), ""
    if not any(path.parent.glob(f"{glob.escape(path.name)}?*")):
        raise DataProblem(f"--digits {source}: no such folder", "give mnist, embedded, or a folder with IDX files")
    return path.parent, path.name


def _read(folder: Path, paths: list[Path]) -> Digits:
    arrays, sums = [], []
    for path in paths:
        signals.leave_if_requested("nothing was written")
        array = idx.read(path)
        arrays.append(array)
        sums.append(_idx_sha256(array))
    pairs = [_checked(arrays[at], arrays[at + 1], paths[at], paths[at + 1]) for at in (0, 2)]
    if turned := any("emnist" in path.name.lower() for path in paths):
        console.say("EMNIST keeps its images transposed: they are turned upright")
        pairs = [Pictures(images.swapaxes(1, 2), labels) for images, labels in pairs]
    is_mnist = tuple(sums) == _MNIST_SHA256
    if not is_mnist and _look_transposed(*pairs[1]):
        console.warn(f"the digits of {folder} look transposed; where they are, begin the files' names with emnist-")
    return Digits(
        dict(zip(("train", "test"), pairs, strict=True)),
        stand_in=None if is_mnist else f"digits of the folder {folder.resolve().name}, not MNIST",
        provenance={"source": "MNIST" if is_mnist else "IDX files", "transposed": turned,
                    "sha256": {path.name: digest for path, digest in zip(paths, sums, strict=True)}},
    )  # fmt: skip


def _checked(images: np.ndarray, labels: np.ndarray, at: Path, labels_at: Path) -> Pictures:
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        size = "x".join(map(str, images.shape[1:])) or "scalars"
        raise DataProblem(f"{at}: images of {SIDE}x{SIDE} are needed, it holds {size}", "resize them, or give others")
    if labels.shape != (len(images),):
        raise DataProblem(f"{labels_at}: {len(labels)} labels for the {len(images)} images of {at.name}")
    if labels.max() > 9:
        raise DataProblem(f"{labels_at}: holds the label {labels.max()}, outside 0..9", "keep ten classes, from 0 to 9")
    return Pictures(images, labels.astype(np.int64))


def _look_transposed(images: np.ndarray, labels: np.ndarray) -> bool:
    """Whether the mean digits resemble those of scikit-learn when transposed, and far less as they are. MNIST's: 0.74
    as they are, 0.39 transposed. A few images are not judged."""
    if len(images) < 1000:
        return False
    means, known = (_mean_digits(*pair) for pair in ((images, labels), _embedded().splits["train"]))
    upright, transposed = (float((m * known).sum(axis=(1, 2)).mean()) for m in (means, means.swapaxes(1, 2)))
    return transposed > max(0.6, upright + 0.2)


def _mean_digits(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float (10, 28, 28): the mean image of each digit, of mean 0 and norm 1; zeros for a digit that is not there."""
    means = np.zeros((10, SIDE, SIDE))
    for digit in np.unique(labels):
        means[digit] = images[labels == digit].mean(axis=0)
    means -= means.mean(axis=(1, 2), keepdims=True)
    return means / np.maximum(np.linalg.norm(means, axis=(1, 2), keepdims=True), 1e-9)


def _idx_sha256(array: np.ndarray) -> str:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    digest = hashlib.sha256(header)
    digest.update(array.data)
    return digest.hexdigest()


def _download_mnist(data_dir: Path) -> Path:
    """Fetch MNIST with torchvision into ``data_dir/MNIST/raw``; the files take their place only when complete. Raises
    DataProblem naming the alternatives."""
    target = data_dir / "MNIST" / "raw"
    elsewhere = "give --digits FOLDER with the four IDX files, or --digits embedded for the digits inside scikit-learn"
    console.say(f"digits: MNIST is not under {data_dir}; downloading it (11 MB)")
    with downloading(data_dir, f"MNIST is not in {target}", elsewhere) as folder:
        _fetch(folder)
        target.mkdir(parents=True, exist_ok=True)
        for name in idx.NAMES:
            os.replace(folder / "MNIST" / "raw" / name, target / name)
    return target


def _fetch(folder: Path) -> None:
    from torchvision.datasets import MNIST  # function-local: it imports torch

    MNIST(root=str(folder), train=True, download=True)


# embedded digits -----------------------------------------------------------------------------------------------------


def _embedded() -> Digits:
    """scikit-learn's 1,797 digits of 8x8 in 17 grey levels, enlarged to MNIST's look: 20x20 in a 28x28 frame.

    Every fifth digit of a class is a test digit: a fixed, stratified split of 1,442 and 355.
    """
    from PIL import Image
    from sklearn import __version__ as version
    from sklearn.datasets import load_digits

    small, labels = load_digits(return_X_y=True)
    images = np.zeros((len(small), SIDE, SIDE), dtype=np.uint8)
    for image, source in zip(images, small.reshape(-1, 8, 8), strict=True):
        framed = np.pad(source, 1).astype(np.float32)  # strokes touch the border; a blank rim lets them end smoothly
        enlarged = Image.fromarray(framed).resize((25, 25), Image.Resampling.BICUBIC)
        # A steep ramp around the grey level 8 of 16: "raw > 128" then leaves connected strokes, 15 % of all pixels
        # (MNIST: 13 %).
        image[1:26, 1:26] = np.clip((np.asarray(enlarged) - 8) * 32 + 128, 0, 255)
    test = ranks(labels) % 5 == 4
    labels = labels.astype(np.int64)
    return Digits(
        {"train": Pictures(images[~test], labels[~test]), "test": Pictures(images[test], labels[test])},
        stand_in="embedded digits of scikit-learn, not MNIST",
        provenance={"source": "sklearn.datasets.load_digits", "scikit_learn": version},
    )  # fmt: skip
