"""The verb: read runs, and print the comparison or write it into a folder with its plots."""

import json
import re
from pathlib import Path

from mmvae_cli.comparison import collect, content, formats, plots
from mmvae_cli.disk.files import reading, write_atomic
from mmvae_cli.process import console, signals
from mmvae_cli.process.paths import make_folder, refuse_existing, require_folder
from mmvae_cli.run import result

DEFAULT_OUT = Path("reports")
_SUFFIX = {"table": "txt"}


def compare(
    runs: list[Path], kind: str = "table", out: Path | None = None, force: bool = False,
    protocol: str | None = None, sampler: str | None = None, paper: int | None = None, *, any_epoch: bool = False,
) -> str:  # fmt: skip
    """Compare ``runs`` (run folders, or folders of runs); returns what belongs on stdout.

    Without ``out`` that is the comparison itself; with it (``html`` and ``paper`` always go to a folder) the path of
    the file written there, the plots beside it as PNG and SVG; for ``paper`` as PDF too, so many columns wide. Raises
    DataProblem (exit 3) where no run can be used, and UsageProblem (exit 2) where a file to be written exists and
    ``force`` is not given; nothing is written then.
    """
    if (kind == "html" or paper) and out is None:
        out = DEFAULT_OUT
    if out is not None:
        require_folder(out)
        refuse_existing(_target(out, kind), force)
    comparison = collect.collect(runs, protocol, sampler, any_epoch=any_epoch)
    for why, folders in result.by_reason({str(item.folder): item.reason for item in comparison.left_out}).items():
        console.warn(f"left out: {content.plain(folders)}: {content.plain(why)}")
    if out is None and kind == "json":  # on one line: the last line of stdout is then the whole document
        return json.dumps(formats.as_json(comparison), allow_nan=False)
    if out is None:
        return formats.FORMATS[kind](comparison).rstrip("\n")
    return str(_write(comparison, kind, out, force, paper))


def _target(out: Path, kind: str) -> Path:
    return out / f"comparison.{_SUFFIX.get(kind, kind)}"


def _prefixes(contents: list[content.Content]) -> list[str]:
    """What the names of a dataset's plots begin with: of several, its name or number."""
    if len(contents) == 1:
        return [""]
    names = [re.sub(r"[^A-Za-z0-9_.+]+", "-", one.name)[:60].strip("-") for one in contents]
    if len(set(map(str.lower, names))) < len(names) or "" in names:
        names = [str(i) for i in range(1, len(names) + 1)]
    return [f"{name}-" for name in names]


def _write(comparison: content.Comparison, kind: str, out: Path, force: bool, paper: int | None) -> Path:
    """Plots first, the document that shows them last: where it lies, all of it lies. Each file is whole or absent."""
    signals.leave_if_requested("nothing was written")
    for one, prefix in zip(comparison.contents, _prefixes(comparison.contents), strict=True):
        one.plots = plots.draw(one, prefix, paper)
    comparison.plots = plots.draw_unfinished(comparison.unfinished, paper)
    every = [plot for one in comparison.contents for plot in one.plots] + comparison.plots
    pictures = {plot.file(ending): data for plot in every for ending, data in plot.files.items()}
    for name, data in pictures.items():
        with reading(out / name):
            other = (out / name).is_file() and (out / name).read_bytes() != data  # the same picture again is no loss
        if other:
            refuse_existing(out / name, force)
    text = formats.FORMATS[kind](comparison)
    make_folder(out)
    signals.leave_if_requested("nothing was written")
    for name, data in pictures.items():
        write_atomic(out / name, data)
    write_atomic(_target(out, kind), text.encode())
    return _target(out, kind)
