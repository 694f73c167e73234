"""The strings of equations 7.4: which words, in which order, and where among the padding."""

import numpy as np
import pytest

from mmvae_cli.store import text
from mmvae_cli.store.attribute_text import ATTRIBUTES, LENGTH, padded, phrase, render, start_of


def row(*names: str) -> np.ndarray:
    assert set(names) <= set(ATTRIBUTES)
    return np.array([name in names for name in ATTRIBUTES], np.uint8)


def test_there_are_the_forty_attributes_in_the_official_order():
    assert len(set(ATTRIBUTES)) == 40
    assert ATTRIBUTES[:2] == ("5_o_Clock_Shadow", "Arched_Eyebrows")
    assert (ATTRIBUTES[20], ATTRIBUTES[39]) == ("Male", "Young")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), ""),
        (("Young",), "young"),
        (("Young", "Male", "5_o_Clock_Shadow"), "5 o clock shadow, male, young"),
        (("Smiling", "Blond_Hair", "Mouth_Slightly_Open"), "blond hair, mouth slightly open, smiling"),
    ],
)
def test_phrase_joins_the_attributes_in_list_order(names, expected):
    assert phrase(row(*names)) == expected


def test_a_long_phrase_drops_whole_attributes_from_the_end():
    every = phrase(row(*ATTRIBUTES))
    assert len(", ".join(ATTRIBUTES)) == 502
    assert len(every) <= LENGTH
    assert every.endswith(", gray hair, heavy makeup, high cheekbones, male")
    assert len(every + ", mouth slightly open") > LENGTH


def test_place_pads_with_stars_on_both_sides():
    assert padded("male", 3) == "***male" + "*" * 249
    assert padded("", 0) == "*" * 256
    assert padded("a" * 255, 0) == "a" * 255 + "*"
    assert padded("a" * 256, 0) == "a" * 256


@pytest.mark.parametrize(("length", "last"), [(5, 249), (253, 1), (254, 0), (255, 0), (256, 0), (0, 0)])
def test_the_start_is_at_most_254_minus_the_length(length, last):
    starts = {start_of("a" * length, f"{number:06d}.jpg", seed=0) for number in range(3000)}
    assert min(starts) == 0
    assert max(starts) == last


def test_the_start_is_uniform():
    starts = [start_of("a" * 154, f"{number:06d}.jpg", seed=1) for number in range(10_100)]
    counts = np.bincount(starts, minlength=101)
    assert len(counts) == 101
    assert ((counts - 100) ** 2 / 100).sum() < 149  # chi-squared, 100 degrees of freedom, p = 0.001


def test_the_start_depends_on_seed_and_image_only():
    assert start_of("young", "000001.jpg", 0) == start_of("young", "000001.jpg", 0)
    places = {start_of("young", image, seed) for image in ("000001.jpg", "000002.jpg") for seed in (0, 1)}
    assert len(places) == 4


def test_every_string_is_in_the_alphabet_and_comes_back():
    strings = [render(row(*ATTRIBUTES[first : first + 12]), f"{first}.jpg", 0) for first in range(30)]
    assert {len(string) for string in strings} == {256}
    assert text.decode(text.encode(strings, LENGTH)) == strings
    assert text.ALPHABET.index("*") == 55
