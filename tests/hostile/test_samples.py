"""Hostile input, a row per sample: nothing of it runs, one line says no, nothing is written, all of it bounded."""

import io
import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from driving import Ended, listing, mmvae
from hostile_files import (
    edit_json,
    element,
    endless_gzip,
    header,
    idx,
    link_entry,
    mat,
    matrix,
    npy,
    packed,
    pickled,
    png,
    png_tree,
    repacked,
    replace_array,
    rewrite_checkpoint,
    safetensors,
    saved,
    tensor,
    tensor_tree,
    torch_pickled,
    write_idx,
    write_tree,
    write_zip,
)  # fmt: skip

import celeba_source

QUICK_EACH = 6
MOST_MEMORY, MOST_SECONDS = 200, 30
"""MiB that a command may take beyond its start, and seconds (most take a tenth of one; machines are shared)."""


class Sample(NamedTuple):
    kind: str
    name: str
    spoil: Callable[[Any], Any]
    """Makes the sample in a world; returns more arguments for the command, if any."""
    command: list[str]
    code: int = 3


TRAIN = ["train", "tiny.yaml", "--run", "runs/new"]
RESUME = ["train", "tiny.yaml", "--run", "runs/a"]
SAMPLE = ["sample", "--ckpt", "runs/a", "--kind", "prior", "--count", "1", "--out", "figures"]
EVALUATE = ["evaluate", "--ckpt", "runs/a", "--metrics", "latent"]
COMPARE = ["compare", "runs/a", "--out", "report"]
IMPORT = ["make-dataset", "polymnist", "--out", "new", "--from"]
FACES = ["make-dataset", "celeba", "--out", "new", "--source", "faces"]
DIGITS = ["make-dataset", "polymnist", "--out", "new", "--views", "1", "--digits", "digits"]
NUMBERS = ["make-dataset", "mnist-svhn-text", "--out", "new", "--digits", "digits", "--svhn", "numbers"]

SAMPLES: list[Sample] = []


def sample(kind: str, name: str, command: list[str], code: int = 3) -> Callable[[Callable[[Any], Any]], None]:
    return lambda spoil: SAMPLES.append(Sample(kind, name, spoil, command, code))


def all_checkpoints(w: Any, content: bytes) -> None:
    for path in (w.run / "checkpoints").iterdir():
        path.write_bytes(content)


def tree(w: Any, files: dict[str, bytes], **changed: bytes) -> list[str]:
    write_tree(w.root / "tree", files | changed)
    return ["tree"]


def with_tensor(content: bytes, name: str = "train/m1.pt") -> Callable[[Any], list[str]]:
    return lambda w: tree(w, tensor_tree() | {name: content})


def as_zip(
    *more: tuple[Any, bytes], files: dict[str, bytes] | None = None, **spoiled: bytes
) -> Callable[[Any], list[str]]:
    def spoil(w: Any) -> list[str]:
        write_zip(w.root / "a.zip", (png_tree() if files is None else files) | spoiled, *more)
        return ["a.zip"]

    return spoil


# pickles -------------------------------------------------------------------------------------------------------------

PICKLES = "pickles that would run a command"
for place in ("train/m1.pt", "test/labels.pt"):
    sample(PICKLES, f"torch.save in {place}", IMPORT)(lambda w, p=place: with_tensor(torch_pickled(), p)(w))
    sample(PICKLES, f"bare pickle in {place}", IMPORT)(lambda w, p=place: with_tensor(pickled(), p)(w))
sample(PICKLES, "tensors in a zip", IMPORT)(lambda w: as_zip(files=tensor_tree() | {"test/m0.pt": torch_pickled()})(w))
sample(PICKLES, "list that holds a tensor and a call", IMPORT)(
    lambda w: with_tensor(saved([np.zeros(3).tolist(), __import__("hostile_files").Touch()]))(w)
)
for label, content in (("torch.save", torch_pickled), ("bare pickle", pickled)):
    sample(PICKLES, f"checkpoint, {label}", SAMPLE)(lambda w, c=content: all_checkpoints(w, c()))
    sample(PICKLES, f"chosen checkpoint, {label}", [*SAMPLE, "--checkpoint", "runs/a/checkpoints/evil.pt"])(
        lambda w, c=content: (w.root / "runs/a/checkpoints/evil.pt").write_bytes(c()) and None
    )
    sample(PICKLES, f"array, {label}", TRAIN)(lambda w, c=content: replace_array(w.data, "train/m0.npy", c()))
    sample(PICKLES, f"dataset.json, {label}", TRAIN)(
        lambda w, c=content: (w.data / "dataset.json").write_bytes(c()) and None
    )
    sample(PICKLES, f"recipe, {label}", TRAIN, 2)(lambda w, c=content: w.recipe.write_bytes(c()) and None)
    sample(PICKLES, f"evaluation.json, {label}", COMPARE)(
        lambda w, c=content: (w.run / "evaluation.json").write_bytes(c()) and None
    )
    sample(PICKLES, f".mat, {label}", NUMBERS)(lambda w, c=content: mats(w, c()))


