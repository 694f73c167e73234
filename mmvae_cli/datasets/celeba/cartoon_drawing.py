"""Drawing one cartoon face from CelebA's attributes, with Pillow, at CelebA's size and place in the picture.

Coordinates are pixels of the 178x218 photograph, of which the dataset keeps rows 35..182 and columns 15..162.
What no attribute says (tone, place, clothes, background) varies freely: that is for the private latents to find.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mmvae_cli.datasets.celeba.files import HEIGHT, WIDTH

_FINE = 2  # drawn larger by this factor and reduced, for smooth edges
Colour = tuple[int, int, int]
_SKINS = ((255, 222, 190), (243, 200, 164), (226, 176, 134), (190, 134, 95), (141, 92, 62), (104, 66, 45))
_SKIN_SHARES = (0.26, 0.3, 0.2, 0.12, 0.07, 0.05)
_HAIRS = {"Black_Hair": (28, 24, 26), "Blond_Hair": (232, 198, 108), "Brown_Hair": (104, 66, 36),
          "Gray_Hair": (178, 178, 182)}  # fmt: skip
_OTHER_HAIRS = ((150, 62, 28), (66, 46, 36), (122, 92, 62))
_CLOTHES = ((58, 74, 120), (150, 46, 54), (60, 60, 64), (222, 222, 218), (62, 118, 84), (122, 70, 132), (206, 146, 60))
_WHITE, _BLACK = (250, 250, 250), (25, 22, 24)


@dataclass(frozen=True)
class _Face:
    """Centre (x, y) and half axes of the face in pixels, its colours, and what it ``has``."""

    has: frozenset[str]
    x: float
    y: float
    wide: float
    tall: float
    skin: Colour
    hair: Colour
    clothes: Colour
    metal: Colour

    @property
    def man(self) -> bool:
        return "Male" in self.has

    @property
    def eyes(self) -> tuple[tuple[float, float, int], ...]:
        """(x, y, side) of both eyes; side is -1 left, 1 right."""
        return tuple((self.x + side * self.wide * 0.47, self.y - 4, side) for side in (-1, 1))


class _Pen:
    """Pillow's drawing calls in photograph pixels: centres and half axes, lines as wide as a number of pixels."""

    def __init__(self, image: Any) -> None:
        from PIL import ImageDraw

        self.draw = ImageDraw.Draw(image, "RGBA")

    def oval(self, x: float, y: float, wide: float, tall: float, fill: Any, line: Any = None, width: float = 1) -> None:
        box = self._box(x, y, wide, tall)
        self.draw.ellipse(box, fill=fill, outline=line, width=round(width * _FINE))

    def arc(self, x: float, y: float, wide: float, tall: float, begin: int, end: int, fill: Any, width: float) -> None:
        """Degrees clockwise from three o'clock."""
        self.draw.arc(self._box(x, y, wide, tall), begin, end, fill=fill, width=round(width * _FINE))

    def segment(self, x: float, y: float, wide: float, tall: float, begin: int, end: int, fill: Any) -> None:
        """The part of an oval between an arc and its chord."""
        self.draw.chord(self._box(x, y, wide, tall), begin, end, fill=fill)

    def shape(self, points: list[tuple[float, float]], fill: Any) -> None:
        self.draw.polygon([(x * _FINE, y * _FINE) for x, y in points], fill=fill)

    def line(self, points: list[tuple[float, float]], fill: Any, width: float) -> None:
        self.draw.line([(x * _FINE, y * _FINE) for x, y in points], fill, round(width * _FINE), joint="curve")

    def box(self, left: float, top: float, right: float, bottom: float, fill: Any, round_by: float = 0) -> None:
        area = [left * _FINE, top * _FINE, right * _FINE, bottom * _FINE]
        self.draw.rounded_rectangle(area, round_by * _FINE, fill=fill)

    @staticmethod
    def _box(x: float, y: float, wide: float, tall: float) -> list[float]:
        return [(x - wide) * _FINE, (y - tall) * _FINE, (x + wide) * _FINE, (y + tall) * _FINE]


def draw(has: frozenset[str], random: np.random.Generator) -> Any:
    """A 178x218 RGB ``PIL.Image`` of a face that has the attributes named in ``has``."""
    from PIL import Image, ImageFilter

    backdrop = tuple(int(value) for value in random.integers(70, 225, 3))
    image = Image.new("RGB", (WIDTH * _FINE, HEIGHT * _FINE), backdrop)
    face, pen = _shape(has, random), _Pen(image)
    parts = (_back_hair, _body, _head, _front_hair, _skin_marks, _beard, _mouth, _nose, _eyes, _brows, _glasses, _hat)
    for part in parts:
        part(pen, face)
    image = image.resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    return image.filter(ImageFilter.GaussianBlur(3.6)) if "Blurry" in has else image


