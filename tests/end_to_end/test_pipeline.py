"""The five verbs through the installed command, on a tiny PolyMNIST of embedded digits."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from driving import completed
from tiny_recipes import tiny

from mmvae_cli.disk import sealed
from mmvae_cli.evaluation import classifier_training, classifiers
from mmvae_cli.evaluation.encoding import Evaluation
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.store import Store

MMVAE = [sys.executable, "-m", "mmvae_cli"]


def mmvae(*arguments, code=0, cwd=None, **environment):
    return checked(completed(*arguments, cwd=cwd, **{"NO_COLOR": "1", "COLUMNS": "300"} | environment), code)


def process(*arguments):
    """The same as a process of its own."""
    return checked(subprocess.run([*MMVAE, *map(str, arguments)], capture_output=True, text=True, check=False))


def checked(done, code=0):
    assert done.returncode == code, f"{done.returncode}: {done.stderr}\n{done.stdout}"
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr + done.stdout, "no control characters outside a terminal"
    return done


def last_line(done):
    return done.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A dataset of three views and one trained, evaluated run of each method."""
    root = tmp_path_factory.mktemp("world")
    built = process(
        "make-dataset", "polymnist", "--digits", "embedded", "--views", 3, "--limit", 400, "--data-dir", root
    )
    assert last_line(built) == str(root / "polymnist")
    _classifiers(root / "polymnist")
    for method in ("mvae", "mmvae", "mopoe"):
        recipe = tiny(3, name=f"tiny_{method}", dataset__name="polymnist", model__method=method,
                      training__batch_size=32, evaluation__likelihood_items=16)  # fmt: skip
        (root / f"{method}.yaml").write_text(recipe.dump())
        done = mmvae("train", root / f"{method}.yaml", "--data-dir", root, "--run", root / "runs" / method)
        assert last_line(done) == str(root / "runs" / method)
        run = process if method == "mopoe" else mmvae
        done = run("evaluate", "--ckpt", root / "runs" / method, "--data-dir", root, "--force")
        assert last_line(done) == str(root / "runs" / method / "evaluation.json")
    return root


