"""Studies: planned whole before anything starts, written as a job array, or run one after the other."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import typer
from driving import completed
from tiny_recipes import tiny

from mmvae_cli import __version__
from mmvae_cli import recipe as recipes
from mmvae_cli.cli import app
from mmvae_cli.disk import sealed
from mmvae_cli.process import signals
from mmvae_cli.process.errors import Failure, Stopped, UsageProblem
from mmvae_cli.run import result
from mmvae_cli.run.layout import Run, default_folder
from mmvae_cli.study import commands, here, launch
from mmvae_cli.study import plan as study

import made_runs
from stores import image_store

SHAPE = (3, 8, 8)
MMVAE = [sys.executable, "-m", "mmvae_cli"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with two recipes of one tiny dataset."""
    image_store(tmp_path / "data" / "tiny", shape=SHAPE)
    for method in ("mopoe", "mvae"):
        (tmp_path / f"{method}.yaml").write_text(tiny(3, name=method, shape=SHAPE, model__method=method).dump())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def mmvae(*words, code=0, **environment):
    done = completed(*words, **{"COLUMNS": "300"} | environment)
    assert done.returncode == code, f"{done.returncode}: {done.stderr}\n{done.stdout}"
    assert "Traceback" not in done.stderr
    return done


# planning ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", [3]), ("0-4", [0, 1, 2, 3, 4]), ("0,2,7", [0, 2, 7]), ("0-2, 9", [0, 1, 2, 9])]
)
def test_seeds(text, seeds):
    assert study.parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "4-0", "1,,2", "-1", "0-", "1.5", "0-99999999", "99999999999", "1,0-2"])
def test_wrong_seeds_are_refused(text):
    with pytest.raises(UsageProblem, match="--seeds"):
        study.parse_seeds(text)


def test_grid_values_may_be_lists():
    grid = study.parse_grid(["model.subsets=[[m0],[m1,m2]],{max_size: 2},all", "objective.beta=1, 2.5"], [])
    assert grid == {"model.subsets": ["[[m0],[m1,m2]]", "{max_size: 2}", "all"], "objective.beta": ["1", "2.5"]}


@pytest.mark.parametrize(
    ("texts", "overrides", "message"),
    [
        (["objective.beta"], [], "is not KEY=VALUE,VALUE"),
        (["=1,2"], [], "is not KEY=VALUE,VALUE"),
        (["objective.beta=1,"], [], "is not KEY=VALUE,VALUE"),
        (["objective.beta=1", "objective.beta=2"], [], "already set"),
        (["objective.beta=1,2"], ["objective.beta=3"], "already set"),
        (["training.seed=1,2"], [], "use --seeds|tells seeds apart"),
    ],
)
def test_a_wrong_grid_is_refused(texts, overrides, message):
    with pytest.raises(UsageProblem, match=message):
        study.parse_grid(texts, overrides)


def test_a_study_of_one_run_may_have_a_folder_of_its_own(place):
    done = mmvae(
        "train", "mopoe.yaml", "objective.beta=2", "--seed", "3", "--run", "runs/mine", "--evaluate", "--dry-run"
    )
    commands = [shlex.split(line) for line in done.stdout.splitlines()]
    assert [command[:2] for command in commands] == [["mmvae", "train"], ["mmvae", "evaluate"]]
    assert "--run runs/mine" in done.stdout
    assert "--ckpt runs/mine" in done.stdout
    Run(Path("runs/mine")).prepare(tiny(3, name="mopoe", shape=SHAPE, objective__beta=9.0))
    done = mmvae("train", "mopoe.yaml", "--run", "runs/mine", "--evaluate", code=2)
    assert "runs/mine was trained with another recipe: objective.beta: 9.0 -> 1.5" in done.stderr


def test_the_product_of_recipes_points_and_seeds_in_order_each_in_its_own_folder(place):
    runs = study.plan(["mopoe.yaml", "mvae.yaml"], ["training.epochs=3"], ["objective.beta=0.5,1"], "0-1")
    assert [str(run.folder) for run in runs] == [
        f"runs/{name}-beta={beta}-epochs=3-seed{seed}"
        for name in ("mopoe", "mvae") for beta in ("0.5", "1") for seed in (0, 1)
    ]  # fmt: skip
    assert runs[3].arguments() == ["mopoe.yaml", "training.epochs=3", "objective.beta=1", "--seed", "1"]
    assert (runs[3].recipe.objective.beta, runs[3].recipe.training.seed) == (1.0, 1)


