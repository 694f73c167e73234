"""A tiny dataset and a run trained on it, shared by all hostile tests, which work on copies."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from driving import few_steps
from outcome_table import Outcomes
from tiny_recipes import tiny

from stores import image_store


@pytest.fixture
def outcomes(request) -> Outcomes:
    """Adds cases to the table of the terminal summary."""
    return Outcomes(request.node.user_properties)


@pytest.fixture(scope="session")
def original(tmp_path_factory) -> Path:
    """``data/tiny``, ``tiny.yaml`` and ``runs/a``: trained for two epochs, evaluated; two checkpoints.

    Made in this process, so that everything slow to import is there when a command is forked off.
    """
    from mmvae_cli.comparison.compare import compare
    from mmvae_cli.evaluation import command as evaluating
    from mmvae_cli.sampling import command as sampling
    from mmvae_cli.sampling.figures import FigureRequest
    from mmvae_cli.training import command as training

    root = tmp_path_factory.mktemp("hostile")
    image_store(root / "data" / "tiny", views=2, counts=(24, 12), classes=3)
    recipe = tiny(2, shape=(3, 8, 8), evaluation__latent_samples=20, evaluation__likelihood_items=4)
    (root / "tiny.yaml").write_text(recipe.dump())
    run, where = root / "runs" / "a", {"data_dir": root / "data", "device": "cpu", "verify": True}
    training.run(str(root / "tiny.yaml"), [], run=run, seed=None, resume="auto", dry_run=False, **where)
    with pytest.MonkeyPatch.context() as patch:
        few_steps(patch.setattr)
        evaluating.run(run, metrics=["latent", "coherence"], protocol=None, chosen=None, force=True, **where)
    sampling.run(
        run, FigureRequest("prior", None, None, ()), count=1, seed=0, chosen=None, out=root / "x", force=False, **where
    )
    compare([run], "json")
    shutil.rmtree(root / "x")
    assert len(list((run / "checkpoints").iterdir())) == 2
    return root


@pytest.fixture
def world(original, tmp_path) -> SimpleNamespace:
    """A copy to spoil: ``root``, and in it ``data``, ``run``, ``newest`` checkpoint, ``recipe``."""
    root = tmp_path / "world"
    shutil.copytree(original, root)
    newest = sorted((root / "runs" / "a" / "checkpoints").iterdir())[-1]
    return SimpleNamespace(root=root, data=root / "data" / "tiny", run=root / "runs" / "a", newest=newest,
                           recipe=root / "tiny.yaml")  # fmt: skip
