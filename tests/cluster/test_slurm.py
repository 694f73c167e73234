"""A study as a job array on a real Slurm: preempted, requeued, finished, with the weights of an undisturbed run.

``make test-slurm``; needs Debian's slurm-wlm and munge. ``MMVAE_TRANSCRIPT=FILE`` keeps what was run and said.
"""

import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_recipes import tiny

from mmvae_cli import recipe as recipes
from mmvae_cli.run import checkpoint
from mmvae_cli.run.layout import Run

from comparisons import assert_same
from real_slurm import RealSlurm, missing
from stores import image_store

pytestmark = pytest.mark.slurm
SHAPE, EPOCHS = (3, 8, 8), 10
MMVAE = [sys.executable, "-m", "mmvae_cli"]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    if lacking := missing():
        pytest.skip(f"no Slurm here: {', '.join(lacking)} missing (apt-get install slurm-wlm munge)")
    found = RealSlurm(tmp_path_factory.mktemp("slurm"), cpus=16)
    found.environment["PATH"] = f"{Path(sys.executable).parent}:{found.environment['PATH']}"
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture
def place(tmp_path):
    image_store(tmp_path / "data" / "tiny", shape=SHAPE, counts=(200, 80))
    recipe = tiny(2, shape=SHAPE, training__epochs=EPOCHS, training__checkpoint_every=EPOCHS, training__log_every=2)
    (tmp_path / "tiny.yaml").write_text(recipe.dump())
    return tmp_path


def note(*lines: str) -> None:
    if path := os.environ.get("MMVAE_TRANSCRIPT"):
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)


def command(slurm: RealSlurm, folder: Path, *words: str, code: int = 0) -> str:
    """Run a command in ``folder`` as a user of the cluster would; its stdout."""
    environment = slurm.environment | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    real = [*MMVAE, *words[1:]] if words[0] == "mmvae" else list(words)
    done = subprocess.run(real, cwd=folder, env=environment, capture_output=True, text=True, timeout=500, check=False)
    said = [text.rstrip()[:2000] for text in (done.stderr, done.stdout) if text.strip()]
    note(f"$ {shlex.join(words)}", *said, f"[exit {done.returncode}]", "")
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stderr}\n{done.stdout}\n{slurm.logs()}"
    return done.stdout.strip()


def until(slurm: RealSlurm, reached, what: str, seconds: float = 300):
    deadline = time.monotonic() + seconds
    while not (found := reached()):
        assert time.monotonic() < deadline, f"{what} not within {seconds} s\n{slurm.logs()}"
        time.sleep(0.1)
    return found


def weights(folder: Path):
    return dict(checkpoint.newest(Run(folder)).tensors)


def is_training(folder: Path) -> bool:
    run = Run(folder)
    return run.metrics_path.is_file() and run.metrics_path.stat().st_size > 0