def test_a_run_of_a_study_is_the_run_of_the_single_command(place):
    (run,) = study.plan(["mopoe.yaml"], [], ["objective.beta=2"], "4")
    alone = recipes.load("mopoe.yaml", ["objective.beta=2", "training.seed=4"])
    assert run.recipe == alone
    assert run.folder == default_folder(alone, ["objective.beta=2"]) == Path("runs/mopoe-beta=2-seed4")
    assert run.arguments() == ["mopoe.yaml", "objective.beta=2", "--seed", "4"]


def test_one_run_has_one_folder_however_it_is_asked_for(place):
    """What the recipe says anyway and another spelling of a number change nothing, alone and in a study."""
    for same in ([], ["objective.beta=1.5"], ["objective.beta=1.50", "model.prior_expert=full", "training.epochs=2"]):
        done = mmvae("train", "mopoe.yaml", *same, "--dry-run")
        assert done.stderr.endswith(" runs/mopoe-seed0\n")
    (planned,) = study.plan(["mopoe.yaml"], ["training.epochs=2"], ["objective.beta=15e-1"], "0")
    assert planned.folder == Path("runs/mopoe-seed0")
    folders = {default_folder(tiny(2), [f"training.learning_rate={text}"]) for text in ("1e-4", "0.0001", "1.0E-4")}
    assert folders == {Path("runs/tiny-learning_rate=0.0001-seed0")}
    assert recipes.that_matter("mopoe.yaml", ["model.method=mvae", "model.subsets=full_and_singletons"]) == [
        "model.method=mvae"
    ]


def test_keys_that_end_alike_stay_apart_in_the_name():
    recipe = tiny(2, shape=SHAPE)
    first = default_folder(recipe, ["modalities.m0.scale=1", "modalities.m1.scale=2"])
    second = default_folder(recipe, ["modalities.m0.scale=2", "modalities.m1.scale=1"])
    assert first != second
    assert str(default_folder(recipe, ["modalities.m0.scale=1"])) == "runs/tiny-scale=1-seed0"


def test_a_name_too_long_for_a_folder_ends_with_a_digest_of_all_that_was_asked():
    recipe = tiny(2, shape=SHAPE)
    many = [f"modalities.m{m}.{key}" for m in range(5) for key in ("likelihood=laplace", "scale=0.75", "width=64")]
    names = {default_folder(recipe, [*many, f"objective.beta={beta}"]).name for beta in (1, 2)}
    assert len(names) == 2
    assert all(len(name) < 210 and name.startswith("tiny-") and name.endswith("-seed0") for name in names)
    values = {default_folder(recipe, [f"model.subsets={'a' * 90}{end}"]) for end in "bc"}
    assert len(values) == 2  # apart behind the eightieth character too


def test_a_dry_run_says_the_shortened_name_alone_and_in_a_study(place):
    many = [f"modalities.m{m}.{key}" for m in range(2) for key in ("likelihood=normal", "scale=0.5")]
    many += [f"{section}.{key}" for section, key in [
        ("training", "learning_rate=0.00012345678901234567"), ("training", "log_every=10"),
        ("training", "keep_checkpoints=3"), ("evaluation", "importance_samples=3"), ("objective", "beta=1.25"),
        ("model", "latent_dim=4"),
    ]]  # fmt: skip
    name = default_folder(recipes.load("mopoe.yaml", many), many).name
    assert len(name) > 190
    assert mmvae("train", "mopoe.yaml", *many, "--dry-run").stderr.endswith(f" runs/{name}\n")
    assert f"--run runs/{name} " in mmvae("train", "mopoe.yaml", *many, "--seeds", "0", "--dry-run").stdout
    Run(place / "runs" / name).prepare(recipes.load("mopoe.yaml", many))  # a folder can have this name


def test_all_errors_come_at_once_and_before_anything_starts(place):
    done = mmvae("train", "mopoe.yaml", "nonesuch", "--grid", "objective.beta=1,-1", "--grid", "model.latent_dim=4,x",
                 "--seeds", "0-1", code=2)  # fmt: skip
    for message in ("no recipe 'nonesuch'", "objective.beta: has to be 0 or more, not -1", "model.latent_dim: has",
                    "nothing was started"):  # fmt: skip
        assert message in done.stderr
    assert done.stderr.count("no recipe 'nonesuch'") == 1
    assert not (place / "runs").exists()