def _classifiers(data):
    """Classifiers of both protocols, kept with the data, that have learned for a moment only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier_training, "MOST", 20)
        for protocol in ("default", "released"):
            recipe = tiny(3, evaluation__protocol=protocol)
            classifiers.ready(Evaluation(MultimodalVAE(recipe), recipe, Store(data), torch.device("cpu")), force=True)


def test_evaluation_is_complete_and_in_bounds(world):
    found = json.loads((world / "runs" / "mopoe" / "evaluation.json").read_text())
    subsets = ["m0", "m1", "m2", "m0+m1", "m0+m2", "m1+m2", "m0+m1+m2"]
    assert list(found["latent"]["values"]) == list(found["likelihood"]["joint"]) == subsets
    assert all(0 <= value <= 1 for value in found["latent"]["values"].values())
    assert 0 <= found["coherence"]["joint"] <= 1
    assert set(found["coherence"]["conditional"]["m0"]) == {"m0", "m1", "m2"}
    ceiling = -0.405465 * 2352
    assert all(value < ceiling * 3 for value in found["likelihood"]["joint"].values())
    assert found["likelihood"]["count"] == 16
    assert found["dataset"]["stand_in"]
    assert found["protocol"] == "default"


def test_evaluating_again_gives_the_same_bytes(world):
    path = world / "runs" / "mopoe" / "evaluation.json"
    before = path.read_bytes()
    done = mmvae("evaluate", "--ckpt", world / "runs" / "mopoe", "--data-dir", world, "--force", "--json")
    assert path.read_bytes() == before
    assert json.loads(done.stdout) == sealed.read_json(path)


def test_one_metric_keeps_the_others(world):
    path = world / "runs" / "mmvae" / "evaluation.json"
    before = path.read_bytes()
    mmvae("evaluate", "--ckpt", world / "runs" / "mmvae", "--data-dir", world, "--metrics", "latent")
    assert path.read_bytes() == before


def test_the_released_protocol_is_another_file_that_says_so(world):
    mmvae("evaluate", "--ckpt", world / "runs" / "mvae", "--data-dir", world, "--protocol", "released", "--force")
    found = json.loads((world / "runs" / "mvae" / "evaluation.released.json").read_text())
    assert (found["protocol"], found["likelihood"]["grouping"]) == ("released", "released")
    assert found["settings"]["classifier_mode"] == "train"
    default = json.loads((world / "runs" / "mvae" / "evaluation.json").read_text())
    assert default["protocol"] == "default"
    assert {name for name, value in found["settings"].items() if value != default["settings"][name]} == {
        "latent_draw", "classifiers", "classifier_mode", "importance_samples", "importance_grouping",
        "incomplete_batches", "mixture_remainder", "attribute_scores", "attribute_average"}  # fmt: skip


def test_samples_of_a_fitted_mixture_are_another_file(world):
    run = world / "runs" / "mopoe"
    mmvae("evaluate", "--ckpt", run, "--data-dir", world, "--sampler", "gmm", "--metrics", "coherence", "--force")
    usual, drawn = (sealed.read_json(run / name) for name in ("evaluation.json", "evaluation.gmm.json"))
    assert (usual["settings"]["sampler"], drawn["settings"]["sampler"]) == ("prior", "gmm of 10")
    assert drawn["coherence"]["joint_samples"] == usual["coherence"]["joint_samples"] == 40
    assert drawn["coherence"]["conditional"] == usual["coherence"]["conditional"]
    done = mmvae("sample", "--ckpt", run, "--data-dir", world, "--kind", "prior", "--sampler", "gmm", "--json",
                 "--out", world / "drawn")  # fmt: skip
    assert json.loads(done.stdout)["sampler"] == "gmm"
    assert "fitting" not in done.stderr, "the mixture of the evaluation is used again"
    refused = mmvae("sample", "--ckpt", run, "--data-dir", world, "--kind", "swap", "--sampler", "gmm", code=2)
    assert "--sampler has no effect with --kind swap" in refused.stderr


def test_quality_is_measured_in_the_classifiers_features_and_compared(world):
    run = world / "runs" / "mmvae"
    done = mmvae("evaluate", "--ckpt", run, "--data-dir", world, "--metrics", "quality", "--force")
    found = sealed.read_json(run / "evaluation.json")
    assert found["latent"], "measured before with the same settings"
    assert set(found["quality"]["unconditional"]["frechet"]) == {"m0", "m1", "m2"}
    assert "FD (classifier), lower is better: 128 features" in done.stdout
    compared = mmvae("compare", run)
    assert "FD in the classifiers' features" in compared.stdout
    refused = mmvae("evaluate", "--ckpt", run, "--data-dir", world, "--metrics", "quality", "--features", "inception",
                    code=3)  # fmt: skip
    assert "no file of Inception's weights" in refused.stderr


def test_the_papers_classifiers_on_request_are_another_setting(world, tmp_path):
    run = shutil.copytree(world / "runs" / "mvae", tmp_path / "mvae")
    done = mmvae("evaluate", "--ckpt", run, "--data-dir", world, "--classifiers", "released", "--metrics", "coherence",
                 "--force")  # fmt: skip
    found = sealed.read_json(run / "evaluation.json")
    assert (found["protocol"], found["settings"]["classifier_mode"]) == ("default", "eval")
    assert found["settings"]["classifiers"].startswith("released, ")
    assert found["latent"] is None, "what other classifiers' evaluation had is in a file of its own"
    assert len(list(run.glob("evaluation.step-*.json"))) == 1
    assert "classifier of" not in done.stderr.replace("warning: the classifier of", ""), "none is trained again"
    lines = done.stdout.splitlines()
    assert next(line for line in lines if line.startswith("real data")).split()[2:] == [
        f"{found['coherence']['classifiers'][name]:.3f}" for name in ("m0", "m1", "m2")]  # fmt: skip


def test_sample_and_compare(world, tmp_path):
    done = mmvae("sample", "--ckpt", world / "runs" / "mopoe", "--kind", "prior", "--count", 5, "--data-dir", world,
                 "--out", tmp_path / "figures")  # fmt: skip
    assert Path(last_line(done)).exists()
    done = mmvae("compare", world / "runs", "--format", "json")
    assert len(json.loads(done.stdout)["groups"]) == 3
    done = mmvae("compare", world / "runs", "--format", "html", "--out", tmp_path / "report")
    assert Path(last_line(done)).suffix == ".html"


def test_training_again_is_done_already(world):
    done = mmvae("train", world / "mopoe.yaml", "--data-dir", world, "--run", world / "runs" / "mopoe")
    assert "is finished" in done.stderr


def test_a_run_trains_again_from_its_own_recipe_to_the_same_weights(world, tmp_path):
    mmvae("train", world / "runs" / "mopoe" / "recipe.yaml", "--data-dir", world, "--run", tmp_path / "again")
    names = [
        sorted((folder / "checkpoints").iterdir())[-1] for folder in (world / "runs" / "mopoe", tmp_path / "again")
    ]
    from mmvae_cli.run import checkpoint

    first, second = (checkpoint.load(path).tensors for path in names)
    assert all((first[name] == second[name]).all() for name in first)


def test_dry_run_needs_no_data_and_counts_parameters(tmp_path):
    done = mmvae("train", "polymnist_mopoe", "--dry-run", "objective.beta=5", cwd=tmp_path)
    assert "beta: 5" in done.stdout
    assert "14,056,975" in done.stderr
    assert "1,667,648" in done.stderr
    assert not list(tmp_path.iterdir())


ERRORS = [
    (["train", "nonesuch"], 2, "no recipe 'nonesuch'"),
    (["train", "quickstart", "objective.bta=1"], 2, "unknown key (did you mean 'beta'?)"),
    (["train", "quickstart", "--data-dir", "nowhere"], 3, "no dataset at nowhere/polymnist_embedded"),
    (["train", "{runs}/../mopoe.yaml", "--device", "cuda"], 2, "no usable CUDA device"),
    (["train", "{runs}/../mopoe.yaml", "--device", "tpu"], 2, "use auto, cpu, cuda or cuda:N\n"),
    (["train", "{runs}/../mopoe.yaml", "--device", "mps"], 2, "cuda or cuda:N; Apple's GPUs have no 64-bit floats"),
    (["train"], 2, "RECIPE"),
    (["evaluate", "--ckpt", "nowhere"], 3, "nowhere is no run"),
    (["evaluate", "--ckpt", "{runs}/mopoe", "--metrics", "fid"], 2, "use any of latent,coherence,likelihood"),
    (["evaluate", "--ckpt", "{runs}/mopoe", "--checkpoint", "nothing"], 3, "no checkpoint nothing"),
    (["sample", "--ckpt", "{runs}/mopoe", "--kind", "conditional", "--given", "m7"], 2, "m7"),
    (["compare", "nowhere"], 3, "nowhere"),
    (["make-dataset", "polymnist", "--digits", "nowhere"], 3, "nowhere"),
    (["make-dataset", "polymnist", "--views", "0"], 2, "--views"),
    (["nonesuch"], 2, "nonesuch"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), ERRORS, ids=lambda value: str(value)[:40])
def test_every_error_is_one_clear_line_with_its_exit_code(arguments, code, message, world, tmp_path):
    if "cuda" in arguments:
        import torch

        if torch.cuda.is_available():
            pytest.skip("this machine has a GPU")
    filled = [argument.format(runs=world / "runs") for argument in arguments]
    if "--data-dir" not in filled and filled[0] in ("train", "evaluate", "sample"):
        filled += ["--data-dir", str(world)]
    done = mmvae(*filled, code=code, cwd=tmp_path)
    assert message in done.stderr


@pytest.mark.parametrize("verb", ["evaluate", "sample"])
def test_a_run_is_measured_on_the_data_it_was_trained_on_with_its_own_weights(verb, world, tmp_path):
    """Data built anew may have its training items in their test split; another run's numbers are another run's."""
    shutil.copytree(world / "runs", tmp_path / "runs")
    mmvae("make-dataset", "polymnist", "--digits", "embedded", "--views", 3, "--seed", 1, "--data-dir", tmp_path)
    done = mmvae(verb, "--ckpt", tmp_path / "runs" / "mopoe", "--data-dir", tmp_path, code=3)
    assert "was trained on other data" in done.stderr
    other = sorted((world / "runs" / "mvae" / "checkpoints").iterdir())[-1]
    done = mmvae(verb, "--ckpt", world / "runs" / "mopoe", "--checkpoint", other, "--data-dir", world, code=3)
    assert f"{other} is no checkpoint of {world / 'runs' / 'mopoe'}" in done.stderr


def test_protocol_released_says_how_many_items_it_used(world):
    """355 embedded test digits of which the first 256 make a complete batch; here there are fewer than that."""
    run = world / "runs" / "mopoe"
    count = json.loads((run / "evaluation.json").read_text())["dataset"]["count"]
    mmvae("evaluate", "--ckpt", run, "--data-dir", world, "--protocol", "released", "--metrics", "latent")
    released = json.loads((run / "evaluation.released.json").read_text())
    assert released["dataset"]["count"] == (count - count % 256 if count > 256 else count)
    (run / "evaluation.released.json").unlink()


def test_a_damaged_store_is_named(world, tmp_path):
    import shutil

    copy = tmp_path / "polymnist"
    shutil.copytree(world / "polymnist", copy)
    path = copy / "train" / "m1.npy"
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)
    done = mmvae("train", world / "mopoe.yaml", "--data-dir", tmp_path, "--run", tmp_path / "run", code=3)
    assert f"{path} does not match its checksum" in done.stderr
    path.write_bytes(content[:-9])
    done = mmvae("train", world / "mopoe.yaml", "--data-dir", tmp_path, "--run", tmp_path / "run", code=3)
    assert "bytes, not" in done.stderr
    path.unlink()
    done = mmvae("train", world / "mopoe.yaml", "--data-dir", tmp_path, "--run", tmp_path / "run", code=3)
    assert f"{path} is missing" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_one_line(world, tmp_path):
    tmp_path.chmod(0o500)
    done = mmvae("train", world / "mopoe.yaml", "--data-dir", world, "--run", tmp_path / "run", code=1)
    assert "cannot write" in done.stderr


def test_a_file_in_the_way_of_a_run_is_one_line(world, tmp_path):
    (tmp_path / "run").write_text("")
    done = mmvae("train", world / "mopoe.yaml", "--data-dir", world, "--run", tmp_path / "run", code=1)
    assert "cannot write" in done.stderr


def test_an_evaluation_of_something_else_is_kept_beside_the_new_one(world, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(world / "runs" / "mvae", run)
    before = (run / "evaluation.json").read_bytes()
    command = ["evaluate", "--ckpt", run, "--data-dir", world, "--metrics", "latent"]
    done = mmvae(*command, "--subsets-per-size", "1")
    (aside,) = run.glob("evaluation.step-*.json")
    assert aside.read_bytes() == before
    assert str(aside) in done.stderr
    mmvae(*command)
    assert len(list(run.glob("evaluation.step-*.json"))) == 2
