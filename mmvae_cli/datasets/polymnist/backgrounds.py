"""The pictures behind the digits of PolyMNIST, one per view: drawn here, or read from a folder of the user's."""

import colorsys
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from mmvae_cli.datasets.pictures import set_upright
from mmvae_cli.datasets.sources import SIDE
from mmvae_cli.process import console, signals
from mmvae_cli.process.errors import DataProblem, UsageProblem, cannot_read
from mmvae_cli.process.words import first

_DRAWN = 256
"""Pixels: height and width of a drawn background. A crop of 28 sees a part of a stripe or cell, a soft change of light:
finer textures cost the latent space more than the digit does, and a small model then learns digits late."""

_FORMATS = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "TIFF": (".tif", ".tiff"), "BMP": (".bmp",), "GIF": (".gif",),
            "WEBP": (".webp",), "PPM": (".ppm", ".pgm", ".pbm")}  # fmt: skip
"""What is read of a folder of pictures. Pillow knows more: EPS, for which it starts another program, is not for us."""
_KNOWN = ", ".join(list(_FORMATS)[:-1]) + f" or {list(_FORMATS)[-1]}"

_BRIGHTEST, _DARKEST = 70, 0.5
"""A drawn background stays below the first value, so the inverted digit (255 - value) is far brighter everywhere; its
darkest colour has the second share of it."""


