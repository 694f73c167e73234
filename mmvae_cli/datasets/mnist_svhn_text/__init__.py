"""MNIST-SVHN-Text: a handwritten digit, a house number and a word."""
