"""The first command of the README, where people keep their clones."""

import shutil
import subprocess
from pathlib import Path

import pytest

from mmvae_cli import recipe as recipes

MAKEFILE = Path(__file__).parent.parent / "Makefile"


pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="this machine has no make")


def made(target, place):
    """What the command is asked for by a target, in a clone below a folder with spaces, as lists of words."""
    clone = place / "My Projects (new)" / "it's mmvae"
    (clone / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(MAKEFILE, clone)
    (clone / "pyproject.toml").touch()
    program = clone / ".venv" / "bin" / "mmvae"
    program.write_text('#!/bin/sh\necho "$*" >>"$(dirname "$0")/ran"\n')
    program.chmod(0o755)
    (clone / ".venv" / "installed").touch()  # newer than pyproject.toml: nothing to install
    done = subprocess.run(["make", target], cwd=clone, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [line.split() for line in (clone / ".venv" / "bin" / "ran").read_text().splitlines()]


def test_make_demo_runs_below_a_folder_with_spaces(tmp_path):
    verbs = [words[0] for words in made("demo", tmp_path)]
    assert verbs == ["make-dataset", *["train", "evaluate", "sample"] * 3, "compare", "compare"]


def test_make_methods_trains_every_method_of_the_table(tmp_path):
    ran = made("methods", tmp_path)
    assert [words[0] for words in ran] == ["make-dataset", *["train"] * 3, "compare", "compare"]
    trained = []
    for words in ran[1:4]:
        grid = words.index("--grid") + 1
        name, fixed = words[1], [word for word in words[2:grid] if "=" in word]
        for method in words[grid].removeprefix("model.method=").split(","):
            trained.append(recipes.load(name, [*fixed, f"model.method={method}"]).model.method)
    assert sorted(trained) == sorted(set(recipes.METHODS) - {"custom"})
