"""Distances between sets of features, against closed forms and numbers computed by other means."""

import pytest
import torch

from mmvae_cli.evaluation import distances
from mmvae_cli.evaluation.distances import Moments, fidelity, frechet, moments, neighbours

ITEM, FEATURE = torch.meshgrid(torch.arange(6.0).double(), torch.arange(3.0).double(), indexing="ij")
A, B = torch.sin(ITEM + 2 * FEATURE), torch.cos(0.5 * ITEM * (FEATURE + 1)) + 0.1 * FEATURE


def normal(count, size, seed, shift=0.0):
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.double) + shift


def test_frechet_distance_of_known_sets():
    assert frechet(moments(A), moments(B)) == pytest.approx(1.181227, abs=1e-6)


@pytest.mark.parametrize(("count", "size"), [(200, 7), (9, 30), (50, 1)])
def test_frechet_distance_is_that_of_the_singular_values(count, size):
    """Of centred feature matrices: tr (S1 S2)^1/2 is the sum of the singular values of A B^T / (n - 1); also where
    there are more features than items."""
    one, other = normal(count, size, 0), normal(count, size, 1, shift=0.5) * 2
    x, y = (part - part.mean(0) for part in (one, other))
    nuclear = torch.linalg.svdvals(x @ y.t()).sum() / (count - 1)
    traces = (x.square().sum() + y.square().sum()) / (count - 1)
    wanted = (one.mean(0) - other.mean(0)).square().sum() + traces - 2 * nuclear
    assert frechet(moments(one), moments(other)) == pytest.approx(float(wanted), rel=1e-7)


def test_frechet_distance_of_two_gaussians():
    a, b = torch.tensor([4.0, 9.0, 0.0]), torch.tensor([1.0, 16.0, 2.0])
    turn = torch.linalg.qr(normal(3, 3, 0)).Q  # covariances that commute: the same axes
    one = Moments(torch.zeros(3).double(), turn @ a.double().diag() @ turn.t())
    other = Moments(torch.tensor([1.0, -2.0, 0.5]).double(), turn @ b.double().diag() @ turn.t())
    wanted = 1 + 4 + 0.25 + float((a.sqrt() - b.sqrt()).square().sum())
    assert frechet(one, other) == pytest.approx(wanted, abs=1e-6)


def test_frechet_distance_is_nothing_for_the_same_set_and_the_shift_for_a_moved_one():
    x = normal(100, 5, 3)
    assert frechet(moments(x), moments(x[torch.randperm(100)])) == pytest.approx(0, abs=1e-9)
    assert frechet(moments(x), moments(x + 3)) == pytest.approx(5 * 9)
    assert frechet(moments(torch.ones(4, 5)), moments(torch.ones(9, 5))) == 0, "constant features"


def test_rounding_is_no_distance():
    same = [moments(normal(200, 16, seed)) for seed in range(20)]
    assert {f"{frechet(one, one):.2f}" for one in same} == {"0.00"}, "not -0.00"


def test_frechet_distance_of_one_distribution_shrinks_with_the_number_of_items():
    values = [frechet(moments(normal(n, 64, 0)), moments(normal(n, 64, 1))) for n in (100, 400, 1600)]
    assert values == sorted(values, reverse=True)
    assert values == pytest.approx([22.5, 5.9, 1.4], rel=0.15)


@pytest.mark.parametrize(("k", "wanted"), [
    (3, (0.833333, 1.0, 1.277778, 1.0)), (1, (0.666667, 0.833333, 1.333333, 0.833333)),
])  # fmt: skip
def test_precision_recall_density_and_coverage_of_known_sets(monkeypatch, k, wanted):
    monkeypatch.setattr(distances, "NEAREST_OF_PRECISION", k)
    monkeypatch.setattr(distances, "NEAREST_OF_DENSITY", k)
    assert fidelity(B, A, neighbours(A)) == pytest.approx(wanted, abs=1e-6)


def test_the_same_set_has_full_precision_recall_and_coverage_and_a_far_one_none():
    x = normal(60, 4, 5)
    same = fidelity(x, x, neighbours(x))
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert fidelity(x + 100, x, neighbours(x)) == (0, 0, 0, 0)


@pytest.mark.parametrize("shift", [0, 30])
def test_repeated_samples_lie_on_each_others_balls(shift):
    """Two fifths are there nine times over. Wanted: distances pair by pair, without the rounding of a product."""
    own = normal(120, 128, 7, shift=shift).float()
    real = torch.cat([own[:10].repeat_interleave(8, 0), own])
    generated = real[torch.randperm(200, generator=torch.Generator().manual_seed(8))]
    apart = (real.double()[:, None] - real.double()[None]).norm(dim=2)
    radii = apart.sort(1).values[:, distances.NEAREST_OF_DENSITY]
    wanted = float((apart <= radii).sum()) / 200 / distances.NEAREST_OF_DENSITY
    assert fidelity(generated, real, neighbours(real)) == pytest.approx((1, 1, wanted, 1))


def test_one_mode_of_two_is_precise_and_recalls_half(monkeypatch):
    monkeypatch.setattr(distances, "_ROWS_AT_ONCE", 7)
    real = torch.cat([normal(50, 4, 0), normal(50, 4, 1, shift=50)])
    found = fidelity(normal(100, 4, 2), real, neighbours(real))
    assert found.precision > 0.8
    assert found.recall <= 0.5
    assert found.coverage <= 0.5
