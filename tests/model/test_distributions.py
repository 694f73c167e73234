"""Latent distributions and their priors against torch's, quadrature and closed forms."""

import math

import pytest
import torch
from torch.distributions import Laplace as TorchLaplace
from torch.distributions import Normal

from mmvae_cli.model import distributions
from mmvae_cli.model.distributions import Gaussian, Laplace, at, joined, kl, of_mean_one, placed, scaled
from mmvae_cli.model.prior import AuxiliaryPriors, Prior


def laplaces(count=5, size=3):
    torch.manual_seed(0)
    return Laplace(torch.randn(count, size, dtype=torch.double), torch.rand(count, size, dtype=torch.double) + 0.2)


def gaussians(count=5, size=3):
    torch.manual_seed(1)
    return Gaussian(*torch.randn(2, count, size, dtype=torch.double))


def test_laplace_densities_and_kls_equal_torch():
    q, z = laplaces(), torch.randn(5, 3, dtype=torch.double)
    torch.testing.assert_close(q.log_prob(z), TorchLaplace(*q).log_prob(z).sum(-1))
    standard = TorchLaplace(torch.zeros(3, dtype=torch.double), torch.ones(3, dtype=torch.double))
    torch.testing.assert_close(q.kl_to_prior(), torch.distributions.kl_divergence(TorchLaplace(*q), standard).sum(-1))


def test_laplace_kl_equals_quadrature():
    q = Laplace(torch.tensor([0.7], dtype=torch.double), torch.tensor([0.4], dtype=torch.double))
    grid = torch.linspace(-20, 20, 400_001, dtype=torch.double)[:, None]
    log_q, log_p = q.log_prob(grid), Laplace(torch.zeros(1), torch.ones(1)).log_prob(grid)
    assert q.kl_to_prior().item() == pytest.approx(float((log_q.exp() * (log_q - log_p)).sum() * 1e-4), abs=1e-6)


def test_gaussian_kl_equals_torch_and_knows_its_direction():
    q, p = gaussians(), at(gaussians(), torch.tensor([1, 2, 3, 4, 0]))
    q_of_torch, p_of_torch = (Normal(one.mean, (one.logvar / 2).exp()) for one in (q, p))
    torch.testing.assert_close(kl(q, p), torch.distributions.kl_divergence(q_of_torch, p_of_torch).sum(-1))
    assert not torch.allclose(kl(q, p), kl(p, q))
    zero = torch.zeros_like(q.mean)
    torch.testing.assert_close(kl(q, Gaussian(zero, zero)), q.kl_to_prior())


def test_kls_of_sharp_agreeing_gaussians_keep_their_digits():
    """In single precision; a sum of squares minus the square of a sum would lose them."""
    logvar = torch.full((1, 512), -12.0)
    q, p = Gaussian(torch.full((1, 512), 3.0), logvar), Gaussian(torch.full((1, 512), 3.0005), logvar + 1e-3)
    exact = kl(Gaussian(*(part.double() for part in q)), Gaussian(*(part.double() for part in p)))
    torch.testing.assert_close(kl(q, p).double(), exact, rtol=2e-3, atol=0)


def test_scales_of_a_laplace_posterior_have_a_mean_of_one():
    raw = torch.randn(4, 8)
    found = distributions.posterior("laplace", torch.zeros(4, 8), raw)
    torch.testing.assert_close(found.scale.mean(-1), torch.full((4,), 1 + 1e-6))
    torch.testing.assert_close(found.scale - 1e-6, 8 * torch.softmax(raw, -1))
    assert isinstance(distributions.posterior("normal", raw, raw), Gaussian)


@pytest.mark.parametrize(("family", "absolute", "square"), [("normal", math.sqrt(2 / math.pi), 1), ("laplace", 1, 2)])
def test_noise_is_the_standard_one_of_its_family(family, absolute, square):
    generator = torch.Generator().manual_seed(0)
    noise = Prior(family, 2).noise(200_000, 2, device="cpu", generator=generator)
    assert noise.shape == (200_000, 2)
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert noise.abs().mean().item() == pytest.approx(absolute, rel=0.01)
    assert noise.square().mean().item() == pytest.approx(square, rel=0.02)
    again = Prior(family, 2).noise(200_000, 2, device="cpu", generator=torch.Generator().manual_seed(0))
    assert torch.equal(noise, again), "a function of the generator"


@pytest.mark.parametrize("q", [gaussians(), laplaces()], ids=["normal", "laplace"])
def test_a_learned_prior_is_the_standard_one_in_its_own_units(q):
    family = "laplace" if isinstance(q, Laplace) else "normal"
    prior = Prior(family, 3, learned=True).double()
    z = torch.randn(5, 3, dtype=torch.double)
    torch.testing.assert_close(prior.log_prob(z), Prior(family, 3).log_prob(z), msg="it starts as the standard one")
    with torch.no_grad():
        prior.raw.copy_(torch.tensor([0.5, -0.3, 1.0]))
    scale = of_mean_one(prior.raw).detach()
    assert scale.mean().item() == pytest.approx(1)
    own = scaled(type(q)(torch.zeros_like(z), torch.zeros_like(z) + (family == "laplace")), scale)
    torch.testing.assert_close(prior.log_prob(z), own.log_prob(z))
    torch.testing.assert_close(prior.sample(z), z * scale)
    for part, same in zip(prior.restored(prior.standardised(q)), q, strict=True):
        torch.testing.assert_close(part, same)
    # the KL to p(z) is the KL to the standard prior in the prior's units: by Monte Carlo
    samples = q.sample(prior.noise(400_000, 5, 3, device="cpu").double())
    estimate = (q.log_prob(samples) - prior.log_prob(samples)).mean(0)
    torch.testing.assert_close(prior.standardised(q).kl_to_prior(), estimate, rtol=0.02, atol=0.02)


def test_auxiliary_priors_have_a_scale_for_every_modality():
    priors = AuxiliaryPriors(2, 4)
    noise = torch.randn(6, 4)
    torch.testing.assert_close(priors.sample(0, noise), noise, msg="they start at scale 1")
    with torch.no_grad():
        priors.raw[1] = torch.tensor([1.0, 0, 0, 0])
    torch.testing.assert_close(priors.sample(1, noise), noise * 4 * torch.softmax(priors.raw[1], -1))
    torch.testing.assert_close(priors.sample(0, noise), noise)


def test_parts_are_taken_joined_and_placed():
    q = gaussians(4)
    whole = joined([at(q, slice(0, 1)), at(q, slice(1, 4))], 0)
    assert all(torch.equal(a, b) for a, b in zip(whole, q, strict=True))
    spread = placed(at(q, slice(0, 2)), (2, 0), 3)
    assert torch.equal(spread.mean[[2, 0]], q.mean[:2])
    assert spread.mean[1].abs().sum() == 0
