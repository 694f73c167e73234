"""Where a dataset may be built: beside what it replaces, or into an empty folder, which may be no one's to replace."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmvae_cli.datasets import building
from mmvae_cli.datasets.building import dataset_folder
from mmvae_cli.process.errors import DataProblem, Failure, UsageProblem
from mmvae_cli.process.processes import host_id

CONTENT = ["dataset.json", "preview.png", "test", "train"]


def fill(folder, mark="new"):
    for name in ("train", "test"):
        (folder / name).mkdir()
    (folder / "preview.png").write_text(mark)
    (folder / "dataset.json").write_text(mark)


def built(folder, *, force=False, mark="new"):
    with dataset_folder(Path(folder), force=force) as new:
        fill(new, mark)


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("out", [".", "../here", "../here/.", "../link"])
def test_an_empty_folder_is_filled_and_stays_the_one_it_was(out, force, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir(mode=0o770)
    (tmp_path / "link").symlink_to("here")
    monkeypatch.chdir(here)
    before = here.stat().st_ino, here.stat().st_mode
    built(out, force=force)
    assert names(here) == CONTENT
    assert (here.stat().st_ino, here.stat().st_mode) == before


def test_what_a_file_system_or_a_killed_process_leaves_is_nothing(tmp_path):
    for name in ("lost+found", f".new.tmp-{host_id()}-99999999"):
        (tmp_path / "d" / name / "train").mkdir(parents=True)
    built(tmp_path / "d")
    assert names(tmp_path / "d") == sorted([*CONTENT, "lost+found"])


def test_two_that_fill_one_folder(tmp_path):
    """The second sees that somebody is at work; had it not, it would leave alone what the first has finished."""
    (tmp_path / "d").mkdir()

    def meanwhile(folder):
        with pytest.raises(UsageProblem, match="exists and is no dataset"):
            built(tmp_path / "d", force=True)
        fill(folder)
        (tmp_path / "d" / "dataset.json").write_text("the other's")

    with pytest.raises(UsageProblem, match="d exists"), dataset_folder(tmp_path / "d", force=False) as new:
        meanwhile(new)
    assert names(tmp_path / "d") == ["dataset.json"]
    assert (tmp_path / "d" / "dataset.json").read_text() == "the other's"


def test_what_goes_wrong_on_the_way_up_leaves_an_empty_folder(tmp_path, monkeypatch):
    (tmp_path / "d").mkdir()
    rename, done = os.rename, []

    def failing(source, target):
        if str(target) == str(tmp_path / "d" / "test") and not done.append(1) and len(done) == 1:
            raise OSError(errno.EIO, "Input/output error", str(source))
        rename(source, target)

    monkeypatch.setattr(building.os, "rename", failing)
    with pytest.raises(Failure, match=r"cannot write .*d: Input/output error"):
        built(tmp_path / "d")
    assert names(tmp_path / "d") == []


@pytest.mark.parametrize("out", [".", "..", "../d", "../../d"])
def test_the_folder_that_one_is_in_is_not_taken_away(out, tmp_path, monkeypatch):
    built(tmp_path / "d")
    monkeypatch.chdir(tmp_path / "d" / ("train" if out in ("..", "../../d") else ""))
    with pytest.raises(UsageProblem, match="is the folder that you are in"):
        built(out, force=True)
    with pytest.raises(UsageProblem, match="exists"):
        built(out)
    assert names(tmp_path / "d") == CONTENT


@pytest.mark.parametrize("name", ["notes.txt", "raw/0.png", "train/write.py"])
def test_force_removes_nothing_that_is_not_the_datasets(name, tmp_path):
    built(tmp_path / "d")
    for ours in ("train/m0.npy", "classifiers/m0.safetensors", "png/PolyMNIST/train/m0/0.1.png", ".DS_Store"):
        (tmp_path / "d" / ours).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / ours).touch()
    mine = tmp_path / "d" / name
    mine.parent.mkdir(exist_ok=True)
    mine.touch()
    with pytest.raises(UsageProblem, match="not the dataset's: --force would remove it") as problem:
        built(tmp_path / "d", force=True)
    assert str(problem.value).startswith(f"{mine} is in the dataset's folder")
    mine.unlink()
    built(tmp_path / "d", force=True, mark="newer")
    assert names(tmp_path / "d") == CONTENT


def test_a_link_is_left_alone_and_its_target_named(tmp_path):
    built(tmp_path / "d")
    (tmp_path / "link").symlink_to("d")
    with pytest.raises(UsageProblem, match="link is a link") as problem:
        built(tmp_path / "link", force=True)
    assert problem.value.hint == f"give --out {tmp_path / 'd'}"


def test_names_as_long_as_a_folder_may_have_them(tmp_path):
    name = "n" * 255
    built(tmp_path / name)
    (tmp_path / name).rename(tmp_path / f".{'n' * 100}-{building.short_name(name, 100)[-8:]}.old-{host_id()}-99999999")
    built(tmp_path / "other")
    with pytest.raises(UsageProblem, match="exists"):
        built(tmp_path / name)  # what a killed process had put aside is back
    built(tmp_path / name, force=True, mark="newer")
    assert (tmp_path / name / "dataset.json").read_text() == "newer"
    assert names(tmp_path) == [name, "other"]


def test_a_relative_source_that_cannot_be_read_is_not_called_unwritable(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataProblem, match=r"source/x.png cannot be read \(Permission denied\)"), \
         dataset_folder(Path("out"), force=False):  # fmt: skip
        raise PermissionError(errno.EACCES, "Permission denied", "source/x.png")


MOUNTED = """
import subprocess, sys
from pathlib import Path
from test_building import built, names, CONTENT
from mmvae_cli.process.errors import UsageProblem
mount = Path(sys.argv[1])
subprocess.run(["mount", *sys.argv[2:], mount], check=True)
built(mount, force=True)
assert names(mount) == CONTENT
for force in (True, False):
    try:
        built(mount, force=force)
    except UsageProblem as problem:
        print(problem)
"""


@pytest.mark.parametrize("what", [["-t", "tmpfs", "none"], ["--bind", "of the same disk"]], ids=["disk", "folder"])
def test_a_mount_point_is_filled_and_never_replaced(what, tmp_path):
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting takes root")
    host_id = tmp_path / "d \\ é"
    host_id.mkdir()
    (tmp_path / "of the same disk").mkdir()
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", MOUNTED, str(host_id), *what], capture_output=True, text=True,
        timeout=60, check=False, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{host_id} is a mount point and not empty\n{host_id} exists\n"
    assert names(host_id) == []