@sample(PICKLES, "array of objects", TRAIN)
def _(w):
    buffer = io.BytesIO()
    np.save(buffer, np.array([__import__("hostile_files").Touch()] * 24, dtype=object), allow_pickle=True)
    replace_array(w.data, "train/m0.npy", buffer.getvalue())


@sample(PICKLES, "npz of objects", TRAIN)
def _(w):
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([__import__("hostile_files").Touch()], dtype=object), allow_pickle=True)
    replace_array(w.data, "train/m0.npy", buffer.getvalue())


# archives ------------------------------------------------------------------------------------------------------------

SLIPS = "zips with paths that lead outside"
for name in ("../../pwned", "/tmp/pwned-by-mmvae-test", "train/m0/../../../pwned", "C:\\pwned", "..\\pwned"):
    sample(SLIPS, name, IMPORT, 0)(lambda w, n=name: as_zip((n, b"x"))(w))
sample(SLIPS, "everything below ../../PolyMNIST/", IMPORT)(
    lambda w: as_zip(files={f"../../PolyMNIST/{n}": c for n, c in png_tree().items()})(w)
)
sample(SLIPS, "a picture that is a link", IMPORT)(
    lambda w: as_zip((link_entry("train/m0/1.0.png"), b"/etc/passwd"), ("train/m1/1.0.png", b"x"))(w)
)
sample(SLIPS, "a picture named ../0.0.png", IMPORT, 0)(lambda w: as_zip(("train/m0/../9.9.png", b"x"))(w))


def face_zip(w: Any, *more: tuple[Any, bytes], drop: str = "") -> None:
    source = celeba_source.write(w.root / "faces")
    with zipfile.ZipFile(source / "img_align_celeba.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((source / "img_align_celeba").iterdir()):
            if path.name != drop:
                archive.write(path, f"img_align_celeba/{path.name}")
        for name, content in more:
            archive.writestr(name, content)
    shutil.rmtree(source / "img_align_celeba")


FIRST = celeba_source.NAMES[0]
for name in ("../../pwned", "/tmp/pwned-by-mmvae-test", "img_align_celeba/../../../pwned"):
    sample(SLIPS, f"CelebA: {name}", FACES, 0)(lambda w, n=name: face_zip(w, (n, b"x")))
sample(SLIPS, "CelebA: a face that is a link", FACES)(
    lambda w: face_zip(w, (link_entry(f"img_align_celeba/{FIRST}"), b"/etc/passwd"), drop=FIRST)
)

BOMBS = "archives that expand without end, or lie"
sample(BOMBS, "picture of 200 MB of zeros", IMPORT)(
    lambda w: as_zip(files=png_tree() | {"train/m0/0.0.png": bytes(200 << 20)})(w)
)
sample(BOMBS, "CelebA: face of 200 MB of zeros", FACES)(lambda w: face_zip(w, (FIRST, bytes(200 << 20)), drop=FIRST))
sample(BOMBS, "number of 5,000 digits in a name", IMPORT)(
    lambda w: as_zip((f"train/m0/{'9' * 5000}.0.png", b"x"), (f"train/m1/{'9' * 5000}.0.png", b"x"))(w)
)
sample(BOMBS, "packed tensor", IMPORT)(
    lambda w: with_tensor(repacked(saved(__import__("torch").zeros(10, 3, 28, 28))))(w)
)


sample(BOMBS, "tensor of 300 MB of zeros", IMPORT)(
    lambda w: as_zip(files=tensor_tree() | {"train/m1.pt": bytes(300 << 20)})(w)
)


@sample(BOMBS, "directory that points beyond the end", IMPORT)
def _(w):
    path = write_zip(w.root / "a.zip", png_tree())
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.rindex(b"PK\x05\x06") + 16, 0x7FFFFFFF)
    path.write_bytes(content)
    return ["a.zip"]


