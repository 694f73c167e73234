"""Fusions, mixtures and block sizes against closed forms and the numeric oracles of the released fusion code."""

import math
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmvae_cli.model import fusion, kernels
from mmvae_cli.model.distributions import Gaussian, Laplace, at
from mmvae_cli.model.fusion import FUSIONS, Members
from mmvae_cli.model.posterior import Family, mixture_log_prob, stratified
from mmvae_cli.model.prior import Prior
from mmvae_cli.recipe.families import powerset


def oracle_experts() -> Gaussian:
    """M=3, B=14, D=2: mu_m[b,d] = 0.1 (m+1)(b+1) - 0.2 d, l_m[b,d] = -0.3 m + 0.05 b + 0.1 d."""
    m, b, d = torch.meshgrid(torch.arange(3.0), torch.arange(14.0), torch.arange(2.0), indexing="ij")
    return Gaussian(0.1 * (m + 1) * (b + 1) - 0.2 * d, -0.3 * m + 0.05 * b + 0.1 * d)


MOPOE = Family(tuple(powerset(range(3))), 3, "full")
MVAE_ALL = Family(tuple(powerset(range(3))), 3, "all")
MMVAE = Family(((0,), (1,), (2,)), 3, "none")
MEMBERS_OF_ALL = Members(torch.ones(1, 3, dtype=torch.double), torch.zeros(1, dtype=torch.double))
ROW0_MOPOE = [
    ((0.1, -0.1), (0, 0.1)), ((0.2, 0), (-0.3, -0.2)), ((0.3, 0.1), (-0.6, -0.5)),
    ((0.157444, -0.042556), (-0.854355, -0.754355)), ((0.229131, 0.029131), (-1.037488, -0.937488)),
    ((0.257444, 0.057444), (-1.154355, -1.054355)), ((0.177226, 0.015579), (-1.643255, -1.563386)),
]  # fmt: skip
ROW0_MVAE = [
    ((0.05, -0.047502), (-0.693147, -0.644397)), ((0.114889, 0), (-0.854355, -0.798139)),
    ((0.193697, 0.062246), (-1.037488, -0.974077)), ((0.110444, -0.028943), (-1.208918, -1.139831)),
    ((0.169183, 0.020933), (-1.340805, -1.26795)), ((0.195736, 0.042601), (-1.42839, -1.353287)),
    ((0.177226, 0.015579), (-1.643255, -1.563386)),
]  # fmt: skip


@pytest.mark.parametrize(("family", "rows"), [(MOPOE, ROW0_MOPOE), (MVAE_ALL, ROW0_MVAE)])
def test_products_equal_the_oracles(family, rows):
    found = family.components(oracle_experts())
    for s, (mean, logvar) in enumerate(rows):
        torch.testing.assert_close(found.mean[s, 0], torch.tensor(mean, dtype=torch.float32), atol=1e-6, rtol=0)
        torch.testing.assert_close(found.logvar[s, 0], torch.tensor(logvar, dtype=torch.float32), atol=1e-6, rtol=0)


def test_kls_equal_the_oracles():
    kls = kernels.component_kls(oracle_experts(), MOPOE).each.mean(1)
    known = torch.tensor([0.70658, 2.64629, 6.13585, 1.69299, 3.67188, 4.68697, 2.21425])
    torch.testing.assert_close(kls, known, atol=2e-5, rtol=0)
    assert kls.mean().item() == pytest.approx(3.107832, abs=1e-5)
    assert kernels.component_kls(oracle_experts(), MMVAE).mean.mean().item() == pytest.approx(3.162908, abs=1e-5)
    full = kernels.component_kls(oracle_experts(), Family(((0, 1, 2),), 3, "all"))
    assert full.mean.mean().item() == pytest.approx(2.214253, abs=1e-5)


