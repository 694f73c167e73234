"""The programme for a GPU keeps whatever an item finds, however it ends; all of it is rehearsed on the CPU."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

GPU = Path(__file__).parent / "gpu"

WORK = """
import os, time

def found(context):
    context.note("number", 1)

def raises(context):
    context.note("number", 2)
    raise ValueError("broken in the middle")

def parts(context):
    context.tried("bad", lambda: 1 / 0)
    context.tried("good", lambda: 3)
    context.tried("late", lambda: 4, least=1e9)

def loses(context):
    context.tried("five", lambda: 5) if not context.has("five") else None
    if not context.has("lost"):
        def lost():
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        context.tried("lost", lost)
        return
    context.tried("six", lambda: 6)

def ends(context):
    context.note("number", 5)
    os._exit(9)

def hangs(context):
    context.note("number", 6)
    time.sleep(600)

def packaged(context):
    import a_package_of_the_test
    context.note("number", a_package_of_the_test.NUMBER)
"""
ITEMS = [
    ("1-found", "work.found", 60, 0), ("2-raises", "work.raises", 60, 0), ("3-parts", "work.parts", 60, 0),
    ("4-ends", "work.ends", 60, 0), ("5-hangs", "work.hangs", 3, 0), ("6-long", "work.found", 60, 10_000),
    ("7-data", "work.found", 60, 0, "celeba"), ("8-packaged", "work.packaged", 60, 0), ("9-loses", "work.loses", 60, 0),
]  # fmt: skip
MAIN = """
import runpy, sys
sys.path[:0] = [{gpu!r}, {here!r}]
import programme
from pathlib import Path
programme.ITEMS = tuple(programme.Item(*row) for row in {items!r})
programme.HERE = Path({here!r})
runpy.run_path({gpu!r} + "/__main__.py", run_name="__main__")
"""


@pytest.fixture
def call(tmp_path):
    """Runs the programme with items of the test's own; gives its folder."""
    stand_in = tmp_path / "stand-in"
    stand_in.mkdir()
    (stand_in / "work.py").write_text(WORK)
    (stand_in / "__main__.py").write_text(MAIN.format(gpu=str(GPU), here=str(stand_in), items=ITEMS))
    wheels = tmp_path / "beside" / "whl"
    wheels.mkdir(parents=True)
    with zipfile.ZipFile(wheels / "a_package_of_the_test-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("a_package_of_the_test.py", "NUMBER = 8\n")

    def run(*arguments, out="out"):
        places = ["--out", tmp_path / out, "--work", tmp_path / "work", "--beside", tmp_path / "beside"]
        command = [sys.executable, stand_in, *places, *arguments]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return tmp_path / out

    return run


def states(folder):
    return {path.stem: json.loads(path.read_text())["state"] for path in folder.glob("[0-9]*.json")}


def test_whatever_an_item_finds_is_kept_however_it_ends(call, tmp_path):
    out = call()
    assert states(out) == {
        "1-found": "done", "2-raises": "failed", "3-parts": "partly", "4-ends": "cut off", "5-hangs": "cut off",
        "6-long": "left out", "7-data": "left out", "8-packaged": "done", "9-loses": "done",
    }  # fmt: skip
    content = {path.stem: json.loads(path.read_text()) for path in out.glob("[0-9]*.json")}
    numbers = {"1-found": 1, "2-raises": 2, "4-ends": 5, "5-hangs": 6, "8-packaged": 8}
    assert {name: content[name]["found"]["number"] for name in numbers} == numbers
    assert "broken in the middle" in content["2-raises"]["found"]["failed"]
    parts = content["3-parts"]["found"]
    assert parts["bad"]["failed"] == "ZeroDivisionError: division by zero"
    assert parts["good"] == 3
    assert "s left" in parts["late"]["left out"]
    lost = content["9-loses"]["found"]
    assert (lost["five"], lost["six"]) == (5, 6), "a process that lost the GPU is followed by another one"
    assert "illegal memory access" in lost["lost"]["failed"]
    assert content["4-ends"]["exit code"] == 9
    assert content["7-data"]["why"] == str(tmp_path / "beside" / "data" / "celeba")
    assert all(content[name]["torch"] and content[name]["commit"] for name in ("1-found", "5-hangs"))
    with tarfile.open(out / "gpu.tar.gz") as packed:
        names = set(packed.getnames())
    assert {"summary.md", "data.json", *(f"{name}.json" for name in states(out))} <= names
    assert "| 5-hangs | cut off |" in (out / "summary.md").read_text()


def test_a_later_call_goes_on_from_the_archive_of_an_earlier_one(call, tmp_path):
    first = call("--only", "1-found", "2-raises")
    before = (first / "1-found.json").read_bytes()
    second = call("--resume", first / "gpu.tar.gz", "--archive", tmp_path / "all.tar.gz",
                  "--only", "1-found", "2-raises", "3-parts", out="second")  # fmt: skip
    assert (second / "1-found.json").read_bytes() == before, "what is done is not done again"
    assert states(second) == {"1-found": "done", "2-raises": "failed", "3-parts": "partly"}
    assert (tmp_path / "all.tar.gz").is_file()


@pytest.mark.slow
def test_every_item_runs_in_a_rehearsal(tmp_path):
    places = ["--out", tmp_path / "out", "--work", tmp_path / "work", "--beside", tmp_path / "nothing"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONSAFEPATH", None)
    done = subprocess.run(
        [sys.executable, GPU, *places, "--rehearse", "--budget", "3000"], capture_output=True, text=True, timeout=3100,
        env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(states(tmp_path / "out").values()) == {"done"}, done.stdout
    assert len(states(tmp_path / "out")) == 14
    for path in (tmp_path / "out").glob("[0-9]*.json"):
        for name, value in json.loads(path.read_text())["found"].items():
            bad = {"failed", "left out"} & set(value) if isinstance(value, dict) else set()
            assert not bad or name == "made: MultiVae", f"{path.stem}, {name}: {value}"
            assert not (isinstance(value, dict) and value.get("exit code")), f"{path.stem}, {name}: {value}"
            assert not (isinstance(value, dict) and value.get("not as asked")), f"{path.stem}, {name}: {value}"
    tested = json.loads((tmp_path / "out" / "02-tests.json").read_text())["found"]
    assert tested["counts"]["passed"] >= 25, tested["said"]
    assert tested["counts"]["failure"] == tested["counts"]["error"] == 0, tested["said"]
    comparison = (tmp_path / "out" / "comparison" / "comparison.md").read_text()
    assert all(method in comparison for method in ("MVAE", "MMVAE", "MoPoE-VAE"))
