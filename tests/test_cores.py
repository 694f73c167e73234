"""Threads: a container's quota is kept to, short waits are the default, and what the user says stays."""

import os

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