# tensors that lie ----------------------------------------------------------------------------------------------------

LIES = "tensor files that lie"


def torch_of(make: Callable[[Any], Any]) -> bytes:
    import torch

    return saved(make(torch))


for name, make in {
    "a billion images by strides of 0": lambda t: t.zeros(1, dtype=t.uint8).expand(10**9, 3, 28, 28),
    "on no device": lambda t: t.zeros(10, 3, 28, 28, device="meta"),
    "sparse": lambda t: t.zeros(10, 3, 28, 28).to_sparse(),
    "complex": lambda t: t.zeros(10, 3, 28, 28, dtype=t.complex64),
    "bfloat16": lambda t: t.zeros(10, 3, 28, 28, dtype=t.bfloat16),
    "quantized": lambda t: t.quantize_per_tensor(t.zeros(10, 3, 28, 28), 0.1, 0, t.quint8),
    "a scalar": lambda t: t.tensor(3),
    "a dictionary": lambda t: {"x": t.zeros(3)},
    "not a number": lambda t: t.full((10, 3, 28, 28), float("nan")),
}.items():
    if name == "quantized":
        continue  # torch itself warns of its end when one is made
    sample(LIES, f"images: {name}", IMPORT)(lambda w, m=make: with_tensor(torch_of(m))(w))
for name, make in {
    "a billion by strides of 0": lambda t: t.zeros(1, dtype=t.int64).expand(10**9),
    "infinite": lambda t: t.full((10,), float("inf")),
    "not a number": lambda t: t.full((10,), float("nan")),
    "none": lambda t: t.zeros(0),
}.items():
    sample(LIES, f"labels: {name}", IMPORT)(lambda w, m=make: with_tensor(torch_of(m), "train/labels.pt")(w))


# YAML ----------------------------------------------------------------------------------------------------------------

YAML = "YAML: tags, bombs, depth"
LAUGH = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 20))
MERGE = "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 12))
for name, text in {
    "tag that calls": "!!python/object/apply:os.system ['touch pwned']",
    "tag that makes an object": "name: !!python/object/new:pathlib.Path ['pwned']",
    "tag that imports a module": "name: !!python/module:this",
    "tag of a name": "name: !!python/name:os.system",
    "own tag": "name: !evil x",
    "standard tag on nonsense": "name: !!bool x",
    "binary": "name: !!binary aGVsbG8=",
    "billion laughs": f"a0: &a0 [1]\n{LAUGH}",
    "billion merges": f"a0: &a0 {{x: 1}}\n{MERGE}",
    "cycle": "name: &a [*a]",
    "cycle of merges": "name: &a {<<: *a}",
    "100,000 levels of [": "[" * 100_000,
    "20,000 levels of {": "{a: " * 20_000,
    "1,000 levels by indent": "".join(" " * i + "a:\n" for i in range(1000)),
    "100,000 keys": "{" + ", ".join(f"k{i}: 1" for i in range(100_000)) + "}",
    "integer of 900,000 digits": "name: " + "9" * 900_000,
    "integer in base 60": "name: 1" + ":59" * 300_000,
    "mapping as key": "? {a: 1}\n: 2",
    "day 99": "name: 2001-99-99",
    "key twice": "name: a\nname: b",
    "a NUL": "name: a\0b",
    "no text": "name: \udcff",
    "2 MiB": "#" * (2 << 20),
    "a list": "[1, 2]",
    "nothing": "",
}.items():
    sample(YAML, name, TRAIN, 2)(lambda w, t=text: w.recipe.write_bytes(t.encode("utf-8", "surrogateescape")) and None)
    if len(text) < 1_000 or "laughs" in name:
        sample(YAML, f"in a run: {name}", SAMPLE)(
            lambda w, t=text: (w.run / "recipe.yaml").write_bytes(t.encode("utf-8", "surrogateescape")) and None
        )
for value in ("!!python/object/apply:os.system ['touch pwned']", "[" * 5000, "1" + ":59" * 20_000, "&a [*a]"):
    sample(YAML, f"override {value[:20]}", [*TRAIN, f"objective.beta={value}"], 2)(lambda w: None)
