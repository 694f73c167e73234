"""Pictures as they stand in a report: our own figures, and what ``mmvae sample`` has drawn."""

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mmvae_cli.comparison.content import plain
from mmvae_cli.comparison.groups import Group
from mmvae_cli.process.words import first
from mmvae_cli.run.layout import Run

MAX_IMAGE, MAX_SIDE = 4 << 20, 8000
"""Bytes of one file, and pixels along its sides: run folders come from other people."""
_SMALL, _QUALITY = 48 << 10, 70
_NO_PNG = "no PNG, or too large"


class Image(NamedTuple):
    """``title`` and ``about``: what the picture says of itself; ``width`` in pixels."""

    uri: str
    width: int
    title: str = ""
    about: str = ""


class Shown(NamedTuple):
    """An image on the page, and the group and run whose it is."""

    image: Image
    label: str
    seed: int


@dataclass
class Samples:
    """Pictures by figure, of every group that has it; and a line for every folder of which some are not here."""

    rows: dict[str, list[Shown]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def of(groups: list[Group], room: int) -> Samples:
    """The PNG figures of each group's first run that has any, the same figure of all groups side by side: in the order
    of figures as many as ``room`` characters hold, and a count of the others."""
    samples, skipped = Samples(), dict[tuple[Path, str], list[str]]()
    drawn = [(group, next((m for m in group.members if Run(m.folder).pictures()), None)) for group in groups]
    every = [(path, group.label, m) for group, m in drawn if m for path in Run(m.folder).pictures()]
    for path, label, member in sorted(every, key=lambda item: _order(item[0])):
        image = _read(path)
        if isinstance(image, str) or len(image.uri) > room:
            why = image if isinstance(image, str) else "this page would become too large"
            skipped.setdefault((path.parent, why), []).append(path.name)
            continue
        room -= len(image.uri)
        samples.rows.setdefault(path.stem, []).append(Shown(image, label, member.seed))
    samples.skipped = [f"{len(names)} of {folder} ({why}): {first(names)}" for (folder, why), names in skipped.items()]
    return samples


def encoded(png: bytes) -> Image:
    """A PNG as it stands in a page: a large one as WebP, which is a third as large. Raises OSError, ValueError or
    SyntaxError for what is no PNG."""
    import PIL.Image

    with PIL.Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        width, height = image.size
        if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
            raise ValueError(_NO_PNG)
        words = {key: plain(image.info.get(key, ""))[:400] for key in ("Title", "Description")}
        kind, data = "png", png
        if len(png) > _SMALL:
            out = io.BytesIO()
            image.convert("RGB").save(out, "WEBP", quality=_QUALITY, method=2)
            kind, data = "webp", out.getvalue()
    return Image(_uri(kind, data), width, words["Title"], words["Description"])


def of_svg(svg: bytes, width: int) -> Image:
    """A figure of ours: as a picture of its own, no identifier in it meets another's."""
    return Image(_uri("svg+xml", svg), width)


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _read(path: Path) -> Image | str:
    """The picture, or why there is none."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_IMAGE:
            return _NO_PNG
        return encoded(path.read_bytes())
    except (ValueError, SyntaxError):
        return _NO_PNG
    except OSError as error:
        return f"cannot be read ({error.strerror})" if error.strerror else _NO_PNG


def _order(path: Path) -> tuple[int, str]:
    """The general figures first, then the conditional ones by name."""
    general = ("reconstruction", "latent", "prior", "random")
    return next((i for i, start in enumerate(general) if path.stem.startswith(start)), len(general)), path.stem
