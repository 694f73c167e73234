"""Latents drawn from a mixture that is fitted to encoded training items and kept in the run."""

from dataclasses import replace

import pytest
import torch

from mmvae_cli.process.errors import Failure
from mmvae_cli.run import samplers
from mmvae_cli.run.layout import Run
from mmvae_cli.sampling import generation
from mmvae_cli.sampling.figures import FigureRequest, choose_figures


def prior_of(sampler):
    info = sampler.trained.store.info.modalities
    (figure,) = choose_figures(
        FigureRequest("prior"), {name: one.kind for name, one in info.items()}, sampler.model.private_dim
    )
    return generation.draw(sampler, figure, 20), generation.remark(sampler, figure)


@pytest.mark.parametrize("name", ["mmvae", "mopoe", "private"])
def test_a_mixture_takes_the_place_of_the_prior(sampler, runs, name):
    (usual, _), drawn = prior_of(sampler(name)), sampler(name, drawn_from="gmm")
    assert set(drawn.latents.mixtures) == (
        {"z", "private m0", "private m1", "private text"} if name == "private" else {"z"}
    )
    found, remark = prior_of(drawn)
    assert remark == "Latents come from the mixture fitted to encoded training items."
    assert found["z"].shape == usual["z"].shape
    assert (found["z"] != usual["z"]).all()
    means = drawn.latents.mixtures["z"].means
    assert abs(found["z"].mean((0, 1)) - means.mean(0).numpy()).mean() < abs(usual["z"] - means.mean(0).numpy()).mean()
    if name == "private":
        assert (found["private_m0"] != usual["private_m0"]).all()
    assert Run(runs[name]).sampler_path.is_file()


def test_the_kept_mixture_is_used_again_and_another_checkpoints_is_not(sampler, runs, monkeypatch, capsys):
    first = sampler("mvae", drawn_from="gmm").latents.mixtures["z"]
    monkeypatch.setattr(samplers, "_fit", lambda *args: pytest.fail("fitted again"))
    again = sampler("mvae", drawn_from="gmm").latents.mixtures["z"]
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    path = Run(runs["mvae"]).sampler_path
    content = path.read_bytes()
    fitted = []
    monkeypatch.setattr(samplers, "_fit", lambda *args: fitted.append(args) or {"z": first})
    monkeypatch.setattr(samplers, "ITEMS", 7)
    sampler("mvae", drawn_from="gmm")
    assert len(fitted) == 1
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    sampler("mvae", drawn_from="gmm")
    assert len(fitted) == 2
    assert "gmm.safetensors is damaged and will be made again" in capsys.readouterr().err


def test_a_mixture_of_other_weights_of_the_same_step_is_fitted_again(sampler):
    opened = sampler("mopoe", drawn_from="gmm").trained
    spec = sampler("mopoe").recipe.evaluation
    before = samplers._origin(opened, spec)
    assert before == samplers._origin(opened, spec)
    name, weight = next(pair for pair in opened.checkpoint.tensors.items() if pair[0].startswith("model."))
    other = replace(opened.checkpoint, tensors=opened.checkpoint.tensors | {name: weight + 1})
    assert before != samplers._origin(replace(opened, checkpoint=other), spec)


def test_what_cannot_be_fitted_is_a_plain_failure(sampler, monkeypatch):
    monkeypatch.setattr(samplers, "_encoded", lambda *args: {"z": torch.full((9, 3), torch.nan)})
    with pytest.raises(Failure, match="no mixture can be fitted to z: encoded items are not finite"):
        samplers._fit(sampler("mopoe").trained, sampler("mopoe").recipe.evaluation)
