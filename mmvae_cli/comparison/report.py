"""The HTML report: one self-contained file. No script, no request; every name from a file is escaped by Jinja2."""

import base64
import struct
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from mmvae_cli import __version__
from mmvae_cli.comparison import tables
from mmvae_cli.comparison.content import RUN_HEADER, Comparison, Content, plain
from mmvae_cli.comparison.groups import Group, Member
from mmvae_cli.comparison.plots import Plot
from mmvae_cli.disk.files import visible
from mmvae_cli.run.result import first

MAX_IMAGE, MAX_IMAGES_TOTAL = 2 << 20, 12 << 20
"""Bytes of one embedded sample grid and of all together: a report should still fit into an e-mail."""
MAX_SIDE = 8000
_PNG, _NO_PNG = b"\x89PNG\r\n\x1a\n", "no PNG, or too large"


@dataclass
class Samples:
    """Sample grids: figure name -> (group label, seed, data URI, width) per group that has it; and a line for every
    folder of which some are not embedded."""

    rows: dict[str, list[tuple[str, int, str, int]]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def html(comparison: Comparison, plots: list[list[Plot]]) -> str:
    """The report as one HTML text; ``plots``: of each data set."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["plain"] = plain
    source = (resources.files("mmvae_cli.comparison") / "report.html.j2").read_text(encoding="utf-8")
    room = MAX_IMAGES_TOTAL // len(comparison.contents)
    sections = [
        _section(content, room) | {"plots": [(plot, Markup(plot.svg)) for plot in own]}  # matplotlib escapes its texts
        for content, own in zip(comparison.contents, plots, strict=True)
    ]
    return environment.from_string(source).render(
        comparison=comparison, sections=sections, version=__version__, run_header=RUN_HEADER
    )


def _section(content: Content, room: int) -> dict[str, Any]:
    """One data set as the template wants it."""
    main = [table for table in content.tables if not table.detail]
    return {
        "content": content, "tables": [_shown(t) for t in main[1:]], "summary": _shown(main[0]) if main else None,
        "details": [_shown(t) for t in content.tables if t.detail],
        "samples": samples(content.collection.groups, room),
        "labels": [group.label for group in content.collection.groups],
    }  # fmt: skip


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


def samples(groups: list[Group], room: int) -> Samples:
    """The PNG figures of each group's first run that has any, the same figure of all groups side by side: in the order
    of figures as many as ``room`` bytes hold, and a count of the others."""
    found, skipped = Samples(), dict[tuple[Path, str], list[str]]()
    every = [(path, group.label, member) for group in groups if (member := _with_figures(group))
             for path in _figures(member.folder)]  # fmt: skip
    for path, label, member in sorted(every, key=lambda item: _figure_order(item[0])):
        image = _read_png(path)
        if isinstance(image, str) or len(image) > room:
            why = image if isinstance(image, str) else "this page would become too large"
            skipped.setdefault((path.parent, why), []).append(path.name)
            continue
        room -= len(image)
        uri = "data:image/png;base64," + base64.b64encode(image).decode()
        found.rows.setdefault(path.stem, []).append((label, member.seed, uri, _width(image)))
    found.skipped = [f"{len(names)} of {folder} ({why}): {first(names)}" for (folder, why), names in skipped.items()]
    return found


def _with_figures(group: Group) -> Member | None:
    return next((m for m in group.members if _figures(m.folder)), None)


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
