"""``make-dataset table``: a table of paths, texts, numbers and labels becomes a dataset."""

import os
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from mmvae_cli.datasets.own import build, parts, roles, splits, table
from mmvae_cli.datasets.own.build import StoreOptions
from mmvae_cli.datasets.own.roles import Modality, Roles
from mmvae_cli.datasets.own.table import Table
from mmvae_cli.process import console, signals
from mmvae_cli.process.errors import DataProblem

_MOST_NAMED = 20
_LARGEST = float(np.finfo(np.float32).max)


def make(
    path: Path, options: StoreOptions, *, modalities: list[str], label: str | None, group: str | None, key: str | None,
    skip_damaged: bool = False,
) -> None:  # fmt: skip
    """Read, check and write. Raises a Failure that names file, line and column; then nothing was written.
    ``skip_damaged``: rows with a cell that cannot be read are left out and named."""
    said = [roles.given(text) for text in modalities]
    source = table.read(path)
    known = roles.of_table(source, said, label, group, key)
    vectors = [modality.name for modality in known.modalities if modality.kind == "vector"]
    build.check(options, [modality.name for modality in known.modalities], vectors)
    if skip_damaged:
        source = _without_damaged(source, known)
    _check_keys(source, known.key)
    labels = splits.labels_of(source.filled(known.label)) if known.label else None
    chosen = _splits(source, known, options, labels and labels[0])
    ready = {m.name: _part(source, m, chosen["train"], options) for m in known.modalities}
    build.check_present(ready, chosen["train"], str(path), partial(_bare, source, known.key))
    _tell(known, options, ready)
    names = source.columns[known.key] if known.key else [f"line {line}" for line in source.lines]
    build.build(options, ready, chosen, labels, path, names)


def _bare(source: Table, key: str | None, row: int, what: str) -> DataProblem:
    named = f" ({key} {source.columns[key][row][:40]})" if key else ""
    return DataProblem(f"{source.path} line {source.lines[row]}{named}: {what}", "leave the row out: --skip-damaged")


def _without_damaged(source: Table, known: Roles) -> Table:
    """The rows in which everything can be read and something is there."""
    damaged: dict[int, DataProblem] = {}
    for row in range(len(source.lines)):
        signals.leave_if_requested("nothing was written")
        try:
            there = [_read(source, modality, row) for modality in known.modalities]
            if not any(there):
                raise _bare(source, known.key, row, "has nothing")
            for name in filter(None, (known.label, known.split, known.key, known.group)):
                if not source.columns[name][row]:
                    raise source.problem(row, name, "is empty")
        except DataProblem as problem:
            damaged[row] = problem
    if damaged:
        console.warn(f"left out: {len(damaged):,} of {len(source.lines):,} rows")
        for named in [*damaged.values()][:_MOST_NAMED]:
            console.say(f"  {named}")
        if len(damaged) > _MOST_NAMED:
            console.say(f"  and {len(damaged) - _MOST_NAMED:,} more")
    return source.only([row for row in range(len(source.lines)) if row not in damaged])


def _read(source: Table, modality: Modality, row: int) -> bool:
    """Whether a row has a modality. Raises DataProblem where it cannot be read."""
    cells = [source.columns[column][row] for column in modality.columns]
    if modality.kind == "vector":
        return not np.isnan(_numbers_of(source, modality.columns, row, cells)).all()
    if modality.kind == "image" and (file := _file(source, cells[0])):
        column = modality.columns[0]
        parts.header(file, row, lambda item, what: source.problem(item, column, what), whole=True)
        return True
    return modality.kind == "text" and bool(cells[0])


def _check_keys(source: Table, key: str | None) -> None:
    seen: dict[str, int] = {}
    for row, cell in enumerate(source.filled(key) if key else ()):
        if cell in seen:
            raise source.problem(row, str(key), f"{cell[:40]!r} stands in line {source.lines[seen[cell]]} too",
                                "a key is one item's; --key names another column")  # fmt: skip
        seen[cell] = row


def _splits(source: Table, known: Roles, options: StoreOptions, codes: np.ndarray | None) -> splits.Splits:
    said, groups = (source.filled(name) if name else None for name in (known.split, known.group))
    place = f"a column {known.split}"
    return splits.chosen(said, str(source.path), place, len(source.lines), options.test, options.seed, codes, groups)


