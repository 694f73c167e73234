"""CelebA's second modality: the 40 attributes of a face written as a string of 256 characters (equations 7.4).

The string is made once per image, so its place among the padding is fixed. No torch.
"""

import hashlib

import numpy as np

LENGTH, PADDING = 256, "*"
AT_FIRST = f"every text begins at the first of its {LENGTH} places"
"""The note of a dataset where that is so. It goes with a shared run, and what is typed is then placed alike."""

# The order of the official list, which is the order of the words in every string.
ATTRIBUTES = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose",
    "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses",
    "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes",
    "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks", "Sideburns", "Smiling",
    "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick", "Wearing_Necklace",
    "Wearing_Necktie", "Young",
)  # fmt: skip
WORDS = tuple(name.replace("_", " ").lower() for name in ATTRIBUTES)
"""The attributes as the text says them, in the same order."""


def phrase(row: np.ndarray) -> str:
    """``row`` (40,) of 0/1 -> "bangs, smiling, young": at most 256 characters, or the last ones are dropped."""
    words = [word for word, present in zip(WORDS, row, strict=True) if present]
    while len(", ".join(words)) > LENGTH:
        words.pop()
    return ", ".join(words)


def padded(text: str, start: int) -> str:
    """``text`` from position ``start`` of 256 characters, the rest ``*``."""
    return (PADDING * start + text).ljust(LENGTH, PADDING)


def start_of(text: str, image: str, seed: int) -> int:
    """Where ``text`` starts in the string of ``image`` (a file name): uniform in 0..254-length, 0 from length 255 on.

    A function of seed and image alone: a subset, another order or another number of workers change nothing.
    An empty text has no place.
    """
    if not text or len(text) >= LENGTH - 1:
        return 0
    drawn = int.from_bytes(hashlib.sha256(f"{seed}:{image}".encode()).digest()[:8], "big")
    return drawn % (LENGTH - 1 - len(text))


def render(row: np.ndarray, image: str, seed: int, *, at_first: bool = False) -> str:
    """The 256 characters that go with ``image``; ``row`` (40,) of 0/1. ``at_first``: the text begins at the first
    place, not at one drawn by seed and image."""
    text = phrase(row)
    return padded(text, 0 if at_first else start_of(text, image, seed))
