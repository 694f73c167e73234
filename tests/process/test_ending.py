"""How a command ends where it cannot even begin."""

import os
import subprocess
import sys


def test_a_folder_that_is_not_there_any_more_is_one_line(tmp_path):
    """torch would end the process in words of its own, with an exit code of ours that means something else."""
    script = 'cd "$1" && rmdir "$1" && exec "$2" -m mmvae_cli train quickstart --estimate'
    done = subprocess.run(["bash", "-c", script, "bash", str(tmp_path / "gone"), sys.executable],
                          capture_output=True, text=True, check=False, cwd=_made(tmp_path / "gone"))  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["error: the current folder is not there any more", "  hint: cd to one that is"]


def _made(path):
    path.mkdir()
    return os.fspath(path)