def _shape(has: frozenset[str], random: np.random.Generator) -> _Face:
    skin = (255, 240, 230) if "Pale_Skin" in has else _SKINS[random.choice(len(_SKINS), p=_SKIN_SHARES)]
    other = _OTHER_HAIRS[random.integers(len(_OTHER_HAIRS))]
    wide = 39 + 3 * ("Male" in has) + 9 * ("Chubby" in has) - 5 * ("Oval_Face" in has)
    dx, dy, grow = random.normal(0, 2, 3)
    return _Face(
        has=has,
        x=WIDTH / 2 + dx,
        y=114 + dy,
        wide=wide + grow,
        tall=49 + 4 * ("Oval_Face" in has) + grow,
        skin=_shade(skin, random.uniform(0.95, 1.03)),
        hair=_shade(next((_HAIRS[name] for name in _HAIRS if name in has), other), random.uniform(0.88, 1.12)),
        clothes=_CLOTHES[random.integers(len(_CLOTHES))],
        metal=(236, 200, 70) if random.random() < 0.6 else (226, 232, 240),
    )


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255, round(value * factor)) for value in colour)
    return red, green, blue


# --- from back to front ----------------------------------------------------------------------------------------------


def _back_hair(pen: _Pen, face: _Face) -> None:
    if face.man or "Bald" in face.has:
        return
    dark, spread = _shade(face.hair, 0.85), face.wide + 13
    pen.oval(face.x, face.y - 14, spread, 54, dark)
    pen.box(face.x - spread, face.y - 16, face.x + spread, face.y + 78, dark, 8)
    if "Wavy_Hair" in face.has:
        for step in range(6):
            for side in (-1, 1):
                pen.oval(face.x + side * (spread + (4 if step % 2 else -2)), face.y - 20 + 18 * step, 10, 11, dark)
    if "Straight_Hair" in face.has:
        for offset in (4, 9):
            for side in (-1, 1):
                x = face.x + side * (spread - offset)
                pen.line([(x, face.y - 20), (x, face.y + 78)], _shade(face.hair, 0.6), 1.2)


def _body(pen: _Pen, face: _Face) -> None:
    x, chin = face.x, face.y + face.tall
    neck = 22 if face.man else 17
    pen.oval(x, 226, 78 if face.man else 66, 54, face.clothes)
    pen.box(x - neck, chin - 22, x + neck, 184, _shade(face.skin, 0.88))
    pen.segment(x, 180, neck + 8, 14, 0, 180, _shade(face.skin, 0.92))
    if "Wearing_Necktie" in face.has:
        tie = (170, 24, 40) if face.clothes[0] < 140 else (24, 40, 120)
        pen.shape([(x - neck - 8, 170), (x + neck + 8, 170), (x, 208)], _WHITE)
        pen.shape([(x - 8, 168), (x + 8, 168), (x + 5, 180), (x - 5, 180)], _shade(tie, 0.8))
        pen.shape([(x - 5, 180), (x + 5, 180), (x + 12, 218), (x - 12, 218)], tie)
    if "Wearing_Necklace" in face.has:
        pen.arc(x, chin - 3, neck + 6, 15, 0, 180, face.metal, 3.5)
        pen.oval(x, chin + 13, 4.5, 5, face.metal)


def _head(pen: _Pen, face: _Face) -> None:
    for side in (-1, 1):
        ear = face.x + side * (face.wide + 1)
        pen.oval(ear, face.y + 2, 7, 11, _shade(face.skin, 0.92))
        if "Wearing_Earrings" in face.has:
            pen.oval(ear + side * 2, face.y + 22, 5, 8, None, face.metal, 2.5)
            pen.oval(ear + side * 2, face.y + 14, 3, 3, face.metal)
    pen.oval(face.x, face.y, face.wide, face.tall, face.skin)
    if face.man:  # a squarer jaw
        jaw = face.wide * 0.74
        pen.box(face.x - jaw, face.y + 10, face.x + jaw, face.y + face.tall - 1, face.skin, 16)
    if "Chubby" in face.has:
        for side in (-1, 1):
            pen.oval(face.x + side * face.wide * 0.52, face.y + 20, face.wide * 0.55, 24, face.skin)


