"""Every file of a run and of a dataset, cut, with bits turned, gone, a folder in its place, unreadable.

Either the outcome is the one before, or the file is named and the user told what to do; nothing is ever trained or
reported on wrong data.
"""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from driving import Ended, few_steps, mmvae
from verbs import CLASSIFY, COMPARE, EVALUATE, NEW, TRAIN

from mmvae_cli.disk import sealed
from mmvae_cli.process.errors import Failure
from mmvae_cli.run import checkpoint, result
from mmvae_cli.run.layout import Run
from mmvae_cli.store import Store

CUTS, FLIPS = {"quick": 3, "slow": 10}, {"quick": 10, "slow": 100}
AMOUNTS = [pytest.param("quick", id="quick"), pytest.param("slow", id="slow", marks=pytest.mark.slow)]


# what is read, by the function that every command reads it with -------------------------------------------------------


def _checkpoint(w: SimpleNamespace) -> Any:
    """What training and evaluating go on from: the step, and the numbers as text."""
    found = checkpoint.newest(Run(w.run))
    assert found is not None
    return found.path.name, sealed.digest(found.tensors, "")


def _array(name: str) -> Callable[[SimpleNamespace], Any]:
    split, _, rest = name.partition("/")
    modality = rest.removesuffix(".npy")

    def read(w: SimpleNamespace) -> Any:
        store = Store(w.data)
        return (store.labels(split) if modality == "labels" else store.array(split, modality)).tobytes()

    return read


def _but_the_seal(content: dict[str, Any]) -> dict[str, Any]:
    """Without a seal whose own name was spoiled: it seals nothing any more, and nobody reads it."""
    return {key: value for key, value in content.items() if not (isinstance(value, str) and len(value) == 64)}


READERS: dict[str, Callable[[SimpleNamespace], Any]] = {
    "runs/a/recipe.yaml": lambda w: Run(w.run).recipe().dump(),
    "runs/a/status.json": lambda w: _but_the_seal(Run(w.run).status()),
    "runs/a/environment.json": lambda w: _but_the_seal(Run(w.run).environment()),
    "runs/a/evaluation.json": lambda w: result.load(w.run / "evaluation.json").model_dump_json(),
    "runs/a/checkpoints/step-00000006.safetensors": _checkpoint,
    "data/tiny/dataset.json": lambda w: Store(w.data).info.model_dump_json(),
    **{f"data/tiny/{name}": _array(name) for split in ("train", "test")
       for name in (f"{split}/m0.npy", f"{split}/m1.npy", f"{split}/labels.npy")},
}  # fmt: skip


