"""Every key of the schema beside every method: it changes the loss, or it is refused with the reason."""

import pytest
import torch
from tiny_recipes import NEEDS, tiny

from mmvae_cli.model.bound import bound_terms
from mmvae_cli.model.objective import Objective, draw_noise
from mmvae_cli.model.terms import weigh
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.recipe import METHODS
from mmvae_cli.recipe.meanings import MEANINGS

OTHERS = {
    "model.posterior": ["normal", "laplace"], "model.learn_prior": [False, True],
    "model.fusion": ["product", "consensus", "average", "barycenter", "hellinger"], "model.correlation": [0.2, 0.6],
    "model.prior_expert": ["none", "full", "all"], "model.private": ["posterior", "auxiliary"],
    "model.subsets": ["full", "singletons", "full_and_singletons", "all", {"max_size": 2}],
    "objective.beta": [0.5, 2.0], "objective.beta_content": [0.5], "objective.beta_private": [0.5],
    "objective.likelihood_weights": ["equal"], "objective.kl": ["components", "mixture", "total_correlation"],
    "objective.prior": ["standard", "dynamic", "mixture", "pairwise"], "objective.prior_share": [0.3],
    "objective.alpha": [0.3], "objective.component_choice": ["stratified", "balanced", "random", "all"],
    "objective.component_weights": ["mean", "sum", "learned"], "objective.entropy_weight": [3.0],
    "objective.decode": ["all", "members"], "objective.estimator": ["elbo", "iwae", "stl", "dreg"],
    "objective.samples": [4], "objective.bound": ["loose", "tight"], "objective.random_subsets": [0, 2],
    "objective.unimodal_weights": ["same", "one"], "modalities.m0.scale": [0.4], "modalities.m0.private_weight": [0.4],
    "modalities.m2.scale": [0.4],
}  # fmt: skip
"""By dotted key: values to try."""
ELSEWHERE = {"model.method", "model.latent_dim", "model.private_dim", "objective.beta_warmup"}
"""Sizes, and what the training loop knows."""
BATCH = 11


def of(method, private, change=None):
    settings = {"model__method": method, "model__private_dim": private} | NEEDS.get(method, {})
    settings |= {"model__private_dim": private} if private else {}
    recipe = tiny(2, shape=(3, 8, 8), modalities__m2={"network": "text8"}, **settings | (change or {}))
    torch.manual_seed(0)
    model = MultimodalVAE(recipe)
    torch.manual_seed(1)
    for learned in (model.prior.raw, None if model.auxiliary is None else model.auxiliary.raw, model.component_logits):
        if learned is not None:
            learned.data.normal_()
    return recipe, model


def outcome(recipe, model):
    """Loss and gradient of a step: what training sees."""
    torch.manual_seed(2)
    batch = {"m0": torch.rand(BATCH, 3, 8, 8), "m1": torch.rand(BATCH, 3, 8, 8), "m2": torch.randint(71, (BATCH, 8))}
    objective = Objective.of(recipe)
    loss = weigh(
        bound_terms(model, batch, objective, draw_noise(model, objective, batch, BATCH, slice(None), "cpu"))
    ).mean()
    gradient = torch.autograd.grad(loss, next(model.encoders["m0"].parameters()), allow_unused=True)[0]
    return torch.stack([loss.detach(), gradient.abs().sum()])


def test_every_key_of_model_objective_and_modalities_is_tried():
    known = {key for key in MEANINGS if key.split(".")[0] in ("model", "objective", "modalities")}
    networks = {key for key in known if key.startswith("modalities") and not key.endswith(("scale", "private_weight"))}
    tried = {key.replace(".m0.", ".*.").replace(".m2.", ".*.") for key in OTHERS}
    assert known - networks == tried | ELSEWHERE


@pytest.mark.parametrize(("method", "private"), [*((method, 2) for method in METHODS), ("mopoe", 0), ("mmvm", 0)])
def test_a_key_changes_the_step_or_is_refused(method, private):
    recipe, model = of(method, private)
    usual, idle = outcome(recipe, model), []
    content = {"model": recipe.model.model_dump(), "objective": recipe.objective.model_dump()}
    for key, values in OTHERS.items():
        part, name = key.split(".")[0], key.split(".")[-1]
        for value in values:
            if part in content and content[part][name] == value:
                continue
            change = {key.replace(".", "__"): value}
            if name == "estimator" and value != "elbo":
                change["objective__samples"] = 4
            try:
                changed, twin = of(method, private, change)
            except UsageProblem:
                continue
            if torch.allclose(outcome(changed, twin), usual, rtol=1e-7):
                idle.append((key, value))
    assert idle == []
