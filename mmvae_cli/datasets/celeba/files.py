"""CelebA as its owners publish it: two lists and a folder or zip of aligned JPEGs. Nothing is extracted. No torch.

The lists come as their owners write them, or as the CSV of other programs. What does not fit together is collected as
:class:`Damage` and left to the caller; what makes the whole unusable raises DataProblem.
"""

import io
import itertools
import os
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mmvae_cli.datasets import zips
from mmvae_cli.datasets.pictures import set_upright
from mmvae_cli.disk.files import reading
from mmvae_cli.process.errors import DataProblem
from mmvae_cli.store.attribute_text import ATTRIBUTES

IMAGES, ATTRIBUTE_LIST, PARTITION_LIST = "img_align_celeba", "list_attr_celeba", "list_eval_partition"
WIDTH, HEIGHT, SIDE = 178, 218, 64
CROP = (15, 35, 163, 183)
"""Left, top, right, bottom: the central 148x148, columns 15..162 and rows 35..182."""
MAX_IMAGE_BYTES = 4 << 20
"""An aligned face has about 7 kB; anything beyond this is no such face, and is not read into memory."""
_PLACES = ("", "Anno", "Eval", "Img")
_VALUES, _SPLITS = {"1": 1, "-1": 0, "0": 0}, {"0": 0, "1": 1, "2": 2}
LAYOUT = f"it needs {IMAGES} (folder or .zip), {ATTRIBUTE_LIST} and {PARTITION_LIST} (.txt or .csv)"


@dataclass(frozen=True)
class Damage:
    """One kind of damage and where it was found."""

    what: str
    where: list[str]

    def __str__(self) -> str:
        shown = ", ".join(self.where[:3]) + (", ..." if len(self.where) > 3 else "")
        return f"{len(self.where):,} {self.what} ({shown})"


@dataclass(frozen=True)
class Images:
    """The image files of a source by name; ``read`` gives the bytes of one and may be called from many threads."""

    path: Path
    names: frozenset[str]
    read: Callable[[str], bytes]
    twice: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Faces:
    """The rows that have image, attributes and split, in the order of the attribute list.

    ``attributes`` (N, 40) uint8 of 0/1; ``partition`` (N,) uint8: 0 train, 1 validation, 2 test.
    """

    names: list[str]
    attributes: np.ndarray
    partition: np.ndarray
    damage: list[Damage]


def is_source(folder: Path) -> bool:
    """Whether all three parts lie in ``folder``; a download that broke off has only some of them."""
    lists = (_list_path(folder, name) for name in (ATTRIBUTE_LIST, PARTITION_LIST))
    return _images_path(folder) is not None and all(lists)


def read(folder: Path) -> Faces:
    """Read both lists and look at which images are there. Raises DataProblem where a part is missing or unusable."""
    if not folder.is_dir():
        raise DataProblem(f"{folder} is no folder", f"--source takes the folder of the official files: {LAYOUT}")
    images = open_images(folder)
    attributes, attribute_damage = _read_attributes(_need_list(folder, ATTRIBUTE_LIST))
    partition, partition_damage = _read_partition(_need_list(folder, PARTITION_LIST))
    names = [name for name in attributes if name in partition and name in images.names]
    damage = [
        *attribute_damage,
        *partition_damage,
        Damage("rows without an image", [name for name in attributes if name not in images.names]),
        Damage(f"images without a row in {ATTRIBUTE_LIST}", sorted(images.names - attributes.keys())),
        Damage(f"rows of {ATTRIBUTE_LIST} without a split", [name for name in attributes if name not in partition]),
        Damage(f"rows of {PARTITION_LIST} without attributes", [name for name in partition if name not in attributes]),
        Damage(f"images twice in {images.path.name}", images.twice),
    ]
    table = np.frombuffer(b"".join(attributes[name] for name in names), np.uint8).reshape(-1, len(ATTRIBUTES))
    splits = np.frombuffer(b"".join(partition[name] for name in names), np.uint8)
    return Faces(names, table, splits, [kind for kind in damage if kind.where])


# lists ---------------------------------------------------------------------------------------------------------------


def _list_path(folder: Path, name: str) -> Path | None:
    """Also ``list_attr_celeba (1).txt`` and ``list_attr_celeba.txt.txt``, as browsers and editors leave them."""
    usual = (folder / place / f"{name}{suffix}" for suffix in (".txt", ".csv") for place in _PLACES)
    other = (path for place in _PLACES for path in sorted((folder / place).glob(f"{name}*"))
             if re.fullmatch(rf"{name}( ?\([0-9]+\))?(\.(txt|csv|tsv))*", path.name, re.IGNORECASE))  # fmt: skip
    return next((path for path in itertools.chain(usual, other) if path.is_file()), None)


def _need_list(folder: Path, name: str) -> Path:
    if path := _list_path(folder, name):
        return path
    raise DataProblem(f"{folder} has no {name}.txt and no {name}.csv", LAYOUT)


