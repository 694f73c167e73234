import math

import pytest
import torch

from mmvae_cli.model.likelihood import Likelihood, log_probabilities


@pytest.mark.parametrize(("x", "density"), [(0.0, -0.405465), (0.1, -0.538798), (1.0, -1.738798)])
def test_laplace_oracles(x, density):
    found = Likelihood("laplace", 0.75).log_prob(torch.zeros(1, 1, 1), torch.full((1, 1), x))
    assert found.item() == pytest.approx(density, abs=1e-6)


@pytest.mark.parametrize(
    ("dims", "ceiling"), [(784, -317.885), (3072, -1245.589), (2352, -953.654), (12288, -4982.355)]
)
def test_laplace_ceilings(dims, ceiling):
    x = torch.rand(1, dims)
    assert Likelihood("laplace", 0.75).log_prob(x[None], x).item() == pytest.approx(ceiling, abs=2e-3)


@pytest.mark.parametrize("family", ["laplace", "normal"])
def test_densities_equal_torch(family):
    output, x = torch.randn(3, 4, 2, 5), torch.randn(4, 2, 5)
    reference = {"laplace": torch.distributions.Laplace, "normal": torch.distributions.Normal}[family](output, 0.6)
    torch.testing.assert_close(Likelihood(family, 0.6).log_prob(output, x), reference.log_prob(x).sum((2, 3)))


def test_categorical_equals_torch():
    output, codes = torch.randn(3, 4, 8, 71), torch.randint(71, (4, 8))
    reference = torch.distributions.Categorical(logits=output).log_prob(codes.expand(3, 4, 8)).sum(-1)
    torch.testing.assert_close(Likelihood("categorical").log_prob(output, codes), reference)


def test_uniform_text_costs_log_71_a_character():
    for family in ("categorical", "categorical_released"):
        found = Likelihood(family).log_prob(torch.zeros(1, 1, 8, 71), torch.zeros(1, 8, dtype=torch.long))
        assert found.item() == pytest.approx(-8 * math.log(71), rel=1e-5)


@pytest.mark.parametrize(("size", "probability"), [(10, 0.046), (100, 0.26), (1e3, 0.77), (1e4, 0.971), (1e5, 0.997)])
def test_released_text_likelihood_rewards_unlikely_logits(size, probability):
    logits = torch.zeros(1, 71)
    logits[0, 3] = -size
    assert log_probabilities("categorical_released", logits)[0, 3].exp().item() == pytest.approx(probability, abs=6e-3)


def test_means_of_text_are_distributions():
    for family in ("categorical", "categorical_released"):
        mean = Likelihood(family).mean(torch.randn(2, 3, 8, 71))
        torch.testing.assert_close(mean.sum(-1), torch.ones(2, 3, 8))
