"""What only a GPU can show: that recorded, compiled and resumed steps are the called ones, and the CPU's numbers.

Elsewhere these tests are skipped. MMVAE_TEST_DEVICE=cpu runs them on the CPU, where they hold as well: a rehearsal.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import warnings

import pytest
import torch
from tiny_recipes import tiny, words

from mmvae_cli import store
from mmvae_cli.compute import devices
from mmvae_cli.compute.ranks import ALONE
from mmvae_cli.compute.recorded import CALLED
from mmvae_cli.model.objective import Objective, draw_noise
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.process import signals
from mmvae_cli.process.errors import EXIT_FAILED, EXIT_STOPPED, Diverged, Stopped
from mmvae_cli.run import checkpoint
from mmvae_cli.run.layout import Run
from mmvae_cli.store.batches import Split
from mmvae_cli.training import engine, loop, meter
from mmvae_cli.training.engine import Engine, Way
from mmvae_cli.training.loop import Request, train
from mmvae_cli.training.step import StepLoss, make_optimizer

from faces import face_store, faces
from stores import image_store, word_store

pytestmark = pytest.mark.gpu
DEVICE = os.environ.get("MMVAE_TEST_DEVICE", "cuda")
ON_GPU = DEVICE.startswith("cuda")
SHAPE = (3, 8, 8)
CLOSE = 1e-5
"""Relative: kernels add up in another order each time, and Adam carries it on."""
WAYS = {
    "one lane": Way(recorded=True), "lanes": Way(recorded=True, lanes=True), "called, lanes": Way(lanes=True),
}  # fmt: skip


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    """A GPU that computes in fp32 by algorithms that do not change from call to call, and is looked at every step."""
    if ON_GPU and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(meter, "FLUSHED_EVERY", 0.0)
    yield
    devices.set_precision("fp32")


def device_of():
    return devices.pick_device(DEVICE)


def losses(folder):
    return [json.loads(line)["loss"] for line in Run(folder).metrics_path.read_text().splitlines()]


def trained(recipe, dataset, folder, way, monkeypatch):
    """The loss of every step, taken in this way."""
    monkeypatch.setattr(loop, "way_of", lambda *ignored, **more: way)
    return losses(train(recipe, Request(folder, dataset, DEVICE)))


def case(name, tmp_path):
    """Recipe and data: 50 steps and more of tiny networks, with what could be frozen in a recording."""
    every = {"training__log_every": 1, "training__precision": "fp32"}
    if name == "faces: dropout, normalisation":
        return faces(training__epochs=12, training__precision="fp32"), face_store(tmp_path / "data")
    if name == "words: another place every epoch":
        return words(SHAPE, epochs=12), word_store(tmp_path / "data", SHAPE)
    more = {"cosine": {"training__schedule": "cosine"}, "random": {"objective__component_choice": "random"},
            "mixture": {"objective__kl": "mixture"}}.get(name, {"model__method": name})  # fmt: skip
    return tiny(3, shape=SHAPE, training__epochs=10, **every, **more), image_store(tmp_path / "data", shape=SHAPE)


CASES = ["mopoe", "mmvae", "mvae", "cosine", "random", "mixture", "faces: dropout, normalisation",
         "words: another place every epoch"]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_recorded_steps_are_the_called_ones(name, tmp_path, monkeypatch, capsys):
    recipe, dataset = case(name, tmp_path)
    called = trained(recipe, dataset, tmp_path / "called", Way(), monkeypatch)
    assert len(called) >= 48
    found = trained(recipe, dataset, tmp_path / "recorded", WAYS["lanes"], monkeypatch)
    assert "which is slower" not in capsys.readouterr().err
    assert found == pytest.approx(called, rel=CLOSE)


@pytest.mark.parametrize("way", WAYS)
def test_lanes_and_recording_by_themselves_change_nothing(way, tmp_path, monkeypatch):
    recipe, dataset = case("mopoe", tmp_path)
    called = trained(recipe, dataset, tmp_path / "called", Way(), monkeypatch)
    assert trained(recipe, dataset, tmp_path / way, WAYS[way], monkeypatch) == pytest.approx(called, rel=CLOSE)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_regions_are_recorded(precision, tmp_path, monkeypatch, capsys):
    recipe = tiny(2, shape=SHAPE, training__epochs=2, training__log_every=1, training__precision=precision)
    dataset = image_store(tmp_path / "data", views=2, shape=SHAPE)
    called = trained(recipe, dataset, tmp_path / "called", Way(), monkeypatch)
    if not ON_GPU:
        monkeypatch.setattr(engine, "_compiled", lambda function: torch.compile(function, backend="eager"))
    found = trained(recipe, dataset, tmp_path / "compiled", Way(True, True, True), monkeypatch)
    assert "which is slower" not in capsys.readouterr().err
    assert found == pytest.approx(called, rel=1e-4 if precision == "fp32" else 2e-2)


def engine_for(tmp_path, way, items=200):
    recipe = tiny(3, shape=SHAPE, training__precision="fp32")
    devices.set_precision("fp32")
    data = store.Store(image_store(tmp_path / "data", shape=SHAPE, counts=(items, 24)))
    torch.manual_seed(0)
    step = StepLoss(MultimodalVAE(recipe).to(device_of()), Objective.of(recipe), "fp32")
    split = Split(data, "train", step.model.names, device_of(), 0)
    made = Engine(
        step, make_optimizer(step.model, 1e-3), split, recipe.training, ALONE, way, start=0, total=1000
    )  # fmt: skip
    return made, step.model


def test_a_step_never_waits_for_the_gpu(tmp_path):
    """Neither called nor recorded; an epoch's beginning may, which brings its order to the GPU."""
    for way in (Way(lanes=True), WAYS["lanes"]):
        made, _ = engine_for(tmp_path / str(way.recorded), way)
        with made.ordered():
            for at in range(CALLED + 2):
                made.take(at)
            with strictly_without_waiting():
                for at in range(CALLED + 2, 25):
                    made.take(at)
        made.meter.check()


