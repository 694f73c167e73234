"""The methods of the field: each is a row, a preset of the choices that one formula leaves open. No torch.

A new method whose choices exist is one more row here. Everything that names methods, puts them in order or fills in
their settings reads this table; the model knows none of them. ``choices.py`` says what the keys are and mean.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Method(NamedTuple):
    """``title`` and ``paper`` as a report prints them. ``preset``: the choices that make it this method; ``usual``:
    what it starts from and may change without being another. What a recipe says itself wins over both."""

    title: str
    paper: str
    year: int
    preset: dict[str, Any]
    usual: Mapping[str, Any] = MappingProxyType({})

    @property
    def settings(self) -> dict[str, Any]:
        """All that the method says, by dotted key."""
        return {**self.preset, **self.usual}


METHODS: dict[str, Method] = {
    "mvae": Method(
        "MVAE", "Wu and Goodman, Multimodal Generative Models for Scalable Weakly-Supervised Learning, NeurIPS 2018, "
        "as compared by Sutter et al., Generalized Multimodal ELBO, ICLR 2021", 2018,
        {"model.subsets": "full_and_singletons", "model.prior_expert": "all", "objective.component_choice": "all",
         "objective.component_weights": "sum", "objective.decode": "members"},
        {"objective.unimodal_weights": "one"},
    ),
    "mmvae": Method(
        "MMVAE", "Shi et al., Variational Mixture-of-Experts Autoencoders for Multi-Modal Deep Generative Models, "
        "NeurIPS 2019, with one sample as in Sutter et al., Generalized Multimodal ELBO, ICLR 2021", 2019,
        {"model.subsets": "singletons", "model.prior_expert": "none"},
    ),
    "mopoe": Method(
        "MoPoE-VAE", "Sutter, Daunhawer and Vogt, Generalized Multimodal ELBO, ICLR 2021", 2021,
        {"model.subsets": "all", "model.prior_expert": "full"},
    ),
    "custom": Method("custom", "a choice of your own", 0, {}, {"model.prior_expert": "full"}),
}  # fmt: skip
