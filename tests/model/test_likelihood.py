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


COUNTS = torch.tensor([[3.0], [0.0], [10.0]])


def raw(mean):
    """The decoder's output whose softplus is ``mean``."""
    return math.log(math.expm1(mean))


def counted(theta):
    output = torch.tensor([raw(2.0), math.log(theta)]).expand(1, 3, 1, 2)
    return Likelihood("negative_binomial").log_prob(output, COUNTS)[0].tolist()


def test_counts():
    assert counted(1.5) == pytest.approx([-2.167035, -1.270947, -5.558735], abs=1e-5)
    poisson = Likelihood("poisson").log_prob(torch.full((1, 1, 1), raw(2.0)), torch.tensor([[3.0]])).item()
    assert poisson == pytest.approx(-1.712318, abs=1e-6)
    assert Likelihood("poisson").mean(torch.tensor([raw(2.0)])).item() == pytest.approx(2)
    assert Likelihood("negative_binomial").mean(torch.tensor([[raw(2.0), 0.0]])).item() == pytest.approx(2)


def test_counts_with_little_dispersion_are_poissons():
    mean = torch.full((1, 3, 1), raw(2.0)).double()
    output = torch.stack([mean, torch.full_like(mean, math.log(1e6))], -1)
    found = Likelihood("negative_binomial").log_prob(output, COUNTS.double())
    assert found[0, 0].item() == pytest.approx(-1.712319, abs=2e-6)
    torch.testing.assert_close(found, Likelihood("poisson").log_prob(mean, COUNTS.double()), atol=1e-4, rtol=0)


def test_counts_equal_torch():
    output, logarithm = torch.randn(2, 4, 5), torch.randn(2, 4, 5)
    x, mean, t = torch.randint(0, 9, (4, 5)).float(), torch.nn.functional.softplus(output), logarithm.exp()
    reference = torch.distributions.NegativeBinomial(t, probs=mean / (mean + t)).log_prob(x).sum(-1)
    found = Likelihood("negative_binomial").log_prob(torch.stack([output, logarithm], -1), x)
    torch.testing.assert_close(found, reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["poisson", "negative_binomial"])
@pytest.mark.parametrize("extreme", [-1e4, 1e4])
def test_counts_stay_finite_whatever_a_decoder_says(family, extreme):
    output = torch.full((1, 1, 2) if family == "poisson" else (1, 1, 2, 2), extreme, requires_grad=True)
    likelihood = Likelihood(family)
    shown = output if family == "poisson" else torch.stack([output[..., 0], torch.zeros(1, 1, 2)], -1)
    density = likelihood.log_prob(shown, torch.tensor([[0.0, 7.0]]))
    density.sum().backward()
    assert density.isfinite().all()
    assert output.grad.isfinite().all()


@pytest.mark.parametrize(("x", "density"), [(1.0, -0.403186), (0.0, -1.103186)])
def test_bernoulli(x, density):
    found = Likelihood("bernoulli").log_prob(torch.full((1, 1, 1), 0.7), torch.tensor([[x]])).item()
    assert found == pytest.approx(density, abs=1e-6)
    assert Likelihood("bernoulli").mean(torch.zeros(1)).item() == 0.5


def test_onehot():
    output = torch.tensor([[[0.2, -1.0, 0.5]]]).expand(1, 3, 3)
    found = Likelihood("onehot").log_prob(output, torch.eye(3))[0].tolist()
    assert found == pytest.approx([-0.974957, -2.174957, -0.674957], abs=1e-6)
    assert Likelihood("onehot").mean(output).sum(-1).tolist() == [pytest.approx([1, 1, 1])]


@pytest.mark.parametrize("family", ["laplace", "normal"])
def test_a_learned_scale_is_the_constant_one_of_its_value(family):
    output, x = torch.randn(3, 4, 2, 5), torch.randn(4, 2, 5)
    both = torch.stack([output, torch.full_like(output, math.log(0.6))], -1)
    torch.testing.assert_close(
        Likelihood(family, "learned").log_prob(both, x), Likelihood(family, 0.6).log_prob(output, x)
    )
    assert torch.equal(Likelihood(family, "learned").mean(both), output)
