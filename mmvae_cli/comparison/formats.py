"""The comparison as text: terminal table, Markdown, CSV, JSON. Names come from other people's files: escaped."""

import csv
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from mmvae_cli.comparison import progress
from mmvae_cli.comparison.content import RUN_HEADER, Comparison, Content, plain
from mmvae_cli.comparison.groups import Group
from mmvae_cli.comparison.latex import latex
from mmvae_cli.comparison.measures import DDOF, METRICS, Key, Stat
from mmvae_cli.comparison.report import html
from mmvae_cli.comparison.tables import Row, Table, cell_text, headings
from mmvae_cli.process import console
from mmvae_cli.run.result import CHANCE

_MARKS = ("*", CHANCE)
_LEFT_OUT = "Left out of every average"
_UNFINISHED = "Unfinished runs, in no average"

# terminal ------------------------------------------------------------------------------------------------------------


def terminal(comparison: Comparison) -> str:
    """Plain text; ``*`` marks the best, so nothing depends on colour. Tables too wide for the screen are turned."""
    width = max(shutil.get_terminal_size((120, 24)).columns, 60)
    blocks = []
    for content in comparison.contents:
        rule = ["=" * min(width, len(content.title))] if len(comparison.contents) > 1 else []
        blocks.append("\n".join([content.title, *rule, *content.header[1:]]))
        blocks += _terminal(content, width)
    if comparison.unfinished:
        rows = [run.cells() for run in comparison.unfinished]
        blocks.append(_aligned(_UNFINISHED, progress.HEADER, rows, width))
    if comparison.left_out:
        blocks.append("\n".join([_LEFT_OUT, *(f"  {folder}: {why}" for folder, why in comparison.left_out)]))
    return "\n".join(plain(line) for line in "\n\n".join(blocks).split("\n"))


def _terminal(content: Content, width: int) -> list[str]:
    blocks = [_terminal_table(table, width) for table in content.tables if not table.detail]
    if content.differences:
        labels = [group.label for group in content.groups]
        rows = [[key, *values] for key, values in content.differences]
        blocks.append(_aligned("Recipe keys that differ", ["key", *labels], rows, width))
    if content.notes:
        blocks.append("\n".join(["Notes", *(f"  {note}" for note in content.notes)]))
    if details := [table.title for table in content.tables if table.detail]:
        blocks.append("More in the other formats: " + "; ".join(details))
    return blocks


def _terminal_table(table: Table, width: int) -> str:
    header = ["", *headings(table)]
    rows = [[_row_label(row), *(cell_text(c) + ("*" if c.best else "") for c in row.cells)] for row in table.rows]
    lines = [_aligned(table.title, header, rows, width)]
    lines += [f"  [{i}] {note}" for i, note in enumerate(table.notes, 1)]
    lines += [f"  {remark}" for remark in table.remarks]
    return "\n".join(lines)


def _row_label(row: Row) -> str:
    marks = "".join(f"[{mark}]" for mark in row.marks)
    return f"{row.label} {marks}".rstrip() if row.published else f"{row.label} (n={row.n})"


def _aligned(title: str, header: list[str], rows: list[list[str]], width: int) -> str:
    """The orientation that fits; where neither does, the narrower one in pieces, first column repeated."""
    upright, turned = [header, *rows], [list(line) for line in zip(header, *rows, strict=True)]
    fits = _width(upright) <= width or _width(upright) <= _width(turned)
    pieces = [console.ruled(_padded(piece)) for piece in _pieces(upright if fits else turned, width)]
    return f"{title}\n" + "\n\n".join(pieces)


def _width(rows: list[list[str]]) -> int:
    return max(map(len, console.aligned(_padded(rows))))


def _pieces(rows: list[list[str]], width: int) -> list[list[list[str]]]:
    """Columns in as many pieces as it takes, at least one column in each beside the first."""
    pieces, start = [], 1
    while start < len(rows[0]):
        end = start + 1
        while end < len(rows[0]) and _width([[row[0], *row[start : end + 1]] for row in rows]) <= width:
            end += 1
        pieces.append([[row[0], *row[start:end]] for row in rows])
        start = end
    return pieces