def _part(source: Table, modality: Modality, train: np.ndarray, options: StoreOptions) -> parts.Part:
    column = modality.columns[0]
    if modality.kind == "image":
        files = [_file(source, cell) for cell in source.columns[column]]
        _tell_missing(source, modality, files)
        return parts.pictures(files, options.size, lambda item, what: source.problem(item, column, what))
    if modality.kind == "text":
        return parts.texts(source.columns[column], modality.name)
    cells = zip(*(source.columns[name] for name in modality.columns), strict=True)
    values = np.stack([_numbers_of(source, modality.columns, row, its) for row, its in enumerate(cells)])
    return parts.vectors(
        values, modality.columns, train, raw=modality.name in options.raw,
        problem=lambda feature, what: DataProblem(
            f"{source.path}, column {feature}: {what}", "leave it out: name the other columns by --modality, or --raw"
        ),
    )  # fmt: skip


def _file(source: Table, cell: str) -> Path | None:
    file = source.path.parent / cell
    return file if cell and os.path.isfile(file) else None  # unlike Path's, it says no to a name too long for any file


def _tell_missing(source: Table, modality: Modality, files: list[Path | None]) -> None:
    """Say which pictures are named and not there. Raises DataProblem where none of them is."""
    cells = source.columns[modality.columns[0]]
    missing = [row for row, (cell, file) in enumerate(zip(cells, files, strict=True)) if cell and not file]
    if not missing:
        return
    first = f"line {source.lines[missing[0]]}: {source.path.parent / cells[missing[0]]}"
    if not any(files):
        raise source.problem(missing[0], modality.columns[0], f"{cells[missing[0]]} is not there, nor is any other "
                            "picture of the column", "paths are relative to the table's own folder")  # fmt: skip
    console.warn(f"{modality.name}: {len(missing):,} of {len(files):,} pictures are not there, and their items lack it "
                 f"({first})")  # fmt: skip


def _numbers_of(source: Table, columns: Sequence[str], row: int, cells: Sequence[str]) -> np.ndarray:
    """float64 (F,), all nan for a row whose cells are all empty. Raises DataProblem for a cell that is no finite
    number, or empty among others that are not."""
    values = np.full(len(cells), np.nan)
    if not any(cells):
        return values
    for feature, (name, cell) in enumerate(zip(columns, cells, strict=True)):
        if not cell:
            raise source.problem(row, name, "is empty, and other numbers of the item are there",
                                "fill it, leave such rows out (--skip-damaged), or make it a vector of its own: "
                                "--modality NAME=vector:COLUMN, and a --modality for each of the others")  # fmt: skip
        try:
            values[feature] = float(cell)
        except ValueError:
            raise source.problem(row, name, f"{cell[:40]!r} is no number, as others of the column are") from None
        if not abs(values[feature]) <= _LARGEST:
            raise source.problem(row, name, f"{cell[:40]!r} is not a finite number of 32 bits")
    return values


def _tell(known: Roles, options: StoreOptions, ready: dict[str, parts.Part]) -> None:
    """What the table was read as, in the flags that say the same again."""
    flags = [modality.flag() for modality in known.modalities]
    roles_of = {"label": known.label, "key": known.key, "group": known.group}
    flags += [f"--{option} {name}" for option, name in roles_of.items() if name]
    sizes = {part.info.shape[1:] for part in ready.values() if part.info.kind == "image"}
    flags += [f"--size {height}x{width}" for height, width in sizes if len(sizes) == 1]
    flags += [f"--raw {name}" for name in options.raw]
    if known.split is None:
        flags += [f"--test {splits.TEST_SHARE if options.test is None else options.test:g}", f"--seed {options.seed}"]
    console.say("read as: " + " ".join(shlex.quote(word) for flag in flags for word in flag.split(" ", 1)))
    if known.rest:
        console.say(f"note: not used: {', '.join(known.rest)}")
    if standardised := [name for name, part in ready.items() if part.info.means]:
        named = ", ".join(standardised)
        console.say(f"note: standardised by the training items: {named} (counts and fractions: --raw)")
