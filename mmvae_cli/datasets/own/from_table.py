"""``make-dataset table``: a table of paths, texts, numbers and labels becomes a dataset."""

import shlex
from pathlib import Path

import numpy as np

from mmvae_cli.datasets.own import build, parts, roles, splits, table
from mmvae_cli.datasets.own.build import Options
from mmvae_cli.datasets.own.roles import Modality, Roles
from mmvae_cli.datasets.own.table import Table
from mmvae_cli.process import console
from mmvae_cli.process.errors import DataProblem, UsageProblem


def make(
    path: Path, options: Options, *, modalities: list[str], label: str | None, group: str | None, key: str | None
) -> None:
    """Read, check and write. Raises a Failure that names file, line and column; then nothing was written."""
    said = [roles.given(text) for text in modalities]
    found = table.read(path)
    known = roles.of_table(found, said, label, group, key)
    vectors = [modality.name for modality in known.modalities if modality.kind == "vector"]
    build.check(options, [modality.name for modality in known.modalities], vectors)
    _check_keys(found, known.key)
    labels = splits.labels_of(found.filled(known.label)) if known.label else None
    chosen = _splits(found, known, options, None if labels is None else labels[0], group)
    ready = {m.name: _part(found, m, chosen["train"], options) for m in known.modalities}
    _tell(known, options, ready, group)
    build.build(options, ready, chosen, labels, path)


def _check_keys(found: Table, key: str | None) -> None:
    seen: dict[str, int] = {}
    for row, cell in enumerate(found.filled(key) if key else ()):
        if cell in seen:
            raise found.problem(row, str(key), f"{cell[:40]!r} stands in line {found.lines[seen[cell]]} too",
                                "a key is one item's; --key names another column")  # fmt: skip
        seen[cell] = row


def _splits(
    found: Table, known: Roles, options: Options, codes: np.ndarray | None, group: str | None
) -> splits.Splits:  # fmt: skip
    if known.split is None:
        groups = found.filled(group) if group else None
        share = splits.TEST_SHARE if options.test is None else options.test
        return splits.drawn(len(found.lines), share, options.seed, codes, groups)
    if options.test is not None or group:
        raise UsageProblem("--test and --group have no effect: the table has a column split", "leave one of them out")
    return splits.named(found.filled(known.split), f"{found.path}, column {known.split}")


def _part(found: Table, modality: Modality, train: np.ndarray, options: Options) -> parts.Part:
    column = modality.columns[0]
    if modality.kind == "image":
        files = [found.path.parent / cell for cell in found.filled(column)]
        return parts.pictures(files, options.size, lambda item, what: found.problem(item, column, what))
    if modality.kind == "text":
        return parts.texts(found.filled(column), modality.name)
    values = np.stack([_numbers(found, name) for name in modality.columns], 1)
    return parts.vectors(
        values, modality.columns, train, raw=modality.name in options.raw,
        problem=lambda feature, what: DataProblem(
            f"{found.path}, column {feature}: {what}", "leave it out: name the other columns by --modality, or --raw"
        ),
    )  # fmt: skip


def _numbers(found: Table, name: str) -> np.ndarray:
    """float64 (items,). Raises DataProblem for the first cell that is no finite number."""
    values = np.empty(len(found.lines))
    for row, cell in enumerate(found.filled(name)):
        try:
            values[row] = float(cell)
        except ValueError:
            raise found.problem(row, name, f"{cell[:40]!r} is no number, as others of the column are") from None
        if not np.isfinite(values[row]) or abs(values[row]) > np.finfo(np.float32).max:
            raise found.problem(row, name, f"{cell[:40]!r} is not a finite number of 32 bits")
    return values


def _tell(known: Roles, options: Options, ready: dict[str, parts.Part], group: str | None) -> None:
    """What the table was read as, in the flags that say the same again."""
    flags = [modality.flag() for modality in known.modalities]
    flags += [f"--{option} {name}" for option, name in (("label", known.label), ("key", known.key), ("group", group))
              if name]  # fmt: skip
    sizes = {part.info.shape[1:] for part in ready.values() if part.info.kind == "image"}
    flags += [f"--size {height}x{width}" for height, width in sizes if len(sizes) == 1]
    flags += [f"--raw {name}" for name in options.raw]
    if known.split is None:
        flags += [f"--test {splits.TEST_SHARE if options.test is None else options.test:g}", f"--seed {options.seed}"]
    console.say("read as: " + " ".join(shlex.quote(word) for flag in flags for word in flag.split(" ", 1)))
    if known.rest:
        console.say(f"note: not used: {', '.join(known.rest)}")
    if standardised := [name for name, part in ready.items() if part.info.means]:
        console.say(
            f"note: standardised by the training items: {', '.join(standardised)} (counts and fractions: --raw)"
        )
