"""Paths that lead nowhere good: below a folder that may not be entered, through a link to nowhere or in a circle."""

import os
import typing

import pytest
from driving import listing, mmvae

from mmvae_cli import cli
from mmvae_cli.process import paths
from mmvae_cli.process.errors import Failure, UsageProblem
from mmvae_cli.study import slurm

BUILD = ["make-dataset", "polymnist", "--digits", "embedded", "--limit", "60"]
BELOW = {  # every verb with a path below the folder ``closed``
    "a source": ["make-dataset", "polymnist", "--from", "closed/x.zip"],
    "digits": ["make-dataset", "polymnist", "--digits", "closed/raw"],
    "backgrounds": ["make-dataset", "polymnist", "--digits", "embedded", "--backgrounds", "closed/pictures"],
    "svhn": ["make-dataset", "mnist-svhn-text", "--digits", "embedded", "--svhn", "closed/svhn"],
    "faces": ["make-dataset", "celeba", "--source", "closed/celeba"],
    "a new dataset": [*BUILD, "--out", "closed/x"],
    "a dry run": ["train", "tiny.yaml", "--dry-run", "--data-dir", "closed/data"],
    "a study": ["train", "tiny.yaml", "--seeds", "0-1", "--data-dir", "closed/data"],
    "a dataset's path": ["train", "tiny.yaml", "dataset.name=closed/data/tiny", "--run", "new"],
    "a new run": ["train", "tiny.yaml", "--run", "closed/q"],
    "the closed folder itself": ["train", "tiny.yaml", "--run", "closed"],
    "a recipe": ["train", "closed/tiny.yaml"],
    "evaluate": ["evaluate", "--ckpt", "closed/runs/a"],
    "a checkpoint": ["evaluate", "--ckpt", "runs/a", "--checkpoint", "closed/step-00000003.safetensors"],
    "sample": ["sample", "--ckpt", "closed/runs/a"],
    "figures": ["sample", "--ckpt", "runs/a", "--out", "closed/figures"],
    "compare all": ["compare", "closed"],
    "compare one": ["compare", "closed/runs/a"],
    "a report": ["compare", "runs/a", "--format", "md", "--out", "closed/report"],
}


@pytest.mark.parametrize("what", BELOW)
def test_below_a_folder_that_may_not_be_entered(what, world):
    closed = world.root / "closed"
    closed.mkdir()
    (closed / "data").symlink_to("../data")
    before = listing(world.root)
    closed.chmod(0)
    try:
        found = mmvae(*BELOW[what], cwd=world.root, privileged=False)
    finally:
        closed.chmod(0o755)
    assert found.code in (1, 2, 3), found.err
    assert "closed" in found.complaint.replace("\n", " ") + found.err
    assert "Permission denied" in found.err
    assert "permissions" in found.err or what.startswith("compare")
    assert listing(world.root) == before


@pytest.mark.parametrize("name", ["checkpoints", "../../data/tiny/train"])
def test_a_closed_folder_inside_is_named_and_nothing_called_missing_or_damaged(name, world):
    folder, ended = (world.run / name).resolve(), []
    folder.chmod(0)
    try:
        for command in (["train", "tiny.yaml", "--run"], ["evaluate", "--metrics", "latent", "--ckpt"]):
            ended.append(mmvae(*command, "runs/a", cwd=world.root, privileged=False))
    finally:
        folder.chmod(0o755)
    for found in ended:
        assert found.code == 3, found.err
        assert folder.name in found.complaint
        assert "Permission denied" in found.complaint
        assert "hint: check its permissions" in found.err


def test_a_closed_run_is_left_out_of_a_comparison_by_name(world):
    other = world.root / "runs" / "b"
    other.mkdir()
    other.chmod(0)
    try:
        found = mmvae("compare", "runs", cwd=world.root, privileged=False)
    finally:
        other.chmod(0o755)
    assert found.code == 0, found.err
    assert "left out: runs/b: cannot be read (Permission denied)" in found.err


LINKED = {
    "data": ["train", "tiny.yaml", "--data-dir", "link"],
    "a new dataset": [*BUILD, "--out", "link"],
    "a new dataset below": [*BUILD, "--out", "link/x"],
    "a run": ["train", "tiny.yaml", "--run", "link/q"],
    "evaluate": ["evaluate", "--ckpt", "link"],
    "figures": ["sample", "--ckpt", "runs/a", "--out", "link"],
    "a report": ["compare", "runs/a", "--format", "md", "--out", "link"],
    "compare": ["compare", "link"],
}


@pytest.mark.parametrize("target", ["nowhere", "link"])
@pytest.mark.parametrize("what", LINKED)
def test_a_link_to_nowhere_or_in_a_circle_is_named_before_any_work(what, target, world):
    (world.root / "link").symlink_to(target)
    before = listing(world.root)
    found = mmvae(*LINKED[what], cwd=world.root)
    assert found.code in (2, 3), found.err
    assert "link" in found.err.partition("hint:")[0]
    assert "hint:" in found.err
    assert listing(world.root) == before
    if target == "nowhere":
        assert "a link to nowhere, and nothing is there" in found.err