def test_twins_and_shared_folders_are_refused(place):
    with pytest.raises(UsageProblem, match="are the same run"):
        study.plan(["mopoe.yaml", "mopoe.yaml"], [], [], None)
    with pytest.raises(UsageProblem, match="are the same run"):
        study.plan(["mopoe.yaml"], [], ["objective.beta=1,1.0"], None)
    with pytest.raises(UsageProblem, match="beta_private: would do nothing: there are no private latents"):
        study.plan(["mopoe.yaml"], [], ["objective.beta_private=1,2"], None)
    (place / "other.yaml").write_text(tiny(2, name="mopoe", shape=SHAPE).dump())
    with pytest.raises(UsageProblem, match="would share the folder runs/mopoe-seed0"):
        study.plan(["mopoe.yaml", "other.yaml"], [], [], None)


@pytest.mark.parametrize(("changes", "done"), [
    ({}, True), ({"settings.classifiers": "default, version 3"}, False), ({"settings.classifiers": None}, False),
    ({"latent": None}, False), ({"coherence": None}, False), ({"settings.items": 7}, False),
    ({"latent": None, "coherence": None, "reasons": {"latent": "no labels", "coherence": "no labels"}}, True),
    ({"run.epoch": 1}, False),
])  # fmt: skip
def test_an_evaluation_counts_where_it_is_complete_and_by_the_classifiers_of_today(changes, done, place):
    recipe = made_runs.recipe("polymnist", made_runs.VIEWS)
    folder = made_runs.make_run(place, recipe, "polymnist")
    limits = {name: getattr(recipe.evaluation, name) for name in ("subsets_per_size", "items", "likelihood_items")}
    found = sealed.read_json(folder / "evaluation.json")
    found["settings"] |= limits | {"classifiers": result.classifiers_of(recipe.evaluation)}
    for key, value in changes.items():
        section, _, name = key.rpartition(".")
        (found[section] if section else found)[name] = value
    sealed.write_json(folder / "evaluation.json", found)
    planned = study.PlannedRun("made", (), None, recipe, folder)
    assert study.is_done(planned, evaluate=True) == done
    assert study.is_done(planned, evaluate=False)


def test_another_recipe_in_a_runs_folder_is_found_before_the_start(place):
    Run(Path("runs/mopoe-seed1")).prepare(tiny(3, name="mopoe", shape=SHAPE, objective__beta=9.0, training__seed=1))
    done = mmvae("train", "mopoe.yaml", "--seeds", "0-1", code=2)
    assert "runs/mopoe-seed1 was trained with another recipe: objective.beta: 9.0 -> 1.5" in done.stderr
    assert not Path("runs/mopoe-seed0").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--seeds", "0-1", "--run", "x"], 2, "--run names one folder"),
        (["--seeds", "0-1", "--seed", "1"], 2, "--seed and --seeds"),
        (["--seeds", "0-1", "training.seed=1"], 2, "training.seed and --seeds"),
        (["--launch", "slurm", "--resume", "never"], 2, "--resume never"),
        (["--slurm", "partition=gpu"], 2, "no effect without --launch slurm"),
        (["--launch", "slurm", "--slurm", "array=0-9"], 2, "numbers its tasks itself"),
        (["--launch", "slurm", "--slurm", "chdir=/"], 2, "decides this itself"),
        (["--launch", "slurm", "--slurm", "Bad thing"], 2, "no sbatch option"),
        (["--launch", "slurm", "--slurm", "time=1", "--slurm", "time=2"], 2, "given twice"),
        (["--seeds", "0-999", "--grid", "objective.beta=1,2"], 2, "2,000 runs"),
        (["--launch", "slurm", "--data-dir", "nowhere"], 3, "no dataset at nowhere/tiny"),
        (["--launch", "local", "--data-dir", "nowhere"], 3, "nothing was started"),
    ],
)
def test_wrong_studies_end_with_one_message(words, code, message, place):
    with pytest.raises(Failure) as caught:
        app(["train", "mopoe.yaml", *words], standalone_mode=False)
    assert message in f"{caught.value} {caught.value.hint}"
    assert caught.value.code == code
    assert not (place / "runs").exists()


def test_a_study_under_torchrun_is_refused(place, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UsageProblem, match="starts its own processes"):
        app(["train", "mopoe.yaml", "--seeds", "0-1"], standalone_mode=False)


def test_an_unknown_place_to_launch_is_one_message(place):
    assert "cloud" in mmvae("train", "mopoe.yaml", "--launch", "cloud", code=2).stderr


