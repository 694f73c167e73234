"""Runs with random weights: every rule of sampling can be checked without training."""

from pathlib import Path

import pytest

from mmvae_cli.run import samplers, trained
from mmvae_cli.run.layout import Run
from mmvae_cli.sampling.generation import Sampler

from random_runs import DIGITS, FACES, digits_store, faces_store, make_run


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    digits_store(folder / "digits")
    faces_store(folder / "faces")
    return folder


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    made = {method: make_run(folder / method, "digits", DIGITS, method) for method in ("mvae", "mmvae", "mopoe")}
    made["private"] = make_run(folder / "private", "digits", DIGITS, private=2)
    made["faces"] = make_run(folder / "faces", "faces", FACES, private=3)
    return made


@pytest.fixture
def sampler(data, runs):
    """``sampler("mmvae", seed=1)``: a run opened for sampling; ``drawn_from`` its prior or a mixture."""

    def opened(name: str, seed: int = 0, drawn_from: str = "prior") -> Sampler:
        run = Run(runs[name])
        recipe = run.recipe()
        found = trained.load(run, recipe, None, data_dir=data, device="cpu", verify=False)
        spec = recipe.evaluation.model_copy(update={"sampler": drawn_from, "gmm_components": 2})
        return Sampler(found, recipe, seed, samplers.of_run(run, found, spec))

    return opened
