"""Networks of the user's own: run when the command line says so, kept with the run, refused in one line."""

import hashlib
import json
import shlex

import pytest
import torch
from driving import completed
from tiny_recipes import tiny
from typer.testing import CliRunner

from mmvae_cli import recipe as recipes
from mmvae_cli.cli import app
from mmvae_cli.model import networks
from mmvae_cli.process.errors import DataProblem, UsageProblem
from mmvae_cli.run.layout import Run

from stores import image_store

SHAPE = (3, 8, 8)
NETS = """
from torch import nn

class Trunk(nn.Module):
    features = 5

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(192, 5)

    def forward(self, x):
        return self.linear(x.flatten(1)).relu()

def flat(modality, latent):
    return Trunk(), nn.Sequential(nn.Linear(latent, 192), nn.Unflatten(1, modality.shape))

def wrong(modality, latent):
    return Trunk(), nn.Linear(latent, 7)

def broken(modality, latent):
    return Trunk(), modality.decoder
"""
WHOLE = f"""{NETS}
class Whole(Trunk):
    def forward(self, x):
        return super().forward(x).long()

def whole(modality, latent):
    return Whole(), flat(modality, latent)[1]
"""
LATE = f"""{NETS}
class Late(Trunk):
    def forward(self, x):
        if len(x) > 2:
            raise REASON
        return super().forward(x)

def late(modality, latent):
    return Late(), flat(modality, latent)[1]
"""
OWN = {"modalities__m1": {"network": "own.flat", "shape": list(SHAPE), "likelihood": "normal", "scale": 0.5}}


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(networks, "OWN", {})
    image_store(tmp_path / "tiny", 2, shape=SHAPE)
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "own.yaml").write_text(tiny(2, shape=SHAPE, dataset__name="./tiny", **OWN).dump())
    return tmp_path


def mmvae(line):
    """Raises what the command raises."""
    done = CliRunner().invoke(app, shlex.split(line))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done


def test_a_network_of_ones_own_trains_is_measured_and_sampled(world):
    mmvae("train own.yaml --code nets.py --run run")
    run = Run(world / "run")
    assert (world / "run" / "code.py").read_text() == NETS
    assert run.environment()["code"]["sha256"] == hashlib.sha256(NETS.encode()).hexdigest()
    assert run.recipe().modalities["m1"].kind == "image"
    said = mmvae("evaluate --ckpt run --code run/code.py --metrics latent,likelihood").stderr
    assert "networks of your own: run/code.py was run (SHA-256" in said
    found = json.loads((world / "run" / "evaluation.json").read_text())
    assert found["likelihood"]["joint"]["m0+m1"] is not None
    mmvae("sample --ckpt run --code run/code.py --kind prior")
    mmvae("compare run")


def test_code_is_run_only_when_it_is_asked_for(world):
    (world / "nets.py").write_text(NETS + "\nfrom pathlib import Path\nPath('ran').touch()\n")
    with pytest.raises(UsageProblem, match=r"own.flat: no such function") as problem:
        mmvae("train own.yaml --run run")
    assert "--code nets.py" in problem.value.hint
    mmvae("train own.yaml --code nets.py --run run")
    (world / "ran").unlink()
    for command in ("evaluate --ckpt run", "sample --ckpt run"):
        with pytest.raises(UsageProblem, match="their code is run only when asked"):
            mmvae(command)
    (world / "other.py").write_text((world / "nets.py").read_text() + "# changed\n")
    for command in ("evaluate --ckpt run --code other.py", "train own.yaml --code other.py --run run"):
        with pytest.raises(UsageProblem, match=r"other.py is not the code that run was trained with"):
            mmvae(command)
    assert not (world / "ran").exists()


@pytest.mark.parametrize(("override", "code", "message"), [
    ("modalities.m1.network=own.none", NETS, r"own.none: .*--code has no such function\nhint: .*it has own.flat"),
    ("modalities.m1.network=own.wrong", NETS, r"own.wrong: ValueError: gives \(2, 7\) for two rows, not \(2, 3"),
    ("modalities.m1.network=own.whole", WHOLE, "own.whole: ValueError: gives torch.int64, not floating-point numbers"),
    ("modalities.m1.network=own.broken", NETS, r"own.broken: AttributeError.* \(.*nets.py line \d+\)"),
    ("training.epochs=1", "x = 1\ny = nothing\n", r"nets.py line 2: NameError: name 'nothing'"),
    ("training.epochs=1", "import sys\nsys.exit(0)\n", "nets.py line 2: SystemExit: 0"),
    ("training.epochs=1", "raise ValueError('a\\nb')\n", r"nets.py line 1: ValueError: a\nhint"),
    ("modalities.m1.network=own.leave", "def leave(m, latent):\n    raise SystemExit\n", "own.leave: SystemExit"),
    ("training.epochs=1", "def (", "nets.py line 1: SyntaxError"),
    ("modalities.m1.network=conv", NETS, "--code nets.py has no effect"),
    ("modalities.m1.network=own.1", NETS, "'own.1' is not one of"),
    ("modalities.m1.likelihood=poisson", NETS, "likelihood: 'poisson' is not one of laplace, normal"),
])  # fmt: skip
def test_what_is_wrong_is_one_line(world, override, code, message):
    (world / "nets.py").write_text(code)
    with pytest.raises(UsageProblem, match=message):
        mmvae(f"train own.yaml {override} --code nets.py --run run")
    assert not (world / "run" / "checkpoints").exists()


