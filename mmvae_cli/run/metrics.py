"""metrics.jsonl read while it may be written. No torch."""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from mmvae_cli.disk.files import reading
from mmvae_cli.disk.sealed import integer, no_constant

Record = dict[str, Any]


class Part(NamedTuple):
    """``records`` of complete lines; ``end``: the byte behind the last of them, where the next part begins."""

    records: list[Record]
    end: int


def read(path: Path, start: int = 0) -> Part:
    """The records from byte ``start`` on. A last line that is not complete yet is left for the next reading, a damaged
    one is passed over. A file shorter than ``start`` was written anew by a resumed run: it is read from its beginning.
    Raises Unreadable where it may not be read; a run that has not logged yet has no records."""
    if not path.is_file():
        return Part([], 0)
    with reading(path), open(path, "rb") as file:
        start = start if start <= file.seek(0, 2) else 0
        file.seek(start)
        content = file.read()
    complete = content[: content.rfind(b"\n") + 1]
    records = [record for line in complete.splitlines() if (record := record_of(line)) is not None]
    return Part(records, start + len(complete))


def record_of(line: bytes) -> Record | None:
    """A record has a step and numbers; None for anything else."""
    try:
        record = json.loads(line, parse_constant=no_constant, parse_int=integer)
    except (ValueError, RecursionError):
        return None
    step = record.get("step") if isinstance(record, dict) else None
    return record if type(step) is int and 0 <= step < 2**53 else None


def numbers(record: Record) -> dict[str, float]:
    """What can be drawn of a record: every number but the step itself, and what no float can hold."""
    return {name: float(value) for name, value in record.items()
            if name != "step" and type(value) in (int, float) and abs(value) <= sys.float_info.max}  # fmt: skip
