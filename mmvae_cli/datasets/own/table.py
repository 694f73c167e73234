"""A table of items: CSV, JSON lines or Parquet, all cells as text, every row with the line that it stands in."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmvae_cli.disk.files import reading
from mmvae_cli.process.errors import DataProblem, UsageProblem, needing


@dataclass(frozen=True)
class Table:
    """``columns``: name -> a cell for each row; ``lines``: where each row stands in the file."""

    path: Path
    columns: dict[str, list[str]]
    lines: list[int]

    def column(self, name: str, option: str) -> list[str]:
        """Raises UsageProblem for a column that ``option`` names and that is not there."""
        if name not in self.columns:
            raise UsageProblem(f"{option}: {self.path} has no column {name!r}", f"it has: {', '.join(self.columns)}")
        return self.columns[name]

    def problem(
        self, row: int, column: str, what: str, hint: str = "correct the file, or leave the row out: --skip-damaged"
    ) -> DataProblem:
        return DataProblem(f"{self.path} line {self.lines[row]}, column {column}: {what}", hint)

    def filled(self, name: str) -> list[str]:
        """The cells of a column. Raises DataProblem for the first empty one."""
        cells = self.columns[name]
        if "" in cells:
            hint = "fill it, or leave the row or the column out"
            raise self.problem(cells.index(""), name, "is empty, and every item has one", hint)
        return cells

    def only(self, rows: Sequence[int]) -> "Table":
        """Some of the rows."""
        columns = {name: [cells[row] for row in rows] for name, cells in self.columns.items()}
        return Table(self.path, columns, [self.lines[row] for row in rows])


def read(path: Path) -> Table:
    """Raises DataProblem, with file and line, for whatever is no table."""
    kinds = {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet}
    if path.suffix.lower() not in kinds:
        raise UsageProblem(f"{path}: a table is a .csv, .tsv, .jsonl or .parquet file", "save it as one of these")
    if not path.is_file():
        raise DataProblem(f"{path} is not there, or is no file", "give the path of the table itself")
    with reading(path):
        try:
            header, rows, lines = kinds[path.suffix.lower()](path)
        except UnicodeDecodeError as error:
            raise DataProblem(f"{path}: byte {error.start} is not UTF-8", "save the table as UTF-8") from error
    if not rows:
        raise DataProblem(f"{path} has no rows", "a table has a header and a line for each item")
    return Table(path, {name: [row[c].strip() for row in rows] for c, name in enumerate(header)}, lines)


Rows = tuple[list[str], list[list[str]], list[int]]

_DECIMAL = re.compile(r"^(\s*[-+]?\d+),(\d+([eE][-+]?\d+)?\s*)$")


def _csv(path: Path) -> Rows:
    """A header without the sign of its suffix may have another between its names. Where that is a semicolon, decimals
    have a comma: spreadsheets write so in many languages. Rows of empty cells are none."""
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        between = next((sign for sign in (usual, ";", "\t", ",") if sign in first), usual)
        file.seek(0)
        reader = csv.reader(file, delimiter=between, strict=True)
        rows, lines = [], []
        try:
            header = [name.strip() for name in next(reader, [])]
            _check_header(path, header)
            for row in reader:
                if not any(map(str.strip, row)):
                    continue
                if len(row) != len(header):
                    what = f"{path} line {reader.line_num} has {len(row)} cells, the header {len(header)}"
                    raise DataProblem(what, f"correct the line; {between!r} inside of a cell needs quotes around it")
                rows.append([_DECIMAL.sub(r"\1.\2", cell) for cell in row] if between == ";" else row)
                lines.append(reader.line_num)
        except csv.Error as error:
            raise DataProblem(f"{path} line {reader.line_num}: {error}", "correct the line") from error
    return header, rows, lines


def _check_header(path: Path, header: list[str]) -> None:
    wrong = "an empty name" if "" in header else "the same name twice" if len(set(header)) < len(header) else ""
    if not header or wrong:
        raise DataProblem(f"{path} line 1: the header has {wrong or 'no names'}", "name every column once")
    if all(_is_number(name) for name in header):
        raise DataProblem(f"{path} line 1: the header has numbers only", "begin with a line of column names")


def _jsonl(path: Path) -> Rows:
    header: dict[str, None] = {}
    objects = list(_objects(path))
    for _, item in objects:
        header |= dict.fromkeys(item)
    _check_header(path, list(header))
    rows = [[_cell(path, line, name, item.get(name)) for name in header] for line, item in objects]
    return list(header), rows, [line for line, _ in objects]


def _parquet(path: Path) -> Rows:
    """A row is counted as a line; what is null or nan is empty."""
    with needing(f"{path}: to read Parquet", "pyarrow", "parquet", ", or save it as .csv"):
        from pyarrow import ArrowException, parquet
    try:
        content = parquet.read_table(path)
    except (ArrowException, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0][:100]
        raise DataProblem(f"{path} cannot be read as Parquet ({reason})", "write it again") from error
    header = list(content.column_names)
    _check_header(path, header)
    lines, columns = range(1, content.num_rows + 1), []
    for position, name in enumerate(header):
        values = zip(lines, content.column(position).to_pylist(), strict=True)
        columns.append([_cell(path, line, name, None if value != value else value) for line, value in values])
    return header, [list(row) for row in zip(*columns, strict=True)], [*lines]


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, 1):
            if text.strip():
                try:
                    item = json.loads(text)
                except (ValueError, RecursionError) as error:
                    raise DataProblem(f"{path} line {line} is no JSON ({str(error)[:80]})", "correct it") from error
                if not isinstance(item, dict):
                    raise DataProblem(f"{path} line {line} is no JSON object", 'write {"name": value, ...} in a line')
                yield line, item


def _cell(path: Path, line: int, name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise DataProblem(f"{path} line {line}, column {name}: {str(value)[:40]} is neither text nor a number",
                          "numbers of a vector are columns of their own")  # fmt: skip
    return "" if value is None else str(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def numeric_share(cells: list[str]) -> float:
    """How many of the cells that are not empty are numbers."""
    filled = [cell for cell in cells if cell]
    return sum(map(_is_number, filled)) / len(filled) if filled else 0.0
