"""What the columns of a table are: said by ``--modality NAME=kind:columns``, or guessed by name and content."""

import re
from typing import NamedTuple

from mmvae_cli.datasets.own.table import Table, numeric_share
from mmvae_cli.process.errors import DataProblem, UsageProblem
from mmvae_cli.recipe.kinds import KINDS

PATH_SUFFIX = "_file_name"
_MOST_LABELS, _ROWS_A_LABEL = 100, 5
_KEYS = ("key", "id")
_MOSTLY, _BLANKS = 0.5, 2
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
_FORM = "NAME=KIND:COLUMN, as photo=image:photo_file or lab=vector:age,bmi"


class Modality(NamedTuple):
    name: str
    kind: str
    columns: tuple[str, ...]

    def flag(self) -> str:
        return f"--modality {self.name}={self.kind}:{','.join(self.columns)}"


class Roles(NamedTuple):
    """``rest``: columns that are nothing."""

    modalities: list[Modality]
    label: str | None
    split: str | None
    key: str | None
    group: str | None
    rest: list[str]


def given(text: str) -> Modality:
    """One ``--modality``. Raises UsageProblem where it is of another form."""
    name, _, content = text.partition("=")
    kind, _, columns = content.partition(":")
    listed = tuple(column.strip() for column in columns.split(",") if column.strip())
    if not name or not listed or kind not in KINDS:
        raise UsageProblem(f"--modality {text!r}: write {_FORM}", f"KIND is one of {', '.join(KINDS)}")
    if kind != "vector" and len(listed) > 1:
        raise UsageProblem(f"--modality {text!r}: {kind} data have one column", "one --modality for each")
    return Modality(name, kind, listed)


def of_table(table: Table, said: list[Modality], label: str | None, group: str | None, key: str | None) -> Roles:
    """Raises UsageProblem for a column that is named and not there, DataProblem where nothing can be guessed."""
    for option, name in (("--label", label), ("--group", group), ("--key", key)):
        if name is not None:
            table.column(name, option)
    for modality in said:
        for column in modality.columns:
            table.column(column, modality.flag())
    names = list(table.columns)
    label = label or ("label" if "label" in names else None)
    split = "split" if "split" in names else None
    key = key or next((name for name in _KEYS if name in names), None)
    left = [name for name in names if name not in (label, split, key, group)]
    used = {column for modality in said for column in modality.columns}
    known = Roles(said, label, split, key, group, [name for name in left if name not in used])
    return known if said else _guessed(table, known)


def _plain(column: str) -> str:
    """The name of a modality for a column of any name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", column).strip("_-") or "data"


def _are_pictures(column: str, cells: list[str]) -> bool:
    """Whether the cells are paths of pictures: the column's name says so, or the ends of most of them."""
    filled = [cell for cell in cells if cell]
    ends = sum(cell.lower().endswith(_PICTURES) for cell in filled)
    return column == "file_name" or column.endswith(PATH_SUFFIX) or ends > _MOSTLY * len(filled)


def _is_prose(cells: list[str]) -> bool:
    """Whether the cells mostly have several words, as captions have and labels have not."""
    filled = [cell for cell in cells if cell]
    return sum(cell.count(" ") >= _BLANKS for cell in filled) > _MOSTLY * len(filled)


def _guessed(table: Table, known: Roles) -> Roles:
    """What the columns at ``rest`` may be."""
    modalities, numbers, rest, label = [], list[str](), list[str](), known.label
    for name in known.rest:
        cells = table.columns[name]
        if _are_pictures(name, cells):
            named = "image" if name == "file_name" else _plain(name.removesuffix(PATH_SUFFIX))
            modalities.append(Modality(named, "image", (name,)))
        elif numeric_share(cells) > _MOSTLY:
            numbers.append(name)
        elif (distinct := len(set(cells))) > _MOSTLY * len(cells) or _is_prose(cells):
            modalities.append(Modality(_plain(name), "text", (name,)))
        elif label is None and distinct <= min(_MOST_LABELS, len(cells) // _ROWS_A_LABEL):
            label = name
        else:
            rest.append(name)
    if numbers:
        modalities.append(Modality("numbers", "vector", tuple(numbers)))
    if not modalities:
        raise DataProblem(f"{table.path}: no column is known for data", f"say which are: --modality {_FORM}")
    return known._replace(modalities=modalities, label=label, rest=rest)