def _lines(path: Path) -> list[str]:
    try:
        with reading(path):
            return path.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataProblem(f"{path} cannot be read as text ({error})", "copy the file again") from error


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """(number of the line, fields) of every line that is not blank. Commas, semicolons or blanks part the fields,
    whatever the file's name says (the second line tells which); quotes around them are taken off."""
    lines = [(number, text) for number, line in enumerate(_lines(path), 1) if (text := line.strip().rstrip(",;"))]
    if not lines:
        raise DataProblem(f"{path} is empty", "copy the file again")
    sample = lines[min(1, len(lines) - 1)][1]
    separator = next((sign for sign in ",;" if sign in sample), None)
    return [(number, [part.strip(" \t\"'") for part in text.split(separator)]) for number, text in lines]


def _read_attributes(path: Path) -> tuple[dict[str, bytes], list[Damage]]:
    """Image name -> 40 bytes of 0/1. The official list begins with the number of its rows; copies may lack it."""
    rows = _rows(path)
    said = rows.pop(0)[1][0] if len(rows[0][1]) == 1 and len(rows) > 1 else None
    line, header = rows.pop(0)
    if tuple(header[-len(ATTRIBUTES) :]) != ATTRIBUTES:
        raise DataProblem(
            f"{path} line {line} does not name CelebA's 40 attributes in their order", "copy the file again"
        )
    attributes, damage = _collect(path, rows, _VALUES, len(ATTRIBUTES))
    if said not in (None, str(len(rows))):
        where = f"line 1 says {said[:20]!r}, there are {len(rows)} rows"
        damage.append(Damage(f"wrong header count in {path.name}", [where]))
    return attributes, damage


def _read_partition(path: Path) -> tuple[dict[str, bytes], list[Damage]]:
    """Image name -> a byte, 0, 1 or 2."""
    rows = _rows(path)
    return _collect(path, rows[1:] if rows[0][1][-1].lower() == "partition" else rows, _SPLITS, 1)


def _collect(
    path: Path, lines: list[tuple[int, list[str]]], known: dict[str, int], count: int
) -> tuple[dict[str, bytes], list[Damage]]:
    """Image name -> its row of ``count`` values, each one that is ``known``; and the damage among the rows. A repeated
    name keeps its first row."""
    rows: dict[str, bytes] = {}
    malformed, repeated = [], []
    for number, fields in lines:
        name, *values = fields[1:] if len(fields) > 1 and fields[0].isdecimal() else fields  # pandas and R count rows
        if len(values) != count or not known.keys() >= set(values):
            malformed.append(f"line {number}")
        elif name in rows:
            repeated.append(f"{name}, line {number}")
        else:
            rows[name] = bytes(known[value] for value in values)
    return rows, [
        Damage(f"malformed rows in {path.name}", malformed),
        Damage(f"repeated rows in {path.name}", repeated),
    ]


# images --------------------------------------------------------------------------------------------------------------


def open_images(folder: Path) -> Images:
    """The folder or zip of images in a source folder. Raises DataProblem where there is none or it is unreadable."""
    path = _images_path(folder)
    if path is None:
        raise DataProblem(f"{folder} has no {IMAGES} folder and no {IMAGES}.zip", LAYOUT)
    return _image_folder(path) if path.is_dir() else _image_zip(path)


def _images_path(folder: Path) -> Path | None:
    for place in (folder / inner for inner in _PLACES):
        for images in (place / IMAGES / IMAGES, place / IMAGES):
            if images.is_dir():
                return images
        if (archive := place / f"{IMAGES}.zip").is_file():
            return archive
    return None


def _is_image(name: str) -> bool:
    return re.search(r"^[^.].*\.jpe?g$", name, re.IGNORECASE) is not None


def _image_folder(folder: Path) -> Images:
    with reading(folder):
        names = frozenset(entry.name for entry in os.scandir(folder) if _is_image(entry.name))

    def read_file(name: str) -> bytes:
        with reading(folder / name), open(folder / name, "rb") as file:
            return file.read(MAX_IMAGE_BYTES + 1)

    return Images(folder, names, read_file)


def _image_zip(path: Path) -> Images:
    """A zip is read member by member into memory, by the file names the lists ask for: no path of it is ever used."""
    archive = zips.opened(path, str(path))
    members: dict[str, zipfile.ZipInfo] = {}
    twice = []
    for place, member in zips.members(archive):
        name = place.rpartition("/")[2]
        if _is_image(name):
            if name in members:
                twice.append(name)
            members.setdefault(name, member)

    def read_member(name: str) -> bytes:
        with archive.open(members[name]) as file:
            return file.read(MAX_IMAGE_BYTES + 1)

    return Images(path, frozenset(members), read_member, twice)


def decode(content: bytes) -> np.ndarray:
    """An aligned 178x218 JPEG -> (3, 64, 64) uint8: the central 148x148, reduced by Pillow's antialiased bicubic.

    Raises ValueError, or whatever Pillow raises, for anything else. The full-size picture is decoded: JPEG's draft mode
    would be faster and give other pixels.
    """
    from PIL import Image

    if len(content) > MAX_IMAGE_BYTES:
        raise ValueError(f"larger than {MAX_IMAGE_BYTES} bytes")
    with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
        if sorted(image.size) == sorted((WIDTH, HEIGHT)):
            set_upright(image)
        if image.size != (WIDTH, HEIGHT):
            raise ValueError(f"{image.size[0]}x{image.size[1]} pixels, not {WIDTH}x{HEIGHT}")
        face = image.convert("RGB").crop(CROP).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(face).transpose(2, 0, 1)
