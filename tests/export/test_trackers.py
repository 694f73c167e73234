"""Runs in trackers: read back by their own readers, the same after exporting again, and while a run is trained."""

import errno
import json
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mmvae_cli.export import command, tracked
from mmvae_cli.export.command import ExportRequest
from mmvae_cli.process.errors import DataProblem, Failure, UsageProblem
from mmvae_cli.run.layout import Run

from made_runs import MST, make_run, recipe

STEPS = (5, 10, 15)


def record(step: int) -> dict:
    return {"step": step, "epoch": 1, "loss": 100.0 - step, "kl.mnist+svhn": step / 4, "seconds": step * 2.0}


@pytest.fixture
def run(tmp_path) -> Run:
    folder = make_run(tmp_path / "runs", recipe("polymnist", MST), "polymnist", figures=True, folder="mine")
    Run(folder).log([record(step) for step in STEPS])
    return Run(folder)


def export(run: Run, to: str, out: Path | None, **more) -> str:
    return command.run([run.folder], ExportRequest(to, out, **more), data_dir=None)


# TensorBoard ---------------------------------------------------------------------------------------------------------


def events(folder: Path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the package tensorboard is not installed"
    )
    found = accumulator.EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    return found.Reload()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboards_own_reader_finds_curves_scores_and_figures_once(run):
    for _ in range(2):
        assert export(run, "tensorboard", None) == str(run.folder / "tensorboard")
    found = events(run.folder / "tensorboard")
    curve = found.Scalars("kl/mnist+svhn")
    assert [(e.step, e.value, e.wall_time) for e in curve] == [(s, s / 4, s * 2.0) for s in STEPS]
    (score,) = found.Scalars("evaluation/default/coherence/joint")
    known = json.loads(run.evaluation_path().read_text())
    assert score.value == pytest.approx(known["coherence"]["joint"])
    assert score.step == 15
    assert found.Images("figures/prior")[0].width == 120
    assert len(list((run.folder / "tensorboard").iterdir())) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_in_progress_is_followed_to_its_end(run, monkeypatch):
    monkeypatch.setattr(tracked, "POLL", 0.05)
    run.set_status("running", epoch=1, step=15)

    def train() -> None:
        time.sleep(0.3)
        run.log([record(20)])
        time.sleep(0.3)
        run.log([record(25)])
        run.set_status("finished", epoch=2, step=25)

    training = threading.Thread(target=train)
    training.start()
    export(run, "tensorboard", None, follow=True)
    training.join()
    assert [event.step for event in events(run.folder / "tensorboard").Scalars("loss")] == [*STEPS, 20, 25]


@pytest.mark.parametrize("state", ["running", None])
def test_a_run_that_nobody_trains_is_not_followed_for_ever(run, monkeypatch, capsys, state):
    """It was killed while it called itself running, or has not begun."""
    pytest.importorskip("tensorboard", reason="the package tensorboard is not installed")
    monkeypatch.setattr(tracked, "POLL", 0.02)
    monkeypatch.setattr(tracked, "PATIENCE", 0.1)
    run.status_path.unlink(missing_ok=True)
    if state:
        run.set_status(state, epoch=1, step=15)
    export(run, "tensorboard", None, follow=True)
    assert "mine: no sign of a process that trains it" in capsys.readouterr().err


def test_a_touched_lock_is_a_sign_of_life(run, monkeypatch):
    monkeypatch.setattr(tracked, "PATIENCE", 0.1)
    signs, source = tracked.Signs(), tracked.Source(run)
    for beat in range(3):
        monkeypatch.setattr(tracked.lock, "touched", lambda folder, beat=beat: float(beat))
        assert not signs.ended(source, 0, "running")
        time.sleep(0.15)
    assert signs.ended(source, 0, "running")


def test_a_damaged_figure_is_told(run):
    pytest.importorskip("tensorboard", reason="the package tensorboard is not installed")
    (run.figures / "broken.png").write_text("no picture")
    with pytest.raises(DataProblem, match=r"broken.png is no picture"):
        export(run, "tensorboard", None)


def test_a_name_that_is_not_utf8_is_written_so_that_others_can_read_it(tmp_path):
    source = tracked.Source(Run(make_run(tmp_path, recipe("polymnist", MST), "polymnist", folder="r\udce9s")))
    assert source.name == r"r\xe9s"
    assert source.identity


