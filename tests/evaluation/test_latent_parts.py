"""Alignment without labels, and clusters, on cases whose answer is known."""

import numpy as np
import pytest
import torch

from mmvae_cli.evaluation.alignment import alignment
from mmvae_cli.evaluation.clustering import by_majority, clustering, one_to_one


def test_alignment_of_known_encodings():
    i, j = torch.meshgrid(torch.arange(6.0), torch.arange(3.0), indexing="ij")
    found = alignment(torch.sin(i + 2 * j), torch.cos(0.5 * i * (j + 1)) + 0.1 * j)
    assert found["foscttm"] == pytest.approx(0.116667, abs=1e-6)
    assert found["recall@1"] == pytest.approx(0.666667, abs=1e-6)
    assert "class_recall@1" not in found


def test_alignment_is_perfect_for_equal_encodings_and_chance_for_independent_ones():
    x, y = torch.randn(2, 400, 5, generator=torch.Generator().manual_seed(0))
    classes = torch.arange(400) % 4
    assert list(alignment(x, x, classes).values()) == [0, 1, 1, 1]
    far = alignment(x, y, classes)
    assert far["foscttm"] == pytest.approx(0.5, abs=0.03)
    assert [far["recall@1"], far["recall@10"]] == pytest.approx([1 / 400, 10 / 400], abs=0.02)
    assert far["class_recall@1"] == pytest.approx(0.25, abs=0.08)


def test_encodings_that_know_nothing_of_the_item_are_at_chance():
    flat = alignment(torch.full((40, 3), 0.3), torch.full((40, 3), -0.1))
    assert flat["foscttm"] == pytest.approx(0.5)
    assert [flat["recall@1"], flat["recall@10"]] == pytest.approx([1 / 40, 10 / 40])
    pairs = alignment(*[torch.tensor([[0.0], [0.0], [5.0]])] * 2)
    assert pairs["foscttm"] == pytest.approx((0.25 + 0.25 + 0) / 3)
    assert [pairs["recall@1"], pairs["recall@10"]] == pytest.approx([(0.5 + 0.5 + 1) / 3, 1])


def test_of_several_nearest_items_any_is_as_likely_to_be_of_the_class():
    classes = torch.tensor([0] * 6 + [1, 2])
    flat = alignment(torch.full((8, 3), 0.3), torch.full((8, 3), -0.1), classes)
    assert flat["class_recall@1"] == pytest.approx(sum(share**2 for share in (6 / 8, 1 / 8, 1 / 8)))
    pairs = alignment(*[torch.tensor([[0.0], [0.0], [5.0]])] * 2, classes=torch.tensor([0, 1, 1]))
    assert pairs["class_recall@1"] == pytest.approx((0.5 + 0.5 + 1) / 3)


def test_a_cluster_without_training_items_has_no_name():
    assert by_majority(np.array([0, 0]), np.array([1, 1]), np.array([0, 2]), np.array([1, 1])) == 0.5


def test_accuracy_of_clusters_by_majority_and_one_to_one():
    given, names = np.array([0, 0, 0, 1, 1, 2]), np.array([5, 5, 1, 5, 5, 1])
    found, labels = np.array([0, 0, 1, 1, 2]), np.array([5, 5, 5, 1, 1])
    assert by_majority(given, names, found, labels) == pytest.approx(4 / 5)
    assert one_to_one(found, labels) == pytest.approx(3 / 5), "5 has one cluster, 1 another"
    assert one_to_one(labels, labels) == 1


def test_more_clusters_than_classes_flatter_the_majority_only():
    x, labels = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2
    found = clustering(x, labels, x, labels, 60, 0)
    assert found.accuracy == 1
    assert found.one_to_one == pytest.approx(2 / 60)


def test_separate_classes_are_found_and_constant_encodings_are_one_cluster():
    labels = np.arange(90) % 3
    x = labels[:, None] * 10 + np.random.default_rng(1).normal(size=(90, 2))
    assert clustering(x[:60], labels[:60], x[60:], labels[60:], 3, 0) == pytest.approx((1, 1, 1, 1))
    flat = clustering(np.ones((60, 2)), labels[:60], np.ones((30, 2)), labels[60:], 3, 0)
    assert flat.accuracy == flat.one_to_one == pytest.approx(1 / 3)
    assert flat.ari == 0
