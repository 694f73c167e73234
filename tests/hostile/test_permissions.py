"""Permissions: every file is as readable as the umask says, and what may not be read is never called damaged."""

import os
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
from driving import few_steps, mmvae
from verbs import CLASSIFY, COMPARE, EVALUATE, NEW, TRAIN

import celeba_source

SAMPLE = ["sample", "--ckpt", "runs/a", "--kind", "prior", "--count", "1", "--out", "x"]


def told(command, world, code=3, about=""):
    """What a command says that may not read something of its own; ``about`` it."""
    found = mmvae(*command, cwd=world.root, privileged=False, first=few_steps)
    assert found.code == code, found.err
    assert about in found.err, found.err
    for word in (
        "damaged",
        "fetch",
        "copy",
        "remove",
        "start over",
        "build the dataset again",
        "train it first",
        "missing",
    ):
        assert word not in found.err, found.err
    assert "check its permissions" in found.err, found.err
    return found.err


def test_files_are_as_readable_as_the_umask_says(world):
    shutil.rmtree(world.data / "classifiers")
    for command in (NEW, ["evaluate", "--ckpt", "runs/new", "--metrics", "coherence", "--force"],
                    ["sample", "--ckpt", "runs/new", "--kind", "prior", "--count", "1"]):  # fmt: skip
        done = mmvae(*command, cwd=world.root, first=lambda: (os.umask(0o027), few_steps()))
        assert done.code == 0, done.err
    modes = {path.relative_to(world.root).as_posix(): stat.S_IMODE(path.stat().st_mode)
             for folder in ("runs/new", "data/tiny/classifiers")
             for path in (world.root / folder).rglob("*") if path.is_file()}  # fmt: skip
    assert {"runs/new/checkpoints/step-00000006.safetensors", "runs/new/recipe.yaml", "runs/new/figures/prior.npz",
            "data/tiny/classifiers/m0.safetensors"} <= modes.keys()  # fmt: skip
    assert {name: oct(found) for name, found in modes.items() if found != 0o640} == {}


@pytest.mark.parametrize("command", [TRAIN, SAMPLE, EVALUATE], ids=lambda command: command[0])
def test_checkpoints_that_may_not_be_read_are_called_that(command, world):
    for path in (world.run / "checkpoints").iterdir():
        path.chmod(0)
    text = told(command, world)
    assert "step-00000006.safetensors cannot be read (Permission denied)" in text.splitlines()[-2]


@pytest.mark.parametrize("command", [TRAIN, SAMPLE, NEW], ids=["train", "sample", "train anew"])
def test_a_folder_of_checkpoints_that_may_not_be_listed_is_not_an_empty_one(command, world):
    folder = world.run / "checkpoints"
    if command is NEW:  # without a recipe a run has begun only if it has checkpoints
        (world.run / "recipe.yaml").unlink()
        command = TRAIN
    folder.chmod(0o300)
    try:
        assert "runs/a/checkpoints cannot be read (Permission denied)" in told(command, world)
    finally:
        folder.chmod(0o700)


@pytest.mark.parametrize(("name", "command", "code"), [
    ("tiny.yaml", NEW, 2),
    ("runs/a/recipe.yaml", SAMPLE, 3),
    ("runs/a/status.json", TRAIN, 3),
    ("runs/a/evaluation.json", EVALUATE, 3),
    ("data/tiny/dataset.json", NEW, 3),
    ("data/tiny/train/m0.npy", NEW, 3),
    ("data/tiny/test/labels.npy", EVALUATE, 3),
], ids=lambda value: Path(value).name if isinstance(value, str) else "")  # fmt: skip
def test_a_file_that_may_not_be_read_is_called_that(name, command, code, world):
    path = world.root / name
    content = path.read_bytes()
    path.chmod(0)
    assert f"{name} cannot be read (Permission denied)" in told(command, world, code)
    assert path.read_bytes() == content, "nothing was put in its place"


def test_a_run_that_may_not_be_read_is_left_out_of_a_comparison_for_that(world):
    (world.run / "evaluation.json").chmod(0)
    found = mmvae(*COMPARE, cwd=world.root, privileged=False)
    assert (found.code, "evaluation.json cannot be read (Permission denied)" in found.err) == (3, True)


def test_a_classifier_that_may_not_be_read_is_made_again_and_not_called_damaged(world):
    path = world.data / "classifiers" / "m0.safetensors"
    path.chmod(0)
    assert "m0.safetensors cannot be read (Permission denied); check its permissions" in told(CLASSIFY, world, 0)


def test_a_checkpoint_that_cannot_be_written_for_a_permission_is_no_full_disk(world):
    world.newest.unlink()
    (world.run / "checkpoints").chmod(0o500)
    try:
        found = mmvae(*TRAIN, cwd=world.root, privileged=False)
    finally:
        (world.run / "checkpoints").chmod(0o700)
    assert (found.code, "Permission denied" in found.complaint) == (1, True)
    assert "check its permissions, and those of the folders above it" in found.err
    assert "free the disk" not in found.err


# sources of datasets -------------------------------------------------------------------------------------------------


def celeba(root):
    celeba_source.write(root / "source")
    return ["celeba", "--source", "source"]


def celeba_in_a_zip(root):
    command = celeba(root)
    celeba_source.to_zip(root / "source")
    return command


def junk(*names):
    def make(root):
        for name in names:
            (root / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "source" / name).write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 1, 5]))
        return ["polymnist", *(["--from", "source"] if names[0].endswith(".pt") else ["--digits", "source"])]

    return make


TENSORS = junk(*(f"{split}/{name}.pt" for split in ("train", "test") for name in ("labels", "m0")))


@pytest.mark.parametrize(("source", "name"), [
    (celeba, "list_attr_celeba.txt"), (celeba, "list_eval_partition.txt"), (celeba, "img_align_celeba/000007.jpg"),
    (celeba_in_a_zip, "img_align_celeba.zip"), (TENSORS, "train/labels.pt"), (junk("digits.idx"), "digits.idx"),
])  # fmt: skip
def test_a_source_that_may_not_be_read_is_called_that(source, name, tmp_path):
    command = ["make-dataset", *source(tmp_path), "--out", "new"]
    (tmp_path / "source" / name).chmod(0)
    told(command, SimpleNamespace(root=tmp_path), about=f"source/{name} cannot be read (Permission denied)")
    assert not (tmp_path / "new").exists()