def test_what_a_resumed_run_writes_again_is_not_added_twice(run):
    added = []

    class Tracker:
        last = 0

        def add(self, records):
            added.extend(known["step"] for known in records)

        def finish(self, source):
            added.append("end")

    source = tracked.Source(run)
    tracker = Tracker()
    place = tracked.add_records(source, tracker, 0)
    run.forget_after(5)
    run.log([record(step) for step in (10, 15, 20)])
    tracked.add_records(source, tracker, place)
    assert added == [*STEPS, 20]


# W&B -----------------------------------------------------------------------------------------------------------------


def leveldb_log(content: bytes):
    """The entries of a log of LevelDB: blocks of 32 KiB; parts of an entry, each behind checksum, length and type."""
    at, whole = 0, b""
    while at + 7 <= len(content):
        left = 32768 - (at + 7) % 32768  # W&B's mark is a part of the first block
        if left < 7:
            at += left
            continue
        size, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        whole += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a full entry, or the last part of one
            yield whole
            whole = b""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandbs_own_reader_finds_the_offline_run_once(run, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="the package wandb is not installed")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.delenv("WANDB_MODE", raising=False)
    words = ["export", str(run.folder), "--to", "wandb", "--out", str(tmp_path)]
    for _ in range(2):  # W&B writes the last of it when the process ends
        subprocess.run([sys.executable, "-m", "mmvae_cli", *words], check=True, timeout=120)
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    (file,) = folder.glob("*.wandb")
    history, found = [], None
    for data in leveldb_log(file.read_bytes()[7:]):  # behind W&B's own mark
        entry = wandb_internal_pb2.Record()
        entry.ParseFromString(data)
        if entry.HasField("history"):
            items = {item.key or "/".join(item.nested_key): item.value_json for item in entry.history.item}
            history.append((int(items["_step"]), items))
        elif entry.HasField("run"):
            found = entry.run
    assert [(step, float(items["loss"])) for step, items in history if "loss" in items] == [
        (step, 100.0 - step) for step in STEPS
    ]
    assert found.run_id == tracked.Source(run).identity
    assert folder.name.endswith(found.run_id)


# MLflow --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflows_own_client_finds_the_run_in_sqlite_once(run, tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="the package mlflow is not installed")
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    export(run, "mlflow", tmp_path)
    run.log([record(20)])
    export(run, "mlflow", tmp_path)
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'mmvae'")
    (found,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(found.info.run_id, "kl.mnist:svhn")
    assert sorted((known.step, known.value) for known in history) == [(s, s / 4) for s in (*STEPS, 20)]
    assert found.data.params["objective.beta"] == "2.5"
    known = json.loads(run.evaluation_path().read_text())
    assert found.data.metrics["evaluation.default.coherence.joint"] == known["coherence"]["joint"]
    assert found.info.status == "FINISHED"
    assert {file.path for file in client.list_artifacts(found.info.run_id)} == {"recipe.yaml", "prior.png"}


# what is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "module"), [("tensorboard", "tensorboard"), ("wandb", "wandb"), ("mlflow", "mlflow.entities")]
)
def test_without_the_package_the_pip_line_is_told(run, monkeypatch, tmp_path, to, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageProblem, match=f"--to {to} needs the package {to}") as caught:
        export(run, to, tmp_path / "out")
    assert caught.value.hint == f"pip install 'mmvae-cli[{to}]'"


def test_tensorboard_says_where_it_cannot_write(run, tmp_path):
    pytest.importorskip("tensorboard", reason="the package tensorboard is not installed")
    with pytest.raises(UsageProblem, match=r"tensorboard cannot take .* not UTF-8"):
        export(run, "tensorboard", tmp_path / "r\udce9s")


def test_a_full_disk_is_one_line_and_leaves_no_half_of_an_event_file(run, tmp_path, monkeypatch, capfd):
    pytest.importorskip("tensorboard", reason="the package tensorboard is not installed")
    from tensorboard.summary.writer.record_writer import RecordWriter

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RecordWriter, "write", full)
    with pytest.raises(Failure, match=r"cannot write .*tb.*: No space left on device"):
        export(run, "tensorboard", tmp_path / "tb")
    assert not [*(tmp_path / "tb").rglob("events*")]
    assert "Traceback" not in capfd.readouterr().err


def test_follow_is_for_trackers_alone(run):
    with pytest.raises(UsageProblem, match="--follow has no effect with --to csv"):
        export(run, "csv", None, follow=True)


def test_two_runs_of_one_recipe_are_two_in_a_tracker(tmp_path):
    made = recipe("polymnist", MST)
    one, other = (tracked.Source(Run(make_run(tmp_path, made, "polymnist", folder=name))) for name in "ab")
    assert one.identity != other.identity
    assert one.identity == tracked.Source(Run(one.run.folder)).identity
