"""Bimodal CelebA: a face and its attributes as text."""
