"""A step that becomes many times slower is told once, and a run goes on with the threads that it began with."""

import pytest
import torch
from tiny_recipes import tiny

from mmvae_cli.process import cores
from mmvae_cli.run.layout import Run
from mmvae_cli.training import pace
from mmvae_cli.training.loop import Request, train
from mmvae_cli.training.pace import Pace

from stores import image_store

SHAPE = (3, 8, 8)
CPU = torch.device("cpu")


def lines_after(seconds, monkeypatch, capsys, *, device=CPU, threads=2):
    """What is said of steps that take so many seconds each."""
    clock = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    watched = Pace(device)
    for took in seconds:
        with watched:
            clock[0] += took
        clock[0] += 100.0  # a checkpoint, say: no part of a step
    return capsys.readouterr().err.splitlines()


USUAL, SLOW = [3.0, *[0.1] * 20], [1.0] * 30


def test_steps_that_stay_many_times_slower_are_told_once_with_the_cure(monkeypatch, capsys):
    (line,) = lines_after([*USUAL, *SLOW, *USUAL, *SLOW], monkeypatch, capsys)
    assert "a step takes 10 times as long as it did" in line
    assert "OMP_NUM_THREADS=1" in line


@pytest.mark.parametrize("seconds", [
    USUAL, [*USUAL, *[0.3] * 50], [*USUAL, *[1.0] * 3, *USUAL, *[1.0] * 6, *USUAL], SLOW,
])  # fmt: skip
def test_a_little_slower_or_for_a_moment_is_not_told(seconds, monkeypatch, capsys):
    assert lines_after(seconds, monkeypatch, capsys) == []


@pytest.mark.parametrize(("device", "threads"), [(CPU, 1), (torch.device("cuda", 0), 2)])
def test_one_thread_waits_for_no_other_and_a_gpus_steps_are_not_measured(device, threads, monkeypatch, capsys):
    assert lines_after([*USUAL, *SLOW], monkeypatch, capsys, device=device, threads=threads) == []


def test_a_run_begun_beside_other_work_keeps_its_threads_when_it_goes_on(tmp_path, monkeypatch, capsys):
    image_store(tmp_path / "tiny", shape=SHAPE)
    recipe, before = tiny(3, shape=SHAPE), torch.get_num_threads()
    monkeypatch.setattr(cores, "told", lambda: False)
    try:
        for epochs, free in ((recipe.training.epochs, 0.4), (recipe.training.epochs + 1, 2.0)):
            torch.set_num_threads(2)
            monkeypatch.setattr(cores, "free", lambda free=free: free)
            run = Run(train(recipe.with_epochs(epochs), Request(tmp_path / "run", tmp_path / "tiny")))
            assert run.environment()["threads"] == torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    first, second = [line for line in capsys.readouterr().err.splitlines() if "of 2 threads" in line]
    assert "as other work leaves 0.4 cores free" in first
    assert "as this run has trained" in second
    assert run.environment()["earlier"][0]["threads"] == 1