@pytest.mark.parametrize("reason", ["ValueError('why')", "SystemExit(0)"])
def test_code_that_fails_while_training_is_told_with_its_line(world, reason):
    """It is no bug of the program, and no run that ended well."""
    (world / "nets.py").write_text(LATE.replace("REASON", reason))
    done = completed(*shlex.split("train own.yaml modalities.m1.network=own.late --code nets.py --run run"))
    line = 1 + LATE[: LATE.index("raise")].count("\n")
    assert done.returncode == 2
    assert f"error: nets.py line {line}: {reason[:9]}" in done.stderr


def test_a_shared_run_without_its_code_says_whom_to_ask(world):
    mmvae("train own.yaml --code nets.py --run run")
    (world / "run" / "code.py").unlink()
    with pytest.raises(UsageProblem, match="ask who shared the run for the file"):
        mmvae("sample --ckpt run")


def test_a_folder_to_share_holds_the_code_and_it_is_run_only_when_it_is_named(world):
    code = NETS + "\nfrom pathlib import Path\nPath('ran').touch()\n"
    (world / "nets.py").write_text(code)
    mmvae("train own.yaml --code nets.py --run run")
    mmvae("export run --to hub --code nets.py")
    (world / "ran").unlink()
    there, digest = world / "hub/run/code.py", hashlib.sha256(code.encode()).hexdigest()
    card = (world / "hub/run/README.md").read_text()
    assert (there.read_text(), Run(world / "hub/run").code_sha256()) == (code, digest)
    assert digest in card
    assert "mmvae sample --ckpt hub/run --kind prior --code hub/run/code.py\n" in card
    assert "open_run('hub/run', code='hub/run/code.py')" in card
    for use in ("evaluate --ckpt hub/run", "sample --ckpt hub/run", "export hub/run --to latents"):
        with pytest.raises(UsageProblem, match="run only when asked, never because a folder holds it") as problem:
            mmvae(use)
        assert problem.value.hint == "look at it, then give --code hub/run/code.py"
    (world / "other.py").write_text(NETS)
    with pytest.raises(UsageProblem, match=r"other.py is not the code that hub/run was trained with"):
        mmvae("sample --ckpt hub/run --code other.py")
    assert not (world / "ran").exists()
    mmvae("sample --ckpt hub/run --kind prior --code hub/run/code.py")
    there.write_text(code + "# changed\n")
    with pytest.raises(DataProblem, match=r"code.py is not the code that environment.json names"):
        mmvae("sample --ckpt hub/run --force --code hub/run/code.py")


LOUD = (
    NETS.replace("    def forward(self, x):", "    def forward(self, x):\n        print('forward')")
    + """
import os, sys
print("read")
sys.__stdout__.write("past the name\\n")
os.system("echo from a program")
"""
)


def test_what_own_code_prints_is_no_result(world):
    """Neither what it prints while it is read or used, nor what it has others print, stands on stdout."""
    (world / "nets.py").write_text(LOUD)
    products = {
        "train own.yaml --code nets.py --run run": "run\n",
        "export run --code nets.py --to latents": "run/latents.test.npz\n",
    }
    for command, product in products.items():
        done = completed(*shlex.split(command))
        assert (done.returncode, done.stdout) == (0, product), done.stderr
        assert all(words in done.stderr for words in ("read\n", "past the name\n", "from a program\n", "forward\n"))
    done = completed(*shlex.split("evaluate --ckpt run --code nets.py --metrics latent --json"))
    assert json.loads(done.stdout)["run"]["recipe"]
    assert "forward\n" in done.stderr


def test_code_that_is_not_there(world):
    with pytest.raises(DataProblem, match=r"none.py is not there"):
        mmvae("train own.yaml --code none.py")


@pytest.mark.parametrize(("shape", "likelihood", "kind"), [
    ([3, 8, 8], None, "image"), ([5], None, "vector"), ([5], "poisson", "vector"), ([9], "categorical", "text"),
])  # fmt: skip
def test_the_kind_is_read_off_shape_and_likelihood(shape, likelihood, kind):
    said = {"likelihood": likelihood} if likelihood else {}
    recipe = tiny(1, modalities__own={"network": "own.any", "shape": shape} | said)
    assert recipe.modalities["own"].kind == kind
    assert recipes.validate(recipe.model_dump(exclude_none=True), "again") == recipe


def test_trying_a_network_leaves_no_trace(world):
    spec = tiny(2, shape=SHAPE, **OWN).modalities["m1"]

    def dropping(modality, latent):
        trunk, decoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(192)), torch.nn.Dropout()
        trunk.features = 192
        return trunk, torch.nn.Sequential(decoder, torch.nn.Linear(latent, 192), torch.nn.Unflatten(1, SHAPE))

    networks.OWN["flat"] = dropping
    torch.manual_seed(0)
    expected, _ = dropping(spec, 6), torch.rand(1)
    after = torch.rand(1)
    torch.manual_seed(0)
    trunk, _ = networks.pair(spec, 6)
    torch.rand(1)
    assert torch.equal(torch.rand(1), after)
    assert trunk.training
    assert torch.equal(trunk[1].running_mean, expected[0][1].running_mean)


def test_a_study_passes_the_code_on(world):
    said = mmvae("train own.yaml --seeds 0-1 --code nets.py --evaluate --dry-run").stdout
    assert said.count("--code nets.py") == 4
    assert "--code nets.py" in mmvae("train own.yaml --seeds 0-1 --code nets.py --launch slurm --dry-run").stdout