def cuts(content: bytes, count: int) -> list[bytes]:
    """The beginning of ``content``, of ``count`` lengths from nothing to all but one byte."""
    return [content[: (len(content) - 1) * n // (count - 1)] for n in range(count)]


def flips(content: bytes, count: int, seed: str) -> list[bytes]:
    """``content`` with one bit turned, at ``count`` places."""
    places, spoiled = random.Random(seed), []
    for _ in range(count):
        one = bytearray(content)
        one[places.randrange(len(content))] ^= 1 << places.randrange(8)
        spoiled.append(bytes(one))
    return spoiled


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("name", READERS)
def test_cut_or_turned_it_is_what_it_was_or_refused_by_name(name, amount, world, outcomes, capsys):
    path, read, kind = world.root / name, READERS[name], f"cut and turned bits: {Path(name).name}"
    before, content = read(world), path.read_bytes()
    fallback, refusals = None, []
    if "checkpoints" in name:
        (aside := path.with_name("aside")) and path.rename(aside)
        fallback = read(world)
        aside.rename(path)
        assert fallback != before
    capsys.readouterr()
    for spoiled in [*cuts(content, CUTS[amount]), *flips(content, FLIPS[amount], name)]:
        path.write_bytes(spoiled)
        try:
            found = read(world)
        except Failure as failure:
            refusals.append((str(failure), failure.hint))
            outcomes.add(kind, "refused by name")
            continue
        if found == before:
            outcomes.add(kind, "the same outcome")
            continue
        assert found == fallback, "wrong data"
        assert path.name in capsys.readouterr().err
        outcomes.add(kind, "named, the checkpoint before is used")
    assert all(Path(name).name in said and hint for said, hint in refusals), refusals


def test_the_seals_see_every_bit_of_every_number(world):
    """Not by chance: each single bit of each digit of evaluation.json."""
    path = world.run / "evaluation.json"
    content = path.read_bytes()
    before = result.load(path)
    told: list[str] = []
    digits = [at for at, byte in enumerate(content) if chr(byte).isdigit()][:300]
    for at in digits:
        spoiled = bytearray(content)
        spoiled[at] ^= 1
        path.write_bytes(spoiled)
        try:
            found = result.load(path)
        except Failure as failure:
            told.append(str(failure))
        else:
            assert found == before  # 0.1666666666666667 and ...66 are one number
    assert len(told) > 200
    assert all("evaluation.json" in line for line in told)


# commands ------------------------------------------------------------------------------------------------------------

SAMPLE = ["sample", "--ckpt", "runs/a", "--kind", "reconstruction", "--count", "2", "--out", "x"]
NEWEST = "runs/a/checkpoints/step-00000006.safetensors"
USES = [  # file, a command that needs it, what it does with each way of damage ("go on": says nothing, or warns)
    ("runs/a/recipe.yaml", SAMPLE, "refuse"),
    ("runs/a/recipe.yaml", TRAIN, "refuse"),
    ("runs/a/recipe.yaml", COMPARE, "refuse"),
    ("runs/a/status.json", COMPARE, "refuse"),
    ("runs/a/evaluation.json", COMPARE, "refuse"),
    (NEWEST, SAMPLE, "fall back"),
    ("data/tiny/dataset.json", NEW, "refuse"),
    ("data/tiny/train/m0.npy", NEW, "refuse"),
    ("data/tiny/train/m1.npy", EVALUATE, "refuse"),
    ("data/tiny/test/m0.npy", SAMPLE, "refuse"),
    ("data/tiny/train/labels.npy", EVALUATE, "refuse"),
    ("data/tiny/test/labels.npy", EVALUATE, "refuse"),
    ("data/tiny/classifiers/m0.safetensors", CLASSIFY, "make again"),
]
QUICK_WAYS = ("gone", "one bit")
WAYS = [
    *QUICK_WAYS,
    *(pytest.param(way, marks=pytest.mark.slow) for way in ("a folder", "unreadable", "empty", "half")),
]


def spoil(path: Path, way: str) -> None:
    content = path.read_bytes()
    if way in ("gone", "a folder"):
        path.unlink()
        if way == "a folder":
            path.mkdir()
    elif way == "unreadable":
        path.chmod(0)
    else:
        turned = bytearray(content)
        turned[-len(content) // 3] ^= 4
        path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "one bit": bytes(turned)}[way])


def ended_well_or_named(found: Ended, path: Path, use: str, way: str) -> str:
    """The outcome in words; asserts that it is one of those allowed."""
    if use == "refuse":
        assert found.code in (2, 3), found.err
        assert path.name in found.err or "not evaluated (mmvae evaluate" in found.err, found.err
        assert found.complaint, found.err
        assert "hint:" in found.err, found.err
        return f"refused by name, exit {found.code}"
    assert found.code == 0, found.err
    if way != "gone":
        assert path.name in found.err, found.err
    if use == "fall back":
        return "the checkpoint before is used" + ("" if way == "gone" else ", with a warning")
    return "made again"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "command", "use"), USES, ids=lambda value: str(value)[:30])
def test_a_command_names_the_file_or_does_without_it(name, command, use, way, world, outcomes):
    path = world.root / name
    spoil(path, way)
    found = mmvae(*command, cwd=world.root, privileged=False, first=few_steps if use == "make again" else None)
    if path.exists() and way == "unreadable":
        path.chmod(0o600)
    said = ended_well_or_named(found, path, use, way)
    if use == "fall back":
        about = json.loads(str(__import__("numpy").load(world.root / "x" / "reconstruction.npz")["about"]))
        assert about["checkpoint"] == "step-00000003.safetensors"
    if command in (NEW, SAMPLE) and use == "refuse":
        assert not (world.root / "runs" / "new").exists()
        assert not (world.root / "x").exists()
    outcomes.add(f"{way}: {path.name if path.suffix != '.npy' else 'an array or labels'}", said)


