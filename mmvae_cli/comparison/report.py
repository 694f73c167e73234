"""The HTML report: one self-contained file. No script, no request; every name from a file is escaped by Jinja2."""

from importlib import resources
from typing import Any

from mmvae_cli import __version__
from mmvae_cli.comparison import progress, sample_images, tables
from mmvae_cli.comparison.content import RUN_HEADER, Comparison, Content, Plot, plain
from mmvae_cli.comparison.sample_images import Image
from mmvae_cli.recipe import METHODS

MAX_PAGE = 14 << 20
"""Characters of one report with all its pictures: it should still fit into an e-mail."""


def html(comparison: Comparison) -> str:
    """The report as one HTML text."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["plain"] = plain
    environment.globals |= {"cell_text": tables.cell_text, "headings": tables.headings, "spans": tables.spans}
    source = (resources.files("mmvae_cli.comparison") / "report.html.j2").read_text(encoding="utf-8")
    shown = [[_figure(plot) for plot in content.plots] for content in comparison.contents]
    room = MAX_PAGE - sum(len(figure.uri) for own in shown for figure in own)
    count, running = len(comparison.contents), [_figure(plot) for plot in comparison.plots]
    sections = [
        _section(content, own, room // count, f"data-{number}-" if count > 1 else "")
        for number, (content, own) in enumerate(zip(comparison.contents, shown, strict=True), 1)
    ]
    return environment.from_string(source).render(
        comparison=comparison, sections=sections, version=__version__, run_header=RUN_HEADER,
        progress_header=progress.HEADER, running=running,
    )  # fmt: skip


def _figure(plot: Plot) -> Image:
    """A plot as the template wants it: the SVG, or a grid of pictures."""
    drawn = plot.files["svg"] if plot.width else plot.files["png"]
    image = sample_images.of_svg(drawn, plot.width) if plot.width else sample_images.encoded(drawn)
    return image._replace(title=plot.title, about=plot.about)


def _section(content: Content, figures: list[Image], room: int, prefix: str) -> dict[str, Any]:
    """One dataset as the template wants it. ``parts``: anchor -> heading of what there is, for the index."""
    about = _methods(content)
    images = sample_images.of(content.groups, room)
    details = [table for table in content.tables if table.detail]
    main = [table for table in content.tables if not table.detail]
    there = {
        "summary": ("Summary", main[:1]), "figures": ("Figures", figures), "tables": ("Tables", main[1:]),
        "samples": ("Samples", images.rows or images.skipped), "methods": ("Methods", about),
        "settings": ("Settings that differ", content.differences), "runs": ("Runs", content.runs),
        "notes": ("Notes", content.notes), "more": ("More tables", details),
    }  # fmt: skip
    return {
        "content": content, "prefix": prefix, "parts": {key: name for key, (name, found) in there.items() if found},
        "summary": main[:1], "figures": figures, "tables": main[1:], "details": details, "samples": images,
        "methods": list(dict.fromkeys(about.values())), "labels": list(about),
        "papers": {label: paper for label, (_, _, paper, _) in about.items()},
    }  # fmt: skip


def _methods(content: Content) -> dict[str, tuple[str, str, str, str]]:
    """Group -> its method: title, idea, paper, and the choices that make it this method."""
    described = {}
    for group in content.groups:
        method = METHODS[group.method]
        keys = [f"{key.rpartition('.')[2]}={value}" for key, value in method.preset.items()]
        described[group.label] = method.title, method.idea, method.paper, ", ".join(keys)
    return described
