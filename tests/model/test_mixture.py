"""The mixture that stands for the prior: what it is fitted to comes back, and its samples depend on nothing else."""

import pytest
import torch

from mmvae_cli.model.mixture import Mixture, fit


@pytest.fixture(scope="module")
def known() -> Mixture:
    means = torch.tensor([[-4.0, 0.0, 1.0], [4.0, 2.0, -1.0]], dtype=torch.double)
    factors = torch.tensor([[[1.0, 0, 0], [0.5, 0.4, 0], [0, 0, 0.7]], [[0.3, 0, 0], [0, 1.0, 0], [0.2, -0.6, 0.5]]])
    return Mixture(torch.tensor([0.3, 0.7], dtype=torch.double), means, factors.double())


def test_what_is_drawn_from_a_mixture_is_fitted_again(known):
    found = fit(known.draw(20000, 3), 2, seed=0)
    order = found.means[:, 0].argsort()
    torch.testing.assert_close(found.weights[order], known.weights, atol=0.01, rtol=0)
    torch.testing.assert_close(found.means[order], known.means, atol=0.05, rtol=0)
    covariances = [factors @ factors.mT for factors in (found.factors[order], known.factors)]
    torch.testing.assert_close(*covariances, atol=0.05, rtol=0)


def test_one_component_is_the_gaussian_of_the_mean_and_covariance(known):
    latents = known.draw(500, 1)
    found = fit(latents, 1, seed=0)
    torch.testing.assert_close(found.means[0], latents.double().mean(0))
    covariance = torch.cov(latents.double().t(), correction=0) + 1e-6 * torch.eye(3)
    torch.testing.assert_close(found.factors[0] @ found.factors[0].t(), covariance)


def test_a_row_is_a_function_of_the_seed_and_its_number(known):
    many = known.draw(1000, 5)
    for count in (1, 7, 16, 255):
        assert torch.equal(known.draw(count, 5), many[:count])
    assert not torch.equal(known.draw(1000, 6), many)
    assert (many[:, 0] < 0).float().mean() == pytest.approx(0.3, abs=0.05)
    assert (many[:-1, 0] < 0).logical_xor(many[1:, 0] < 0).float().mean() > 0.3, "components are mixed, not in order"


def test_few_items_share_a_covariance_and_have_no_more_components_than_there_are():
    latents = torch.randn(12, 8, generator=torch.Generator().manual_seed(0))
    found = fit(latents, 10, seed=0)
    assert torch.equal(found.factors[0], found.factors[-1])
    assert len(fit(latents[:3], 10, seed=0).weights) == 3


@pytest.mark.parametrize(("latents", "why"), [
    (torch.zeros(1, 4), "two training items"), (torch.full((5, 2), torch.nan), "not finite"),
])  # fmt: skip
def test_what_cannot_be_fitted_says_why(latents, why):
    with pytest.raises(ValueError, match=why):
        fit(latents, 2, seed=0)


def test_constant_latents_are_drawn_as_they_are():
    drawn = fit(torch.ones(50, 4), 1, seed=0).draw(10, 0)
    torch.testing.assert_close(drawn, torch.ones(10, 4), atol=0.02, rtol=0)
