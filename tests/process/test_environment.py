"""Numbers in the environment: followed, or refused in one line before any work."""

import pytest
from typer.testing import CliRunner

from mmvae_cli.cli import app
from mmvae_cli.process import environment
from mmvae_cli.process.errors import UsageProblem


@pytest.mark.parametrize(("text", "seconds"), [("", 600), (" ", 600), ("0", 0), ("2.5", 2.5), ("1e3", 1000)])
def test_seconds(text, seconds, monkeypatch):
    monkeypatch.setenv("MMVAE_PATIENCE", text)
    assert environment.seconds("MMVAE_PATIENCE", 600) == seconds


@pytest.mark.parametrize("name", ["MMVAE_PATIENCE", "MMVAE_PROGRESS_SECONDS"])
@pytest.mark.parametrize("text", ["abc", "-1", "nan", "inf", "1e300", "10 s"])
@pytest.mark.parametrize("words", ["train quickstart --dry-run", "sample --ckpt nowhere", "compare nowhere"])
def test_what_is_no_number_of_seconds_is_refused_by_every_verb(name, text, words, monkeypatch):
    monkeypatch.setenv(name, text)
    problem = CliRunner().invoke(app, words.split()).exception
    assert isinstance(problem, UsageProblem)
    assert str(problem) == f"{name}={text!r} is no number of seconds"


@pytest.mark.parametrize(("text", "wanted"), [
    (None, False), ("", False), ("0", False), ("off", False), ("1", True), ("yes", True), ("abc", True),
])  # fmt: skip
def test_debug_is_whatever_is_not_off(text, wanted, monkeypatch):
    set_up(monkeypatch, MMVAE_DEBUG=text)
    assert environment.debug() == wanted
    assert CliRunner().invoke(app, ["train", "nowhere"]).exception.code == 2, "no refusal of the variable itself"


@pytest.mark.parametrize(("rank", "size", "found"), [
    (None, None, (0, 1)), (None, "1", (0, 1)), ("7", "1", (0, 1)), (None, "", (0, 1)), ("1", "2", (1, 2)),
])  # fmt: skip
def test_rank_and_size(rank, size, found, monkeypatch):
    set_up(monkeypatch, RANK=rank, WORLD_SIZE=size)
    assert environment.rank_and_size() == found


@pytest.mark.parametrize(("rank", "size"), [(None, "2"), ("0", "two"), ("x", "2"), ("2", "2"), ("-1", "2"), ("0", "0")])
@pytest.mark.parametrize("words", ["train quickstart", "train quickstart --seeds 0-1", "evaluate --ckpt nowhere"])
def test_a_job_of_several_that_is_none_is_refused(rank, size, words, monkeypatch):
    set_up(monkeypatch, RANK=rank, WORLD_SIZE=size)
    problem = CliRunner().invoke(app, words.split()).exception
    assert isinstance(problem, UsageProblem)
    assert "is no process of several" in str(problem)
    assert "torchrun" in problem.hint


def set_up(monkeypatch, **values):
    for name, value in values.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
