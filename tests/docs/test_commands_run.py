"""Every command of README and docs is carried out as it stands, on small data and for one epoch.

The commands of a page follow one another in a folder that has what their capital words stand for. Studies are planned
only (tests/cluster carries them out), and other programs (make, pip, python, torchrun) have tests of their own.
"""

import re
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import typer.main
from PIL import Image
from test_pages import PAGES, lines
from test_sources import write_idx
from test_svhn import write_mat
from typer.testing import CliRunner

from mmvae_cli.cli import app
from mmvae_cli.evaluation import classifier_training
from mmvae_cli.recipe import load
from mmvae_cli.run.layout import default_folder

from celeba_source import write as write_celeba

pytestmark = pytest.mark.slow
SMALL = {
    "training.epochs": 1, "training.batch_size": 8, "evaluation.latent_samples": 20, "evaluation.likelihood_items": 2,
    "evaluation.importance_samples": 2, "evaluation.joint_samples": 40,
}  # fmt: skip
STUDY = {"--seeds", "--grid", "--launch"}


def mmvae(*words):
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, f"mmvae {shlex.join(words)}: {done.output}{done.exception!r}"


def patch_classifiers(patch):
    """A few steps are enough for classifiers that are not asked to be good."""
    for name, value in {"EVERY": 2, "LEAST": 6, "MOST": 12}.items():
        patch.setattr(classifier_training, name, value)


def blocks(page, language):
    """The blocks of a language on a page of docs/."""
    text = next(path for path in PAGES if path.name == page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def write_own():
    """Data of one's own, by the programs on the page about them: a table with pictures, arrays, cells."""
    for program in blocks("own-data.md", "python"):
        if "import anndata" not in program or find_spec("anndata"):
            exec(program, {})


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A folder as a user has it: files to build from, the datasets that recipes name, a finished run."""
    folder = tmp_path_factory.mktemp("ready")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_idx(folder / "data/MNIST/raw", train=60, test=40)
        write_idx(folder / "IDX_FILES", train=60, test=40)
        write_celeba(folder / "CELEBA")
        for place in ("SVHN", "data/svhn"):
            Path(place).mkdir(parents=True)
            write_mat(Path(place, "train_32x32.mat"), 60)
            write_mat(Path(place, "test_32x32.mat"), 40)
        Path("BACKGROUNDS").mkdir()
        for seed in range(5):
            pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(f"BACKGROUNDS/{seed}.png")
        write_own()
        for language, name in (("python", "nets.py"), ("yaml", "own.yaml")):
            Path(name).write_text(blocks("own-networks.md", language)[0])
        mmvae("make-dataset", "polymnist", "--format", "png")
        shutil.make_archive("PolyMNIST", "zip", "data/polymnist/png")
        mmvae("make-dataset", "mnist-svhn-text", "--limit", "40")
        mmvae("make-dataset", "celeba", "--source", "CELEBA")
        mmvae("make-dataset", "polymnist", "--digits", "embedded", "--limit", "40", "--out", "data/polymnist_embedded")
        for command in carried_out(["train", "quickstart", "--run", "RUN"]):
            mmvae(*command)
        patch_classifiers(patch)
        for protocol in ("default", "released"):
            mmvae(*carried_out(["evaluate", "--ckpt", "RUN", "--protocol", protocol])[0])
        shutil.copytree("RUN", "runs/quickstart-seed0")
    return folder


def carried_out(words):
    """The commands that stand for ``words``: small data, one epoch, classifiers that are not asked to be good. A study
    over seeds or a grid is planned only."""
    command, rest = typer.main.get_command(app), list(words)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    can = {option for parameter in command.params for option in parameter.opts} - set(words)
    force = [*words, "--force"] if "--force" in can else words
    if words[0] == "make-dataset":
        force = ["5" if before == "--validation" else word for before, word in zip(["", *force], force, strict=False)]
        return [[*force, "--limit", "40"] if "--limit" in can else force]
    if words[0] == "evaluate":
        return [force if "--items" in words else [*force, "--items", "20"]]
    if words[0] != "train" or "--list" in words:
        return [force]
    if {"--dry-run", *STUDY} & set(words):
        rest = [word for word in words if not word.startswith("training.batch_size=")]
        return [[*rest, "training.batch_size=2", *(["--dry-run"] if "--dry-run" in can else [])]]
    return list(trainings(command.make_context("train", rest).params))


def trainings(said):
    """A short run of each recipe, in the folder that the command would give it; its evaluation where asked for."""
    overrides = [word for word in said["overrides"] or [] if "=" in word]
    for recipe in [said["recipe"], *(word for word in said["overrides"] or [] if "=" not in word)]:
        asked = [*overrides, *([f"training.seed={said['seed']}"] if said["seed"] is not None else [])]
        folder = said["run"] or default_folder(load(recipe, asked), asked)
        kept = [override for override in overrides if override.partition("=")[0] not in SMALL]
        small = [f"{key}={value}" for key, value in SMALL.items()]
        seed = [] if said["seed"] is None else ["--seed", str(said["seed"])]
        code = [] if said["code"] is None else ["--code", str(said["code"])]
        shutil.rmtree(folder, ignore_errors=True)
        yield ["train", recipe, *kept, *small, *seed, *code, "--data-dir", str(said["data_dir"]), "--run", str(folder)]
        if said["evaluate_too"]:
            yield ["evaluate", "--ckpt", str(folder), "--items", "20", "--force", *code]


ELSEWHERE = {"export.md"}  # test_python_pages.py
HERE = [page for page in PAGES if page.name not in ELSEWHERE and any("mmvae" in words for words in lines(page))]


@pytest.mark.parametrize("page", HERE, ids=lambda page: page.name)
def test_the_commands_of_a_page_are_carried_out(page, ready, tmp_path, monkeypatch):
    shutil.copytree(ready, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    patch_classifiers(monkeypatch)
    for words in lines(page):
        of_cells = any("cells" in word for word in words) and find_spec("anndata") is None
        if words[0] == "mmvae" and "RECIPE" not in words and not of_cells:
            for command in carried_out(words[1:]):
                mmvae(*command)
