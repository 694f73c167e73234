"""The regularisers of the joint posterior: order, direction, special cases, and Monte Carlo against closed forms."""

import math

import pytest
import torch

from mmvae_cli.model.distributions import Gaussian, at, kl
from mmvae_cli.model.posterior import Family
from mmvae_cli.model.prior import Prior
from mmvae_cli.model.regularisers import PRIORS, Joint, of_the_mixture, to_experts, total_correlation
from mmvae_cli.recipe.families import powerset

SINGLETONS = ((0,), (1,), (2,))


def experts(apart=1.0, count=3, batch=4, size=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Gaussian(*(apart * torch.randn(2, count, batch, size, dtype=torch.double, generator=generator)))


def joint(q, subsets=SINGLETONS, samples=1, seed=0):
    """The joint posterior of a family without prior expert; ``samples``: rows are repeated, so that each draws z so
    often."""
    q = Gaussian(*(part.repeat(1, samples, 1) for part in q))
    family = Family(tuple(subsets), len(q.mean))
    components = family.components(q)
    noise = torch.randn(components.mean.shape, dtype=torch.double, generator=torch.Generator().manual_seed(seed))
    z = components.sample(noise)
    return Joint(q, components, components, components, z, family.inside.double(), None, Prior("normal", 2))


def over_samples(values, samples):
    """(S, samples * B) -> (S, B), the mean."""
    return values.unflatten(1, (samples, -1)).mean(1)


def test_mixture_is_below_geometric_is_below_pairwise():
    """For equal weights and no N0: the mixture minimises the mean KL of its members to a common density."""
    q = experts(0.7)
    mixture = over_samples(PRIORS["mixture"](joint(q, samples=4000), 0.0), 4000).mean(0)
    dynamic, pairwise = (PRIORS[name](joint(q), 0.0).mean(0) for name in ("dynamic", "pairwise"))
    assert (mixture > 0).all()
    assert (mixture < dynamic).all()
    assert (dynamic < pairwise).all()


def test_no_expert_is_further_from_the_mixture_than_log_m():
    far = over_samples(PRIORS["mixture"](joint(experts(6.0), samples=500), 0.0), 500)
    assert (far <= math.log(3) + 1e-9).all()
    assert far.max().item() == pytest.approx(math.log(3), abs=0.05)


def test_the_dynamic_prior_is_the_geometric_mean_with_n0():
    """mmJSD: R = sum_j pi_j KL(q_j || f), q_0 = N0, pi uniform over the M + 1 of them."""
    q = experts()
    t = torch.cat([1 / (q.logvar.exp() + 1e-8), torch.full((1, 4, 2), 1 / (1 + 1e-8), dtype=torch.double)])
    mu = torch.cat([q.mean, torch.zeros(1, 4, 2, dtype=torch.double)])
    t_f = t.mean(0)
    mu_f = (t * mu).mean(0) / t_f
    expected = 0.5 * (t_f / t + (mu - mu_f).square() * t_f - 1 + t.log() - t_f.log()).sum(-1).mean(0)
    torch.testing.assert_close(PRIORS["dynamic"](joint(q), None).mean(0), expected)


def test_the_dynamic_prior_of_a_share_of_one_is_n0_itself():
    found = PRIORS["dynamic"](joint(experts()), 1.0)
    torch.testing.assert_close(found, torch.zeros_like(found), atol=1e-7, rtol=0)


@pytest.mark.parametrize("name", ["dynamic", "mixture", "pairwise"])
def test_experts_that_agree_cost_nothing_and_experts_that_are_n0_nothing_beside_it(name):
    one = experts(count=1)
    equal = Gaussian(*(part.repeat(3, 1, 1) for part in one))
    zero = torch.zeros(3, 4, 2, dtype=torch.double)
    for q, share in ((equal, 0.0), (Gaussian(zero, zero), 0.25)):
        found = PRIORS[name](joint(q), share)
        torch.testing.assert_close(found, torch.zeros_like(found), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["mixture", "pairwise"])
def test_a_share_of_one_is_the_standard_prior(name):
    q = experts(0.5)
    found = over_samples(PRIORS[name](joint(q, samples=6000), 1.0), 6000)
    torch.testing.assert_close(found, joint(q).components.kl_to_prior(), atol=0.06, rtol=0.03)


def test_pairwise_kls_are_those_of_all_pairs_and_know_their_direction():
    q = experts()
    own = joint(q).components
    among = torch.stack([torch.stack([kl(at(own, m), at(own, n)) for n in range(3)]).mean(0) for m in range(3)])
    torch.testing.assert_close(PRIORS["pairwise"](joint(q), 0.3), 0.3 * own.kl_to_prior() + 0.7 * among)
    backwards = torch.stack([torch.stack([kl(at(own, n), at(own, m)) for n in range(3)]).mean(0) for m in range(3)])
    assert not torch.allclose(among, backwards)


def test_a_single_expert_is_its_own_prior():
    q = joint(experts(count=1), ((0,),))
    for name in ("mixture", "pairwise"):
        torch.testing.assert_close(PRIORS[name](q, None), torch.zeros(1, 4, dtype=torch.double))


def test_total_correlation_is_the_sum_over_the_experts_with_their_shares_of_precision():
    """sum_m KL(q || q_m) = 1/2 sum_d [1 - M - sum_m ln r_m + sum_m t_m mu_m^2 - t mu^2] with r_m = t_m / t, which add
    up to 1 (Hwang et al. 2021)."""
    q = experts()
    whole = joint(q, ((0, 1, 2),))
    t = 1 / (q.logvar.exp() + 1e-8)
    total = t.sum(0)
    mean = (t * q.mean).sum(0) / total
    r = t / total
    torch.testing.assert_close(r.sum(0), torch.ones(4, 2, dtype=torch.double))
    expected = 0.5 * (1 - 3 - r.log().sum(0) + (t * q.mean.square()).sum(0) - total * mean.square()).sum(-1)
    torch.testing.assert_close(to_experts(whole).sum(0)[0], expected, rtol=1e-6, atol=1e-6)
    for alpha in (None, 0.9):
        a = 3 / 4 if alpha is None else alpha
        found = total_correlation(whole, alpha)[0]
        torch.testing.assert_close(found, (1 - a) * whole.components.kl_to_prior()[0] + a / 3 * expected)


def test_total_correlation_of_equal_experts_is_known():
    q = Gaussian(torch.full((3, 1, 2), 0.4, dtype=torch.double), torch.full((3, 1, 2), -0.5, dtype=torch.double))
    each = to_experts(joint(q, ((0, 1, 2),)))
    torch.testing.assert_close(each, torch.full_like(each, 2 / 2 * (1 / 3 - 1 + math.log(3))))


def test_total_correlation_over_a_family_leaves_outsiders_out():
    """An expert that is infinitely sharp and outside a subset must not spoil the subset's KL, nor its gradient."""
    mean, logvar = (part.clone().requires_grad_() for part in experts())
    with torch.no_grad():
        logvar[2] = -2000.0
    family = joint(Gaussian(mean, logvar), ((0,), (1,), (0, 1)))
    found = to_experts(family)
    assert (found[2] == 0).all()
    assert (found[0, 1] == 0).all()
    found.sum().backward()
    assert torch.isfinite(mean.grad).all()
    assert torch.isfinite(logvar.grad).all()


def test_a_singleton_has_no_total_correlation():
    q = joint(experts())
    found = total_correlation(q, None)
    torch.testing.assert_close(found, 0.5 * q.components.kl_to_prior(), atol=1e-6, rtol=1e-6)


def test_the_mixture_itself_is_closer_to_the_prior_than_its_components():
    q = experts()
    many = joint(q, powerset(range(3)), samples=3000)
    mixture = over_samples(of_the_mixture(many), 3000).mean(0)
    assert (mixture < joint(q, powerset(range(3))).components.kl_to_prior().mean(0)).all()
    only = torch.tensor([0.0, -torch.inf, -torch.inf], dtype=torch.double)
    one = over_samples(of_the_mixture(joint(q, samples=3000)._replace(log_weights=only)), 3000)[0]
    torch.testing.assert_close(one, joint(q).components.kl_to_prior()[0], rtol=0.05, atol=0.05)