for key, value in (("name", "../../pwned"), ("network", "os.system"), ("network", "builtins:exec")):
    sample("names of code and paths in a recipe", f"{key}: {value}", TRAIN, 2)(
        lambda w, k=key, v=value: w.recipe.write_text(w.recipe.read_text().replace(
            {"name": "name: tiny\n", "network": "network: conv"}[k], f"{k}: {v}\n" if k == "name" else f"{k}: {v}", 1))
        and None
    )  # fmt: skip
sample("names of code and paths in a recipe", "dataset outside", TRAIN)(
    lambda w: w.recipe.write_text(w.recipe.read_text().replace("  name: tiny", "  name: ../../../../../etc")) and None
)


# JSON ----------------------------------------------------------------------------------------------------------------

JSON = "JSON: NaN, doubles, depth, size"
for name, text in {
    "NaN": '{"state": NaN}',
    "1e999": '{"seconds": 1e999}',
    "infinity": '{"seconds": -Infinity}',
    "key twice": '{"state": "finished", "state": "running"}',
    "depth 10,000": "[" * 10_000 + "]" * 10_000,
    "depth 150": '{"a":' * 150 + "1" + "}" * 150,
    "depth 1,000,000": "[" * 1_000_000,
    "integer of 10,000 digits": '{"step": ' + "9" * 10_000 + "}",
    "half a character": '{"state": "\\ud800"}',
    "a list": "[]",
    "a string": '"x"',
    "nothing": "",
    "UTF-16": '{"state": "x"}'.encode("utf-16"),
    "no text": b'{"state": "\xff"}',
    "wrong seal": '{"state": "finished", "sha256": "00"}',
    "seal of another kind": '{"state": "finished", "sha256": [1]}',
}.items():
    data = text if isinstance(text, bytes) else text.encode()
    sample(JSON, f"dataset.json: {name}", TRAIN)(lambda w, d=data: (w.data / "dataset.json").write_bytes(d) and None)
    for file in ("evaluation.json", "status.json"):
        sample(JSON, f"{file}: {name}", COMPARE)(lambda w, d=data, f=file: (w.run / f).write_bytes(d) and None)


@sample(JSON, "100 MB of status.json", COMPARE)
def _(w):
    with open(w.run / "status.json", "wb") as file:
        file.truncate(100 << 20)


@sample(JSON, "100 MB of dataset.json", TRAIN)
def _(w):
    with open(w.data / "dataset.json", "wb") as file:
        file.truncate(100 << 20)


PATHS = "paths in a dataset that lead outside"
for path in ("../../x.npy", "/etc/x.npy", "train/../../x.npy", "train/m0.npz", ""):
    sample(PATHS, f"file {path!r}", TRAIN)(
        lambda w, p=path: edit_json(
            w.data / "dataset.json", lambda c: c["files"].update({p: c["files"]["train/m0.npy"]})
        )
    )
for path in ("../m0", "/m0", "m0/../m1", "", "m\n0"):
    sample(PATHS, f"modality {path!r}", TRAIN)(
        lambda w, p=path: edit_json(
            w.data / "dataset.json", lambda c: c["modalities"].update({p: c["modalities"]["m0"]})
        )
    )


# npy -----------------------------------------------------------------------------------------------------------------

NPY = "npy headers: objects, lying shapes"
DATA = bytes(24 * 3 * 8 * 8)
for name, content in {
    "objects": npy(header("(24, 3, 8, 8)", "|O"), DATA),
    "a hundred times the rows": npy(header("(2400, 3, 8, 8)"), DATA),
    "2**62 rows": npy(header("(4611686018427387904, 3, 8, 8)"), DATA),
    "2**70 rows": npy(header("(1180591620717411303424, 3, 8, 8)"), DATA),
    "negative rows": npy(header("(-24, 3, 8, 8)"), DATA),
    "rows of True": npy(header("(True, 3, 8, 8)"), DATA),
    "columns first": npy(header("(24, 3, 8, 8)", order="True"), DATA[:-1]),
    "structured": npy("{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (24, 3, 8, 8), }", DATA),
    "dates": npy(header("(24, 3, 8)", "<M8[s]"), DATA),
    "no such type": npy(header("(24, 3, 8, 8)", "|zz"), DATA),
    "a call": npy("__import__('os').system('touch pwned')", DATA),
    "5,000 brackets": npy("(" * 5000, DATA),
    "unfinished": npy("{'descr': '|u1", DATA),
    "header longer than the file": npy(header("(24, 3, 8, 8)"), DATA, (2, 0), 1 << 31),
    "version 9": npy(header("(24, 3, 8, 8)"), DATA, (9, 0)),
    "only the magic": b"\x93NUMPY",
    "nothing": b"",
}.items():
    sample(NPY, name, TRAIN)(lambda w, c=content: replace_array(w.data, "train/m0.npy", c))