@pytest.mark.parametrize(
    ("family", "mean"), [(MOPOE, (2.108002, 1.9078)), (MVAE_ALL, (2.108002, 1.9078)), (MMVAE, (4.2, 4.0))]
)
def test_the_last_row_comes_from_the_last_component(family, mean):
    choice = stratified(14, len(family))
    joint = family.chosen(oracle_experts(), choice)
    torch.testing.assert_close(joint.mean[0, 13], torch.tensor(mean), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("batch", "components", "block", "last"),
    [(256, 3, 85, 86), (256, 5, 51, 52), (256, 7, 36, 40), (256, 31, 8, 16), (64, 31, 2, 4), (64, 7, 9, 10),
     (14, 7, 2, 2), (20, 10, 2, 2)],
)  # fmt: skip
def test_block_sizes(batch, components, block, last):
    counts = torch.bincount(stratified(batch, components), minlength=components)
    assert counts[:-1].unique().tolist() == [block]
    assert counts[-1] == last


@pytest.mark.parametrize(("batch", "components"), [(256, 3), (64, 5), (64, 36), (256, 92), (31, 31)])
def test_a_spread_remainder_leaves_blocks_that_differ_by_a_row(batch, components):
    choice = stratified(batch, components, spread=True)
    assert torch.equal(choice, choice.sort().values), "contiguous"
    counts = torch.bincount(choice, minlength=components)
    assert counts.max() - counts.min() <= 1


def test_a_large_set_is_not_its_last_pair():
    """8 modalities, pairs at most: the last of 36 components had 29 of 64 rows, and the mean of all was that pair's."""
    family = Family(tuple(s for s in powerset(range(8)) if len(s) < 3), 8, "none")
    mean = torch.arange(8.0)[:, None, None].expand(8, 64, 1)
    experts = Gaussian(mean, torch.zeros_like(mean))
    full = [tuple(range(8))]
    assert family.given(experts, full).mean.mean().item() == pytest.approx(3.5, abs=0.15)
    assert family.given(experts, full, spread=False).mean.mean() > 4.5


def test_fewer_rows_than_components_take_different_components():
    torch.manual_seed(0)
    seen = {tuple(stratified(16, 31).tolist()) for _ in range(20)}
    assert all(len(set(rows)) == 16 for rows in seen)
    assert len(seen) > 1, "which components are used must change from step to step"