@pytest.mark.parametrize(("words", "hint"), [
    (["objective.beta", "5"], "objective.beta=5"), (["beta", "5"], "objective.beta=5"),
    (["modalities.m0.scale", "5"], "modalities.m0.scale=5"), (["objective.beta"], "objective.beta=VALUE"),
])  # fmt: skip
def test_a_setting_and_its_value_in_two_words_are_told_to_be_one(words, hint, place):
    with pytest.raises(UsageProblem, match="is a setting, not a recipe") as caught:
        app(["train", "mopoe.yaml", *words], standalone_mode=False)
    assert hint in caught.value.hint


def test_a_path_with_an_equals_sign_is_a_recipe(place):
    Path("a=b.yaml").write_text(Path("mvae.yaml").read_text())
    assert study.split_words(["mopoe.yaml", "a=b.yaml", "objective.beta=1"]) == (
        ["mopoe.yaml", "a=b.yaml"], ["objective.beta=1"],
    )  # fmt: skip


# which code runs -----------------------------------------------------------------------------------------------------


def unprotected():
    """The environment of a user who never heard of PYTHONSAFEPATH, which the tests set for themselves."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}


@pytest.mark.parametrize("name", ["random.py", "types.py", "mmvae_cli/__init__.py"])
def test_runs_take_nothing_from_the_folder_in_which_they_are_started(name, place):
    (place / name).parent.mkdir(exist_ok=True)
    (place / name).write_text("raise SystemExit('other code was run')")
    done = subprocess.run([*commands.PROGRAM, "--version"], env=unprotected(), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"mmvae {__version__}\n"), done.stderr


def test_a_clone_that_is_not_installed_starts_its_own_code(place):
    shutil.copytree(Path(launch.__file__).parents[1], place / "clone" / "mmvae_cli")
    command = [
        sys.executable,
        "-m",
        "mmvae_cli",
        "train",
        "../mopoe.yaml",
        "--seeds",
        "0-1",
        "--launch",
        "slurm",
        "--dry-run",
    ]
    script = subprocess.run(command, cwd="clone", env=unprotected(), capture_output=True, text=True, check=True).stdout
    program = next(line for line in script.splitlines() if line.startswith("mmvae=("))
    assert program == f"mmvae=({sys.executable} -P {place}/clone/mmvae_cli/__main__.py)"
    (place / "clone" / "mmvae_cli" / "__init__.py").write_text("__version__ = 'the clone'")
    words = shlex.split(program.removeprefix("mmvae=(").removesuffix(")"))
    done = subprocess.run([*words, "--version"], env=unprotected(), capture_output=True, text=True)
    assert done.stdout == "mmvae the clone\n", done.stderr


@pytest.mark.slow
def test_a_study_beside_a_clone_trains_what_was_called(place):
    (place / "random.py").touch()
    (place / "mmvae_cli").mkdir()
    (place / "mmvae_cli" / "__main__.py").write_text("raise SystemExit('other code was run')")
    console_script = Path(sys.executable).with_name("mmvae")
    done = subprocess.run(
        [console_script, "train", "mopoe.yaml", "--seeds", "0-1"], env=unprotected(), capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    assert [Run(Path(f"runs/mopoe-seed{seed}")).status()["state"] for seed in (0, 1)] == ["finished"] * 2


# the job array -------------------------------------------------------------------------------------------------------


def dry_script(*words):
    return mmvae("train", "mopoe.yaml", "mvae.yaml", "--seeds", "0-1", "--launch", "slurm", "--dry-run", *words).stdout


def test_the_script_has_one_task_for_each_run_and_submits_nothing(place):
    script = dry_script("--slurm", "partition=gpu", "--slurm", "gres=gpu:a100:1", "--slurm", "exclusive")
    header = [line for line in script.splitlines() if line.startswith("#SBATCH")]
    for line in ("array=0-3", "partition=gpu", "gres=gpu:a100:1", "exclusive", "requeue", "signal=TERM@120"):
        assert f"#SBATCH --{line}" in header
    assert "  3) run=runs/mvae-seed1 what=(mvae.yaml --seed 1) ;;" in script.splitlines()
    assert not (place / "runs").exists()
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_the_number_of_tasks_at_a_time_can_be_limited(place):
    assert "#SBATCH --array=0-3%2\n" in dry_script("--slurm", "array=%2")


def test_directives_replace_the_ones_of_the_study(place):
    script = dry_script("--slurm", "signal=B:USR1@60", "--slurm", "comment=two words")
    assert "#SBATCH --signal=B:USR1@60" in script
    assert "TERM@120" not in script
    assert '#SBATCH --comment="two words"' in script


@pytest.mark.parametrize(
    "name", ["plain", "two words", "semi;#x", "back\\slash", 'it\'s "q"', "Tom's", "ü %j $HOME `x`"]
)
def test_a_folder_of_any_name_stands_in_the_script_as_sbatch_reads_it(name, place, monkeypatch):
    """It reads quotes, backslashes and ``#`` as a shell does."""
    (place / name).mkdir()
    for recipe in place.glob("*.yaml"):
        (place / name / recipe.name).write_text(recipe.read_text())
    monkeypatch.chdir(place / name)
    script = dry_script("--slurm", "comment=" + name)
    read = [shlex.split(line.removeprefix("#SBATCH "), comments=True) for line in script.splitlines()
            if line.startswith("#SBATCH")]  # fmt: skip
    assert [f"--chdir={Path.cwd()}"] in read
    assert [f"--comment={name}"] in read


