"""Makers of hostile files: each writes one into a place and returns nothing. None of them is large on disk."""

import gzip
import hashlib
import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np


class Touch:
    """Unpickled, it makes the file ``pwned`` in the working folder: proof that code ran."""

    def __reduce__(self):
        return os.system, ("touch pwned",)


def pickled() -> bytes:
    return pickle.dumps(Touch(), protocol=2)


def torch_pickled() -> bytes:
    """What torch.save makes of it: a zip with data.pkl."""
    import torch

    buffer = io.BytesIO()
    torch.save(Touch(), buffer)
    return buffer.getvalue()


def saved(value: Any) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def repacked(content: bytes) -> bytes:
    """A zip with the same members, deflated."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    return buffer.getvalue()


# npy -----------------------------------------------------------------------------------------------------------------


def npy(header: str | bytes, data: bytes = b"", version: tuple[int, int] = (1, 0), length: int | None = None) -> bytes:
    """A .npy file with exactly this header."""
    text = header.encode() if isinstance(header, str) else header
    text = text + b" " * (-(len(text) + 11) % 64) + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes(version) + size + text + data


def header(shape: str, kind: str = "|u1", order: str = "False") -> str:
    return f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}"


def replace_array(dataset: Path, name: str, content: bytes, **facts: Any) -> None:
    """Put ``content`` where an array was, and make dataset.json vouch for it: size, checksum, and ``facts``."""
    (dataset / name).write_bytes(content)
    known = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} | facts
    edit_json(dataset / "dataset.json", lambda about: about["files"][name].update(known))


def edit_json(path: Path, change: Any) -> None:
    """Change a JSON file as an attacker would: without leaving a seal that tells."""
    content = json.loads(path.read_text())
    content.pop("sha256", None)
    change(content)
    path.write_text(json.dumps(content))


# safetensors ---------------------------------------------------------------------------------------------------------


def safetensors(about: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = about if isinstance(about, bytes) else json.dumps(about).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(begin: int, end: int, shape: list[int], kind: str = "F32") -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}


def rewrite_checkpoint(path: Path, change: Any) -> None:
    """A checkpoint with a valid digest over changed content: ``change(tensors, progress)``."""
    from safetensors.torch import save_file

    from mmvae_cli.disk import sealed
    from mmvae_cli.run import checkpoint

    found = checkpoint.load(path)
    tensors, progress = (
        dict(found.tensors),
        {"step": found.position.step, "epoch": found.position.epoch, "seconds": 1.0},
    )
    change(tensors, progress)
    text = json.dumps(progress)
    digest = sealed.digest(tensors, text)
    save_file(tensors, path, {"format": "mmvae-checkpoint", "progress": text, "digest": digest})


# pictures, IDX, MATLAB -----------------------------------------------------------------------------------------------


def png(width: int, height: int, extra: tuple[bytes, bytes] | None = None, rows: bytes | None = None) -> bytes:
    """A PNG whose header says ``width`` x ``height``, whatever its data; ``extra``: one more chunk."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    more = chunk(*extra) if extra else b""
    body = chunk(b"IDAT", zlib.compress(rows if rows is not None else bytes(29 * 28 * 3)))
    return b"\x89PNG\r\n\x1a\n" + start + more + body + chunk(b"IEND", b"")


def idx(sides: tuple[int, ...], data: bytes) -> bytes:
    return struct.pack(f">BBBB{len(sides)}I", 0, 0, 8, len(sides), *sides) + data


def endless_gzip(start: bytes, megabytes: int = 300) -> bytes:
    """``start`` and then zeros: hundreds of MB in a few hundred kB."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=9) as file:
        file.write(start)
        for _ in range(megabytes):
            file.write(bytes(1 << 20))
    return buffer.getvalue()


def write_idx(folder: Path) -> Path:
    """Four small honest IDX files."""
    folder.mkdir(parents=True)
    for part, count in (("train", 20), ("t10k", 10)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx((count, 28, 28), bytes(count * 784)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx((count,), labels.tobytes()))
    return folder


def mat(*elements: bytes) -> bytes:
    """A MATLAB 5 file of these elements."""
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<HH", 0x0100, 0x4D49) + b"".join(elements)


def element(kind: int, data: bytes, size: int | None = None) -> bytes:
    padded = data if kind == 15 else data + bytes(-len(data) % 8)
    return struct.pack("<II", kind, len(data) if size is None else size) + padded


def matrix(name: bytes, sides: tuple[int, ...], data: bytes, size: int | None = None, kind: int = 9) -> bytes:
    """An array; class 9 is uint8. ``size``: what the data's own header says."""
    parts = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack(f"<{len(sides)}i", *sides))
    return element(14, parts + element(1, name) + element(2, data, size))


def packed(content: bytes) -> bytes:
    return element(15, zlib.compress(content, 9))


# trees of PolyMNIST --------------------------------------------------------------------------------------------------


def png_tree() -> dict[str, bytes]:
    """Names and bytes of a PolyMNIST of two views, ten tuples a split."""
    good = png(28, 28, rows=bytes(28 * (1 + 28 * 3)))
    return {
        f"{split}/m{view}/0.{label}.png": good for split in ("train", "test") for view in (0, 1) for label in range(10)
    }


def tensor_tree() -> dict[str, bytes]:
    import torch

    images, labels = saved(torch.zeros(10, 3, 28, 28, dtype=torch.uint8)), saved(torch.arange(10))
    return {f"{split}/{name}.pt": content for split in ("train", "test")
            for name, content in (("m0", images), ("m1", images), ("labels", labels))}  # fmt: skip


def write_tree(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_zip(path: Path, files: dict[str, bytes], *more: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in [*files.items(), *more]:
            archive.writestr(name, content)
    return path


def link_entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o120777 << 16
    return entry