@contextlib.contextmanager
def strictly_without_waiting():
    if not ON_GPU:
        yield
        return
    with warnings.catch_warnings(action="ignore"):  # that the mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_it_is_recorded_indeed(tmp_path, capsys):
    made, model = engine_for(tmp_path, WAYS["lanes"])
    with made.ordered():
        for at in range(CALLED + 2):
            made.take(at)
    assert (made._recorded._graph is not None) == ON_GPU
    assert bool(model.lanes._streams) == ON_GPU
    assert "which is slower" not in capsys.readouterr().err


def test_a_term_that_is_not_finite_is_named_with_its_step(tmp_path):
    made, model = engine_for(tmp_path, WAYS["lanes"])

    def ten_steps():
        for at in range(10):
            if at == 6:
                next(model.decoders["m1"].parameters()).data.fill_(float("nan"))
            made.take(at)
        made.meter.check()

    with made.ordered(), pytest.raises(Diverged, match=r"at step 7: not finite: .*m1"):
        ten_steps()


def test_a_stopped_run_goes_on_as_if_undisturbed(tmp_path, monkeypatch):
    recipe, dataset = case("cosine", tmp_path)
    whole = trained(recipe, dataset, tmp_path / "whole", WAYS["lanes"], monkeypatch)
    real = Engine.take

    def stopped(self, at):
        if at == 22:
            monkeypatch.setattr(signals, "_received", "SIGTERM")
        real(self, at)

    monkeypatch.setattr(Engine, "take", stopped)
    with pytest.raises(Stopped):
        trained(recipe, dataset, tmp_path / "parts", WAYS["lanes"], monkeypatch)
    monkeypatch.setattr(Engine, "take", real)
    monkeypatch.setattr(signals, "_received", None)
    assert trained(recipe, dataset, tmp_path / "parts", WAYS["lanes"], monkeypatch) == pytest.approx(whole, rel=CLOSE)
    ends = [checkpoint.newest(Run(tmp_path / name)).tensors for name in ("whole", "parts")]
    assert all(int(ends[0][name]) == int(ends[1][name]) == 50 for name in ends[0] if "optimizer.step" in name)


@pytest.mark.parametrize(("precision", "close"), [("fp32", 1e-5), ("tf32", 1e-3), ("bf16", 1e-2)])
@pytest.mark.parametrize("network", ["images", "faces"])
def test_the_first_loss_is_the_cpus(network, precision, close):
    """With the CPU's weights, data and noise."""
    recipe = faces() if network == "faces" else tiny(3, shape=SHAPE)
    objective = Objective.of(recipe)
    torch.manual_seed(0)
    here = MultimodalVAE(recipe).eval()
    there = MultimodalVAE(recipe).eval().to(device_of())
    there.load_state_dict(here.state_dict())
    batch = {name: torch.rand(16, *spec.shape) if spec.kind == "image" else torch.randint(0, 71, (16, *spec.shape))
             for name, spec in recipe.modalities.items()}  # fmt: skip
    noise = draw_noise(here, objective, here.names, 16, slice(None), "cpu")
    expected, _ = StepLoss(here, objective, "fp32")(batch, noise)
    devices.set_precision(precision)
    moved = torch.utils._pytree.tree_map(lambda x: x.to(device_of()) if isinstance(x, torch.Tensor) else x, noise)
    found, _ = StepLoss(there, objective, precision)({name: x.to(device_of()) for name, x in batch.items()}, moved)
    assert found.item() == pytest.approx(expected.item(), rel=close)


