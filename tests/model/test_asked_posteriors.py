"""q(z | X_A) of a trained model, for every method of the table: the fusion of the experts in A, or one for each row."""

import pytest
import torch
from tiny_recipes import of_method

from mmvae_cli.model.distributions import Gaussian, Laplace, at
from mmvae_cli.model.fusion import FUSIONS, Members
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.recipe import METHODS

ROWS, SIZE = 8, 6
SPLIT = ("mmvae", "mmvae_iwae", "mmvae_dreg", "mmjsd", "mmvaeplus", "mmvm", "independent")
"""Mixtures of single experts: a row has one of A's."""
PRIOR_EXPERT = {"mvae": (1, 2, 3), "mvae_original": (1, 2, 3), "dmvae": (2, 3), "mopoe": (3,)}
"""For how many modalities given, of three, N(0, I) is a factor of the product; elsewhere for none."""
NAMED = [name for name in METHODS if name != "custom"]


def asked(method, subset, **changes):
    """The experts (3, B, D) of random data, and the posterior (B, D) of a subset."""
    torch.manual_seed(1)
    model = MultimodalVAE(of_method(method, shape=(3, 8, 8), **changes))
    spread = torch.rand(3, ROWS, SIZE) + 0.3
    mean = torch.randn(3, ROWS, SIZE)
    experts = Laplace(mean, spread) if model.latent_family == "laplace" else Gaussian(mean, spread.log())
    return experts, at(model.posteriors(experts, [subset]), 0)


@pytest.mark.parametrize("method", [name for name in NAMED if name not in SPLIT])
@pytest.mark.parametrize("subset", [(1,), (0, 2), (0, 1, 2)])
def test_it_is_the_fusion_of_what_is_given(method, subset):
    experts, found = asked(method, subset)
    prior = torch.tensor([float(len(subset) in PRIOR_EXPERT.get(method, ()))])
    of = METHODS[method].preset.get("model.fusion", "product")
    more = {"correlation": 0.4} if of == "consensus" else {}
    alone = Gaussian(*(part[list(subset)] for part in experts))
    expected = FUSIONS[of](alone, Members(torch.ones(1, len(subset)), prior), **more)
    for part, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(part, wanted[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", SPLIT)
def test_rows_of_a_mixture_of_experts_are_split_over_those_that_are_given(method):
    experts, found = asked(method, (0, 2))
    for part, own in zip(found, experts, strict=True):
        torch.testing.assert_close(part, torch.cat([own[0, : ROWS // 2], own[2, ROWS // 2 :]]))


@pytest.mark.parametrize("method", NAMED)
def test_log_p_of_x_is_defined_where_there_is_a_joint_model(method):
    assert bool(of_method(method).has_no_likelihood) == (method == "mmvm")
    if method == "mmvm":
        assert of_method(method, objective__prior="mixture").has_no_likelihood.startswith(
            "there is no joint generative"
        )
