"""A stand-in for SVHN that needs no download: drawn house numbers, 32x32 in colour.

The digits are scikit-learn's handwritten ones and Pillow's own font, turned, sheared and scaled, in a colour that
stands out from a cluttered background, with neighbours of the same colour cut off at the edges. Handwriting of the
training split comes from the training split of the embedded digits alone, and every picture has its own random numbers,
a function of (seed, split, item).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmvae_cli.datasets import sources
from mmvae_cli.datasets.sources import Digits, Pictures
from mmvae_cli.process import console, signals

if TYPE_CHECKING:
    from PIL import Image

COUNTS = {"train": 6000, "test": 1500}
STAND_IN = "house numbers drawn by the program, not SVHN"
SIDE, GLYPH = 32, 64
_FONT_SHARE = 0.6
_NEIGHBOUR_SHARE = 0.6
Glyphs = list[list["Image.Image"]]
"""Per digit, the masks it can be drawn with."""


def draw(data_dir: Path, seed: int, counts: dict[str, int] | None = None) -> Digits:
    """Both splits, the ten digits equally often. Deterministic by ``seed``."""
    counts = counts or COUNTS
    handwriting, printed = sources.digits("embedded", data_dir), _printed()
    drawn = {
        split: draw_split([seed, number], count, [_handwritten(*handwriting.splits[split]), printed], split)
        for number, (split, count) in enumerate(counts.items())
    }
    provenance = {"source": "drawn by the program", "seed": seed, **{s: {"images": n} for s, n in counts.items()}}
    return Digits(drawn, STAND_IN, provenance)


def draw_split(key: Sequence[int], count: int, styles: list[Glyphs], title: str) -> Pictures:
    """Images uint8 (count, 3, 32, 32) and labels int64 (count,); picture i is a function of ``key`` and i."""
    images = np.empty((count, 3, SIDE, SIDE), np.uint8)
    labels = np.arange(count, dtype=np.int64) % 10
    with console.progress(f"drawing house numbers ({title})", count, "images") as shown:
        for item in range(count):
            signals.leave_if_requested("nothing was written")
            images[item] = _picture(np.random.default_rng([*key, item]), int(labels[item]), styles)
            shown.advance()
    return Pictures(images, labels)


def _handwritten(images: np.ndarray, labels: np.ndarray) -> Glyphs:
    """Every handwritten digit (28, 28) as a mask, cut to its ink and enlarged."""
    return [[_mask(image) for image in images[labels == digit]] for digit in range(10)]


def _printed() -> Glyphs:
    """Pillow's font in three weights."""
    from PIL import Image, ImageDraw, ImageFont

    font, glyphs = ImageFont.load_default(72), []
    for digit in "0123456789":
        weights = []
        for stroke in (0, 1, 3):
            page = Image.new("L", (128, 128))
            ImageDraw.Draw(page).text((64, 64), digit, 255, font, anchor="mm", stroke_width=stroke)
            weights.append(_mask(np.asarray(page)))
        glyphs.append(weights)
    return glyphs


def _mask(image: np.ndarray) -> "Image.Image":
    """The ink of ``image`` scaled to fill the height of a (64, 64) mask, centred."""
    from PIL import Image

    whole = Image.fromarray(image)
    ink = whole.crop(whole.point(lambda value: 255 * (value > 64)).getbbox())
    width = min(max(round(ink.width * GLYPH / ink.height), 8), GLYPH)
    mask = Image.new("L", (GLYPH, GLYPH))
    mask.paste(ink.resize((width, GLYPH), Image.Resampling.BICUBIC), ((GLYPH - width) // 2, 0))
    return mask


def _picture(random: np.random.Generator, digit: int, styles: list[Glyphs]) -> np.ndarray:
    """uint8 (3, 32, 32): background, digit and neighbours in one ink, then the camera's faults."""
    behind, ink = _colours(random)
    picture = _background(random, behind)
    style = styles[int(random.random() < _FONT_SHARE)]
    height, turn, shear = random.uniform(17, 26), random.normal(0, 0.1), random.normal(0, 0.12)
    centre = random.normal(16, 1.2, 2)
    mask = _place(_choose(random, style[digit]), height, turn, shear, centre)
    for side in (-1, 1):
        if random.random() < _NEIGHBOUR_SHARE:
            beside = centre + np.array([side * height * random.uniform(0.62, 0.85), random.normal(0, 1)])
            neighbour = _place(_choose(random, style[int(random.integers(10))]), height, turn, shear, beside)
            mask = np.maximum(mask, neighbour)
    shaded = ink[:, None, None] * random.uniform(0.85, 1.1, (3, 1, 1))
    return _camera(random, picture + mask * (shaded - picture))


def _choose(random: np.random.Generator, masks: list["Image.Image"]) -> "Image.Image":
    return masks[int(random.integers(len(masks)))]


def _colours(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two RGB colours in 0..255 whose brightness differs enough to read one on the other."""
    weights = np.array([0.299, 0.587, 0.114])
    while True:
        behind, ink = random.uniform(15, 240, (2, 3))
        if abs(weights @ (behind - ink)) > 55:
            return behind, ink


def _background(random: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    """float (3, 32, 32): a gradient with boards, a pole and coarse texture."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / (SIDE - 1) - 0.5
    angle = random.uniform(0, 2 * np.pi)
    slope = np.cos(angle) * columns + np.sin(angle) * rows
    picture = colour[:, None, None] + slope * random.normal(0, 25, (3, 1, 1))
    for _ in range(random.integers(0, 4)):
        offset, width = random.uniform(-0.6, 0.6), random.uniform(0.04, 0.3)
        angle = random.choice([0.0, np.pi / 2, random.uniform(0, np.pi)])
        band = np.abs(np.cos(angle) * columns + np.sin(angle) * rows - offset) < width / 2
        picture = picture + band * random.normal(0, 18, (3, 1, 1))
    coarse = random.normal(0, 7, (8, 8)).repeat(4, 0).repeat(4, 1)
    return picture + coarse


def _place(mask: "Image.Image", height: float, turn: float, shear: float, centre: np.ndarray) -> np.ndarray:
    """float (32, 32) in 0..1: the mask at ``height`` pixels, turned and sheared around ``centre`` (x, y)."""
    from PIL import Image

    cosine, sine, scale = np.cos(turn), np.sin(turn), GLYPH / height
    matrix = scale * np.array([[1.0, shear], [0.0, 1.0]]) @ np.array([[cosine, sine], [-sine, cosine]])
    shift = GLYPH / 2 - matrix @ centre
    coefficients = (*matrix[0], shift[0], *matrix[1], shift[1])
    small = mask.transform((SIDE, SIDE), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    return np.asarray(small, np.float64) / 255


def _camera(random: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    from PIL import Image, ImageFilter

    exposed = picture * random.uniform(0.8, 1.15) + random.normal(0, 8)
    image = Image.fromarray(np.clip(exposed, 0, 255).astype(np.uint8).transpose(1, 2, 0).copy())
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(random.uniform(0.2, 1.1))), np.float64)
    noisy = blurred.transpose(2, 0, 1) + random.normal(0, random.uniform(1, 6), (3, SIDE, SIDE))
    return np.clip(noisy + 0.5, 0, 255).astype(np.uint8)
