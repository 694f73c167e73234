"""The shipped job scripts: they parse, name options and recipes that exist, requeue on 75."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer

from mmvae_cli import recipe as recipes
from mmvae_cli.cli import app

FOLDER = next(iter(recipes.shipped().values())).parent / "slurm"
SCRIPTS = sorted(FOLDER.glob("*.sbatch"))
FAKES = {
    "srun": 'echo "$@" | sed "s/.*rank train/mmvae train/" >> calls; echo runs/here; exit ${FAKE_CODE:-0}',
    "scontrol": '[ "$1" = show ] && echo node1 || echo "$@" >> requeued',
}


def named(scripts):
    return pytest.mark.parametrize("script", scripts, ids=lambda path: path.name)


def test_the_three_scripts_are_beside_the_shipped_recipes():
    assert [path.name for path in SCRIPTS] == ["one_node.sbatch", "seeds_array.sbatch", "single_gpu.sbatch"]


@named(SCRIPTS)
def test_a_script_parses(script):
    subprocess.run(["bash", "-n", str(script)], check=True)


@named(SCRIPTS)
def test_every_option_of_mmvae_and_every_recipe_in_a_script_exists(script):
    command = typer.main.get_command(app)
    known = {name: {flag for option in verb.params for flag in option.opts} for name, verb in command.commands.items()}
    text = script.read_text()
    calls = re.findall(r"(?:srun |`|#   )mmvae ([a-z-]+)([^`|\n]*)", text)
    assert {"train", "make-dataset"} <= {verb for verb, _ in calls}
    for verb, rest in calls:
        assert verb in known, f"mmvae {verb}"
        assert set(re.findall(r"(?<=\s)--[a-z-]+", rest)) <= known[verb], f"mmvae {verb}{rest}"
    for recipe in re.findall(r"sbatch (?:--\S+ )*\w+\.sbatch (\w+)", text):
        assert recipe in recipes.shipped()


@named(SCRIPTS)
def test_a_script_asks_for_a_warning_and_may_be_requeued(script):
    directives = [line.split()[1] for line in script.read_text().splitlines() if line.startswith("#SBATCH")]
    names = [directive.partition("=")[0] for directive in directives]
    assert len(set(names)) == len(names)
    assert {"--requeue", "--signal=TERM@120", "--open-mode=append"} <= set(directives)


@named(SCRIPTS)
@pytest.mark.parametrize("code", [0, 4, 75])
def test_a_script_trains_what_it_is_given_and_requeues_its_own_task_on_75(script, code, tmp_path):
    for name, body in FAKES.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "9", "SLURM_JOB_NODELIST": "node1"}
    array = "array" in script.stem
    slurm |= {"SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "3"} if array else {}
    done = subprocess.run(
        ["bash", str(script), "my recipe.yaml", "model.subsets=[[m0],[m1]]"], cwd=tmp_path, check=False,
        env=os.environ | slurm | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "FAKE_CODE": str(code)},
    )  # fmt: skip
    assert done.returncode == code
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[0] == "mmvae train my recipe.yaml model.subsets=[[m0],[m1]]" + (" --seed 3" if array else "")
    assert calls[1:] == (["mmvae evaluate --ckpt runs/here"] if array and code == 0 else [])
    requeued = tmp_path / "requeued"
    assert requeued.exists() == (code == 75)
    if code == 75:
        assert shlex.split(requeued.read_text()) == ["requeue", "9_3" if array else "9"]


def test_the_scripts_go_into_the_wheel():
    import tomllib

    settings = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    included = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included == {"recipes": "mmvae_cli/recipes"}, "the whole folder, slurm/ with it"
