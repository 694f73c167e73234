"""Sealed files: each holds a digest of its content, so that any later change is seen. A JSON object has it under a key,
a YAML file in its first line, a file of tensors in its metadata."""

import codecs
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmvae_cli.disk.files import reading, replacing, require_readable, write_atomic
from mmvae_cli.process.errors import DataProblem, Failure
from mmvae_cli.process.paths import openable

SEAL = "sha256"
"""The key under which a JSON object carries the digest of all the rest of it."""
_FIRST_LINE = "# SHA-256 of the lines below: "
_LARGEST_JSON, _MAX_DEPTH = 64 << 20, 100
Tensors = dict[str, Any]
"""Name -> torch's tensor, on the CPU."""


def _changed(path: Path, digest: str, what: str) -> DataProblem:
    return DataProblem(
        f"{path} was changed after it was written: its {digest} is another",
        f"restore it; where the change is meant, take {what} out",
    )


def read_json(path: Path) -> Any:
    """Parse a JSON file strictly: no duplicate keys, no NaN or infinity, no absurd depth or size, no half characters;
    and an object that carries a seal (:func:`write_json`) must match it. The seal is taken off. Raises DataProblem."""
    try:
        with reading(path):
            if path.stat().st_size > _LARGEST_JSON:
                raise DataProblem(f"{path} has more than {_LARGEST_JSON >> 20} MiB, no file of ours does", "remove it")
            text = path.read_bytes().decode()
        content = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=no_constant, parse_float=_finite,
                             parse_int=integer)  # fmt: skip
        _check_plain(content)
    except (ValueError, RecursionError) as error:
        raise DataProblem(f"{path} is not valid JSON ({str(error)[:120]})", "restore it or remove it") from error
    if isinstance(content, dict) and (seal := content.pop(SEAL, None)) is not None and seal != _seal_of(content):
        raise _changed(path, SEAL, f'the line "{SEAL}"')
    return content


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a key is there twice")
    return keys


def no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


def _finite(text: str) -> float:
    if abs(number := float(text)) == float("inf"):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def integer(text: str) -> int:
    """Of JSON. Raises ValueError for one that no float can hold: none of ours is so large."""
    _finite(text)
    return int(text)


def _check_plain(content: Any) -> None:
    """No level beyond the hundredth; no surrogate halves but those with which Python names files that are not UTF-8."""
    stack = [(content, 0)]
    while stack:
        value, depth = stack.pop()
        if depth > _MAX_DEPTH:
            raise ValueError(f"more than {_MAX_DEPTH} levels")
        if isinstance(value, str):
            value.encode(errors="surrogateescape")
        children = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
        stack.extend((child, depth + 1) for child in children)


def _seal_of(content: dict[str, Any]) -> str:
    return _digest(json.dumps(content, sort_keys=True).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` atomically, an object with a seal: its own digest, by which :func:`read_json` sees any change.
    NaN and infinity are refused: the caller says null and why."""
    plain = json.loads(json.dumps(content, allow_nan=False))  # as it will be read: keys are strings
    if isinstance(plain, dict):
        plain[SEAL] = _seal_of({key: value for key, value in plain.items() if key != SEAL})
    write_atomic(path, (json.dumps(plain, indent=1) + "\n").encode())


def write_yaml(path: Path, text: str) -> None:
    """Write ``text`` atomically below a line with its digest."""
    write_atomic(path, f"{_FIRST_LINE}{_digest(text.encode())}\n{text}".encode())


def check_yaml(path: Path) -> None:
    """Raise DataProblem where the text does not match the digest in its first line. Line ends and a byte order mark of
    Windows, which git and editors put in, do not matter. A file without that line is not checked."""
    with reading(path):
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
    first, _, rest = content.partition(b"\n")
    if first.startswith(_FIRST_LINE.encode()) and first != f"{_FIRST_LINE}{_digest(rest)}".encode():
        raise _changed(path, "SHA-256", "its first line")


def write_tensors(path: Path, tensors: Tensors, metadata: dict[str, str], kept: str = "") -> None:
    """Write a safetensors file atomically; the caller puts the :func:`digest` into its metadata. Raises Failure, whose
    hint says what is ``kept``."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        with replacing(path, kept) as temporary:
            save_file(tensors, temporary, metadata)
    except SafetensorError as error:
        raise Failure(f"cannot write {path}: {error}", "free the disk; what was written before is untouched") from error


@contextmanager
def reading_tensors(
    path: Path, damaged: str = "is damaged", hint: str = ""
) -> Iterator[tuple[Tensors, dict[str, str]]]:
    """Tensors and metadata of a safetensors file, for a block that uses them. Raises Unreadable where the file may not
    be read, DataProblem where it or what the block finds in it is wrong."""
    from safetensors import SafetensorError, safe_open

    require_readable(path)
    try:
        with openable(path) as readable, safe_open(readable, "pt") as file:
            # cloned: what safetensors gives may be the mapped file itself, which can change under us
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a dict
            metadata = file.metadata() or {}
        yield tensors, metadata
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise DataProblem(f"{path} {damaged} ({str(error)[:100]})", hint) from error


def digest(tensors: Tensors, facts: str) -> str:
    """SHA-256 over ``facts`` and the names, types, shapes and bytes of ``tensors``."""
    import torch

    total = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        total.update(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))
    return total.hexdigest()
