"""What stands on the pages about Python and about ways out does what they say: it is run, block after block."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mmvae_cli.cli import app
from mmvae_cli.run.layout import Run
from mmvae_cli.store import Store

from random_runs import DIGITS, digits_store, make_run

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with data/ and a run, runs/mine, of m0, m1 and text."""
    digits_store(tmp_path / "data" / "digits")
    Run(make_run(tmp_path / "runs" / "mine", "digits", DIGITS)).set_status("finished", epoch=3, step=4)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands(page: str) -> list[list[str]]:
    """The words after mmvae of every command on a page, comments cut off."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (DOCS / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [words[1:] for words in lines if words and words[0] == "mmvae"]


def run(words: list[str]) -> str:
    """What a command prints on stdout; it has to end well."""
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, (words, done.output, done.exception)
    return done.stdout


def test_the_page_about_python(workplace):
    known = {}
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / "python.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    for block in blocks:
        exec(block, known)
        if "open_run" in block:
            opened = known["run"]
    assert opened.modalities == ("m0", "m1", "text")
    assert known["run"].modalities == known["pairs"].modalities == ("picture", "word")
    assert np.isfinite(known["latents"]).all()
    assert 0 < len(known["found"].items) < 10


def test_the_program_on_the_page_about_the_dataset_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "dataset-folder.md").read_text("utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    exec(program, {})
    made = Store(tmp_path / "data/mine")
    assert {name: part.kind for name, part in made.info.modalities.items()} == {"front": "image", "word": "text"}
    assert made.count("test") == 200


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_commands_of_the_page_about_ways_out(workplace):
    """But for those that need a network, and W&B, MLflow and ONNX, which tests/export drives."""
    for package in ("anndata", "tensorboard"):
        pytest.importorskip(package, reason=f"the package {package} is not installed")
    for words in commands("export.md"):
        if not {"--push", "hf://USER/NAME", "wandb", "mlflow", "onnx"} & set(words):
            run(words)
    made = {path.name for path in workplace.rglob("*") if path.is_file()}
    assert made >= {"latents.test.npz", "latents.csv", "latents.h5ad", "runs.csv"}
    assert (workplace / "hub/mine/README.md").is_file()
    assert (workplace / "runs/mine/tensorboard").is_dir()


def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path, monkeypatch):
    """Its training is cut short here: what it does is tested, not how well."""
    import matplotlib

    matplotlib.use("agg", force=True)
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((DOCS / "notebook.ipynb").read_text("utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert any('"epochs": 20' in cell for cell in cells)
    known = {}
    for cell in cells:
        exec(cell.replace('"epochs": 20', '"epochs": 1'), known)
    assert known["drawn"].shape == (10, 3, 1, 8, 8)
    assert known["flat"].shape == (len(known["latents"].items), 2)
    known["plt"].close("all")


def test_the_notebook_is_kept_with_what_it_shows():
    notebook = json.loads((DOCS / "notebook.ipynb").read_text("utf-8"))
    shown = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
    assert {output["output_type"] for output in shown} == {"stream", "execute_result", "display_data"}
    assert sum("image/png" in output.get("data", {}) for output in shown) == 2
