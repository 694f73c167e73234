"""The lock of a run folder: one holder at a time, on one host and across hosts that share a file system."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time

import pytest

from mmvae_cli.disk import files, lock
from mmvae_cli.process import processes, signals
from mmvae_cli.process.errors import Failure, Stopped, UsageProblem


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.1)
    monkeypatch.setattr(lock, "SILENCE", 0.6)


def written(folder, **changes):
    """A lock as another holder would have left it."""
    path = folder / "lock"
    path.write_text(json.dumps(lock._myself() | changes))
    return path


def test_held_and_released(tmp_path):
    with lock.hold(tmp_path) as held:
        content = json.loads((tmp_path / "lock").read_text())
        assert (content["host"], content["pid"]) == (socket.gethostname(), os.getpid())
        held.check()
    assert not list(tmp_path.iterdir())


def test_a_living_process_of_this_host_keeps_it(tmp_path):
    parent = os.getppid()
    written(tmp_path, pid=parent, started=processes.started(parent))
    with (
        pytest.raises(UsageProblem, match=f"in use by process {parent} on {socket.gethostname()}"),
        lock.hold(tmp_path),
    ):
        pass
    assert (tmp_path / "lock").exists()


def test_a_dead_process_of_this_host_does_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    written(tmp_path, pid=dead.pid, started=12345)
    with lock.hold(tmp_path):
        pass


@pytest.mark.skipif(processes.started(os.getpid()) is None, reason="this system does not tell when a process began")
def test_a_later_process_of_the_same_number_does_not(tmp_path):
    written(tmp_path, pid=os.getppid(), started=processes.started(os.getppid()) - 100)
    with lock.hold(tmp_path):
        pass


ELSEWHERE = {"host": "elsewhere", "place": "01234567", "pid": 77}


def test_a_silent_holder_on_another_host_counts_as_dead(tmp_path, capsys):
    written(tmp_path, **ELSEWHERE)
    began = time.monotonic()
    with lock.hold(tmp_path):
        assert 0.5 < time.monotonic() - began < 5
    assert "held by process 77 on elsewhere: watching" in capsys.readouterr().err


def test_a_holder_on_another_host_that_beats_keeps_it(tmp_path):
    path, stop = written(tmp_path, **ELSEWHERE), threading.Event()
    beating = threading.Thread(target=lock.Lock(path, path.read_bytes()).beat, args=(stop,))
    beating.start()
    try:
        with pytest.raises(UsageProblem, match="in use by process 77 on elsewhere"), lock.hold(tmp_path):
            pass
    finally:
        stop.set()
        beating.join()


@pytest.mark.parametrize("began", ["as it says", "unknown"])
def test_a_container_with_our_host_name_and_process_number_keeps_its_lock_while_it_beats(began, tmp_path):
    other = {"place": "01234567"} | ({} if began == "as it says" else {"started": None})
    path, stop = written(tmp_path, **other), threading.Event()
    beating = threading.Thread(target=lock.Lock(path, path.read_bytes()).beat, args=(stop,))
    beating.start()
    try:
        with pytest.raises(UsageProblem, match="in use by"), lock.hold(tmp_path):
            pass
    finally:
        stop.set()
        beating.join()
    with lock.hold(tmp_path):  # it fell silent
        pass


def test_a_living_process_whose_start_is_not_known_is_watched(tmp_path, monkeypatch):
    """As where /proc shows nobody else's processes: a number alone is neither alive nor dead."""
    written(tmp_path, pid=os.getppid(), started=12345)
    monkeypatch.setattr(processes, "started", lambda pid: None)
    began = time.monotonic()
    with lock.hold(tmp_path):
        assert time.monotonic() - began > 0.5


