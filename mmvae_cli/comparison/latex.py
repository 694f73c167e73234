"""The comparison as LaTeX: booktabs tables to \\input, every name escaped."""

import re
from typing import Any

from mmvae_cli.comparison.content import Comparison, Content, plain
from mmvae_cli.comparison.marking import RULE
from mmvae_cli.comparison.tables import Cell, Row, Table, cell_text, headings, spans
from mmvae_cli.run.result import CHANCE, FEW_EFFECTIVE


def latex(comparison: Comparison) -> str:
    """booktabs tables to \\input; the preamble they need is in the first comment."""
    lines = ["% \\usepackage{booktabs,longtable}"]
    lines += [f"% left out: {plain(folder)}: {plain(why)}" for folder, why in comparison.left_out]
    several = len(comparison.contents) > 1
    for number, content in enumerate(comparison.contents, 1):
        lines += _latex(content, f"{content.name} {number}" if several else content.name)
    return "\n".join(lines) + "\n"


def _latex(content: Content, name: str) -> list[str]:
    """``name``: what the labels of its tables begin with. What holds for every table is said once, below the last."""
    lines = [f"% {plain(line)}" for line in content.header] + [f"% note: {plain(note)}" for note in content.notes]
    about = f" Data: {_tex(content.name)}. Protocol: {_tex(content.protocol)}."
    if content.warning:
        about += f" Stand-in data: {_tex(content.warning)}."
    for table in content.tables:
        lines += ["", *_tex_table(table, about, _label(name, table.title))]
    if content.differences:
        lines += ["", *_tex_differences(content, _label(name, "settings"))]
    rules = [f"Marked: {RULE}"] if len(content.groups) > 1 else []
    rules += [FEW_EFFECTIVE] if any(FEW_EFFECTIVE in table.remarks for table in content.tables) else []
    return [*lines, "", *_below([_tex(rule) + "." for rule in rules])]


def _label(name: str, title: str) -> str:
    words = re.sub("[^a-z0-9]+", "-", f"{name} {title.partition('(')[0]}".lower())
    return f"\\label{{tab:{words.strip('-')}}}"


def _below(notes: list[str]) -> list[str]:
    """Small lines below a table."""
    return ["\\par\\noindent{\\footnotesize " + r"\newline ".join(notes) + r"\par}"] if notes else []


def _tex_differences(content: Content, label: str) -> list[str]:
    """The recipe keys in which the groups differ: what the labels of the rows leave out."""
    labels = [_tex(group.label) for group in content.groups]
    rows = [" & ".join(map(_tex, [key, *values])) + r" \\" for key, values in content.differences]
    caption = f"\\caption{{Recipe keys that differ. Data: {_tex(content.name)}.}}{label}"
    return [r"\begin{table}", r"\centering", caption,
            f"\\begin{{tabular}}{{l{'l' * len(labels)}}}", r"\toprule", " & ".join(["", *labels]) + r" \\",
            r"\midrule", *rows, r"\bottomrule", r"\end{tabular}", r"\end{table}"]  # fmt: skip


def _tex_table(table: Table, about: str, label: str) -> list[str]:
    """A table of one group goes down the page: it would be one wide row."""
    turned = table.turned or sum(not row.published for row in table.rows) == 1

    def number(cell: Cell) -> str:
        text = cell_text(cell, "\\pm").replace("[n=", "\\;[n{=}").replace(CHANCE, "^{\\circ}")
        return "--" if cell.stat is None else f"$\\mathbf{{{text}}}$" if cell.best else f"${text}$"

    header = ["", *(_tex(c.header) for c in table.columns)]
    rows = [[_tex(row.label) + _tex_marks(row), *map(number, row.cells)] for row in table.rows]
    if turned:
        header = ["", *(_tex(heading) for heading in headings(table))]
        header, *rows = [list(line) for line in zip(header, *rows, strict=True)]
    notes = [f"\\textsuperscript{{{i}}} {_tex(note)}" for i, note in enumerate(table.notes, 1)]
    notes += [f"{_tex(remark)}." for remark in table.remarks if remark != FEW_EFFECTIVE]
    seeds = " Mean and standard deviation over seeds (ddof 1)." if any(row.n > 1 for row in table.rows) else ""
    caption = f"\\caption{{{_tex(table.title)}.{seeds}{about}}}{label}"
    columns = "l" + "r" * (len(header) - 1)
    spans = [] if turned else _tex_spans(table)
    body = [*spans, " & ".join(header) + r" \\", r"\midrule", *(" & ".join(row) + r" \\" for row in rows)]
    if len(rows) > 40:
        return [f"\\begin{{longtable}}{{{columns}}}", caption + r"\\", r"\toprule", *body, r"\bottomrule",
                r"\end{longtable}", *_below(notes)]  # fmt: skip
    return [r"\begin{table}", r"\centering", caption, f"\\begin{{tabular}}{{{columns}}}", r"\toprule", *body,
            r"\bottomrule", r"\end{tabular}", *_below(notes), r"\end{table}"]  # fmt: skip


def _tex_marks(row: Row) -> str:
    marks = f"\\textsuperscript{{{','.join(map(str, row.marks))}}}" if row.marks else ""
    return marks if row.published else f" ($n={row.n}$)"


def _tex_spans(table: Table) -> list[str]:
    if not any(column.span for column in table.columns):
        return []
    cells, rules, at = [], [], 2
    for span, count in spans(table):
        cells.append(f"\\multicolumn{{{count}}}{{c}}{{{_tex(span)}}}")
        rules += [f"\\cmidrule(lr){{{at}-{at + count - 1}}}"] if span else []
        at += count
    return ["& " + " & ".join(cells) + r" \\", " ".join(rules)]


_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "→": r"$\to$", "±": r"$\pm$",
        CHANCE: r"$^{\circ}$", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"$\mid$"}  # fmt: skip
_TEX |= {character: "\\" + character for character in "&%$#_{}"}


def _tex(text: Any) -> str:
    return "".join(_TEX.get(character, character) for character in plain(text))
