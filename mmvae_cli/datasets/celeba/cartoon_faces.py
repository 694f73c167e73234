"""Cartoon faces with attributes, in CelebA's official layout: a stand-in that needs no download.

Attributes are drawn with about CelebA's frequencies and its strongest dependences (beards on men, lipstick on women,
grey hair with age, smiles that open mouths); :mod:`cartoon_drawing` makes them visible.
"""

import bisect
import io
import zipfile
from pathlib import Path

import numpy as np

from mmvae_cli.datasets.celeba.cartoon_drawing import draw
from mmvae_cli.datasets.celeba.files import ATTRIBUTE_LIST, IMAGES, PARTITION_LIST
from mmvae_cli.process import console, signals
from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.store.attribute_text import ATTRIBUTES

COUNT, LEAST = 6000, 10
STAND_IN = "generated cartoon faces, not CelebA"

# Chances in % given the sex, (woman, man): chosen so that over both they give CelebA's published frequencies.
_BY_SEX = {
    "Arched_Eyebrows": (43, 4), "Bags_Under_Eyes": (10, 35), "Big_Lips": (30, 16), "Big_Nose": (10, 42),
    "Bushy_Eyebrows": (7, 24), "Eyeglasses": (2.6, 12), "Oval_Face": (33, 22), "Pale_Skin": (6, 2),
    "Pointy_Nose": (36, 16), "Wearing_Earrings": (31, 2), "Wearing_Hat": (2.6, 8), "Wearing_Lipstick": (80, 1),
    "Wearing_Necklace": (20, 1.5), "Wearing_Necktie": (0, 17), "Smiling": (54, 40), "Rosy_Cheeks": (11, 0),
    "Blurry": (5, 5), "Narrow_Eyes": (11.5, 11.5), "Young": (87, 64),
}  # fmt: skip
# The same given sex and age: (young woman, old woman, young man, old man).
_BY_AGE = {
    "Attractive": (74, 27, 38, 10), "Chubby": (1, 7, 7, 17), "Bald": (0, 0, 4, 8), "Gray_Hair": (0, 12, 0, 23),
    "Receding_Hairline": (4, 11, 8, 19), "Bangs": (23, 15, 6.5, 4),
}  # fmt: skip
_HAIR_COLOURS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "")
_HAIR_SHAPES = ("Straight_Hair", "Wavy_Hair", "")


def draw_attributes(random: np.random.Generator) -> frozenset[str]:
    """The attributes of one face."""

    def chance(percent: float) -> bool:
        return bool(random.random() * 100 < percent)

    man = chance(41.7)
    has = {name for name, chances in _BY_SEX.items() if chance(chances[man])} | ({"Male"} if man else set())
    kind = 2 * man + ("Young" not in has)
    has |= {name for name, chances in _BY_AGE.items() if chance(chances[kind])}
    smiling = "Smiling" in has
    dependent = {
        "Mouth_Slightly_Open": 76 if smiling else 22,
        "High_Cheekbones": 80 if smiling else 13,
        "Heavy_Makeup": 80 if "Wearing_Lipstick" in has else 2,
        "Double_Chin": 50 if "Chubby" in has else 1.8,
    }
    has |= {name for name, percent in dependent.items() if chance(percent)}
    has |= _draw_hair(random, has)
    has |= _draw_beard(random, chance(40)) if man else {"No_Beard"}
    return frozenset(has)


def _draw_hair(random: np.random.Generator, has: set[str]) -> set[str]:
    if "Bald" in has:
        has -= {"Bangs", "Gray_Hair", "Receding_Hairline"}
        return set()
    man = "Male" in has
    colour = random.choice(_HAIR_COLOURS, p=(0.28, 0.03, 0.16, 0.53) if man else (0.23, 0.24, 0.25, 0.28))
    shape = random.choice(_HAIR_SHAPES, p=(0.22, 0.14, 0.64) if man else (0.20, 0.45, 0.35))
    return ({str(shape)} if "Gray_Hair" in has else {str(colour), str(shape)}) - {""}


def _draw_beard(random: np.random.Generator, bearded: bool) -> set[str]:
    """Bearded men have at least one of four kinds; the five-o'clock shadow where nothing else came up."""
    if not bearded:
        return {"No_Beard"}
    kinds = {"5_o_Clock_Shadow": 0.515, "Goatee": 0.376, "Mustache": 0.25, "Sideburns": 0.34}
    return {name for name, share in kinds.items() if random.random() < share} or {"5_o_Clock_Shadow"}


def write(folder: Path, count: int, seed: int) -> None:
    """Write ``count`` faces as the official files: a zip of 178x218 JPEGs and the two lists, split 80/10/10.

    Face i is a function of (seed, i) alone. Raises UsageProblem for fewer than 10 faces.
    """
    if count < LEAST:
        raise UsageProblem(f"--count {count} is below {LEAST}", f"the splits 80/10/10 need at least {LEAST} faces")
    folder.mkdir()
    rows = []
    with (
        zipfile.ZipFile(folder / f"{IMAGES}.zip", "w") as archive,
        console.progress("drawing", count, "faces") as shown,
    ):
        for number in range(count):
            signals.leave_if_requested("nothing was written")
            random = np.random.default_rng([seed, number])
            has, buffer = draw_attributes(random), io.BytesIO()
            draw(has, random).save(buffer, "JPEG", quality=92)
            name = f"{number + 1:06d}.jpg"
            archive.writestr(zipfile.ZipInfo(f"{IMAGES}/{name}"), buffer.getvalue())
            rows.append(" ".join([name, *("1" if attribute in has else "-1" for attribute in ATTRIBUTES)]))
            shown.advance()
    (folder / f"{ATTRIBUTE_LIST}.txt").write_text("\n".join([str(count), " ".join(ATTRIBUTES), *rows, ""]))
    ends = (count * 8 // 10, count * 9 // 10)  # of train and validation
    splits = [f"{row.split()[0]} {bisect.bisect(ends, number)}\n" for number, row in enumerate(rows)]
    (folder / f"{PARTITION_LIST}.txt").write_text("".join(splits))