def test_a_preempted_study_ends_with_the_weights_of_an_undisturbed_one(slurm, place):
    """The last task of the array is stopped: its job number is the array's own, so a careless requeue would restart
    the other task too."""
    study = ["mmvae", "train", "../tiny.yaml", "--seeds", "0-1", "--data-dir", "../data", "--evaluate"]
    (place / "calm").mkdir()
    calm = command(slurm, place / "calm", *study, "--launch", "local").splitlines()
    assert calm == ["runs/tiny-seed0", "runs/tiny-seed1"]

    cluster = place / "cluster"
    cluster.mkdir()
    submit = [*study, "--launch", "slurm", "--slurm", "time=15", "--slurm", "cpus-per-task=1"]
    command(slurm, cluster, *submit, "--dry-run")
    assert not (cluster / "runs").exists()
    job = command(slurm, cluster, *submit).splitlines()[-1]
    assert job.isdigit()
    until(slurm, lambda: all(is_training(cluster / folder) for folder in calm), "two running tasks")
    command(slurm, cluster, "squeue", "--array", "-o", "%i %T %j")
    command(slurm, cluster, "scancel", "--signal=TERM", f"{job}_1")
    until(slurm, lambda: slurm.states(job).get("1", ("", 0))[1] == 1, "the requeue of task 1")
    assert Run(cluster / calm[1]).status()["state"] == "stopped"
    command(slurm, cluster, "squeue", "--array", "-o", "%i %T %j")
    ended = until(
        slurm, lambda: (s := slurm.states(job)) and all(v[0] == "COMPLETED" for v in s.values()) and s, "the end"
    )
    assert ended == {"0": ("COMPLETED", 0), "1": ("COMPLETED", 1)}
    (log,) = (cluster / "runs" / "slurm").glob(f"{job}_1.log")
    said = log.read_text()
    note(f"$ cat {log.relative_to(cluster)}", said)
    assert "checkpoint written at step" in said
    assert "going on from" in said
    for folder in calm:
        one, other = weights(place / "calm" / folder), weights(cluster / folder)
        assert one.keys() == other.keys()
        assert all((one[name] == other[name]).all() for name in one)
        measured = [json.loads((place / side / folder / "evaluation.json").read_text()) for side in ("calm", "cluster")]
        assert measured[0]["latent"] == measured[1]["latent"]
        note(f"{folder}: {len(one)} tensors of the last checkpoint and the latent scores equal the undisturbed run's")
    assert command(slurm, cluster, *submit) == "", "nothing left to submit"
    compared = json.loads(command(slurm, cluster, "mmvae", "compare", *calm, "runs/tiny-seed2", "--format", "json"))
    assert len(compared["groups"]) == 1


SCRIPTS = sorted((next(iter(recipes.shipped().values())).parent / "slurm").glob("*.sbatch"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_slurm_accepts_the_shipped_scripts(script, slurm, place):
    command(slurm, place, "sbatch", "--test-only", str(script), "polymnist_mopoe")


def test_two_ranks_on_one_node_are_preempted_together_and_finish_together(slurm, place):
    smaller = ["--ntasks-per-node=2", "--gres=gpu:2", "--cpus-per-task=1", "--mem=4G", "--time=15"]
    script = next(str(path) for path in SCRIPTS if path.stem == "one_node")
    job = command(slurm, place, "sbatch", "--parsable", *smaller, script, "tiny.yaml", "--device", "cpu")
    folder = place / "runs" / "tiny-seed0"
    until(slurm, lambda: is_training(folder), "two ranks in training")
    command(slurm, place, "scancel", "--signal=TERM", job)
    shown = until(
        slurm, lambda: (t := slurm.run("scontrol", "show", "job", job).stdout) and "COMPLETED" in t and t, "end"
    )
    assert "Restarts=1" in shown
    said = (place / f"mmvae-{job}.log").read_text()
    note(f"$ cat mmvae-{job}.log", said)
    assert said.count("Exited with exit code 75") == 2
    assert said.count("checkpoint written at step") == 1, "rank 0 alone says so"
    assert Run(folder).environment()["processes"] == 2
    assert Run(folder).status()["state"] == "finished"


def test_the_array_over_seeds_trains_and_evaluates(slurm, place):
    smaller = ["--array=0-1", "--gres=gpu:1", "--cpus-per-task=1", "--mem=4G", "--time=15"]
    script = next(str(path) for path in SCRIPTS if path.stem == "seeds_array")
    job = command(slurm, place, "sbatch", "--parsable", *smaller, script, "tiny.yaml", "training.epochs=6")
    until(slurm, lambda: (s := slurm.states(job)) and all(v[0] == "COMPLETED" for v in s.values()), "the end")
    compared = json.loads(command(slurm, place, "mmvae", "compare", "runs", "--format", "json"))
    assert compared["groups"][0]["seeds"] == [0, 1]


SIGNALS = 30


def test_the_array_script_under_thirty_signals_ends_like_an_undisturbed_one(slurm, place):
    """SIGTERMs and SIGKILLs at random moments of training and evaluation. A task that a SIGKILL ended is requeued by
    hand, as its owner would; one that left with 75 by the script itself."""
    rng, sent, rounds = random.Random(0), {"TERM": 0, "KILL": 0}, 0
    whole = array_of_seeds(slurm, place, "whole")
    began = time.monotonic()
    until_completed(slurm, whole)
    seconds = time.monotonic() - began
    compared = command(slurm, place / "whole", "mmvae", "compare", "runs", "--format", "json")
    (place / "whole" / "comparison.json").write_text(compared)
    while sum(sent.values()) < SIGNALS:
        name, rounds = f"parts{rounds}", rounds + 1
        job = array_of_seeds(slurm, place, name)
        while sum(sent.values()) < SIGNALS and not completed(slurm, job):
            time.sleep(rng.uniform(0.05, 0.4) * seconds)
            running = [task for task, (state, _) in slurm.states(job).items() if state == "RUNNING"]
            if running:
                task, kind = rng.choice(running), rng.choice(["TERM", "KILL"])
                slurm.run("scancel", f"--signal={kind}", f"{job}_{task}", check=False)  # it may have ended just now
                sent[kind] += 1
            requeue_failed(slurm, job)
        until_completed(slurm, job)
        compared = command(slurm, place / name, "mmvae", "compare", "runs", "--format", "json")
        (place / name / "comparison.json").write_text(compared)
        assert_same(place / name, place / "whole")
    note(f"array script: {sent['TERM']} SIGTERMs and {sent['KILL']} SIGKILLs over {rounds} arrays; every comparison "
         "equals the undisturbed one")  # fmt: skip
    assert min(sent.values()) >= 5, sent


def array_of_seeds(slurm: RealSlurm, place: Path, name: str) -> str:
    """Submit the shipped script for two seeds in a folder of its own."""
    folder = place / name
    folder.mkdir()
    shutil.copy(place / "tiny.yaml", folder)
    (folder / "data").symlink_to(place / "data")
    smaller = ["--array=0-1", "--gres=gpu:1", "--cpus-per-task=1", "--mem=4G", "--time=15"]
    script = next(str(path) for path in SCRIPTS if path.stem == "seeds_array")
    return command(slurm, folder, "sbatch", "--parsable", *smaller, script, "tiny.yaml", "--device", "cpu")


def completed(slurm: RealSlurm, job: str) -> bool:
    states = slurm.states(job)
    return bool(states) and all(state == "COMPLETED" for state, _ in states.values())


def requeue_failed(slurm: RealSlurm, job: str) -> None:
    for task, (state, _) in slurm.states(job).items():
        if state in ("FAILED", "CANCELLED"):
            slurm.run("scontrol", "requeue", f"{job}_{task}", check=False)


def until_completed(slurm: RealSlurm, job: str) -> None:
    def reached() -> bool:
        requeue_failed(slurm, job)
        return completed(slurm, job)

    until(slurm, reached, f"the end of array {job}")


def test_a_cancelled_job_stays_cancelled(slurm, place):
    """scancel also ends in 75; a script that asked for its requeue then would bring the job back."""
    smaller = ["--cpus-per-task=1", "--mem=4G", "--time=15"]
    script = next(str(path) for path in SCRIPTS if path.stem == "single_gpu")
    job = command(slurm, place, "sbatch", "--parsable", *smaller, script, "tiny.yaml", "training.epochs=100000")
    folder = place / "runs" / "tiny-epochs=100000-seed0"
    until(slurm, lambda: is_training(folder), "training")
    command(slurm, place, "scancel", job)
    shown = until(
        slurm, lambda: "JobState=CANCELLED" in (t := slurm.run("scontrol", "show", "job", job).stdout) and t, "the end"
    )
    assert "Restarts=0" in shown
    until(slurm, lambda: Run(folder).status()["state"] == "stopped", "its checkpoint")
    command(slurm, place, "squeue", "-h")
    time.sleep(3)
    assert slurm.run("squeue", "-h").stdout == ""