def test_a_folder_whose_name_no_line_can_say_is_refused(place, monkeypatch):
    (place / "new\nline").mkdir()
    (place / "new\nline" / "mvae.yaml").write_text((place / "mvae.yaml").read_text())
    monkeypatch.chdir(place / "new\nline")
    done = mmvae("train", "mvae.yaml", "--seeds", "0,1", "--launch", "slurm", "--dry-run", code=2)
    assert "this cannot stand in a #SBATCH line" in done.stderr


FAKES = {
    "srun": 'printf "%s\\n" "$@" >> calls; exit ${FAKE_CODE:-0}',
    "scontrol": 'echo "$@" >> requeued',
    "sbatch": 'cp "${@: -1}" submitted; echo "$@" > sbatch_arguments; [ -z "$FAKE_REFUSAL" ] && echo "4711;here" || '
    '{ echo "sbatch: error: $FAKE_REFUSAL" >&2; exit 1; }',
}


@pytest.fixture
def cluster(place, monkeypatch):
    """Commands of Slurm that write down how they were called."""
    (place / "bin").mkdir()
    for name, body in FAKES.items():
        path = place / "bin" / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place / 'bin'}:{os.environ['PATH']}")
    return place


@pytest.mark.parametrize(("code", "requeued"), [(0, ""), (4, ""), (75, "requeue 9_1\n")])
def test_a_task_calls_what_it_should_and_asks_for_its_own_requeue_on_75(code, requeued, cluster, monkeypatch):
    Path("a b.yaml").write_text(Path("mvae.yaml").read_text())
    script = mmvae("train", "mopoe.yaml", "a b.yaml", "model.subsets=[[m0,m1,m2],[m0]]", "model.method=custom",
                   "model.prior_expert=none", "--launch", "slurm", "--dry-run", "--evaluate").stdout  # fmt: skip
    environment = os.environ | {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_JOB_ID": "9", "SLURM_JOB_ID": "9"}
    done = subprocess.run(["bash"], input=script, text=True, env=environment | {"FAKE_CODE": str(code)}, check=False)
    assert done.returncode == code
    calls = Path("calls").read_text()
    assert "train\na b.yaml\nmodel.subsets=[[m0,m1,m2],[m0]]\n" in calls
    assert ("evaluate\n--ckpt\n" in calls) == (code == 0)
    assert (Path("requeued").read_text() if Path("requeued").exists() else "") == requeued


def test_submitting_prints_the_job_and_what_to_do_next(cluster):
    done = mmvae("train", "mopoe.yaml", "--seeds", "0-1", "--launch", "slurm")
    assert done.stdout == "4711\n"
    (script,) = (cluster / "runs" / "slurm").glob("*.sbatch")
    assert Path("submitted").read_text() == script.read_text()
    assert Path("sbatch_arguments").read_text() == f"--parsable {script.relative_to(cluster)}\n"
    assert "compare: mmvae compare runs/mopoe-seed0 runs/mopoe-seed1" in done.stderr


def test_what_is_edited_while_the_jobs_wait_is_not_what_they_train(cluster):
    kept, code = Path("mopoe.yaml").read_text(), "def net(spec, latents): ...\n"
    Path("nets.py").write_text(code)
    own = ["modalities.m0.network=own.net", "--code", "nets.py"]
    mmvae("train", "mopoe.yaml", "objective.beta=2", *own, "--launch", "slurm")
    Path("mopoe.yaml").write_text(kept.replace("name: mopoe", "name: another"))
    Path("nets.py").unlink()
    subprocess.run(["bash", "submitted"], env=os.environ | {"SLURM_ARRAY_TASK_ID": "0"}, check=True)
    words = Path("calls").read_text().splitlines()
    words = words[words.index("train") + 1 :]
    named, folder = words[0], words[words.index("--run") + 1]
    assert Path(named).parent == Path("runs/slurm")
    assert Path(named).read_text() == kept
    assert Path(words[words.index("--code") + 1]).read_text() == code
    (again,) = study.plan([named], words[1:3], [], None)
    assert str(again.folder) == folder, "by the copy the run has the same name"


@pytest.mark.parametrize(
    ("said", "job"),
    [
        ("Welcome to the cluster!\\n2 jobs of yours are waiting\\n4711;here", "4711"),
        ("4711\\nEstimated cost: 3 units", "4711"),
        ("Hello 12\\n  4711  ", "4711"),
    ],
)
def test_an_sbatch_that_greets_says_the_number_all_the_same(said, job, cluster):
    fake = (cluster / "bin" / "sbatch").read_text().replace('echo "4711;here"', f"printf '{said}\\n'")
    (cluster / "bin" / "sbatch").write_text(fake)
    assert mmvae("train", "mopoe.yaml", "--launch", "slurm").stdout == f"{job}\n"


def test_an_sbatch_that_says_no_number_is_one_line(cluster):
    (cluster / "bin" / "sbatch").write_text("#!/bin/bash\necho submitted\n")
    assert "said no job number: 'submitted'" in mmvae("train", "mopoe.yaml", "--launch", "slurm", code=1).stderr


def test_a_refusal_of_sbatch_is_one_line(cluster):
    done = mmvae("train", "mopoe.yaml", "--launch", "slurm", code=1, FAKE_REFUSAL="invalid partition specified: gpu")
    assert "error: sbatch refused runs/slurm/mopoe-" in done.stderr
    assert "invalid partition specified: gpu" in done.stderr


def test_no_sbatch_on_this_machine_is_one_line(place, monkeypatch):
    done = mmvae("train", "mopoe.yaml", "--launch", "slurm", code=2, PATH="/nowhere")
    assert "there is no sbatch on this machine" in done.stderr
    assert not (place / "runs").exists()


# on this machine -----------------------------------------------------------------------------------------------------


def test_the_dry_run_prints_commands_that_can_be_run(place):
    lines = mmvae("train", "mopoe.yaml", "--seeds", "0-1", "--grid", "objective.beta=1,2", "--dry-run").stdout
    commands = [shlex.split(line) for line in lines.splitlines()]
    assert len(commands) == 4
    assert commands[3][:2] == ["mmvae", "train"]
    train = typer.main.get_command(app).commands["train"]
    asked = train.make_context("train", commands[3][2:]).params
    assert (asked["recipe"], list(asked["overrides"]), asked["seed"]) == ("mopoe.yaml", ["objective.beta=2"], 1)
    assert Path(asked["run"]) == Path("runs/mopoe-beta=2-seed1")


@pytest.mark.slow
def test_runs_one_after_the_other_skips_the_finished_and_goes_on_after_a_diverged_one(place):
    done = mmvae("train", "mopoe.yaml", "--grid", "training.learning_rate=1e30,1e-3", code=4)
    bad, good = "runs/mopoe-learning_rate=1e+30-seed0", "runs/mopoe-seed0"  # 1e-3 is what the recipe says
    assert f"1 of 2 runs are not done: {bad} (exit 4)" in done.stderr
    assert done.stdout.splitlines() == [bad, good]
    assert [Run(Path(name)).status()["state"] for name in (bad, good)] == ["diverged", "finished"]
    again = mmvae("train", "mopoe.yaml", "--grid", "training.learning_rate=1e-3,1e-4", "--evaluate", code=0)
    assert again.stdout.splitlines()[0] == good
    assert Run(Path(good)).evaluation_path().is_file()
    last = mmvae("train", "mopoe.yaml", "--grid", "training.learning_rate=1e-3,1e-4", "--evaluate")
    assert last.stderr.count("is finished: skipped; scores: runs/mopoe-") == 2
    measured = sealed.read_json(Run(Path(good)).evaluation_path())
    sealed.write_json(Run(Path(good)).evaluation_path(), measured | {"coherence": None})
    partly = mmvae("train", "mopoe.yaml", "--grid", "training.learning_rate=1e-3,1e-4", "--evaluate")
    assert partly.stderr.count("is finished: skipped") == 1
    assert result.load(Run(Path(good)).evaluation_path()).coherence
    longer = recipes.load("mopoe.yaml").with_epochs(recipes.load("mopoe.yaml").training.epochs + 1)
    Path("mopoe.yaml").write_text(longer.dump())
    mmvae("train", "mopoe.yaml", "training.learning_rate=1e-3")
    mmvae("train", "mopoe.yaml", "--grid", "training.learning_rate=1e-3,1e-4", "--evaluate")
    assert result.load(Run(Path(good)).evaluation_path()).run.epoch == longer.training.epochs
    assert mmvae("compare", *last.stdout.split()).returncode == 0
    missing = mmvae("compare", *last.stdout.split(), bad, "runs/never").stderr
    assert f"left out: {bad}: training diverged" in missing
    assert "left out: runs/never: does not exist" in missing


@pytest.mark.slow
def test_a_study_of_data_built_anew_is_refused_before_anything_starts(place):
    mmvae("train", "mopoe.yaml", "--seeds", "0")
    shutil.rmtree(place / "data" / "tiny")
    image_store(place / "data" / "tiny", shape=SHAPE, seed=1)
    for words in (["--seeds", "0-1"], ["--seed", "0"]):
        assert "runs/mopoe-seed0 was trained on other data" in mmvae("train", "mopoe.yaml", *words, code=3).stderr
    assert not Path("runs/mopoe-seed1").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_a_signal_is_passed_on_and_ends_the_study(number, code, place):
    command = [*MMVAE, "train", "mopoe.yaml", "training.epochs=100000", "--seeds", "0-1"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # fmt: skip
    first = Path("runs/mopoe-epochs=100000-seed0")
    while not Run(first).metrics_path.is_file():
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.05)
    child.send_signal(number)
    said, messages = child.communicate(timeout=30)
    assert (child.returncode, said) == (code, "")
    assert "checkpoint written at step" in messages
    assert Run(first).status()["state"] == "stopped"
    assert not Path("runs/mopoe-epochs=100000-seed1").exists()


@pytest.mark.slow
def test_the_same_signal_from_two_sides_is_one_request(place):
    """Slurm signals every process of a step, and a study or torchrun passes the signal on."""
    command = [*MMVAE, "train", "mopoe.yaml", "training.epochs=100000", "--run", "run"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not Run(Path("run")).metrics_path.is_file():
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    assert "checkpoint written at step" in child.communicate(timeout=30)[1]
    assert child.returncode == 75


FAKE_RUN = """\
trap 'kill $!; exit 75' TERM
sleep ${FAKE_SECONDS:-0.2} &
echo "$1 begin ${CUDA_VISIBLE_DEVICES-none} ${OMP_NUM_THREADS-none} $*" >> calls
[ "$1" = evaluate ] && echo "the scores"
echo "a message" >&2
wait $!
echo "$1 end ${CUDA_VISIBLE_DEVICES-none}" >> calls
case "$*" in $FAKE_FAILURE) exit 4;; esac
"""


@pytest.fixture
def fake_runs(place, monkeypatch):
    """Runs that write down what they are told; called with seeds and options, it gives the lines of ``calls``."""
    (place / "fake").write_text(FAKE_RUN)
    monkeypatch.setattr(here, "PROGRAM", ["bash", str(place / "fake")])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def started(seeds, jobs=1, **options):
        planned = study.plan(["mopoe.yaml"], [], [], seeds)
        launch.run(planned, commands.RunOptions(Path("data"), **options), "local", [], dry_run=False, jobs=jobs)
        return [line.split() for line in Path("calls").read_text().splitlines()]

    return started


def test_the_worst_exit_code_is_the_studys(fake_runs, monkeypatch):
    monkeypatch.setenv("FAKE_FAILURE", "train*--seed 1*")
    with pytest.raises(Failure, match=r"1 of 3 runs are not done: runs/mopoe-seed1 \(exit 4\)") as caught:
        fake_runs("0-2", evaluate=True)
    assert caught.value.code == 4
    begun = [line.split()[0] for line in Path("calls").read_text().splitlines() if " begin " in line]
    assert begun == ["train", "evaluate", "train", "train", "evaluate"], "what diverged is not evaluated"


@pytest.mark.parametrize("name", ["mopoe.yaml", "nets.py"])
def test_what_is_edited_while_the_study_runs_trains_no_other_experiment(name, fake_runs, place, capfd):
    (place / "nets.py").write_text("def mine(spec, latents): ...\n")
    (place / "fake").write_text(
        FAKE_RUN + f"echo '# edited' >> {name}\nsed -i 's/batch_size: .*/batch_size: 3/' {name}\n"
    )
    with pytest.raises(
        Failure, match=r"2 of 3 runs are not done: runs/mopoe-seed1 \(exit 2\), runs/mopoe-seed2 \(exit 2\)"
    ):
        fake_runs("0-2", code=place / "nets.py")
    assert sum(" begin " in line for line in Path("calls").read_text().splitlines()) == 1
    assert re.search(
        f"runs/mopoe-seed1 is not started: .*{name} was edited after the study began", capfd.readouterr().err
    )


def test_evaluating_a_study_shows_the_scores_as_messages(fake_runs, capfd):
    fake_runs("0", evaluate=True)
    said = capfd.readouterr()
    assert (said.out, said.err.count("the scores")) == ("runs/mopoe-seed0\n", 1)
    fake_runs("0", evaluate=True, quiet=True)
    assert "the scores" not in capfd.readouterr().err


@pytest.mark.parametrize("known", ["environment", "nvidia-smi"])
def test_runs_at_a_time_have_a_gpu_each(known, fake_runs, place, monkeypatch, capfd):
    if known == "environment":
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, 7")
    else:
        (place / "nvidia-smi").write_text("#!/bin/bash\nprintf '5\\n7\\n'\n")
        (place / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    calls = fake_runs("0-3", jobs=2)
    busy = set()
    most = 0
    for _, what, gpu, *_ in calls:
        assert gpu in ("5", "7")
        assert (gpu in busy) == (what == "end"), "one at a time on each"
        busy ^= {gpu}
        most = max(most, len(busy))
    assert most == 2
    said = capfd.readouterr()
    assert said.out.split() == [f"runs/mopoe-seed{seed}" for seed in range(4)]
    assert all(f"\nmopoe-seed{seed}: a message\n" in f"\n{said.err}" for seed in range(4))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    assert {call[2] for call in fake_runs("0-1", jobs=2)[len(calls) :]} == {"5"}
    assert "2 runs at a time on 1 GPU(s): some share one" in capfd.readouterr().err


def test_runs_at_a_time_share_the_cores(fake_runs, monkeypatch):
    monkeypatch.setattr(here.cores, "usable", lambda: 7)
    monkeypatch.setattr(here.cores, "allowed", lambda: None)
    monkeypatch.setattr(here.cores, "told", lambda: False)
    Run(Path("runs/mopoe-seed1")).prepare(recipes.load("mopoe.yaml", ["training.seed=1"]))
    Run(Path("runs/mopoe-seed1")).set_environment({"threads": 1})  # goes on with the threads it has
    first = fake_runs("0-2", jobs=3, device="cpu")
    assert sorted(call[3] for call in first if call[1] == "begin") == ["1", "2", "2"]
    monkeypatch.setattr(here.cores, "told", lambda: True)  # OMP_NUM_THREADS=1, the user's own
    again = fake_runs("0-2", jobs=3, device="cpu")[len(first) :]
    assert {call[3] for call in again if call[1] == "begin"} == {"1"}


def test_a_signal_reaches_all_runs_at_a_time_and_begins_no_more(fake_runs, monkeypatch):
    monkeypatch.setenv("FAKE_SECONDS", "60")

    def signal_when_two_are_going():
        while not Path("calls").exists() or Path("calls").read_text().count(" begin ") < 2:
            time.sleep(0.05)
        monkeypatch.setattr(signals, "_received", "SIGTERM")

    threading.Thread(target=signal_when_two_are_going, daemon=True).start()
    with pytest.raises(Stopped, match="0 of 3 runs are through"):
        fake_runs("0-2", jobs=2)
    assert Path("calls").read_text().count(" begin ") == 2
    assert " end " not in Path("calls").read_text()


def test_runs_at_a_time_are_for_this_machine(place):
    with pytest.raises(UsageProblem, match="--jobs has no effect with --launch slurm") as caught:
        app(["train", "mopoe.yaml", "--seeds", "0-1", "--launch", "slurm", "--jobs", "2"], standalone_mode=False)
    assert caught.value.hint == "give --slurm array=%2"