def _skin_marks(pen: _Pen, face: _Face) -> None:
    x, y, line = face.x, face.y, _shade(face.skin, 0.72)
    for side in (-1, 1):
        if "Rosy_Cheeks" in face.has:
            pen.oval(x + side * face.wide * 0.6, y + 15, 9, 7, (238, 70, 90, 130))
        if "High_Cheekbones" in face.has:
            pen.arc(x + side * face.wide * 0.62, y + 18, 13, 10, 200, 340, _shade(face.skin, 0.8), 2)
            pen.oval(x + side * face.wide * 0.62, y + 11, 7, 3, (255, 255, 255, 90))
        if "Bags_Under_Eyes" in face.has:
            pen.arc(x + side * face.wide * 0.47, y - 1, 10, 8, 20, 160, line, 2.2)
        if "Young" not in face.has:
            pen.arc(x + side * 13, y + 24, 8, 14, 270 if side > 0 else 180, 360 if side > 0 else 270, line, 1.4)
            pen.line([(x + side * (face.wide - 9), y - 7), (x + side * (face.wide - 3), y - 11)], line, 1.2)
            pen.line([(x + side * (face.wide - 9), y - 3), (x + side * (face.wide - 3), y - 2)], line, 1.2)
    if "Young" not in face.has:
        for row in (24, 30):
            pen.line([(x - 16, y - row), (x, y - row - 1.5), (x + 16, y - row)], line, 1.3)
    if "Double_Chin" in face.has:
        pen.arc(x, y + face.tall - 9, 25, 14, 10, 170, _shade(face.skin, 0.6), 3)


def _beard(pen: _Pen, face: _Face) -> None:
    x, y, dark = face.x, face.y, _shade(face.hair, 0.8)
    jaw = face.wide * 0.8
    if "5_o_Clock_Shadow" in face.has:
        pen.segment(x, y + 4, face.wide - 3, face.tall - 3, 15, 165, (60, 60, 72, 95))
        pen.oval(x, y + 21, 17, 5, (60, 60, 72, 95))
    if "Goatee" in face.has:
        pen.oval(x, y + face.tall - 8, 14, 12, dark)
        for side in (-1, 1):
            pen.line([(x + side * 15, y + 22), (x + side * 13, y + face.tall - 10)], dark, 4)
    if "Mustache" in face.has:
        for side in (-1, 1):
            pen.shape([(x, y + 17), (x + side * 20, y + 25), (x + side * 16, y + 19), (x + side * 6, y + 15)], dark)
        pen.box(x - 15, y + 17, x + 15, y + 22, dark, 2)
    if "Sideburns" in face.has:
        for side in (-1, 1):
            outer, lower = x + side * face.wide * 0.98, (x + side * jaw, y + 28)
            pen.shape([(outer, y - 22), (outer - side * 8, y - 22), (outer - side * 9, y + 20), lower], dark)


def _mouth(pen: _Pen, face: _Face) -> None:
    x, y = face.x, face.y + 29
    lipstick = "Wearing_Lipstick" in face.has
    colour = (206, 22, 60) if lipstick else _mix(face.skin, (170, 70, 70), 0.55)
    thick = (8.0 if "Big_Lips" in face.has else 4.0) * (1.2 if lipstick else 1)
    wide, smiling = 16.0, "Smiling" in face.has
    if "Mouth_Slightly_Open" in face.has:
        if smiling:  # an open smile: a half moon with teeth
            pen.segment(x, y - 4, wide + 5, 12 + thick / 2, 0, 180, colour)
            pen.segment(x, y - 3, wide + 1, 11, 0, 180, (110, 20, 30))
            pen.segment(x, y - 3, wide, 6, 0, 180, _WHITE)
        else:
            pen.oval(x, y, wide - 3, 4 + thick, colour)
            pen.oval(x, y, wide - 7, 4, (70, 14, 22))
    elif smiling:
        pen.arc(x, y - 9, wide + 5, 14 + thick / 2, 20, 160, colour, thick)
    else:
        pen.oval(x, y, wide - 2, thick / 2 + 1.2, colour)
        pen.line([(x - wide + 2, y), (x + wide - 2, y)], _shade(colour, 0.55), 1.2)


def _nose(pen: _Pen, face: _Face) -> None:
    x, y, line = face.x, face.y, _shade(face.skin, 0.7)
    wide = 11 if "Big_Nose" in face.has else 5.5
    if "Pointy_Nose" in face.has:
        pen.shape([(x, y - 6), (x + wide, y + 14), (x, y + 17), (x - wide, y + 14)], _shade(face.skin, 0.78))
        pen.line([(x - wide, y + 13), (x, y + 18), (x + wide, y + 13)], _shade(face.skin, 0.55), 2)
    else:
        pen.oval(x, y + 10, wide, 5 + wide * 0.25, _shade(face.skin, 0.88))
        pen.arc(x, y + 10, wide, 5 + wide * 0.25, 15, 165, line, 1.8)