def weights(w: SimpleNamespace) -> str:
    found = checkpoint.newest(Run(w.run))
    assert found is not None
    assert found.position.step == 6
    return sealed.digest(dict(found.tensors.items()), "")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "name", ["environment.json", "metrics.jsonl", "status.json", "checkpoints/step-00000006.safetensors"]
)
def test_training_goes_on_to_the_same_weights_or_refuses(name, way, world, outcomes):
    """From the first of two epochs, with one file of the run damaged."""
    before, path = weights(world), world.run / name
    if "checkpoints" not in name:
        world.newest.unlink()
    spoil(path, way)
    found = mmvae(*TRAIN, cwd=world.root, privileged=False)
    kind = f"{way}: {path.name}, training goes on"
    if path.is_file():
        path.chmod(0o600)
    if found.code:
        assert path.name in found.complaint, found.err
        assert "hint:" in found.err, found.err
        outcomes.add(kind, f"refused by name, exit {found.code}")
        assert not (world.run / "checkpoints" / "step-00000006.safetensors").is_file() or "checkpoints" in name
    else:
        assert weights(world) == before
        outcomes.add(kind, "the same weights")


def test_without_any_valid_checkpoint_nothing_starts_over(world, outcomes):
    for path in (world.run / "checkpoints").iterdir():
        path.write_bytes(b"x")
    metrics = (world.run / "metrics.jsonl").read_bytes()
    found = mmvae(*TRAIN, cwd=world.root)
    assert (found.code, "no valid checkpoint" in found.complaint) == (3, True)
    shutil.rmtree(world.run / "checkpoints")
    found = mmvae(*TRAIN, cwd=world.root)
    assert (found.code, "was trained to step 6" in found.complaint) == (3, True)
    assert (world.run / "metrics.jsonl").read_bytes() == metrics
    outcomes.add("all checkpoints damaged or gone", "refused by name, exit 3", 2)


def test_a_damaged_checkpoint_never_pushes_a_valid_one_out(world, outcomes):
    """keep_checkpoints 1 and a damaged later one: the valid one stays."""
    run = Run(world.run)
    model = torch.nn.Linear(1, 1)
    for step in (1, 2):
        checkpoint.save(
            run.checkpoint_path(step), model, torch.optim.Adam(model.parameters()), checkpoint.Position(step, 1)
        )
    world.newest.write_bytes(b"damaged")
    checkpoint.prune(run, 1, 2)
    assert run.checkpoint_path(2).is_file()
    assert not run.checkpoint_path(1).exists()
    outcomes.add("a damaged later checkpoint, one is kept", "the valid one stays")


@pytest.mark.parametrize("content", [b"", b"{", b"elsewhere 1", b"\xff\xfe", b'{"pid": "x"}', b"[]"], ids=repr)
def test_a_damaged_lock_keeps_others_out_or_is_taken_over(content, world, outcomes):
    (world.run / "lock").write_bytes(content)

    def patient() -> None:
        from mmvae_cli.disk import lock

        lock.SILENCE = 0.2

    found = mmvae(*TRAIN, cwd=world.root, first=patient)
    assert found.code == 0 or "lock" in found.err, found.err
    assert found.code in (0, 2)
    outcomes.add("a damaged lock", "taken over when it stays silent" if found.code == 0 else "refused by name, exit 2")


def test_no_verify_skips_the_checksum_and_nothing_else(world, outcomes):
    spoil(world.data / "train" / "m0.npy", "one bit")
    assert mmvae(*NEW, cwd=world.root).code == 3
    assert mmvae(*NEW, "--no-verify", cwd=world.root).code == 0
    spoil(world.data / "train" / "m0.npy", "half")
    assert mmvae(*NEW, "--no-verify", cwd=world.root).code == 3
    outcomes.add("--no-verify", "a turned bit passes, a cut file does not", 3)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="the driver measures with /proc")
def test_the_checksum_costs_little(world, outcomes):
    """A file is hashed once however often it is asked for: 64 MiB a second time in no time."""
    import time

    import numpy as np

    from mmvae_cli import store

    folder = world.root / "large"
    for split in ("train", "test"):
        store.new_array(folder, f"{split}/m0.npy", (1 << 14, 1, 32, 64))
        store.new_array(folder, f"{split}/labels.npy", (1 << 14,), np.int64)
    info = store.StoreInfo(
        name="large", modalities={"m0": store.ModalityInfo(kind="image", shape=(1, 32, 64))},
        splits={split: store.SplitInfo(count=1 << 14) for split in ("train", "test")},
        labels=store.LabelInfo(kind="class", names=("0",)),
    )  # fmt: skip
    store.finish(folder, info)
    opened, times = Store(folder), []
    for _ in range(2):
        started = time.perf_counter()
        opened.array("train", "m0")
        times.append(time.perf_counter() - started)
    assert times[1] < 0.05 * times[0] + 0.01, times
    assert times[0] < 5, "32 MiB"
