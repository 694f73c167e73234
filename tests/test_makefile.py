"""The first command of the README, where people keep their clones."""

import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parent.parent / "Makefile"


@pytest.mark.skipif(not shutil.which("make"), reason="this machine has no make")
def test_make_demo_runs_below_a_folder_with_spaces(tmp_path):
    clone = tmp_path / "My Projects (new)" / "it's mmvae"
    (clone / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(MAKEFILE, clone)
    (clone / "pyproject.toml").touch()
    program = clone / ".venv" / "bin" / "mmvae"
    program.write_text('#!/bin/sh\necho "ran $*"\n')
    program.chmod(0o755)
    (clone / ".venv" / "installed").touch()  # newer than pyproject.toml: nothing to install
    done = subprocess.run(["make", "demo"], cwd=clone, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    verbs = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("ran ")]
    assert verbs == ["make-dataset", *["train", "evaluate", "sample"] * 3, "compare", "compare"]