def _eyes(pen: _Pen, face: _Face) -> None:
    narrow, makeup = "Narrow_Eyes" in face.has, "Heavy_Makeup" in face.has
    wide, tall = 8.5 + ("Attractive" in face.has), 2.4 if narrow else 5.5 + ("Attractive" in face.has)
    for x, y, side in face.eyes:
        if makeup:
            pen.segment(x, y, wide + 2.5, tall + 5, 180, 360, (120, 60, 150, 200))
        pen.oval(x, y, wide, tall, _WHITE, _shade(face.skin, 0.5), 0.7)
        pen.oval(x, y, min(4.2, tall + 0.8), min(4.2, tall), (70, 52, 38))
        pen.oval(x + 1, y - 1, 1.2, 1.2, _WHITE)
        if makeup:
            pen.arc(x, y, wide + 1, tall + 1, 180, 360, _BLACK, 2)
            pen.line([(x + side * wide, y - 1), (x + side * (wide + 5), y - 5)], _BLACK, 1.6)


def _brows(pen: _Pen, face: _Face) -> None:
    colour = _shade(face.hair, 0.7) if "Bald" not in face.has else (60, 44, 34)
    thick = 5.5 if "Bushy_Eyebrows" in face.has else 2.2
    for x, y, side in face.eyes:
        if "Arched_Eyebrows" in face.has:
            pen.line([(x - side * 10, y - 14), (x + side * 3, y - 20), (x + side * 11, y - 11)], colour, thick)
        else:
            pen.line([(x - side * 10, y - 12), (x + side * 10, y - 12)], colour, thick)


def _front_hair(pen: _Pen, face: _Face) -> None:
    """The hair over the forehead: a cap whose lower edge is the hairline."""
    if "Bald" in face.has:
        pen.oval(face.x - 10, face.y - face.tall + 14, 9, 5, (255, 255, 255, 90))
        return
    x, y, top = face.x, face.y, face.y - face.tall
    spread = face.wide + (4 if face.man else 10)
    edge = 24.0 if "Receding_Hairline" not in face.has else 9.0
    pen.segment(x, y - 2, spread, face.tall + 10, 180 + round(edge), 360 - round(edge), face.hair)
    if "Receding_Hairline" in face.has:
        pen.segment(x, y - 12, face.wide - 3, face.tall - 7, 180, 360, face.skin)
    elif "Bangs" not in face.has:
        pen.segment(x, y + 4, face.wide - 5, face.tall - 16, 180, 360, face.skin)
    if "Bangs" in face.has:
        pen.box(x - face.wide + 2, top + 4, x + face.wide - 2, y - 20, face.hair, 5)
        for step in range(-2, 3):
            pen.line([(x + step * 14, top + 8), (x + step * 13, y - 19)], _shade(face.hair, 0.65), 1.2)
    if not face.man:
        for side in (-1, 1):
            pen.oval(x + side * (face.wide + 3), y - 14, 9, 28, face.hair)
    if "Wavy_Hair" in face.has:
        for step in range(-3, 4):
            pen.oval(x + step * spread / 3.6, top - 6 + 2.2 * step * step, 11, 10, face.hair)
            pen.arc(x + step * spread / 3.6, top - 2 + 2.2 * step * step, 8, 7, 180, 360, _shade(face.hair, 0.65), 1.5)
    if "Straight_Hair" in face.has:
        for step in (-3, -2, -1, 1, 2, 3):
            strand = [(x + step * 4, top - 8), (x + step * spread / 3.4, top + 4 + abs(step) * 3)]
            pen.line(strand, _shade(face.hair, 0.65), 1.3)


def _glasses(pen: _Pen, face: _Face) -> None:
    if "Eyeglasses" not in face.has:
        return
    for x, y, side in face.eyes:
        pen.oval(x, y + 1, 14, 12, (210, 230, 245, 70), _BLACK, 2.6)
        pen.line([(x + side * 14, y), (face.x + side * (face.wide + 3), y - 3)], _BLACK, 2.4)
    pen.line([(face.x - face.wide * 0.47 + 14, face.y - 4), (face.x + face.wide * 0.47 - 14, face.y - 4)], _BLACK, 2.6)


def _hat(pen: _Pen, face: _Face) -> None:
    if "Wearing_Hat" not in face.has:
        return
    colour, brim = _shade(face.clothes, 0.75), face.y - 26
    pen.segment(face.x, brim + 4, face.wide + 9, 58, 180, 360, colour)
    pen.box(face.x - face.wide - 9, brim - 10, face.x + face.wide + 9, brim - 2, _shade(face.clothes, 0.4))
    pen.oval(face.x, brim, face.wide + 20, 6, colour)


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue
