"""Training on the CPU: reproducible, resumable at any step, stopped by signals and by non-finite terms."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import accumulate
from pathlib import Path

import pytest
import torch
from tiny_recipes import tiny

from mmvae_cli.cli import app
from mmvae_cli.model import bound
from mmvae_cli.model.bound import outline
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.process import signals
from mmvae_cli.process.errors import DataProblem, Diverged, Failure, Stopped, UsageProblem
from mmvae_cli.run import checkpoint
from mmvae_cli.run.layout import Run
from mmvae_cli.training import loop, pace
from mmvae_cli.training.loop import Request, train
from mmvae_cli.training.step import make_optimizer

from stores import image_store

SHAPE = (3, 8, 8)
TRAIN = [sys.executable, "-m", "mmvae_cli", "train"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return image_store(tmp_path_factory.mktemp("data") / "tiny", shape=SHAPE)


@pytest.fixture(autouse=True)
def every_checkpoint(monkeypatch):
    """However slow the disk is today."""
    monkeypatch.setattr(pace, "QUICK_SAVING", math.inf)


def weights(folder):
    found = checkpoint.newest(Run(folder))
    return dict(found.tensors)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def stop_at(monkeypatch, step):
    """A SIGTERM comes during the given step, from 1."""
    real, calls = loop.batches.Split.batch, [0]

    def counted(self, items, **keys):
        calls[0] += 1
        if calls[0] == step:
            monkeypatch.setattr(signals, "_received", "SIGTERM")
        return real(self, items, **keys)

    monkeypatch.setattr(loop.batches.Split, "batch", counted)


def test_no_line_of_the_log_is_a_mean_over_a_few_steps(dataset, tmp_path):
    recipe = tiny(2, shape=SHAPE, dataset__name=str(dataset), training__batch_size=8, training__log_every=4)
    lines = Run(train(recipe, Request(tmp_path / "run", dataset, "cpu"))).metrics_path.read_text().splitlines()
    assert [json.loads(line)["steps"] for line in lines] == [5, 5], "one for each epoch of five steps"
    ends = [step for step in range(1, 22) if loop._ends_line(step, 4, 9)]
    assert ends == [4, 13], "four steps, then the five that are left of each epoch of nine"
    assert [step for step in range(1, 11) if loop._ends_line(step, 4, 10)] == [4, 8], "two are half as many"


@pytest.mark.parametrize("method", ["mvae", "mmvae", "mopoe"])
def test_same_seed_same_weights_other_seed_other_weights(method, dataset, tmp_path):
    recipe = tiny(3, shape=SHAPE, model__method=method)
    for name in "ab":
        train(recipe, Request(tmp_path / name, dataset))
    other = tiny(3, shape=SHAPE, model__method=method, training__seed=1)
    train(other, Request(tmp_path / "c", dataset))
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_the_loss_falls_and_every_term_is_logged(dataset, tmp_path):
    recipe = tiny(3, shape=SHAPE, training__epochs=12, training__learning_rate=3e-3)
    run = Run(train(recipe, Request(tmp_path / "run", dataset)))
    lines = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    assert lines[-1]["step"] == 12 * 5
    assert lines[-1]["loss"] < lines[0]["loss"]
    for key in ("elbo", "kl.shared", "kl.m0", "kl.m0+m2", "kl.m0+m1+m2", "log_likelihood.m1", "items_per_second",
                "memory_mib", "learning_rate", "seconds", "epoch"):  # fmt: skip
        assert key in lines[-1]
    assert lines[-1]["loss"] == pytest.approx(
        1.5 * lines[-1]["kl.shared"] - sum(lines[-1][f"log_likelihood.m{i}"] for i in range(3)), rel=1e-5
    )
    assert run.status()["state"] == "finished"
    assert len(run.checkpoint_paths()) == 2, "keep_checkpoints keeps the last two"
    assert run.environment()["dataset"]["fingerprint"]


@pytest.mark.parametrize("at", [1, 5, 7])
def test_stopped_anywhere_and_resumed_gives_the_same_weights_and_metrics(at, dataset, tmp_path, monkeypatch):
    recipe = tiny(3, shape=SHAPE)
    train(recipe, Request(tmp_path / "whole", dataset))
    stop_at(monkeypatch, at)
    with pytest.raises(Stopped, match=f"step {at} of 10"):
        train(recipe, Request(tmp_path / "parts", dataset))
    assert Run(tmp_path / "parts").status()["state"] == "stopped"
    monkeypatch.undo()
    train(recipe, Request(tmp_path / "parts", dataset))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    logs = [
        [json.loads(line) for line in Run(tmp_path / name).metrics_path.read_text().splitlines()]
        for name in ("whole", "parts")
    ]
    for log in logs:
        assert [record["step"] for record in log] == list(accumulate(record["steps"] for record in log)), "none twice"
    totals = [{key: sum(record[key] * record["steps"] for record in log) for key in ("loss", "kl.m0")} for log in logs]
    assert totals[0] == pytest.approx(totals[1], rel=1e-5)


def test_a_checkpoint_of_another_seed_is_not_taken_for_the_runs_own(dataset, tmp_path, capsys):
    """As where files of two runs of one study were mixed up: they fit, and their numbers would bear a wrong name."""
    for seed in (0, 1):
        train(tiny(3, shape=SHAPE, training__seed=seed), Request(tmp_path / f"s{seed}", dataset))
    shutil.rmtree(tmp_path / "s0" / "checkpoints")
    (tmp_path / "s1" / "checkpoints").rename(tmp_path / "s0" / "checkpoints")
    own = Run(tmp_path / "s0").checkpoint_paths()[0]
    longer = tiny(3, shape=SHAPE, training__seed=0).with_epochs(9)
    for attempt in (
        lambda: train(longer, Request(tmp_path / "s0", dataset)),
        lambda: checkpoint.needed(Run(tmp_path / "s0")),
    ):
        with pytest.raises(DataProblem, match="no valid checkpoint"):
            attempt()
        assert f"skipped: {own} is of a run with another recipe or seed" in capsys.readouterr().err
    with pytest.raises(DataProblem, match="another recipe or seed"):
        checkpoint.needed(Run(tmp_path / "s0"), own)


def test_a_run_that_was_made_longer_keeps_its_checkpoints(dataset, tmp_path):
    recipe = tiny(3, shape=SHAPE)
    run = Run(train(recipe, Request(tmp_path / "run", dataset)))
    first = checkpoint.newest(run)
    train(recipe.with_epochs(recipe.training.epochs + 1), Request(run.folder, dataset))
    assert checkpoint.newest(run).began_as == first.began_as == run.began_as() == recipe.fingerprint
    run.environment_path.unlink()
    train(recipe.with_epochs(recipe.training.epochs + 2), Request(run.folder, dataset))
    assert checkpoint.newest(run).began_as == run.began_as() == recipe.fingerprint


def test_the_optimiser_goes_on_where_the_model_is(dataset, tmp_path):
    """All of its state, the number of steps too: fused Adam on a GPU refuses one that lies on the CPU."""
    recipe = tiny(3, shape=SHAPE)
    found = checkpoint.newest(Run(train(recipe, Request(tmp_path / "run", dataset))))
    model = MultimodalVAE(recipe).to("meta")
    optimizer = make_optimizer(model, 1e-3)
    found.load_optimizer(optimizer, model)
    state = [value for parameter in model.parameters() for value in optimizer.state[parameter].values()]
    assert len(state) == 3 * len(list(model.parameters()))
    assert {value.device.type for value in state} == {"meta"}


def test_a_signal_at_the_last_step_leaves_a_finished_run(dataset, tmp_path, monkeypatch):
    stop_at(monkeypatch, 10)
    run = Run(train(tiny(3, shape=SHAPE), Request(tmp_path / "run", dataset)))
    assert run.status()["state"] == "finished"


def test_a_run_killed_after_its_last_checkpoint_is_noted_as_finished(dataset, tmp_path):
    recipe = tiny(3, shape=SHAPE)
    run = Run(train(recipe, Request(tmp_path / "run", dataset)))
    known = run.status()
    run.set_status("running", **{key: value for key, value in known.items() if key != "state"})
    train(recipe, Request(run.folder, dataset))
    assert run.status() | {"seconds": 0} == known | {"seconds": 0}


@pytest.mark.slow
def test_killed_at_random_moments_and_restarted_gives_the_same_weights(dataset, tmp_path):
    """20 SIGKILLs over real processes; a finished run equals the undisturbed one bit for bit."""
    recipe = tiny(3, shape=SHAPE, training__epochs=40)
    path = tmp_path / "tiny.yaml"
    path.write_text(recipe.dump())
    command = [*TRAIN, str(path), f"dataset.name={dataset}", "--quiet"]
    train(recipe.model_validate(recipe.model_dump() | {"dataset": {"name": str(dataset)}}),
          Request(tmp_path / "whole", dataset))  # fmt: skip
    rng, kills = torch.Generator().manual_seed(0), 0
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    while kills < 20:
        process = subprocess.Popen([*command, "--run", str(tmp_path / "parts")], env=environment)
        first = tmp_path / "parts" / "status.json"
        while process.poll() is None and not first.is_file():
            time.sleep(0.02)
        time.sleep(1.2 * float(torch.rand(1, generator=rng)))
        if process.poll() is None:
            process.kill()
            kills += 1
        process.wait()
        state = Run(tmp_path / "parts").status().get("state")
        if state == "finished":
            assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
            import shutil

            shutil.rmtree(tmp_path / "parts")
    assert subprocess.run([*command, "--run", str(tmp_path / "parts")], env=environment, check=False).returncode == 0
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [
    (signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGUSR2, 75), (signal.SIGHUP, 75), (signal.SIGINT, 130),
])  # fmt: skip
def test_a_signal_leaves_with_its_code_and_a_checkpoint(number, code, dataset, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny(3, shape=SHAPE, training__epochs=100000).dump())
    process = subprocess.Popen(
        [*TRAIN, str(path), f"dataset.name={dataset}", "--run", str(tmp_path / "r")], stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # a background job is deaf to SIGINT, nohup to SIGHUP
    )  # fmt: skip
    while not (tmp_path / "r" / "metrics.jsonl").is_file():
        time.sleep(0.05)
    process.send_signal(number)
    _, messages = process.communicate(timeout=20)
    assert process.returncode == code
    assert "checkpoint written at step" in messages
    assert Run(tmp_path / "r").status()["state"] == "stopped"
    assert checkpoint.newest(Run(tmp_path / "r")).position.step > 0


@pytest.mark.parametrize(("at", "left"), [
    (2, "; no checkpoint had been written yet"),
    (7, "; the last checkpoint, {run}/checkpoints/step-00000005.safetensors, is from before"),
])  # fmt: skip
def test_a_non_finite_term_stops_training_with_its_name(at, left, dataset, tmp_path, monkeypatch):
    recipe = tiny(3, shape=SHAPE)
    real, calls = bound.bound_terms, [0]

    def spoiled(*arguments):
        terms, name = real(*arguments), "log_likelihood.m1"
        calls[0] += not terms[name].value.is_meta  # a step, not the outline of one
        if calls[0] == at:
            terms[name] = terms[name]._replace(value=terms[name].value * float("nan"))
        return terms

    monkeypatch.setattr("mmvae_cli.training.step.bound.bound_terms", spoiled)
    with pytest.raises(Diverged, match=rf"step {at}: not finite: log_likelihood.m1") as caught:
        train(recipe, Request(tmp_path / "run", dataset))
    assert caught.value.code == 4
    assert caught.value.hint.endswith(left.format(run=tmp_path / "run"))
    assert [path.name for path in Run(tmp_path / "run").checkpoint_paths()] == ["step-00000005.safetensors"][: at // 5]
    assert Run(tmp_path / "run").status()["state"] == "diverged"


def test_progress_says_that_the_loss_is_weighted_and_what_it_is_made_of():
    terms = outline(tiny(2, shape=SHAPE, model__method="mvae"))
    values = dict.fromkeys(terms, 9.0) | {"log_likelihood.m0": -10.0, "log_likelihood.m1": -20.0, "kl.shared": 3.0}
    note = loop._note(values | {"loss": 99.0, "elbo": -33.0, "items_per_second": 5.0}, terms)
    assert note == "loss 99.0 (weighted), log-likelihood -30.0, KL 3.00, 5 items/s"


def test_a_damaged_checkpoint_is_skipped_for_the_one_before(dataset, tmp_path, capsys):
    recipe = tiny(3, shape=SHAPE)
    train(recipe, Request(tmp_path / "run", dataset))
    run, whole = Run(tmp_path / "run"), weights(tmp_path / "run")
    newest = run.checkpoint_paths()[0]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 4
    newest.write_bytes(content)
    train(recipe, Request(tmp_path / "run", dataset))
    assert "skipped" in capsys.readouterr().err
    assert same(weights(tmp_path / "run"), whole)
    for path in run.checkpoint_paths():
        path.write_bytes(b"nothing")
    with pytest.raises(DataProblem, match="no valid checkpoint"):
        train(recipe, Request(tmp_path / "run", dataset))


def test_another_recipe_into_a_run_is_refused_with_the_difference(dataset, tmp_path):
    train(tiny(3, shape=SHAPE), Request(tmp_path / "run", dataset))
    with pytest.raises(UsageProblem, match=r"objective.beta: 1.5 -> 3.0") as caught:
        train(tiny(3, shape=SHAPE, objective__beta=3.0), Request(tmp_path / "run", dataset))
    assert caught.value.code == 2


def test_a_run_made_longer_equals_one_that_was_long_from_the_start(dataset, tmp_path):
    short, long = (tiny(3, shape=SHAPE, training__epochs=epochs) for epochs in (1, 3))
    for recipe in (short, long):
        train(recipe, Request(tmp_path / "grown", dataset))
    longest = tiny(3, shape=SHAPE, training__epochs=9)
    with pytest.raises(UsageProblem, match="has checkpoints"):  # what is refused leaves the recipe as it was
        train(longest, Request(tmp_path / "grown", dataset, resume="never"))
    train(long, Request(tmp_path / "long", dataset))
    assert same(weights(tmp_path / "grown"), weights(tmp_path / "long"))
    assert Run(tmp_path / "grown").recipe() == long
    with pytest.raises(UsageProblem, match="epochs: 3 -> 1"):
        train(short, Request(tmp_path / "grown", dataset))


def test_a_cosine_schedule_falls_to_zero_and_survives_a_stop(dataset, tmp_path, monkeypatch):
    recipe = tiny(3, shape=SHAPE, training__epochs=3, training__schedule="cosine", training__log_every=1)
    train(recipe, Request(tmp_path / "whole", dataset))
    lines = Run(tmp_path / "whole").metrics_path.read_text().splitlines()
    rates = [json.loads(line)["learning_rate"] for line in lines]
    total = len(rates)
    expected = [1e-3 * (1 + math.cos(math.pi * step / total)) / 2 for step in range(total)]
    assert rates == pytest.approx(expected)
    stop_at(monkeypatch, total // 2)
    with pytest.raises(Stopped):
        train(recipe, Request(tmp_path / "parts", dataset))
    monkeypatch.undo()
    train(recipe, Request(tmp_path / "parts", dataset))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    with pytest.raises(UsageProblem, match=r"training\.epochs: 3 -> 4"):  # every step so far had another rate
        train(recipe.with_epochs(4), Request(tmp_path / "whole", dataset))


def test_resume_must_and_never(dataset, tmp_path):
    recipe = tiny(3, shape=SHAPE)
    with pytest.raises(DataProblem, match="no checkpoint"):
        train(recipe, Request(tmp_path / "run", dataset, resume="must"))
    train(recipe, Request(tmp_path / "run", dataset, resume="never"))
    with pytest.raises(UsageProblem, match="has checkpoints"):
        train(recipe, Request(tmp_path / "run", dataset, resume="never"))


def test_a_run_is_used_by_one_process_only(dataset, tmp_path):
    recipe = tiny(3, shape=SHAPE)
    run = Run(tmp_path / "run")
    run.prepare(recipe)
    lock = run.folder / "lock"
    code = ("import sys, time; from pathlib import Path; from mmvae_cli.disk import lock\n"
            "with lock.hold(Path(sys.argv[1])): time.sleep(600)")  # fmt: skip
    living = subprocess.Popen([sys.executable, "-c", code, str(run.folder)])
    while not lock.exists():
        time.sleep(0.02)
    with pytest.raises(UsageProblem, match=f"in use by process {living.pid} on {os.uname().nodename}"):
        train(recipe, Request(run.folder, dataset))
    living.kill()
    living.wait()
    train(recipe, Request(run.folder, dataset))
    assert not lock.exists()


def test_a_dataset_that_does_not_fit_is_refused(dataset, tmp_path):
    with pytest.raises(UsageProblem, match="no modality 'm3'"):
        train(tiny(4, shape=SHAPE), Request(tmp_path / "run", dataset))
    with pytest.raises(UsageProblem, match=r"recipe has image \[3, 28, 28\].*has image \[3, 8, 8\]"):
        train(tiny(2), Request(tmp_path / "run", dataset))
    with pytest.raises(UsageProblem, match="more than the 40 training items"):
        train(tiny(3, shape=SHAPE, training__batch_size=41), Request(tmp_path / "run", dataset))
    with pytest.raises(DataProblem, match="no dataset at"):
        train(tiny(3, shape=SHAPE), Request(tmp_path / "run", tmp_path / "nowhere"))
    assert not (tmp_path / "run").exists()


def test_a_recipe_may_use_some_of_the_modalities(dataset, tmp_path):
    train(tiny(2, shape=SHAPE), Request(tmp_path / "run", dataset))
    assert Run(tmp_path / "run").status()["state"] == "finished"


def test_other_data_under_a_begun_run_are_refused(dataset, tmp_path):
    recipe = tiny(3, shape=SHAPE, training__epochs=4)
    other = image_store(tmp_path / "other", shape=SHAPE, seed=9)
    train(tiny(3, shape=SHAPE, training__epochs=4), Request(tmp_path / "run", dataset))
    for path in Run(tmp_path / "run").checkpoint_paths()[:1]:
        path.unlink()
    with pytest.raises(DataProblem, match="was trained on other data"):
        train(recipe, Request(tmp_path / "run", other))


def test_a_full_disk_is_one_line(dataset, tmp_path, monkeypatch):
    def full(*arguments, **keys):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(Failure, match="No space left on device"):
        train(tiny(3, shape=SHAPE), Request(tmp_path / "run", dataset))
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.parametrize("words", [[], ["--dry-run"], ["--seeds", "0-1"], ["--seeds", "0-1", "--dry-run"]])
@pytest.mark.parametrize(("views", "batch", "message"), [
    (3, 41, r"training\.batch_size 41 is more than the 40 training items of"), (4, 8, "has no modality 'm3'"),
])  # fmt: skip
def test_data_that_do_not_suit_are_refused_alike_by_training_dry_run_and_study(
    words, views, batch, message, dataset, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    recipe = tiny(views, shape=SHAPE, training__batch_size=batch, dataset__name=str(dataset))
    Path("tiny.yaml").write_text(recipe.dump())
    with pytest.raises(UsageProblem, match=message):
        app(["train", "tiny.yaml", *words], standalone_mode=False)
    assert os.listdir() == ["tiny.yaml"]