sample(NPY, "lying shape, dataset.json agrees", TRAIN)(
    lambda w: replace_array(w.data, "train/m0.npy", npy(header("(2400, 3, 8, 8)"), DATA), shape=[2400, 3, 8, 8])
)
sample(NPY, "labels of the other byte order", EVALUATE)(
    lambda w: replace_array(w.data, "train/labels.npy", npy(header("(24,)", ">i8"), bytes(192)), dtype=">i8")
)


# safetensors ---------------------------------------------------------------------------------------------------------

HEADERS = "safetensors headers: offsets, lengths"
A = tensor(0, 16, [4])
for name, content in {
    "length 2**63": safetensors({"a": A}, bytes(16), 1 << 63),
    "length 2**64 - 1": safetensors({"a": A}, bytes(16), (1 << 64) - 1),
    "length of 99 MB": safetensors({"a": A}, bytes(16), 99 << 20),
    "overlapping": safetensors({"a": A, "b": tensor(8, 24, [4])}, bytes(24)),
    "the same bytes twice": safetensors({"a": A, "b": A}, bytes(16)),
    "beyond the end": safetensors({"a": tensor(0, 1 << 40, [1 << 38])}, bytes(16)),
    "backwards": safetensors({"a": tensor(16, 0, [4])}, bytes(16)),
    "negative": safetensors({"a": tensor(-16, 0, [4])}, bytes(16)),
    "a shape of 2**128": safetensors({"a": tensor(0, 16, [1 << 62, 1 << 62])}, bytes(16)),
    "shape and bytes disagree": safetensors({"a": tensor(0, 16, [5])}, bytes(16)),
    "a hole": safetensors({"a": A, "b": tensor(32, 48, [4])}, bytes(48)),
    "no such type": safetensors({"a": tensor(0, 16, [4], "OBJ")}, bytes(16)),
    "depth 10,000": safetensors(b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    "key twice": safetensors(b'{"a":%s,"a":%s}' % ((json.dumps(A).encode(),) * 2), bytes(16)),
    "no JSON": safetensors(b"\xff" * 64),
    "no metadata": safetensors({"a": A}, bytes(16)),
    "metadata of numbers": safetensors({"__metadata__": {"format": 1}, "a": A}, bytes(16)),
    "nothing": b"",
    "seven bytes": bytes(7),
}.items():
    sample(HEADERS, name, SAMPLE)(lambda w, c=content: all_checkpoints(w, c))

CHECKPOINTS = "checkpoints with a valid digest and impossible content"


def every(change: Callable[[dict, dict], Any]) -> Callable[[Any], None]:
    def spoil(w: Any) -> None:
        for path in (w.run / "checkpoints").iterdir():
            rewrite_checkpoint(path, change)

    return spoil


for name, facts in {
    "step -1": {"step": -1}, "step 1e300": {"step": 1e300}, "step of text": {"step": "6"}, "step True": {"step": True},
    "endless seconds": {"seconds": float("inf")}, "seconds before the start": {"seconds": -5.0}, "more facts": {"x": 1},
    "epochs beyond the steps": {"epoch": 10**12},
}.items():  # fmt: skip
    sample(CHECKPOINTS, name, SAMPLE)(lambda w, f=facts: every(lambda tensors, progress: progress.update(f))(w))
WEIGHT = "model.encoders.m0.head.weight"


def first_with(tensors: dict, start: str) -> str:
    return next(name for name in sorted(tensors) if name.startswith(start) and tensors[name].ndim)


for name, change in {
    "a weight of another shape": lambda t, p: t.update(
        {first_with(t, "model."): t[first_with(t, "model.")][:1].clone()}
    ),
    "a weight of another type": lambda t, p: t.update({first_with(t, "model."): t[first_with(t, "model.")].double()}),
    "a weight missing": lambda t, p: t.pop(first_with(t, "model.")),
    "a weight too many": lambda t, p: t.update({"model.evil": t[first_with(t, "model.")].clone()}),
}.items():
    sample(CHECKPOINTS, name, SAMPLE)(lambda w, c=change: every(c)(w))
for what, spoil in {
    "a moment of another shape": lambda t, p: t.update(
        {first_with(t, "optimizer.exp_avg/"): t[first_with(t, "optimizer.exp_avg/")][:1].clone()}
    ),
    "a moment missing": lambda t, p: t.pop(first_with(t, "optimizer.exp_avg/")),
    "no optimiser state": lambda t, p: [t.pop(name) for name in list(t) if name.startswith("optimizer.")],
}.items():
    sample(CHECKPOINTS, what, RESUME)(lambda w, c=spoil: every(c)(w))


# pictures and digits -------------------------------------------------------------------------------------------------

PIXELS = "pictures and digits that are bombs"
for name, content in {
    "60,000 x 60,000 in a header": png(60_000, 60_000),
    "2**31 - 1 squared": png(2**31 - 1, 2**31 - 1),
    "no pixels": png(0, 28),
    "text of 64 MB in a chunk": png(28, 28, (b"zTXt", b"a\0\0" + __import__("zlib").compress(bytes(64 << 20), 9))),
    "profile of 64 MB in a chunk": png(28, 28, (b"iCCP", b"a\0\0" + __import__("zlib").compress(bytes(64 << 20), 9)),
                                       rows=b"\x09" * (28 * 85)),  # and rows of a filter that is none
}.items():  # fmt: skip
    sample(PIXELS, f"PolyMNIST: {name}", IMPORT)(lambda w, c=content: tree(w, png_tree() | {"train/m0/0.0.png": c}))


def backdrop(w: Any, name: str, content: bytes) -> list[str]:
    write_idx(w.root / "digits")
    write_tree(w.root / "backgrounds", {name: content})
    return ["--backgrounds", "backgrounds"]


PROGRAM = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n(pwned) (w) file closefile\nshowpage\n"
sample(PIXELS, "background of 60,000 x 60,000", DIGITS)(lambda w: backdrop(w, "a.png", png(60_000, 60_000)))
sample(PIXELS, "background that is a program (EPS)", DIGITS)(lambda w: backdrop(w, "a.eps", PROGRAM))
sample(PIXELS, "EPS named .png", DIGITS)(lambda w: backdrop(w, "a.png", PROGRAM))


def digits(w: Any, name: str, content: bytes) -> None:
    write_idx(w.root / "digits")
    for old in (w.root / "digits").glob(f"{name.removesuffix('.gz')}*"):
        old.unlink()
    (w.root / "digits" / name).write_bytes(content)


IMAGES = "train-images-idx3-ubyte"
for name, file, content in (
    ("gzip that goes on for 300 MB", f"{IMAGES}.gz", lambda: endless_gzip(idx((20, 28, 28), b""))),
    (
        "gzip of 300 MB, and 627 MB that the header asks for",
        f"{IMAGES}.gz",
        lambda: endless_gzip(idx((800_000, 28, 28), b"")),
    ),
    ("2**96 bytes in a header", IMAGES, lambda: idx((2**32 - 1,) * 3, bytes(99))),
    ("400 MB in a header", IMAGES, lambda: idx((510_000, 28, 28), bytes(99))),
    ("no digits", IMAGES, lambda: idx((0, 28, 28), b"")),
    ("labels of 2**32", "train-labels-idx1-ubyte", lambda: idx((2**32 - 1,), bytes(99))),
    ("200 dimensions", IMAGES, lambda: b"\0\0\x08\xc8" + bytes(800)),
):
    sample(PIXELS, f"IDX: {name}", DIGITS)(lambda w, f=file, c=content: digits(w, f, c()))


def face(w: Any, content: bytes) -> None:
    (celeba_source.write(w.root / "faces") / "img_align_celeba" / FIRST).write_bytes(content)


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG whose header says another size than its data have."""
    content = bytearray(celeba_source.jpeg(0))
    spot = content.index(b"\xff\xc0") + 5
    struct.pack_into(">HH", content, spot, height, width)
    return bytes(content)


sample(PIXELS, "CelebA: 65,500 x 65,500 in a header", FACES)(lambda w: face(w, jpeg_of(65_500, 65_500)))
sample(PIXELS, "CelebA: a PNG of 60,000 x 60,000", FACES)(lambda w: face(w, png(60_000, 60_000)))
sample(PIXELS, "CelebA: a program (EPS)", FACES)(lambda w: face(w, PROGRAM))


# MATLAB --------------------------------------------------------------------------------------------------------------

MATLAB = ".mat files that lie"
LABELS = matrix(b"y", (4, 1), b"\1\2\3\4")
PICTURES = matrix(b"X", (32, 32, 3, 4), bytes(12288))


def mats(w: Any, content: bytes) -> None:
    write_idx(w.root / "digits")
    write_tree(
        w.root / "numbers", {"train_32x32.mat": content, "test_32x32.mat": mat(packed(PICTURES), packed(LABELS))}
    )


for name, content in {
    "a billion pictures": lambda: mat(matrix(b"X", (32, 32, 3, 10**9), bytes(99)), matrix(b"y", (10**9, 1), b"\1")),
    "data longer than the shape": lambda: mat(matrix(b"X", (32, 32, 3, 4), bytes(99), 2**31 - 1), LABELS),
    "packed data of 200 MB, longer than the shape": lambda: mat(
        packed(matrix(b"X", (32, 32, 3, 4), bytes(250 << 20))), packed(LABELS)
    ),
    "packed name of 200 MB": lambda: mat(packed(matrix(b"X" * (250 << 20), (1, 1), b"\1")), PICTURES, LABELS),
    "packed element of another name, 200 MB": lambda: mat(packed(matrix(b"z", (250 << 20, 1), bytes(250 << 20)))),
    "negative sides": lambda: mat(matrix(b"X", (32, 32, 3, -4), bytes(99)), LABELS),
    "cells": lambda: mat(matrix(b"X", (32, 32, 3, 4), bytes(12288), kind=1), LABELS),
    "a struct": lambda: mat(matrix(b"X", (32, 32, 3, 4), bytes(12288), kind=2), LABELS),
    "an object": lambda: mat(matrix(b"X", (32, 32, 3, 4), bytes(12288), kind=3), LABELS),
    "a function": lambda: mat(matrix(b"X", (32, 32, 3, 4), bytes(12288), kind=16), LABELS),
    "something opaque": lambda: mat(matrix(b"X", (32, 32, 3, 4), bytes(12288), kind=17), LABELS),
    "an element of 4 GB": lambda: mat(element(14, bytes(64), 2**32 - 1)),
    "no such element": lambda: mat(element(99, bytes(64))),
    "packed rubbish": lambda: mat(element(15, bytes(64))),
    "only a header": lambda: mat(),
}.items():
    sample(MATLAB, name, NUMBERS)(lambda w, c=content: mats(w, c()))


def refused(found: Ended, code: int) -> None:
    assert found.code == code, f"exit {found.code} after {found.seconds:.1f} s:\n{found.err}"
    if code:
        assert len(found.complaint) < 1000, found.complaint
        assert "hint:" in found.err or code == 2, found.err
    assert found.grown < MOST_MEMORY, f"{found.grown:.0f} MiB"
    assert found.seconds < MOST_SECONDS, f"{found.seconds:.0f} s"


def slow(row: Sample) -> bool:
    """Large ones, and all but the first few of each class: the quick tests are to stay quick."""
    large = any(word in row.name for word in ("00 MB", "in a run:", "100,000", "900,000", "base 60", "64 MB"))
    return large or [other for other in SAMPLES if other.kind == row.kind].index(row) >= QUICK_EACH


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"{row.kind.split()[0]}-{row.name}"[:60].encode("ascii", "replace").decode(),
                         marks=[pytest.mark.slow] if slow(row) else []) for row in SAMPLES]
)  # fmt: skip
def test_nothing_of_it_runs_and_one_line_says_no(row, world, outcomes):
    more = row.spoil(world) or []
    before = listing(world.root.parent)
    found = mmvae(*row.command, *more, cwd=world.root)
    refused(found, row.code)
    after = listing(world.root.parent)
    assert not any("pwned" in name for name in after.keys() - before.keys())
    assert not Path("/tmp/pwned-by-mmvae-test").exists()
    if row.code:
        assert after == before, f"left behind: {sorted(after.keys() ^ before.keys())}"
    else:
        assert all(name.startswith("world/new") for name in after.keys() - before.keys())
    outcomes.add(row.kind, f"refused, exit {row.code}" if row.code else "the entry has no effect, exit 0")
