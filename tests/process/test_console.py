"""Streams that are closed, full or without a reader: the work goes on, and no file gets what was meant for them."""

import os
import shlex
import subprocess
import sys

import pytest

PLAN = shlex.join([sys.executable, "-m", "mmvae_cli", "train", "quickstart", "--seeds", "0", "--dry-run"])
"""A command that prints a result and needs no torch."""
FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")


def shell(line, cwd):
    return subprocess.run(line, shell=True, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_the_caller_closed_is_nobodys_file(closed, tmp_path):
    """A file opened where stdout was would be printed into."""
    code = "from mmvae_cli.process import console; console.open_closed_streams(); f = open('made', 'w'); " \
           "console.result('product'); console.say('message'); console.warn('warning'); f.write('data')"  # fmt: skip
    done = shell(f"{sys.executable} -c {shlex.quote(code)} {closed}", tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "made").read_text() == "data"
    assert done.stdout == ("product\n" if closed == "2>&-" else "")
    assert done.stderr == ("message\nwarning: warning\n" if closed == ">&-" else "")


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-", pytest.param("2>/dev/full", marks=FULL)])
def test_a_command_goes_on_without_them(closed, tmp_path):
    assert shell(f"{PLAN} {closed}", tmp_path).returncode == 0
    assert shell(f"{PLAN} nonesuch {closed}", tmp_path).returncode == 2


@FULL
def test_a_result_that_cannot_be_written_is_a_failure(tmp_path):
    done = shell(f"{PLAN} >/dev/full", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 2)
    assert "error: cannot write to standard output: No space left on device" in done.stderr


def test_a_reader_that_left_ends_the_command_in_silence(tmp_path):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        shlex.split(PLAN), cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")
