"""Threads: a container's quota is kept to, short waits are the default, and what the user says stays."""

import os
import subprocess
import sys

import pytest

from mmvae_cli.process import cores


@pytest.fixture
def groups(tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "CGROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    return tmp_path


@pytest.mark.parametrize(("text", "threads"), [
    ("200000 100000", "2"), ("50000 100000", "1"), ("350000 100000", "3"), ("max 100000", None), ("", None),
    ("6400000 100000", None),
])  # fmt: skip
def test_the_quota_of_a_container_limits_the_threads(text, threads, groups):
    (groups / "cpu.max").write_text(text)
    environment = {}
    cores.limit(environment)
    assert environment.get("OMP_NUM_THREADS") == threads
    assert environment["GOMP_SPINCOUNT"] == cores.SPIN


@pytest.mark.parametrize(("quota", "threads"), [("400000", "4"), ("-1", None)])
def test_the_older_control_groups_too(quota, threads, groups):
    (groups / "cpu").mkdir()
    (groups / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (groups / "cpu" / "cpu.cfs_period_us").write_text("100000")
    environment = {}
    cores.limit(environment)
    assert environment.get("OMP_NUM_THREADS") == threads


def test_what_the_user_says_stays(groups):
    (groups / "cpu.max").write_text("200000 100000")
    environment = {"OMP_NUM_THREADS": "8", "OMP_WAIT_POLICY": "active"}
    cores.limit(environment)
    assert environment == {"OMP_NUM_THREADS": "8", "OMP_WAIT_POLICY": "active"}


STAT = """cpu  999 0 0 {total} 0 0 0 0 0 0
cpu0 50 0 0 {first} 3 0 0 0 0 0
cpu1 50 0 0 {second} 0 0 0 0 0 0
cpu2 50 0 0 {third} 0 0 0 0 0 0
intr 5 cpu4
"""


class Machine:
    """Three cores, of which this process may use two; what they and it have done, in hundredths of a second."""

    def __init__(self, path, monkeypatch):
        self.path, self.idle, self.own, self.now = path, [0, 0, 0], 0.0, 100.0
        monkeypatch.setattr(cores, "STAT", path)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2})
        monkeypatch.setattr(os, "sysconf", lambda name: 100)
        monkeypatch.setattr(cores.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(cores.time, "process_time", lambda: self.own)
        for name in ("_told", "_began"):
            monkeypatch.setattr(cores, name, getattr(cores, name))
        self.goes_on(0)

    def goes_on(self, seconds, idle=(0, 0, 0), own=0.0):
        self.now, self.own = self.now + seconds, self.own + own
        self.idle = [before + round(100 * more) for before, more in zip(self.idle, idle, strict=True)]
        first, second, third = self.idle
        self.path.write_text(STAT.format(total=sum(self.idle), first=first, second=second, third=third))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return Machine(tmp_path / "stat", monkeypatch)


@pytest.mark.parametrize(("idle", "own", "free", "threads"), [
    ((2, 0, 1), 1.0, 2.0, 2),  # ours alone; cores that we may not use do not count
    ((2, 2, 0), 1.0, 1.5, 1),  # another process has half of one core
    ((2, 0, 0.5), 1.0, 1.75, 2),  # next to nothing
    ((0, 2, 0), 0.5, 0.25, 1),  # beside many others
])  # fmt: skip
def test_cores_are_free_that_nobody_else_has_used_since_the_start(idle, own, free, threads, machine):
    environment = {}
    cores.limit(environment)
    assert cores.free() is None, "too early to say"
    assert cores.fitting(2) == 2
    machine.goes_on(2, idle, own)
    assert cores.free() == pytest.approx(free)
    assert cores.fitting(2) == threads
    assert cores.fitting(1) == 1
    assert not cores.told()


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_the_user_may_say_how_many_threads_there_are(name, machine):
    cores.limit({name: "4"})
    assert cores.told()


def test_a_system_that_does_not_say_what_its_cores_do(machine, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    cores.limit({"OMP_NUM_THREADS": "2"})
    assert (cores.free(), cores.fitting(8)) == (None, 8)


class FakeLibrary:
    def __init__(self):
        self.told = {}

    def mallopt(self, option, value):
        self.told[option] = value
        return 1


@pytest.mark.parametrize(("environment", "tuned"), [
    ({}, True), ({"PATH": "/bin"}, True), ({"MALLOC_ARENA_MAX": "2"}, False), ({"GLIBC_TUNABLES": "x=1"}, False),
])  # fmt: skip
def test_freed_memory_is_kept_unless_the_user_has_tuned_it(environment, tuned, monkeypatch):
    library = FakeLibrary()
    monkeypatch.setattr(cores.ctypes, "CDLL", lambda name: library)
    cores.keep_memory(environment)
    assert library.told == ({-1: 1 << 30, -3: 32 << 20} if tuned else {})


def test_the_c_library_of_this_machine_takes_the_values():
    """mallopt answers 0 to a value that it does not accept."""
    libc = cores.ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        pytest.skip("this C library has no mallopt")
    assert libc.mallopt(cores._M_MMAP_THRESHOLD, cores._LARGEST_KEPT) == 1
    assert libc.mallopt(cores._M_TRIM_THRESHOLD, cores._KEPT) == 1


def test_a_python_that_does_not_tell_its_cores_counts_those_of_the_machine(monkeypatch):
    """macOS has no sched_getaffinity."""
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert cores.usable() == 12
    cores.limit({})


def test_a_notebook_waits_and_counts_cores_as_the_commands_do(tmp_path):
    """Set before torch is loaded, and once: what a cell says later stays."""
    code = (
        "import contextlib, os, mmvae_cli\n"
        "from mmvae_cli.process.errors import Failure\n"
        "for _ in range(2):\n"
        "    with contextlib.suppress(Failure):\n"
        "        mmvae_cli.open_run('nowhere')\n"
        "    print(os.environ.pop('GOMP_SPINCOUNT', 'untouched'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True
    )
    assert done.stdout.split() == [cores.SPIN, "untouched"], done.stderr
