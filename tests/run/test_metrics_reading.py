"""metrics.jsonl can be read at any moment while a run writes it."""

import json
import multiprocessing
from pathlib import Path

import pytest

from mmvae_cli.process.errors import DataProblem
from mmvae_cli.run import metrics
from mmvae_cli.run.layout import Run

COUNT = 300


def record(step: int) -> dict:
    return {"step": step, "text": "x" * 3000, **{f"term {i}": i + step / 7 for i in range(200)}}


def write(folder: Path) -> None:
    for step in range(1, COUNT + 1):
        Run(folder).log([record(step)])


def test_a_reader_beside_a_writer_sees_whole_records_in_order(tmp_path):
    writer = multiprocessing.get_context("spawn").Process(target=write, args=(tmp_path,))
    writer.start()
    start, found, readings = 0, [], 0
    while len(found) < COUNT:
        raw = (tmp_path / "metrics.jsonl").read_bytes() if (tmp_path / "metrics.jsonl").exists() else b""
        whole = raw[
            : raw.rfind(b"\n") + 1
        ]  # the record that is being written may end anywhere: the reader waits for it
        assert all(json.loads(line)["step"] for line in whole.splitlines())
        part = metrics.read(tmp_path / "metrics.jsonl", start)
        found, start, readings = found + part.records, part.end, readings + 1
        assert writer.is_alive() or len(part.records) or len(found) == COUNT
    writer.join()
    assert found == [record(step) for step in range(1, COUNT + 1)]
    assert readings > 1


def test_half_a_line_waits_and_a_damaged_one_is_passed_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert metrics.read(path) == ([], 0)
    strange = b'noise\n[1]\n{"step": "x"}\n{"step": -1}\n{"step": 1e9}\n{"step": 99999999999999999999}\n'
    path.write_bytes(b'{"step": 1, "loss": 2}\n' + strange + b'{"step": 2, "lo')
    part = metrics.read(path)
    assert part.records == [{"step": 1, "loss": 2}]
    with open(path, "ab") as file:
        file.write(b'ss": 3}\n')
    assert metrics.read(path, part.end).records == [{"step": 2, "loss": 3}]


def test_a_file_that_a_resumed_run_wrote_anew_is_read_from_its_beginning(tmp_path):
    run = Run(tmp_path)
    run.log([record(step) for step in (1, 2, 3)])
    end = metrics.read(run.metrics_path).end
    run.forget_after(1)
    assert [known["step"] for known in metrics.read(run.metrics_path, end).records] == [1]


def test_numbers_are_what_can_be_drawn():
    assert metrics.numbers({"step": 3, "loss": 1, "note": "x", "odd": True, "none": None}) == {"loss": 1.0}
    assert metrics.numbers({"step": 3, "loss": float("inf"), "seconds": 10**400}) == {}


def test_a_number_that_no_float_can_hold_makes_a_damaged_line_and_a_damaged_file(tmp_path):
    run, huge = Run(tmp_path), "1" * 400
    assert metrics.record_of(b'{"step": 3, "loss": 1.5}')
    assert metrics.record_of(f'{{"step": 3, "loss": {huge}}}'.encode()) is None
    run.status_path.write_text(f'{{"state": "stopped", "total_steps": {huge}}}')
    with pytest.raises(DataProblem, match=r"status.json is not valid JSON .1111.* is too large a number"):
        run.status()