HOLD = """
import sys, time
from pathlib import Path
from mmvae_cli.disk import lock
lock.BEAT, lock.SILENCE = 0.1, 20.0
with lock.hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def container(*command):
    """The command as process 1 of a namespace of its own, under this host's name; None where that cannot be had."""
    unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no process namespace can be made here (that takes unshare, and root)")
    return subprocess.Popen([*unshare, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_containers_under_one_host_name_have_one_holder(tmp_path):
    first = container(sys.executable, "-c", HOLD, tmp_path, 60)
    try:
        assert first.stdout.readline() == "held\n"
        assert json.loads((tmp_path / "lock").read_text())["pid"] == 1
        second = container(sys.executable, "-c", HOLD, tmp_path, 0)
        _, said = second.communicate(timeout=30)
        assert second.returncode, said
        assert "is in use by process 1 on" in said
        assert first.poll() is None
        assert json.loads((tmp_path / "lock").read_text())["pid"] == 1
    finally:
        first.kill()
        first.communicate()


def leftover(folder, mark):
    made = folder / f".x.tmp-{mark}"
    made.mkdir()
    (made / "m0.npy").touch()
    return made


def test_what_a_process_left_is_abandoned_when_it_is_gone_or_when_nothing_changed_for_a_day(tmp_path, monkeypatch):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    assert files.is_abandoned(leftover(tmp_path, f"{processes.host_id()}-{dead.pid}"))
    assert not files.is_abandoned(leftover(tmp_path, f"{processes.host_id()}-{os.getppid()}"))
    foreign = [leftover(tmp_path, f"01234567-{dead.pid}"), leftover(tmp_path, f"{socket.gethostname()}-{os.getppid()}")]
    assert not any(map(files.is_abandoned, foreign)), "of another container, host or version: it may live"
    monkeypatch.setattr(files, "_FORGOTTEN", -1.0)
    assert all(map(files.is_abandoned, foreign))


@pytest.mark.skipif(not os.path.exists("/proc/self/ns/pid"), reason="this system has no process namespaces")
def test_a_place_is_told_by_host_start_and_namespace_and_is_nobody_elses_where_that_is_not_known(tmp_path, monkeypatch):
    known = processes._host()
    assert known == processes._host()
    assert os.readlink("/proc/self/ns/pid") in known
    (tmp_path / "self").mkdir()
    monkeypatch.setattr(processes, "PROC", tmp_path)
    assert len({processes._host(), processes._host(), known}) == 3


def test_the_earlier_start_of_the_same_slurm_job_is_gone(tmp_path, monkeypatch):
    """Requeued on another node after a SIGKILL: no waiting, as Slurm starts a job again only when nothing is left."""
    monkeypatch.setattr(lock, "SILENCE", 60.0)
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    written(tmp_path, host="node1", place="01234567", pid=77)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    began = time.monotonic()
    with lock.hold(tmp_path):
        assert time.monotonic() - began < 5


def test_a_holder_that_was_taken_over_writes_no_more_and_removes_nothing(tmp_path):
    with lock.hold(tmp_path) as held:
        written(tmp_path, **ELSEWHERE)
        with pytest.raises(Failure, match="taken over by process 77 on elsewhere"):
            held.check()
    assert (tmp_path / "lock").exists()


def test_a_signal_ends_the_watching(tmp_path, monkeypatch):
    written(tmp_path, **ELSEWHERE)
    monkeypatch.setattr(signals, "_received", "SIGTERM")
    with pytest.raises(Stopped), lock.hold(tmp_path):
        pass


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"host 12\n", b"\xff\xfe"])
def test_a_lock_that_says_nothing_is_watched_and_taken(tmp_path, content):
    (tmp_path / "lock").write_bytes(content)
    with lock.hold(tmp_path):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


def test_many_processes_one_holder(tmp_path):
    """Each adds to a file while it holds the lock, over a stale lock of a dead process: nobody is ever inside twice."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    written(tmp_path, pid=dead.pid, started=1)
    code = f"""
import time
from pathlib import Path
from mmvae_cli.disk import lock
from mmvae_cli.process.errors import UsageProblem
folder, done = Path({str(tmp_path)!r}), 0
while done < 5:
    try:
        with lock.hold(folder):
            inside = folder / "inside"
            inside.touch(exist_ok=False)
            time.sleep(0.005)
            inside.unlink()
            done += 1
    except UsageProblem:
        time.sleep(0.005)
"""
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