def test_a_product_of_one_expert_is_the_expert():
    experts = oracle_experts()
    found = MMVAE.components(experts)
    torch.testing.assert_close(found.mean, experts.mean, atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(found.logvar, experts.logvar, atol=1e-6, rtol=1e-6)


def test_products_are_those_of_densities():
    """Brute force: the product of Gaussian densities, normalised on a grid, has the fused mean and variance."""
    grid = torch.linspace(-12, 12, 20001, dtype=torch.float64)
    experts = Gaussian(torch.tensor([[[0.7]], [[-1.1]]]).double(), torch.tensor([[[0.4]], [[-0.9]]]).double())
    density = torch.exp(sum(Gaussian(m, v).log_prob(grid[:, None]) for m, v in zip(*experts, strict=True)).flatten())
    density /= density.sum()
    mean = (grid * density).sum()
    variance = ((grid - mean) ** 2 * density).sum()
    found = Family(((0, 1),), 2, "none").components(experts)
    assert found.mean.item() == pytest.approx(mean.item(), abs=1e-6)
    assert found.logvar.exp().item() == pytest.approx(variance.item(), rel=1e-5)


@pytest.mark.parametrize("prior", ["none", "full", "all"])
@pytest.mark.parametrize("chunk", [1, 7 * 2, 7 * 5, 7 * 5 * 3, 1 << 20])
def test_chunked_kls_and_gradients_equal_the_plain_ones(prior, chunk, monkeypatch):
    """Chunks of a dimension, a part of a row, a row, some rows, everything."""
    monkeypatch.setitem(kernels._CHUNK, "cpu", chunk)
    torch.manual_seed(1)
    experts = Gaussian(*(torch.randn(3, 8, 5, dtype=torch.float64, requires_grad=True) for _ in range(2)))
    family, upstream = Family(tuple(powerset(range(3))), 3, prior), torch.randn(8, dtype=torch.float64)
    fast, plain = kernels.component_kls(experts, family), family.components(experts).kl_to_prior()
    torch.testing.assert_close(fast.each, plain)
    torch.testing.assert_close(fast.mean, plain.mean(0))
    assert not fast.each.requires_grad
    for mine, reference in zip(
        torch.autograd.grad(fast.mean, experts, upstream), torch.autograd.grad(plain.mean(0), experts, upstream),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(mine, reference)


def test_average_kl_is_at_least_the_kl_of_the_mixture():
    torch.manual_seed(2)
    experts, family = oracle_experts(), MOPOE
    components = family.components(experts)
    z = components.sample(torch.randn(4000, 1, 1, 2))[:, :, :, :]  # (N, S, B, D)
    flat = z.flatten(0, 1)
    mixture = (mixture_log_prob(components, flat) - Prior("normal", 2).log_prob(flat)).mean(0)
    assert (components.kl_to_prior().mean(0) > mixture).all()


def test_missing_modalities_give_the_family_of_a_smaller_model():
    for family, present, smaller in (
        (MOPOE, (0, 2), Family(((0,), (1,), (0, 1)), 2, "full")), (MMVAE, (1,), Family(((0,),), 1)),
        (Family(((0, 1, 2),), 3, "all"), (1, 2), Family(((0, 1),), 2, "all")),
        (Family(((0, 1), (2,)), 3), (0, 2), Family(((0,), (1,)), 2)),
    ):  # fmt: skip
        found = family.restrict(present)
        assert (found.subsets, found.modalities) == (smaller.subsets, smaller.modalities)
        torch.testing.assert_close(found.table, smaller.table)


def test_subset_posteriors_are_products_or_block_selected_experts():
    experts = oracle_experts()
    products = MOPOE.components(experts)
    found = MOPOE.given(experts, powerset(range(3)))
    torch.testing.assert_close(found.mean, products.mean)
    torch.testing.assert_close(found.logvar, products.logvar)
    chosen = MMVAE.given(experts, [(0, 2)])
    torch.testing.assert_close(chosen.mean[0, :7], experts.mean[0, :7], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(chosen.mean[0, 7:], experts.mean[2, 7:], atol=1e-5, rtol=1e-5)


FUSES = {name: partial(fuse, correlation=0.4) if name == "consensus" else fuse for name, fuse in FUSIONS.items()}


def fused(name, experts, subset):
    return Family((subset,), len(experts.mean), fuse=FUSES[name]).components(experts)


def close(found, expected, **tolerance):
    for part, same in zip(found, expected, strict=True):
        torch.testing.assert_close(part, same, **tolerance)


@pytest.mark.parametrize("name", FUSES)
def test_every_fusion_leaves_a_lone_expert_alone_and_treats_experts_alike(name):
    experts = oracle_experts()
    for m in range(3):
        close(fused(name, experts, (m,)), at(experts, slice(m, m + 1)), atol=2e-6, rtol=2e-6)
    turned = at(experts, torch.tensor([2, 0, 1]))
    close(fused(name, experts, (0, 1, 2)), fused(name, turned, (0, 1, 2)), atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize(
    ("name", "variance"),
    [("product", lambda v, n: v / n), ("consensus", lambda v, n: v * (1 + (n - 1) * 0.4) / n),
     ("average", lambda v, n: v), ("barycenter", lambda v, n: v), ("hellinger", lambda v, n: v)],
)  # fmt: skip
@pytest.mark.parametrize("count", [2, 3])
def test_equal_experts_agree_on_their_mean_and_on_a_known_variance(name, variance, count):
    experts = Gaussian(torch.full((3, 1, 2), 0.8), torch.full((3, 1, 2), -0.7))
    found = fused(name, experts, tuple(range(count)))
    torch.testing.assert_close(found.mean, torch.full((1, 1, 2), 0.8))
    torch.testing.assert_close(found.logvar.exp(), torch.full((1, 1, 2), variance(math.exp(-0.7), count)))


@pytest.mark.parametrize("name", FUSES)
def test_fusions_row_by_row_are_those_of_the_family(name):
    experts = oracle_experts()
    family = Family(tuple(powerset(range(3))), 3, fuse=FUSES[name])
    choice = torch.arange(14) % 7
    rows = family.chosen(experts, choice)
    whole = family.components(experts)
    close(at(rows, 0), at(whole, (choice, torch.arange(14))), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("correlation", [0.0, 0.4, 0.9])
def test_the_consensus_is_the_best_linear_estimate_of_correlated_experts(correlation):
    """1 / (1' C^-1 1) and 1' C^-1 mu / (1' C^-1 1) with C = diag(sigma) R diag(sigma), in every dimension."""
    torch.manual_seed(0)
    mean, logvar = torch.randn(2, 3, dtype=torch.double)
    deviation = (logvar.exp() + 1e-8).sqrt()
    r = torch.full((3, 3), correlation, dtype=torch.double).fill_diagonal_(1)
    inverse = torch.linalg.inv(torch.outer(deviation, deviation) * r)
    weight = inverse.sum(1) / inverse.sum()
    found = fusion.consensus(Gaussian(mean[:, None, None], logvar[:, None, None]), MEMBERS_OF_ALL, correlation)
    assert found.logvar.exp().item() == pytest.approx(1 / inverse.sum().item(), rel=1e-9)
    assert found.mean.item() == pytest.approx((weight @ mean).item(), rel=1e-9)


def test_a_consensus_without_correlation_is_the_product():
    experts, family = oracle_experts(), tuple(powerset(range(3)))
    close(
        Family(family, 3, fuse=partial(fusion.consensus, correlation=0.0)).components(experts),
        Family(family, 3).components(experts), atol=1e-6, rtol=1e-5,
    )  # fmt: skip


def test_a_hellinger_pool_of_one_is_its_member_however_sharp_and_far_from_the_others():
    mean = torch.tensor([-7.0, 3.0, 41.0])[:, None, None]
    logvar = torch.tensor([-17.0, -12.0, 1.0])[:, None, None]
    for m in range(3):
        found = fused("hellinger", Gaussian(mean, logvar), (m,))
        assert found.logvar.item() == pytest.approx(math.log(math.exp(logvar[m].item()) + 1e-8), abs=1e-3)
        assert found.mean.item() == pytest.approx(mean[m].item(), abs=1e-5)


def test_a_hellinger_pool_has_the_moments_of_the_squared_mean_root():
    """By quadrature, three experts of one dimension, also far from zero, where squares of means would lose digits."""
    for shift in (0.0, 300.0):
        mean, logvar = torch.tensor([0.3, -0.9, 1.4]), torch.tensor([0.2, -1.0, -0.3])
        grid = torch.linspace(-12, 12, 48_001, dtype=torch.double)
        roots = [(Gaussian(m, v).log_prob(grid[:, None]) / 2).exp()
                 for m, v in zip(mean.double()[:, None], logvar.double()[:, None], strict=True)]  # fmt: skip
        density = (sum(roots) / 3).square()
        density /= density.sum()
        expected = (grid * density).sum()
        variance = ((grid - expected).square() * density).sum()
        found = fused("hellinger", Gaussian((mean + shift)[:, None, None], logvar[:, None, None]), (0, 1, 2))
        assert found.mean.item() == pytest.approx(expected.item() + shift, rel=1e-6, abs=1e-5)
        assert found.logvar.exp().item() == pytest.approx(variance.item(), rel=2e-4)


def test_averages_and_barycenters_are_means_of_moments():
    experts = oracle_experts()
    for name, moment in (("average", lambda v: v), ("barycenter", lambda v: v.sqrt())):
        found = fused(name, experts, (0, 2))
        torch.testing.assert_close(found.mean[0], (experts.mean[0] + experts.mean[2]) / 2)
        expected = (moment(experts.logvar[0].exp()) + moment(experts.logvar[2].exp())) / 2
        torch.testing.assert_close(moment(found.logvar[0].exp()), expected)


def test_a_laplace_component_is_its_expert():
    experts = Laplace(torch.randn(3, 4, 2), torch.rand(3, 4, 2))
    close(Family(((0,), (1,), (2,)), 3, fuse=fusion.alone).components(experts), experts)
    chosen = Family(((0,), (1,), (2,)), 3, fuse=fusion.alone).chosen(experts, torch.tensor([2, 0, 1, 1]))
    assert torch.equal(chosen.scale[0, 0], experts.scale[2, 0])


@pytest.mark.parametrize("name", FUSES)
def test_fusions_and_their_gradients_are_finite_for_extreme_experts(name):
    for logvar in (-60.0, 60.0, 500.0):
        mean, value = torch.zeros(3, 1, 1, requires_grad=True), torch.zeros(3, 1, 1)
        value[1] = logvar
        value.requires_grad_()
        found = fused(name, Gaussian(mean + 1, value), (0, 1, 2))
        (found.mean + found.logvar).sum().backward()
        assert all(torch.isfinite(part).all() for part in (*found, mean.grad, value.grad)), logvar


def test_what_is_left_of_the_full_set_is_the_full_set_of_a_smaller_model():
    """DMVAE: the prior expert is in the product of all; of two of three modalities, all that are there are two."""
    experts = oracle_experts()
    family = Family(((0, 1, 2),), 3, "full", admitted=((0,), (1,), (2,)))
    smaller = Family(((0, 1),), 2, "full").components(at(experts, slice(0, 2)))
    close(family.given(experts, [(0, 1)]), smaller)
    close(family.given(experts, [(1,)]), at(experts, slice(1, 2)), atol=1e-6, rtol=1e-6)
    proper = MOPOE.given(experts, [(0, 1)])
    close(proper, Family(((0, 1),), 3).components(experts), msg="a proper subset that the family has is itself")


def test_an_expert_of_infinite_variance_says_nothing():
    experts = oracle_experts()
    experts.logvar[1] = torch.inf
    found = Family(((0, 1),), 3, "none").components(experts)
    torch.testing.assert_close(found.mean[0], experts.mean[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("logvar", [-200.0, -30.0, 0.0, 60.0, 95.0, 1e4])
def test_precision_and_its_gradient_are_finite_for_every_log_variance(logvar):
    value = torch.full((1, 1, 1), logvar, requires_grad=True)
    found = fusion.precision(Gaussian(torch.zeros(1, 1, 1), value))
    assert found.item() == pytest.approx(float(1 / (torch.tensor(logvar).double().exp() + 1e-8)), rel=1e-5, abs=1e-30)
    found.backward()
    assert torch.isfinite(value.grad).all()


class LargestTensor(TorchDispatchMode):
    """Notes the most elements that any operation gave back."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def test_a_thousand_subsets_need_no_thousand_tensors():
    """M = 10: the whole (1023, 64, 512) tensors would have 33 million elements, the chunks stay small."""
    experts = Gaussian(*(torch.randn(10, 64, 512, requires_grad=True) for _ in range(2)))
    with LargestTensor() as largest:
        kls = kernels.component_kls(experts, Family(tuple(powerset(range(10))), 10, "full"))
        kls.mean.mean().backward()
    assert kls.each.shape == (1023, 64)
    assert torch.isfinite(experts.mean.grad).all()
    assert largest.elements <= max(kernels._CHUNK["cpu"], experts.mean.numel() * 2)
