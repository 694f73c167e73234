"""The real command: streams, exit codes, and what is left after it was killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from driving import completed

from mmvae_cli.store import Store

COMMAND = [sys.executable, "-m", "mmvae_cli", "make-dataset", "polymnist"]


def mmvae(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return completed("make-dataset", "polymnist", *arguments, cwd=cwd)


def test_the_last_line_is_the_path_and_messages_go_elsewhere(tmp_path):
    done = mmvae("--digits", "embedded", "--limit", "50", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "data/polymnist\n"
    assert "50 train, 50 test items of 5 modalities" in done.stderr
    assert "embedded digits of scikit-learn, not MNIST" in done.stderr


def test_json_is_one_document_and_quiet_is_quiet(tmp_path):
    done = mmvae("--digits", "embedded", "--limit", "50", "--views", "2", "--json", "--quiet", cwd=tmp_path)
    facts = json.loads(done.stdout)
    assert done.stderr == ""
    assert facts["counts"] == {"train": 50, "test": 50}
    assert facts["path"] == "data/polymnist"
    assert facts["fingerprint"] == Store(tmp_path / "data" / "polymnist").fingerprint
    assert 0 < facts["seconds"] < 60


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("--views 0", 2, "--views"),
        ("--limit -1", 2, "--limit"),
        ("--repeat 1001", 2, "--repeat"),
        ("--format jpg", 2, "--format"),
        ("--from x --seed 3", 2, "--seed has no effect with --from"),
        ("--from x --repeat 1", 2, "--repeat has no effect with --from"),
        ("--from x", 3, "--from x: no such file"),
        ("--digits x", 3, "--digits x: no such folder"),
        ("--digits embedded --backgrounds x", 3, "--backgrounds x: no such folder"),
        ("--digits embedded --out /proc/mmvae", 1, "cannot write /proc/mmvae"),
        ("--digits embedded --out file/x", 1, "cannot write file/x"),
    ],
)
def test_mistakes_are_one_line_with_the_documented_code(tmp_path, arguments, code, message):
    (tmp_path / "file").write_text("")
    done = mmvae(*arguments.split(), cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sum(line.lower().startswith("error:") for line in done.stderr.splitlines()) == 1


def test_neither_help_nor_building_imports_torch(tmp_path):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from mmvae_cli import cli\n"
        "from mmvae_cli.datasets.polymnist import build as polymnist\n"
        "polymnist.build(polymnist.PolymnistOptions(digits='embedded', limit=10), Path('p'), Path('.'))\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=60).returncode == 0


def test_sigterm_ends_with_75_and_leaves_nothing(tmp_path):
    process = subprocess.Popen(
        [*COMMAND, "--digits", "embedded", "--repeat", "100"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    wait_for_a_build(tmp_path / "data", process)
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "stopped by SIGTERM: nothing was written" in messages
    assert not any((tmp_path / "data").iterdir())


def wait_for_a_build(folder: Path, process: subprocess.Popen) -> None:
    while not list(folder.glob(".polymnist.tmp-*/train/m0.npy")):
        assert process.poll() is None, "ended before it could be stopped"
        time.sleep(0.005)


@pytest.mark.slow
def test_killed_at_random_moments_nothing_that_looks_finished_is_not(tmp_path):
    """SIGKILL at 8 moments, half of them while an older dataset is replaced: the folder is absent, the old or the new
    one, each complete; and the next build sweeps up."""
    target, moments = tmp_path / "data" / "polymnist", random.Random(0)
    first = mmvae("--digits", "embedded", "--limit", "30", "--out", "old", cwd=tmp_path)
    assert first.returncode == 0
    old = Store(tmp_path / "old").fingerprint
    arguments = ["--digits", "embedded", "--repeat", "20", "--force", "--quiet"]
    started = time.monotonic()
    whole = mmvae(*arguments, cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    new, duration = Store(target).fingerprint, time.monotonic() - started
    for number in range(8):
        for leftover in (target, *target.parent.glob(".polymnist.old-*")):
            subprocess.run(["rm", "-rf", str(leftover)], check=True)
        if number % 2:
            subprocess.run(["cp", "-r", str(tmp_path / "old"), str(target)], check=True)
        process = subprocess.Popen([*COMMAND, *arguments], cwd=tmp_path, stdout=subprocess.DEVNULL)
        time.sleep(duration * moments.uniform(0.1, 1.05))
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
        if target.exists():
            store = Store(target)
            assert store.fingerprint in ({old, new} if number % 2 else {new})
            assert len(store.array("train", "m4")) == len(store.labels("train"))
    assert mmvae(*arguments, cwd=tmp_path).returncode == 0
    assert Store(target).fingerprint == new
    assert [p.name for p in target.parent.iterdir()] == ["polymnist"]