def _padded(rows: list[list[str]]) -> list[list[str]]:
    """A mark after a number must not push the digits out of line."""
    rows = [[plain(cell) for cell in row] for row in rows]
    marked = [any(cell.endswith(_MARKS) for cell in column) for column in zip(*rows, strict=True)]
    return [[f"{c} " if m and not c.endswith(_MARKS) else c for c, m in zip(row, marked, strict=True)] for row in rows]


# Markdown ------------------------------------------------------------------------------------------------------------


def markdown(comparison: Comparison) -> str:
    """Its plots lie beside."""
    lines = []
    for content in comparison.contents:
        lines += [*_markdown(content), ""]
    if comparison.unfinished:
        rows = [[_md(cell) for cell in run.cells()] for run in comparison.unfinished]
        pictures = [line for plot in comparison.plots for line in (f"![{_md(plot.title)}]({plot.file('png')})", "")]
        lines += [f"## {_UNFINISHED}", "", *_md_rows(progress.HEADER, rows), "", *pictures]
    if comparison.left_out:
        bullets = (f"- {_md(folder)}: {_md(why)}" for folder, why in comparison.left_out)
        lines += [f"{'#' if len(comparison.contents) > 1 else '##'} {_LEFT_OUT}", "", *bullets, ""]
    return "\n".join(lines)


def _markdown(content: Content) -> list[str]:
    lines = [f"# {_md(content.title)}", ""]
    lines += [f"{_md(line)}  " for line in content.header[1:]]
    for plot in content.plots:
        lines += ["", f"![{_md(plot.title)}]({plot.file('png')})"]
    for table in content.tables:
        lines += ["", f"## {_md(table.title)}", "", *_md_table(table)]
    if content.differences:
        labels = [_md(group.label) for group in content.groups]
        rows = [[_md(key), *map(_md, values)] for key, values in content.differences]
        lines += ["", "## Recipe keys that differ", "", *_md_rows(["key", *labels], rows)]
    lines += ["", "## Runs", "", *_md_rows(RUN_HEADER, [[_md(c) for c in row] for row in content.runs])]
    if content.notes:
        lines += ["", "## Notes", "", *(f"- {_md(note)}" for note in content.notes)]
    return lines


def _md_table(table: Table) -> list[str]:
    header = ["", *map(_md, headings(table))]
    rows = [[_md(_row_label(row)), *(f"**{cell_text(c)}**" if c.best else cell_text(c) for c in row.cells)]
            for row in table.rows]  # fmt: skip
    if table.turned:
        header, *rows = [list(line) for line in zip(header, *rows, strict=True)]
    notes = [f"\\[{i}\\] {_md(note)}  " for i, note in enumerate(table.notes, 1)]
    notes += [f"{_md(remark)}  " for remark in table.remarks]
    return _md_rows(header, rows) + (["", *notes] if notes else [])


def _md_rows(header: list[str], rows: list[list[str]]) -> list[str]:
    rule = "|" + "|".join(["---"] + ["---:"] * (len(header) - 1)) + "|"
    return ["| " + " | ".join(header) + " |", rule, *("| " + " | ".join(row) + " |" for row in rows)]


def _md(text: Any) -> str:
    escaped = re.sub(r"([\\`*_\[\]|#])", r"\\\1", plain(text))
    return escaped.replace("<", "&lt;").replace(">", "&gt;")


# CSV -----------------------------------------------------------------------------------------------------------------


def tidy_csv(comparison: Comparison) -> str:
    """Long form, one number a line: ours and the published ones (``source``), full precision, empty std for n < 2.
    ``differing``: the recipe keys in which groups differ, or what a published number's setting has otherwise."""
    rows = [{"dataset": content.name} | row for content in comparison.contents for row in _csv_rows(content)]
    return as_csv(rows, ("group", "source", "metric", "subset", "target", "label", "mean", "std", "ddof", "n",
                         "protocol", "dataset", "stand_in", "differing", "chance", "ceiling",
                         "item_error"))  # fmt: skip


def _csv_rows(content: Content) -> Iterator[dict[str, Any]]:
    for group in content.groups:
        about = {"group": group.label, "source": "this comparison", "ddof": DDOF, "protocol": content.protocol,
                 "stand_in": content.warning,
                 "differing": "; ".join(f"{name}={value}" for name, value in group.differing.items())}  # fmt: skip
        yield from (about | _csv_number(key, stat) for key, stat in group.stats.items())
    for one in content.published:
        about = {"group": one.group.label, "source": one.source, "differing": "; ".join(one.differences)}
        yield from (about | _csv_number(key, stat) for key, stat in one.values.items())


