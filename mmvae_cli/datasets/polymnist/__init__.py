"""PolyMNIST: built from digits and backgrounds, or imported."""
