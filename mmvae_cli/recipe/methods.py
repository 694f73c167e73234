"""The methods of the field as rows of one table: each is a preset of the choices in one formula. No torch.

Everything that lists methods or fills in their settings reads this table; the model does not know them. A new method
whose choices exist is one more row. ``choices.py`` says what the keys mean.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Method(NamedTuple):
    """``title``, ``idea`` and ``paper`` as a report prints them. ``preset``: the choices that make it this method;
    ``usual``: what it starts from and may change without being another. What a recipe says itself wins over both."""

    title: str
    idea: str
    paper: str
    year: int
    preset: dict[str, Any]
    usual: Mapping[str, Any] = MappingProxyType({})

    @property
    def settings(self) -> dict[str, Any]:
        """All that the method says, by dotted key."""
        return {**self.preset, **self.usual}


_EACH_ITS_BOUND = {"objective.component_choice": "all", "objective.component_weights": "sum"}
_MIXTURE_OF_EXPERTS = {"model.subsets": "singletons", "model.prior_expert": "none"}
_ONE_FUSION = {"model.subsets": "full", "model.prior_expert": "none"}
_IMPORTANCE_WEIGHTED = {
    **_MIXTURE_OF_EXPERTS, "model.posterior": "laplace", "model.learn_prior": True, "objective.kl": "mixture",
    "objective.component_choice": "all",
}  # fmt: skip
_MVAE = "Wu and Goodman, Multimodal Generative Models for Scalable Weakly-Supervised Learning, NeurIPS 2018"
_MMVAE = "Shi et al., Variational Mixture-of-Experts Autoencoders for Multi-Modal Deep Generative Models, NeurIPS 2019"
_MOPOE = "Sutter, Daunhawer and Vogt, Generalized Multimodal ELBO, ICLR 2021"

METHODS: dict[str, Method] = {
    "mvae": Method(
        "MVAE",
        "products with the prior as one more factor; the bounds of the full set and of each single modality are summed",
        f"{_MVAE}; as released with {_MOPOE}", 2018,
        {"model.subsets": "full_and_singletons", "model.prior_expert": "all", "objective.decode": "members",
         **_EACH_ITS_BOUND},
        {"objective.unimodal_weights": "one"},
    ),
    "mvae_original": Method(
        "MVAE (original)", "as mvae, and the bound of one random subset in each step; beta rises from 0",
        _MVAE, 2018,
        {"model.subsets": "full_and_singletons", "model.prior_expert": "all", "objective.decode": "members",
         **_EACH_ITS_BOUND},
        {"objective.random_subsets": 1, "objective.beta_warmup": 1.0},
    ),
    "mmvae": Method(
        "MMVAE", "a mixture of the single experts, one sample",
        f"{_MMVAE}; with one sample, as released with {_MOPOE}", 2019, _MIXTURE_OF_EXPERTS),
    "mmvae_iwae": Method(
        "MMVAE (IWAE)", "a mixture of the single experts, K importance-weighted samples, a learned prior",
        _MMVAE, 2019, {**_IMPORTANCE_WEIGHTED, "objective.estimator": "iwae"}, {"objective.samples": 30}
    ),
    "mmvae_dreg": Method(
        "MMVAE (DReG)", "as mmvae_iwae, with gradients of lower variance",
        _MMVAE, 2019, {**_IMPORTANCE_WEIGHTED, "objective.estimator": "dreg"}, {"objective.samples": 30}
    ),
    "mmjsd": Method(
        "mmJSD", "a mixture of the single experts, held against a geometric mean of the prior and the experts",
        "Sutter, Daunhawer and Vogt, Multimodal Generative Learning Utilizing Jensen-Shannon-Divergence, "
        "NeurIPS 2020", 2020, {**_MIXTURE_OF_EXPERTS, "objective.prior": "dynamic"},
    ),
    "mopoe": Method(
        "MoPoE-VAE", "a mixture of products of experts, one for each subset",
        _MOPOE, 2021, {"model.subsets": "all", "model.prior_expert": "full"}),
    "mvtcae": Method(
        "MVTCAE", "one product of all experts, pulled towards each modality's own expert",
        "Hwang et al., Multi-View Representation Learning via Total Correlation Objective, NeurIPS 2021",
        2021, {**_ONE_FUSION, "objective.kl": "total_correlation"},
    ),
    "dmvae": Method(
        "DMVAE", "products of the full set and of each single modality; every one decodes every modality",
        "Lee and Pavlovic, Private-Shared Disentangled Multimodal VAE for Learning of Latent Representations, "
        "CVPR workshops 2021", 2021,
        {"model.subsets": "full_and_singletons", "model.prior_expert": "full", **_EACH_ITS_BOUND},
    ),
    "mmvaeplus": Method(
        "MMVAE+",
        "a mixture of the single experts, and private latents; those of other modalities come from a prior",
        "Palumbo, Daunhawer and Vogt, MMVAE+: Enhancing the Generative Quality of Multimodal VAEs without "
        "Compromises, ICLR 2023", 2023,
        {**_MIXTURE_OF_EXPERTS, "model.posterior": "laplace", "model.private": "auxiliary", "objective.kl": "mixture",
         "objective.component_choice": "all"},
    ),
    "crmvae": Method(
        "CRMVAE", "as mvtcae, and each modality is also decoded from its own expert",
        "Suzuki and Matsuo, Mitigating the Limitations of Multimodal VAEs with Coordination-Based Approach, "
        "2023", 2023,
        {"model.subsets": "full_and_singletons", "model.prior_expert": "none", "objective.kl": "total_correlation",
         "objective.decode": "members", "objective.component_choice": "all"},
    ),
    "mmvm": Method(
        "MMVM-VAE", "each modality keeps a latent of its own; a prior made of all experts draws them together",
        "Sutter et al., Unity by Diversity: Improved Representation Learning for Multimodal VAEs, "
        "NeurIPS 2024", 2024,
        {**_MIXTURE_OF_EXPERTS, "objective.decode": "members", **_EACH_ITS_BOUND},
        {"objective.prior": "pairwise"},
    ),
    "codevae": Method(
        "CoDE-VAE", "a mixture over all subsets of experts whose errors are correlated, with learned weights",
        "Mancisidor et al., Aggregation of Dependent Expert Distributions in Multimodal Variational "
        "Autoencoders, ICML 2025", 2025,
        {"model.subsets": "all", "model.fusion": "consensus", "model.prior_expert": "none",
         "objective.component_choice": "all", "objective.component_weights": "learned"},
        {"model.correlation": 0.4},
    ),
    "barycenter": Method(
        "Barycenter", "one Wasserstein barycenter of all experts",
        "Qiu et al., Multimodal Variational Autoencoder: A Barycentric View, AAAI 2025", 2025,
        {**_ONE_FUSION, "model.fusion": "barycenter"},
    ),
    "hellinger": Method(
        "Hellinger", "one normal of the mean and variance of a pool of all experts (Hoelder, exponent 1/2)",
        "our reading of Vo and Valera, Hellinger Multimodal Variational Autoencoders, 2026", 2026,
        {**_ONE_FUSION, "model.fusion": "hellinger"},
    ),
    "average": Method(
        "Average", "one Gaussian of averaged means and variances",
        "a baseline", 0,
        {**_ONE_FUSION, "model.fusion": "average"},
    ),
    "independent": Method(
        "Independent VAEs", "one VAE for each modality, nothing shared",
        "a baseline", 0,
        {**_MIXTURE_OF_EXPERTS, "objective.decode": "members", **_EACH_ITS_BOUND, "objective.prior": "standard"},
    ),
    "custom": Method(
        "custom", "what you choose",
        "a choice of your own", 0, {}, {"model.prior_expert": "full"}),
}  # fmt: skip
"""In the order in which comparisons list them."""