def _csv_number(key: Key, stat: Stat) -> dict[str, Any]:
    return asdict(key) | {"mean": stat.mean, "std": stat.std, "n": stat.n or None, "chance": stat.chance,
                          "ceiling": stat.ceiling, "item_error": stat.item_error}  # fmt: skip


def as_csv(rows: list[dict[str, Any]], columns: Sequence[str]) -> str:
    """Rows as CSV, numbers at full precision; a row may lack a column."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(_csv_cell, columns))
    writer.writerows([_csv_cell(row.get(column)) for column in columns] for row in rows)
    return out.getvalue()


def _csv_cell(value: Any) -> str:
    """A name that a spreadsheet would take for a formula gets a quote in front; numbers stay numbers."""
    if value is None or isinstance(value, float):
        return "" if value is None else repr(value)
    text = plain(value)
    number = re.fullmatch(r"-?[0-9.]+(e[-+]?[0-9]+)?", text)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") and not number else text


# JSON ----------------------------------------------------------------------------------------------------------------


def as_json(comparison: Comparison) -> dict[str, Any]:
    """One document with everything, at full precision. ``dataset``, of groups and published numbers, is a name of
    ``datasets``."""
    contents = comparison.contents
    return {
        "format": "mmvae-comparison", "version": 2, "ddof": DDOF,
        "metrics": {name: {"title": t, "unit": u, "larger_is_better": b} for name, (t, u, b) in METRICS.items()},
        "datasets": {content.name: _dataset_json(content) for content in contents},
        "groups": [_group_json(content, group) for content in contents for group in content.groups],
        "published": [
            {"dataset": content.name, "group": one.group.label, "source": one.source, "external": one.external,
             "differences": list(one.differences),
             "values": [_value_json(k, s) | {"n": s.n or None} for k, s in one.values.items()]}
            for content in contents for one in content.published
        ],
        "unfinished": [{"run": str(run.folder), "state": run.status.get("state"), "last": run.last,
                        "seconds_left": run.seconds_left} for run in comparison.unfinished],
        "left_out": [{"run": str(folder), "reason": why} for folder, why in comparison.left_out],
    }  # fmt: skip


def _dataset_json(content: Content) -> dict[str, Any]:
    measured = content.reference
    return {**measured.dataset.model_dump(mode="json"), "modalities": measured.modalities, "chance": measured.chance,
            "protocol": content.protocol, "settings": measured.settings, "notes": content.notes}  # fmt: skip


def _group_json(content: Content, group: Group) -> dict[str, Any]:
    runs = [{"folder": str(m.folder), "seed": m.seed, "checkpoint": m.evaluation.run.checkpoint,
             "step": m.evaluation.run.step, "epoch": m.evaluation.run.epoch, "seconds": m.status.get("seconds")}
            for m in group.members]  # fmt: skip
    values = [_value_json(key, stat) for key, stat in group.stats.items()]
    values += [_value_json(key, None) for key in group.dashes]
    return {"dataset": content.name, "label": group.label, "method": group.recipe.model.method, "n": len(runs),
            "seeds": group.seeds, "differing": group.differing, "runs": runs, "values": values}  # fmt: skip


def _value_json(key: Key, stat: Stat | None) -> dict[str, Any]:
    return asdict(key) | {
        "mean": stat and stat.mean, "std": stat and stat.std, "n": stat.n if stat else 0,
        "chance": stat and stat.chance, "at_chance": bool(stat and stat.at_chance), "ceiling": stat and stat.ceiling,
        "item_error": stat and stat.item_error,
    }  # fmt: skip


FORMATS: dict[str, Callable[[Comparison], str]] = {
    "table": lambda comparison: terminal(comparison) + "\n",
    "md": markdown,
    "csv": tidy_csv,
    "tex": latex,
    "json": lambda comparison: json.dumps(as_json(comparison), indent=1, allow_nan=False) + "\n",
    "html": html,
}
"""What a file of each format holds."""