def builtin(view: int, seed: int) -> np.ndarray:
    """A smooth, dark, coloured texture, uint8 (3, 256, 256), the same for the same ``view`` and ``seed``.

    Hues follow the golden ratio, so any number of views are far apart and view v looks alike whatever their number;
    the kind of texture changes from view to view: clouds, stripes, cells, a slope, rings.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(9, view)))
    light = _TEXTURES[view % len(_TEXTURES)](rng)  # (H, W) in [0, 1]
    hue = (0.6 + view * 0.6180339887498949) % 1.0
    low = np.array(colorsys.hsv_to_rgb((hue + 0.05) % 1.0, 0.9, _DARKEST))
    high = np.array(colorsys.hsv_to_rgb(hue, 0.75, 1.0))
    colours = low[:, None, None] * (1 - light) + high[:, None, None] * light
    return (colours * (_BRIGHTEST - 1)).astype(np.uint8)


def _clouds(rng: np.random.Generator, waves: int = 4) -> np.ndarray:
    """Low-frequency noise: a sum of plane waves of random direction and phase, (H, W) in [0, 1]."""
    y, x = _axes()
    total = np.zeros((_DRAWN, _DRAWN))
    for _ in range(3 * waves):
        across, down = rng.uniform(-waves, waves, 2)
        total += np.sin(2 * np.pi * (across * x + down * y) + rng.uniform(0, 2 * np.pi))
    return _to_unit(total)


def _stripes(rng: np.random.Generator) -> np.ndarray:
    y, x = _axes()
    angle = rng.uniform(0.2, 0.8) * np.pi
    along = np.cos(angle) * x + np.sin(angle) * y + 0.03 * _clouds(rng, 2)
    return _to_unit(np.sin(2 * np.pi * 6 * along))


def _cells(rng: np.random.Generator) -> np.ndarray:
    """Distance to the nearest of 40 points on the torus: dark kernels, bright seams."""
    y, x = _axes()
    nearest = np.full((_DRAWN, _DRAWN), np.inf)
    for down, across in rng.uniform(size=(40, 2)):
        dy, dx = np.abs(y - down), np.abs(x - across)
        nearest = np.minimum(nearest, np.minimum(dy, 1 - dy) ** 2 + np.minimum(dx, 1 - dx) ** 2)
    return _to_unit(np.sqrt(nearest))


def _slope(rng: np.random.Generator) -> np.ndarray:
    y, x = _axes()
    angle = rng.uniform(0, 2 * np.pi)
    return _to_unit(np.cos(angle) * x + np.sin(angle) * y + 0.1 * _clouds(rng, 3))


def _rings(rng: np.random.Generator) -> np.ndarray:
    y, x = _axes()
    down, across = rng.uniform(0.2, 0.8, 2)
    return _to_unit(np.cos(2 * np.pi * 5 * np.hypot(y - down, x - across)))


_TEXTURES = (_clouds, _stripes, _cells, _slope, _rings)


def _axes() -> tuple[np.ndarray, np.ndarray]:
    line = np.arange(_DRAWN) / _DRAWN
    return line[:, None], line[None, :]


def _to_unit(values: np.ndarray) -> np.ndarray:
    return np.asarray((values - values.min()) / (values.max() - values.min()))


def picture_paths(folder: Path) -> list[Path]:
    """The pictures of ``folder`` in natural order (2.jpg before 10.jpg), known by what they hold. Whatever else lies
    there is named in a warning. Raises DataProblem where there is none."""
    if not folder.is_dir():
        raise DataProblem(
            f"--backgrounds {folder}: no such folder", "give builtin, or a folder with one image per view"
        )
    seen = sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=lambda path: natural(path.name))
    paths = [path for path in seen if path.is_file() and _is_picture(path)]
    if not paths:
        raise DataProblem(f"--backgrounds {folder}: no images there", f"give a folder with one {_KNOWN} per view")
    if others := [path.name for path in seen if path not in paths]:
        console.warn(f"passed over in {folder}, being no {_KNOWN}: {first(others, 8)}")
    return paths


def _is_picture(path: Path) -> bool:
    """By content. One that only its name calls a picture, or that may not be read, counts too: :func:`read` says what
    is wrong with it."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=tuple(_FORMATS)):
                return True
    except UnidentifiedImageError:
        return any(path.suffix.lower() in suffixes for suffixes in _FORMATS.values())
    except Exception:
        return True


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key that counts: ``m2`` before ``m10``."""
    return [(0, int(part), part) if part.isdecimal() and part.isascii() else (1, 0, part)
            for part in re.split(r"([0-9]+)", name)]  # fmt: skip


def choose(paths: list[Path], views: int, folder: Path) -> list[Path]:
    """The first ``views`` pictures. Raises UsageProblem where there are fewer."""
    if len(paths) < views:
        raise UsageProblem(
            f"--backgrounds {folder}: {len(paths)} images for {views} views",
            f"add images, or give --views {len(paths)}",
        )
    return paths[:views]


def read(path: Path) -> np.ndarray:
    """uint8 (3, H, W) at full resolution, upright as its EXIF says and never resized (the paper's appendix D crops).

    Grey becomes three equal channels, transparent parts become black, 16-bit greys are scaled to 8 bits.
    Raises DataProblem for what is no picture, or smaller than a crop.
    """
    from PIL import Image

    signals.leave_if_requested("nothing was written")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=tuple(_FORMATS)) as picture:
                set_upright(picture)
                pixels = np.asarray(_to_rgb(picture))
    except PermissionError as error:
        raise cannot_read(path, error) from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataProblem(f"{path}: cannot be read as an image ({error})", "replace or remove the file") from error
    height, width = pixels.shape[:2]
    if min(height, width) <= SIDE:
        raise DataProblem(
            f"{path}: {width}x{height} is too small", f"a crop needs at least {SIDE + 1}x{SIDE + 1} pixels"
        )
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _to_rgb(picture: Any) -> Any:
    from PIL import Image

    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):  # convert("RGB") would clip these to white
        values = np.asarray(picture, dtype=np.float64)
        largest = float(values.max())
        if picture.mode == "F":
            top = max(255.0, largest) if largest > 1 else 1.0
        else:
            top = 65535.0 if picture.mode != "I" or largest > 255 else 255.0
        return Image.fromarray(np.clip(values * (255.0 / top), 0, 255).astype(np.uint8)).convert("RGB")
    if "A" in picture.mode or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer).convert("RGB")
    return picture.convert("RGB")
