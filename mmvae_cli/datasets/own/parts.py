"""One modality of own data on its way into a store: what it is, and its rows as they will lie there."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmvae_cli.datasets.pictures import set_upright
from mmvae_cli.process import console
from mmvae_cli.process.errors import DataProblem
from mmvae_cli.recipe.kinds import COUNTS
from mmvae_cli.store import ModalityInfo, text
from mmvae_cli.store.fitting import strange

Problem = Callable[[int, str], DataProblem]
"""(item, what) -> the error to raise, with the item's place in its source."""
LONG, LONGEST = 256, 4096
"""Texts up to ``LONG`` characters are never cut, and no text is longer than ``LONGEST``."""
MOST_CHARACTERS = 256
_LARGEST_KEPT, _USUAL_SIZE = 128, (64, 64)
_MODES = {"1": 1, "L": 1, "LA": 1, "RGB": 3, "RGBA": 3, "P": 3, "PA": 3}


class Part(NamedTuple):
    """``rows``: numbers of items (n,) -> what the store holds of them, (n, *shape). ``present`` bool (items,): whether
    an item has the modality; of others nothing is asked. ``counts``: whole numbers from 0, not standardised."""

    info: ModalityInfo
    rows: Callable[[np.ndarray], np.ndarray]
    present: np.ndarray
    counts: bool = False


def pictures(files: Sequence[Path | None], size: tuple[int, int] | None, problem: Problem) -> Part:
    """Picture files, turned as they were held, cropped to the middle and resized: to ``size``, to the size that all
    have, or to 64x64. Grey where all are. None: the item has no picture. Raises DataProblem for one that is no plain
    picture."""
    there = {item: file for item, file in enumerate(files) if file is not None}
    seen = [header(file, item, problem) for item, file in there.items()]
    sizes = {(height, width) for _, height, width in seen}
    common = next(iter(sizes)) if len(sizes) == 1 and max(next(iter(sizes))) <= _LARGEST_KEPT else _USUAL_SIZE
    height, width = size or common
    channels = max((channels for channels, _, _ in seen), default=1)

    def rows(items: np.ndarray) -> np.ndarray:
        return np.stack([_decoded(there[i], channels, (width, height), i, problem) for i in items.tolist()])

    info = ModalityInfo(kind="image", shape=(channels, height, width))
    return Part(info, rows, np.array([file is not None for file in files]))


def header(file: Path, item: int, problem: Problem, *, whole: bool = False) -> tuple[int, int, int]:
    """Channels, height and width; ``whole``: its pixels are looked at, too."""
    from PIL import Image

    try:
        with Image.open(file) as picture:
            phone = picture.format == "MPO"  # a phone's photograph: what follows the first picture goes with it
            frames, mode = 1 if phone else getattr(picture, "n_frames", 1), picture.mode
            turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            width, height = picture.size
            if whole:
                picture.load()
            see_through = _see_through(picture)
    except Exception as error:  # a damaged picture fails in more ways than Pillow has names for
        raise problem(item, f"{file} cannot be read as a picture ({str(error)[:80]})") from error
    if frames > 1:
        raise problem(item, f"{file} has {frames} frames; a picture has one")
    if see_through or mode not in _MODES:
        kind = "transparency" if see_through else {"I;16": "16 bits a pixel"}.get(mode, f"mode {mode}")
        raise problem(item, f"{file} has {kind}; a picture is grey or RGB with 8 bits")
    return (_MODES[mode], width, height) if turned else (_MODES[mode], height, width)


def _see_through(picture: Any) -> bool:
    """Whether a PIL image has pixels that are not opaque. Of one without any alpha no pixel is read."""
    return picture.has_transparency_data and picture.convert("RGBA").getchannel("A").getextrema()[0] < 255


def _decoded(file: Path, channels: int, size: tuple[int, int], item: int, problem: Problem) -> np.ndarray:
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as picture:
            set_upright(picture)
            fitted = ImageOps.fit(picture.convert("L" if channels == 1 else "RGB"), size, Image.Resampling.LANCZOS)
    except Exception as error:  # see above
        raise problem(item, f"{file} cannot be read as a picture ({str(error)[:80]})") from error
    pixels = np.asarray(fitted)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def texts(strings: Sequence[str], name: str) -> Part:
    """Strings in small letters over the characters that they have, the blank first. They are as long as the longest,
    or, where that is above ``LONG``, as 99 of 100 of them; what is cut or too rare is said. An empty one is none."""
    small = [text.plain(string) for string in strings]
    lengths = sorted(len(string) for string in small if string) or [1]
    length = lengths[-1] if lengths[-1] <= LONG else min(lengths[(99 * len(lengths) - 1) // 100], LONGEST)
    if cut := sum(one > length for one in lengths):
        console.warn(f"{name}: {cut:,} of {len(small):,} texts are cut to {length} characters")
    counts = Counter(character for string in small for character in string if character != " ")
    if half := [character for character in counts if "\ud800" <= character <= "\udfff"]:
        raise DataProblem(f"{name}: {half[0]!r} in a text is half a character", "write the texts as UTF-8")
    known = [character for character, _ in counts.most_common(MOST_CHARACTERS - 1)]
    if rare := set(counts) - set(known):
        console.warn(f"{name}: {len(rare)} characters are beyond the {MOST_CHARACTERS} most frequent ones and become "
                     f"blanks, as {''.join(sorted(rare))[:8]!r}")  # fmt: skip
    blanks, alphabet = str.maketrans(dict.fromkeys(rare, " ")), " " + "".join(sorted(known))
    ready = [string.translate(blanks)[:length] for string in small]
    info = ModalityInfo(kind="text", shape=(length,), alphabet=alphabet, fill=" ")
    return Part(info, lambda items: text.encode([ready[i] for i in items], length, alphabet=alphabet),
                np.array([*map(bool, small)]))  # fmt: skip


def vectors(
    values: np.ndarray, features: Sequence[str], train: np.ndarray, *, raw: bool, problem: Callable[[str, str], Any]
) -> Part:
    """Numbers (items, F): as they are with ``raw``, else standardised by mean and deviation of the ``train`` items. An
    item whose numbers are all nan has none. ``problem``: (feature, what) -> the error for a feature that is
    constant."""
    present = ~np.isnan(values).all(1)
    if raw:
        info = ModalityInfo(kind="vector", shape=values.shape[1:], features=tuple(features))
        counts = strange(values[present], COUNTS[0]) is None
        return Part(info, lambda items: values[items].astype(np.float32), present, counts)
    known = values[train[present[train]]]
    if not len(known):
        raise problem(features[0], "no training item has a number")
    means, deviations = known.mean(0), known.std(0)
    for feature, mean, deviation in zip(features, means, deviations, strict=True):
        if deviation <= 1e-9 * max(1.0, abs(mean)):
            raise problem(feature, f"is {mean:g} in every training item, and so says nothing")
    info = ModalityInfo(kind="vector", shape=values.shape[1:], features=tuple(features),
                        means=tuple(means.tolist()), deviations=tuple(deviations.tolist()))  # fmt: skip
    return Part(info, lambda items: ((values[items] - means) / deviations).astype(np.float32), present)
