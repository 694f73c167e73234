"""Choices by name that commands, recipes and results share. typing alone: the command line reads them first."""

from typing import Literal

Protocol = Literal["default", "released"]
Sampler = Literal["prior", "gmm"]
Features = Literal["classifier", "inception"]
Pairs = Literal["default", "all", "mmvaeplus", "mvtcae", "multivae"]