def test_data_on_the_host_give_the_same_losses(tmp_path):
    dataset = face_store(tmp_path / "data")
    for place in ("device", "host"):
        train(faces(training__data_on=place, training__precision="fp32"), Request(tmp_path / place, dataset, DEVICE))
    assert losses(tmp_path / "device") == pytest.approx(losses(tmp_path / "host"), rel=CLOSE)


def command(*arguments):
    return [sys.executable, "-m", "mmvae_cli", *map(str, arguments), f"--device={DEVICE}"]


def test_a_signal_leaves_a_run_that_goes_on(tmp_path):
    recipe = tiny(3, shape=SHAPE, training__epochs=10**5, dataset__name=str(image_store(tmp_path / "d", shape=SHAPE)))
    (tmp_path / "tiny.yaml").write_text(recipe.dump())
    run = Run(tmp_path / "run")
    for _ in range(2):
        begun = len(losses(run.folder)) if run.metrics_path.exists() else 0
        process = subprocess.Popen(
            command("train", tmp_path / "tiny.yaml", "--run", run.folder), stderr=subprocess.PIPE
        )
        until = time.monotonic() + 60
        while not run.metrics_path.exists() or len(losses(run.folder)) <= begun:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
        assert process.returncode == EXIT_STOPPED, said
    assert b"going on from" in said


def test_too_little_memory_is_one_line(tmp_path):
    if not ON_GPU:
        pytest.skip("a CPU has no limit of its own")
    recipe = tiny(3, shape=SHAPE, dataset__name=str(image_store(tmp_path / "d", shape=SHAPE)))
    (tmp_path / "tiny.yaml").write_text(recipe.dump())
    code = "import torch; torch.cuda.set_per_process_memory_fraction(1e-6, 0); from mmvae_cli import cli; cli.main()"
    arguments = command("train", tmp_path / "tiny.yaml", "--run", tmp_path / "run", "--quiet")[3:]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_FAILED
    assert done.stderr.splitlines()[0].startswith("error: the GPU has too little memory")
    assert len(done.stderr.splitlines()) == 2
    assert not (tmp_path / "run" / "status.json").exists(), "not even the weights had room: the run has not begun"


def test_an_evaluation_is_the_cpus(tmp_path):
    """As far as noise lets it be seen, which each device draws for itself."""
    from mmvae_cli.evaluation import command as evaluation

    dataset = image_store(tmp_path / "tiny", shape=SHAPE, counts=(400, 200))
    recipe = tiny(3, shape=SHAPE, training__epochs=4, evaluation__latent_samples=200, evaluation__importance_samples=20,
                  dataset__name=str(dataset))  # fmt: skip
    train(recipe, Request(tmp_path / "run", dataset, "cpu"))
    found = {}
    for device in ("cpu", DEVICE):
        _, found[device] = evaluation.run(
            tmp_path / "run", metrics=["latent", "coherence", "likelihood"], protocol=None, chosen=None,
            data_dir=tmp_path, device=device, force=True, verify=True,
        )  # fmt: skip
        (tmp_path / "run" / "evaluation.json").unlink()
    one, other = found["cpu"], found[DEVICE]
    assert other.likelihood.joint == pytest.approx(one.likelihood.joint, rel=2e-3)
    assert other.latent.values == pytest.approx(one.latent.values, abs=0.05)
    assert other.coherence.joint == pytest.approx(one.coherence.joint, abs=0.05)


def test_two_gpus_give_the_losses_of_one(tmp_path):
    if ON_GPU and torch.cuda.device_count() < 2:
        pytest.skip("one GPU only")
    recipe = tiny(3, shape=SHAPE, training__log_every=1, training__precision="fp32", training__epochs=4,
                  dataset__name=str(image_store(tmp_path / "d", shape=SHAPE)))  # fmt: skip
    (tmp_path / "tiny.yaml").write_text(recipe.dump())
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    device = "cuda" if ON_GPU else "cpu"
    for name, launcher in (("one", []), ("two", torchrun)):
        arguments = [
            "-m",
            "mmvae_cli",
            "train",
            tmp_path / "tiny.yaml",
            "--run-dir",
            tmp_path / name,
            f"--device={device}",
        ]
        done = subprocess.run(
            [sys.executable, *launcher, *map(str, arguments)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=CLOSE)
