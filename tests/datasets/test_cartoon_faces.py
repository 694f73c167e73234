"""The stand-in for CelebA: attributes with its frequencies, and pictures that show them."""

import numpy as np
import pytest

from mmvae_cli.datasets.celeba import build as celeba
from mmvae_cli.datasets.celeba.cartoon_drawing import draw
from mmvae_cli.datasets.celeba.cartoon_faces import draw_attributes
from mmvae_cli.datasets.celeba.files import CROP
from mmvae_cli.store import Store
from mmvae_cli.store.attribute_text import ATTRIBUTES

# Share of the 202,599 images in %, in list order.
PUBLISHED = (
    11.1, 26.7, 51.3, 20.5, 2.2, 15.2, 24.1, 23.5, 23.9, 14.8, 5.1, 20.5, 14.2, 5.8, 4.7, 6.5, 6.3, 4.2, 38.7, 45.5,
    41.7, 48.3, 4.2, 11.5, 83.5, 28.4, 4.3, 27.7, 8.0, 6.6, 5.7, 48.2, 20.8, 32.0, 18.9, 4.9, 47.2, 12.3, 7.3, 77.4,
)  # fmt: skip


@pytest.fixture(scope="module")
def drawn() -> list[frozenset[str]]:
    return [draw_attributes(np.random.default_rng([0, number])) for number in range(6000)]


def test_attributes_are_celebas_and_about_as_frequent(drawn):
    assert frozenset().union(*drawn) == frozenset(ATTRIBUTES)
    shares = [100 * np.mean([name in has for has in drawn]) for name in ATTRIBUTES]
    np.testing.assert_allclose(shares, PUBLISHED, atol=2.0)


def test_attributes_depend_on_each_other(drawn):
    for has in drawn:
        beard = has & {"5_o_Clock_Shadow", "Goatee", "Mustache", "Sideburns"}
        assert ("No_Beard" in has) == (not beard)
        assert not beard or "Male" in has
        assert len(has & {"Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Bald"}) <= 1
        assert not {"Straight_Hair", "Wavy_Hair"} <= has
    lipstick = [has for has in drawn if "Wearing_Lipstick" in has]
    assert np.mean(["Male" in has for has in lipstick]) < 0.05


BASES = {"woman": {"Young", "No_Beard", "Brown_Hair"}, "man": {"Young", "No_Beard", "Brown_Hair", "Male"}}


@pytest.mark.parametrize("name", sorted(set(ATTRIBUTES) - {"No_Beard"}))
def test_every_attribute_can_be_seen_in_the_part_that_is_kept(name):
    """Adding one attribute (or, for Young and Brown_Hair, taking it away) changes the picture inside the crop."""
    for base in BASES.values():
        without, having = base - {name}, base | {name}
        if name in ("Black_Hair", "Blond_Hair", "Gray_Hair"):
            having -= {"Brown_Hair"}
        pair = [np.asarray(draw(frozenset(has), np.random.default_rng(1)).crop(CROP)) for has in (without, having)]
        changed = np.abs(pair[0].astype(int) - pair[1]).max(2) > 24
        assert changed.sum() >= 25, f"{name}: {changed.sum()} of {changed.size} pixels"


def test_the_same_seed_draws_the_same_dataset(tmp_path):
    prints = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        celeba.build(tmp_path / name, tmp_path, source="embedded", count=20, seed=seed)
        prints.append(Store(tmp_path / name).fingerprint)
    assert prints[0] == prints[1] != prints[2]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "dataset.json", "preview.png", "test", "train", "validation"
    ]  # fmt: skip


def test_faces_are_a_function_of_seed_and_number(tmp_path):
    for count in (20, 40):
        celeba.build(tmp_path / str(count), tmp_path, source="embedded", count=count)
    few, many = Store(tmp_path / "20"), Store(tmp_path / "40")
    assert few.info.stand_in == "generated cartoon faces, not CelebA"
    assert [few.count(split) for split in celeba.SPLITS] == [16, 2, 2]
    for modality in celeba.MODALITIES:
        np.testing.assert_array_equal(few.array("train", modality), many.array("train", modality)[:16])
