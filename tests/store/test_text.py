"""The alphabet, encoding, and the placement of words: numpy and torch alike."""

import subprocess
import sys

import numpy as np
import pytest

from mmvae_cli.process.errors import DataProblem
from mmvae_cli.store import text

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]

# equations 7.2, position by position
POINTS = {
    0: "a", 25: "z", 26: "0", 35: "9", 36: "-", 37: ",", 38: ";", 39: ".", 40: "!", 41: "?", 42: ":", 43: "'", 44: '"',
    45: "\\", 46: "/", 47: "|", 48: "_", 49: "@", 50: "#", 51: "$", 52: "%", 53: "^", 54: "&", 55: "*", 56: "~",
    57: "`", 58: "+", 59: "-", 60: "=", 61: "<", 62: ">", 63: "(", 64: ")", 65: "[", 66: "]", 67: "{", 68: "}",
    69: " ", 70: "\n",
}  # fmt: skip


def test_the_alphabet_has_71_characters_each_at_its_place():
    assert len(text.ALPHABET) == 71
    assert {index: text.ALPHABET[index] for index in POINTS} == POINTS
    assert text.ALPHABET[:26] == "abcdefghijklmnopqrstuvwxyz"
    assert text.ALPHABET[26:36] == "0123456789"
    assert [c for c in set(text.ALPHABET) if text.ALPHABET.count(c) > 1] == ["-"]


def test_encoding_takes_the_first_occurrence_and_fills_the_rest():
    rows = text.encode(["a-z", "", "12345678"], 8)
    assert rows.dtype == np.uint8
    assert rows[0].tolist() == [0, 36, 25, 69, 69, 69, 69, 69]
    assert rows[1].tolist() == [69] * 8
    assert rows[2].tolist() == list(range(27, 35))
    assert text.encode(["a"], 3, fill="*").tolist() == [[0, 55, 55]]


def test_decoding_gives_back_what_was_encoded():
    everything = [text.ALPHABET, "*" * 71]
    assert text.decode(text.encode(everything, 71)) == everything
    assert text.decode(np.array([[59, 36]], np.uint8)) == ["--"]


@pytest.mark.parametrize(
    ("string", "part"), [("Seven", "'S'"), ("é", "'é'"), ("ninety-nine", "11 characters"), ("a\tb", "'\\t'")]
)
def test_what_cannot_be_written_is_named(string, part):
    with pytest.raises(DataProblem) as caught:
        text.encode(["one", string], 8)
    assert part in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("rows", [np.array([[71]], np.uint8), np.array([[-1]])])
def test_a_position_outside_the_alphabet_is_refused(rows):
    with pytest.raises(DataProblem, match="outside the alphabet of 71"):
        text.decode(rows)


def test_word_lengths_are_those_of_the_words():
    assert text.word_lengths(text.encode(WORDS, 8)).tolist() == [len(word) for word in WORDS]
    assert text.word_lengths(text.encode(["", "a b", "12345678"], 8)).tolist() == [0, 3, 8]


def test_the_generator_is_splitmix64():
    """First outputs for the seeds 0 and 1234567, as published with the generator."""
    first = text._mix(np.array([0, 1234567], np.int64) + text._GAMMA).view(np.uint64)
    assert first.tolist() == [0xE220A8397B1DCDAF, 6457827717110365317]


def test_uniforms_are_a_function_of_seed_epoch_and_item_alone():
    items = np.arange(1000)
    draws = text.uniforms(7, 3, items)
    order = np.random.default_rng(0).permutation(1000)
    assert np.array_equal(text.uniforms(7, 3, items[order]), draws[order])
    for seed, epoch in [(8, 3), (7, 4), (3, 7), (7, text.FIXED_EPOCH)]:
        other = text.uniforms(seed, epoch, items)
        assert np.mean(other == draws) < 0.01
        assert abs(np.corrcoef(other, draws)[0, 1]) < 0.12
    assert 0 <= draws.min() <= draws.max() < 2**31


def test_narrow_items_are_refused_because_they_would_wrap_elsewhere():
    with pytest.raises(TypeError, match="int32"):
        text.uniforms(0, 0, np.arange(3, dtype=np.int32))


@pytest.mark.parametrize("length", range(9))
def test_starts_are_uniform_and_leave_the_last_position_free(length):
    """Facts 2.2: {0..4} for three letters, {0..3} for four, {0..2} for five; chi-square within its 99.99 % quantile."""
    count = 60_000
    found = text.starts(np.full(count, length), 8, text.uniforms(1, 2, np.arange(count)))
    choices = max(8 - length, 1)
    counts = np.bincount(found, minlength=choices)
    assert len(counts) == choices
    assert np.sum((counts - count / choices) ** 2) / (count / choices) < 30


def test_over_epochs_one_item_sees_every_start_and_neighbours_are_independent():
    lengths = np.full(2, 3)
    pairs = np.array([text.starts(lengths, 8, text.uniforms(0, epoch, np.array([4, 5]))) for epoch in range(5000)])
    table = np.zeros((5, 5))
    np.add.at(table, (pairs[:, 0], pairs[:, 1]), 1)
    assert np.sum((table - 200) ** 2 / 200) < 60  # chi-square, 24 degrees of freedom: 0.9999 quantile is 56


def test_placed_words_keep_their_letters_and_are_padded_on_both_sides():
    rows = text.encode(WORDS, 8)
    for first in range(3):
        placed = text.move_words(rows, np.full(10, first))
        assert placed.dtype == np.uint8
        assert text.decode(placed) == [(" " * first + word).ljust(8) for word in WORDS]


def test_numpy_and_torch_place_alike():
    torch = pytest.importorskip("torch")
    rows, items = text.encode(WORDS, 8), np.arange(5000)
    words = np.random.default_rng(0).integers(0, 10, 5000)
    lengths = text.word_lengths(rows)[words]
    for seed, epoch in [(0, 0), (2**63 - 1, 149), (12345, text.FIXED_EPOCH)]:
        first = text.starts(lengths, 8, text.uniforms(seed, epoch, items))
        on_torch = text.starts(torch.from_numpy(lengths), 8, text.uniforms(seed, epoch, torch.from_numpy(items)))
        assert np.array_equal(on_torch.numpy(), first)
        placed = text.move_words(torch.from_numpy(rows[words]), on_torch)
        assert placed.dtype == torch.uint8
        assert np.array_equal(placed.numpy(), text.move_words(rows[words], first))
        assert (placed[:, -1] == 69).all()


def test_the_module_needs_no_torch():
    code = "import sys, mmvae_cli.store.text; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
