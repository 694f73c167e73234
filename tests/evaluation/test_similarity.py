"""Likeness of reconstructions."""

import pytest
import torch
from scipy.ndimage import gaussian_filter

from mmvae_cli.evaluation.similarity import scores, structural


def test_structural_similarity_of_two_grey_images():
    x, y = torch.full((2, 3, 12, 9), 0.5), torch.full((2, 3, 12, 9), 0.6)
    assert structural(x, y).tolist() == pytest.approx([0.6001 / 0.6101] * 2, abs=1e-5)


def test_structural_similarity_is_one_for_the_same_image_and_low_for_its_negative():
    x = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert structural(x, x).tolist() == pytest.approx([1.0] * 4)
    assert structural(x, 1 - x).max() < -0.9


@pytest.mark.parametrize("sides", [(28, 28), (6, 9)])
def test_structural_similarity_is_that_of_scipys_gaussian_filter(sides):
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.rand(2, 3, *sides, generator=generator, dtype=torch.double) for _ in range(2))

    def local(image):
        return gaussian_filter(image.numpy(), 1.5, axes=(2, 3), radius=5, mode="mirror")

    var_x, var_y = (local(image.square()) - local(image) ** 2 for image in (x, y))
    both = local(x * y) - local(x) * local(y)
    light = (2 * local(x) * local(y) + 1e-4) / (local(x) ** 2 + local(y) ** 2 + 1e-4)
    wanted = (light * (2 * both + 9e-4) / (var_x + var_y + 9e-4)).mean((1, 2, 3))
    assert structural(x, y).tolist() == pytest.approx(wanted.tolist(), rel=1e-9)


def test_scores_of_each_kind():
    image = torch.zeros(1, 1, 8, 8)
    assert set(scores("image", image + 0.5, image)) == {"mse", "ssim"}
    assert float(scores("image", image + 0.5, image)["mse"]) == 0.25
    assert set(scores("image", image[..., :4], image[..., :4])) == {"mse"}, "too narrow for the window"
    codes = torch.tensor([[0, 1, 2], [2, 2, 2]])
    found = scores("text", torch.eye(3)[torch.tensor([[0, 1, 1], [2, 2, 2]])], codes)
    assert found["characters"].tolist() == pytest.approx([2 / 3, 1])
    assert found["strings"].tolist() == [0, 1]
    assert scores("vector", torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 1.0]]))["mse"].tolist() == [2]