def test_the_folders_that_a_command_chooses_itself_may_be_links_to_nowhere(world):
    """runs and data often are links to a scratch disk that is cleared."""
    (world.root / "elsewhere").mkdir()
    for name, command in {"runs": ["train", "../tiny.yaml", "--data-dir", "../data"], "data": [*BUILD]}.items():
        (world.root / "elsewhere" / name).symlink_to("/nonexistent/scratch")
        found = mmvae(*command, cwd=world.root / "elsewhere")
        assert found.code == 2, found.err
        assert f"{name} is a link to /nonexistent/scratch, and nothing is there" in found.complaint


def test_a_tilde_is_a_home_folder_in_every_path(world, monkeypatch):
    """Behind an =, in quotes and in a variable the shell does not see it."""
    (home := world.root / "home").mkdir()
    for name in ("data", "runs", "tiny.yaml"):
        (world.root / name).rename(home / name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("MMVAE_DATA_DIR", "~/data")
    checkpoint = "~/runs/a/checkpoints/step-00000006.safetensors"
    for command in (
        ["train", "~/tiny.yaml", "--run=~/runs/a", "--data-dir=~/data"],
        ["train", "~/tiny.yaml", "dataset.name=~/data/tiny", "--dry-run", "--data-dir=nowhere"],
        ["train", "~/tiny.yaml", "--seeds=0", "--dry-run"],
        ["evaluate", "--ckpt=~/runs/a", "--metrics=latent", f"--checkpoint={checkpoint}"],
        ["sample", "--ckpt=~/runs/a", "--out=~/x", "--kind=prior", "--count=1"],
        ["compare", "~/runs", "--format=csv", "--out=~/report"],
    ):
        found = mmvae(*command, cwd=world.root)
        assert found.code == 0, f"{command}: {found.err}"
        if "--seeds=0" in command:
            assert f"--data-dir {home}/data " in found.out
    assert (home / "x" / "prior.png").is_file()
    assert (home / "report" / "comparison.csv").is_file()
    assert not (world.root / "~").exists()


def test_every_path_of_the_command_line_is_read_by_this_mechanism():
    """What is a Path, or says that it takes one, has the parser that expands and looks."""
    seen = 0
    for command in [*cli.app.registered_commands, *cli.make_dataset.registered_commands]:
        for name, kind in typing.get_type_hints(command.callback, include_extras=True).items():
            option = next(iter(getattr(kind, "__metadata__", ())), None)
            shown = getattr(option, "metavar", None) or ""
            if "Path" in str(typing.get_args(kind)[:1]) or any(word in shown for word in ("PATH", "FOLDER", "DIR")):
                assert option.parser is not None, f"{command.callback.__name__}: {name}"
                seen += 1
    assert seen > 20


@pytest.mark.parametrize("words", [
    ["train", "tiny.yaml", "--run", ""], ["train", "tiny.yaml", "--data-dir="], ["evaluate", "--ckpt", ""],
    ["evaluate", "--ckpt", "runs/a", "--out", ""], ["evaluate", "--ckpt", "runs/a", "--checkpoint", ""],
    ["sample", "--ckpt", "runs/a", "--out", ""], ["compare", ""], ["compare", "runs/a", "--out", ""],
    [*BUILD, "--out", ""], [*BUILD, "--backgrounds", ""], ["make-dataset", "celeba", "--source", ""],
    ["make-dataset", "table", ""],
])  # fmt: skip
def test_a_variable_that_is_not_set_is_not_the_current_folder(words, world):
    before = listing(world.root)
    found = mmvae(*words, cwd=world.root)
    assert (found.code, found.complaint) == (2, "error: a path is empty"), found.err
    assert listing(world.root) == before
    assert mmvae("train", "", cwd=world.root).complaint == "error: no recipe ''"


def test_a_home_that_nobody_knows_is_no_folder_called_tilde(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert str(paths.expanded("~/a/~b")) == "/home/me/a/~b"
    assert str(paths.expanded("~no-such-user/a")) == "~no-such-user/a"  # as the shell leaves it
    monkeypatch.setattr(os.path, "expanduser", lambda text: text)
    for text in ("~", "~/a"):
        with pytest.raises(UsageProblem, match="home folder"):
            paths.expanded(text)


def test_a_path_that_python_would_call_absent_is_looked_at_all_the_same(tmp_path, monkeypatch):
    """From Python 3.14 on, pathlib says of what it may not see that it is not there."""

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(paths.os, "stat", denied)
    with pytest.raises(Failure, match="x: Permission denied") as problem:
        paths.given(str(tmp_path / "x"))
    assert "permissions" in problem.value.hint


def test_a_tilde_of_a_slurm_directive_too(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    wanted = slurm.parse_directives(["output=~/logs/%j.out", "partition=gpu~1"])
    assert wanted == {"output": "/home/me/logs/%j.out", "partition": "gpu~1"}
