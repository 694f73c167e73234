"""The HTML report: one self-contained file. No script, no request; every name from a file is escaped by Jinja2."""

import base64
import struct
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from mmvae_cli import __version__
from mmvae_cli.comparison import tables
from mmvae_cli.comparison.content import RUN_HEADER, Content, plain
from mmvae_cli.comparison.groups import Group
from mmvae_cli.comparison.plots import Plot
from mmvae_cli.files import visible

MAX_IMAGE, MAX_IMAGES_TOTAL = 2 << 20, 12 << 20
"""Bytes of one embedded sample grid and of all together: a report should still fit into an e-mail."""
MAX_SIDE = 8000
_PNG, _NO_PNG = b"\x89PNG\r\n\x1a\n", "no PNG, or too large"


@dataclass
class Samples:
    """Sample grids: figure name -> (group label, seed, data URI, width) per group that has it; what was too large."""

    rows: list[tuple[str, list[tuple[str, int, str, int]]]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def html(content: Content, plots: list[Plot]) -> str:
    """The report as one HTML text."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["plain"] = plain
    source = (resources.files("mmvae_cli.comparison") / "report.html.j2").read_text(encoding="utf-8")
    main = [table for table in content.tables if not table.detail]
    return environment.from_string(source).render(
        content=content, version=__version__,
        tables=[_shown(t) for t in main[1:]], summary=_shown(main[0]) if main else None,
        details=[_shown(t) for t in content.tables if t.detail], samples=samples(content.collection.groups),
        plots=[(plot, Markup(plot.svg)) for plot in plots],  # made by matplotlib, which escapes its texts
        labels=[group.label for group in content.collection.groups], run_header=RUN_HEADER,
    )  # fmt: skip


def _shown(table: tables.Table) -> dict[str, Any]:
    """A table as the template wants it: heading rows and cells as text; long ones turned, modalities going down."""
    labels = [(row.label, row.n, row.published, row.marks) for row in table.rows]
    cells = [[(tables.cell_text(c), _css(c)) for c in row.cells] for row in table.rows]
    turned = len(table.columns) > 12
    return {
        "title": table.title, "notes": table.notes, "chance": table.chance, "labels": labels,
        "turned": turned, "dense": "" if turned else _density(len(table.columns)),
        "columns": tables.headings(table) if turned else [column.header for column in table.columns],
        "spans": [] if turned or not any(c.span for c in table.columns) else tables.spans(table),
        "cells": [list(line) for line in zip(*cells, strict=True)] if turned else cells,
    }  # fmt: skip


def _css(cell: tables.Cell) -> str:
    return "best" if cell.best else "chance" if cell.at_chance else ""


def _density(columns: int) -> str:
    """The page is 1,100 pixels wide: the more columns, the smaller the type."""
    return "denser" if columns > 8 else "dense" if columns > 6 else ""


def samples(groups: list[Group]) -> Samples:
    """The PNG figures of each group's first run that has any, the same figure of all groups side by side."""
    found, total, by_name = Samples(), 0, {}  # type: ignore[var-annotated]
    for group in groups:
        member = next((m for m in group.members if _figures(m.folder)), None)
        for path in sorted(_figures(member.folder), key=_figure_order)[:12] if member else []:
            image = _read_png(path)
            if isinstance(image, str) or total + len(image) > MAX_IMAGES_TOTAL:
                found.skipped.append(f"{path}: {image if isinstance(image, str) else 'too much for one file'}")
                continue
            total += len(image)
            uri = "data:image/png;base64," + base64.b64encode(image).decode()
            by_name.setdefault(path.stem, []).append((group.label, member.seed, uri, _width(image)))  # type: ignore[union-attr]
    found.rows = list(by_name.items())
    return found


def _figures(run: Path) -> list[Path]:
    return visible((run / "figures").glob("*.png"))


def _figure_order(path: Path) -> tuple[int, str]:
    """The general figures first, then the conditional ones by name."""
    general = ("reconstruction", "prior", "random")
    return next((i for i, start in enumerate(general) if path.stem.startswith(start)), len(general)), path.stem


def _read_png(path: Path) -> bytes | str:
    """The bytes of a real PNG of sane size, else why there are none: run folders come from other people."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_IMAGE:
            return _NO_PNG
        image = path.read_bytes()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not image.startswith(_PNG) or len(image) < 33:
        return _NO_PNG
    width, height = struct.unpack(">II", image[16:24])
    return image if 0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE else _NO_PNG


def _width(image: bytes) -> int:
    return int(struct.unpack(">I", image[16:20])[0])
