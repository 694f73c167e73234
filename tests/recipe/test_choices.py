"""What a method settles, what does not go together, and what would do nothing: each with a sentence for the user."""

import pytest
from tiny_recipes import of_method, tiny

from mmvae_cli import recipe as recipes
from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.recipe import METHODS

ALL = {"objective__component_choice": "all"}
SAMPLED = {"objective__estimator": "iwae", "objective__samples": 5}
MVTCAE = {"model__method": "mvtcae"}
MIXTURE = {"objective__kl": "mixture"}

ALWAYS = {"model.method", "model.latent_dim", "model.private_dim", "model.subsets", "model.posterior",
          "model.learn_prior", "model.prior_expert", "objective.beta", "objective.beta_content",
          "objective.likelihood_weights", "objective.beta_warmup", "objective.kl", "objective.estimator"}  # fmt: skip
OF_A_MIXTURE = {"objective.component_choice", "objective.component_weights", "objective.decode"}
SHOWN = {
    "mvae": {"model.fusion", "objective.prior", *OF_A_MIXTURE, "objective.random_subsets",
             "objective.unimodal_weights"},
    "mvae_original": {"model.fusion", "objective.prior", *OF_A_MIXTURE, "objective.random_subsets"},
    "mmvae": {"objective.prior", *OF_A_MIXTURE},
    "mmvae_iwae": {"objective.samples", "objective.bound", *OF_A_MIXTURE},
    "mmvae_dreg": {"objective.samples", "objective.bound", *OF_A_MIXTURE},
    "mmjsd": {"objective.prior", "objective.prior_share", *OF_A_MIXTURE},
    "mopoe": {"model.fusion", "objective.prior", *OF_A_MIXTURE},
    "mvtcae": {"model.fusion", "objective.alpha"},
    "dmvae": {"model.fusion", "objective.prior", *OF_A_MIXTURE},
    "mmvaeplus": {"model.private", *OF_A_MIXTURE},
    "crmvae": {"model.fusion", "objective.alpha", *OF_A_MIXTURE},
    "mmvm": {"objective.prior", "objective.prior_share", *OF_A_MIXTURE},
    "codevae": {"model.fusion", "model.correlation", "objective.prior", "objective.entropy_weight", *OF_A_MIXTURE},
    "barycenter": {"model.fusion", "objective.prior"},
    "hellinger": {"model.fusion", "objective.prior"},
    "average": {"model.fusion", "objective.prior"},
    "independent": {"objective.prior", *OF_A_MIXTURE},
    "custom": {"model.fusion", "objective.prior", *OF_A_MIXTURE},
}  # fmt: skip


def of(method, **changes):
    return of_method(method, **{"objective__samples": METHODS[method].usual.get("objective.samples")} | changes)


@pytest.mark.parametrize("method", METHODS)
def test_a_resolved_recipe_shows_the_choices_that_matter_and_no_other(method, tmp_path):
    recipe = of(method)
    content = recipe.model_dump(mode="json", exclude_none=True)
    shown = recipes.flatten({"model": content["model"], "objective": content["objective"]})
    keys = {"model.subsets" if key.startswith("model.subsets.") else key for key in shown}
    of_private = {"objective.beta_private"} if recipe.model.private_dim else set()
    if method in SHOWN:
        assert keys == ALWAYS | SHOWN[method] | of_private
    settings = recipes.flatten(METHODS[method].settings)
    assert {key: shown[key] for key in settings} == settings
    (tmp_path / "again.yaml").write_text(recipe.dump())
    assert recipes.load(str(tmp_path / "again.yaml")) == recipe


@pytest.mark.parametrize("method", METHODS)
def test_another_method_can_be_asked_of_the_resolved_recipe_of_any(method, tmp_path):
    """Its choices are settled anew: what the first one settled does not stand in the way."""
    (tmp_path / "resolved.yaml").write_text(of(method, model__private_dim=4).dump())
    for other in METHODS:
        more = ["model.subsets=all"] if other == "custom" else []
        found = recipes.load(str(tmp_path / "resolved.yaml"), [f"model.method={other}", *more])
        wanted = of(other, model__private_dim=4)
        if other != method:
            assert found == wanted


REFUSED = [
    ({**MVTCAE, "model__prior_expert": "all"}, "objective.kl: .*without a prior expert: give model.prior_expert=none"),
    ({**MVTCAE, **SAMPLED}, "objective.kl: .*no importance weight: it goes with objective.estimator=elbo"),
    ({**ALL, "model__method": "mmvae", "objective__kl": "total_correlation", "objective__decode": "members"},
     "objective.decode: .*that of the full set, which is not in the family"),
    ({**MIXTURE, "objective__prior": "dynamic"}, "objective.prior: would do nothing: only objective.kl: components"),
    ({**SAMPLED, "objective__prior": "dynamic"}, r"objective.prior: .*compare with p\(z\).*the prior is standard"),
    ({"model__subsets": "full", "objective__prior": "mixture"}, "objective.prior: .*the prior is the component itself"),
    ({"model__subsets": "full", "objective__prior": "pairwise", "objective__prior_share": 0.0}, "component itself"),
    ({"objective__samples": 5}, "objective.samples: would do nothing: objective.estimator: elbo takes one sample"),
    ({"objective__estimator": "iwae"}, "objective.samples: is required by objective.estimator: iwae"),
    ({**SAMPLED, "objective__samples": 1}, "objective.samples: with one sample iwae and dreg are elbo.*give 2 or more"),
    ({**SAMPLED, **ALL, "objective__component_weights": "sum"}, "objective.estimator: .*a common weight"),
    ({**SAMPLED, **ALL, "objective__decode": "members"}, "objective.estimator: .*the same modalities"),
    ({**SAMPLED, **MIXTURE, "objective__bound": "tight"}, "objective.bound: .*needs all components of an item"),
    ({**SAMPLED, **MIXTURE, "model__subsets": "full", "objective__bound": "tight"},
     "objective.bound: would do nothing: loose and tight differ where K samples of several components"),
    ({"model__private": "auxiliary"}, "model.private_dim: model.private: auxiliary needs private latents"),
    ({**ALL, "model__private": "auxiliary", "model__private_dim": 2, "objective__decode": "members"},
     "model.private: auxiliary priors stand for modalities that a component decodes and does not contain"),
    ({"model__subsets": "full", "model__private": "auxiliary", "model__private_dim": 2}, "model.private: auxiliary"),
    ({"model__posterior": "laplace"}, "model.posterior: .*needs components of one modality, model.subsets=singletons"),
    ({"model__method": "mmvae", "model__posterior": "laplace", "model__prior_expert": "all"},
     "model.posterior: .*needs model.prior_expert=none"),
    ({"model__method": "mmjsd", "model__posterior": "laplace"}, "model.posterior: KLs between two Laplace"),
    ({"model__fusion": "average"}, "model.fusion: only a product has a prior expert: give model.prior_expert=none"),
    ({"model__method": "mmvae", "model__prior_expert": "full"},
     "model.prior_expert: would do nothing: the full set is not in the family"),
    ({"model__method": "mmvm", "model__learn_prior": True}, "model.learn_prior: would do nothing: .* nothing with"),
    ({"model__correlation": 0.4}, "model.correlation: would do nothing: only model.fusion: consensus"),
    ({"model__fusion": "consensus", "model__prior_expert": "none", "model__correlation": 1.0},
     "model.correlation: has to be less than 1, not 1.0"),
    ({"model__method": "mmvae", "model__fusion": "average"}, "model.fusion: would do nothing: every component has one"),
    ({"objective__component_weights": "learned"}, "objective.component_weights: learned.*component_choice=all"),
    ({"model__subsets": "full", "objective__component_weights": "learned"}, "would do nothing: there is one component"),
    ({**ALL, **SAMPLED, "objective__component_weights": "learned"}, "objective.estimator: .*component_weights=mean"),
    ({"objective__entropy_weight": 10.0}, "objective.entropy_weight: would do nothing: .*weights are not learned"),
    ({"objective__component_weights": "sum"}, "objective.component_weights: sum needs every component of an item"),
    ({**ALL, "objective__component_weights": "sum", "objective__prior": "dynamic"}, "objective.prior: the dynamic"),
    ({**ALL, "objective__component_weights": "learned", "objective__prior": "dynamic"}, "goes with .*weights=mean"),
    ({**ALL, "objective__component_weights": "learned", "objective__decode": "members"},
     "objective.decode: learned weights are those of components that decode everything"),
    ({"objective__decode": "members"}, "objective.decode: members needs every component of an item"),
    ({"objective__random_subsets": 1}, "objective.random_subsets: would do nothing: extra subsets are drawn where"),
    ({"model__method": "mvae", "objective__prior": "pairwise", "objective__random_subsets": 1},
     "objective.random_subsets: the ELBOs of extra subsets"),
    ({"objective__prior_share": 0.5}, "objective.prior_share: would do nothing"),
    ({"objective__prior": "dynamic", "objective__prior_share": 1.5}, "objective.prior_share: has to be 1 or less"),
    ({"objective__alpha": 0.5}, "objective.alpha: would do nothing: only objective.kl: total_correlation"),
    ({"objective__unimodal_weights": "one"}, "objective.unimodal_weights: would do nothing: it is a quirk of the rel"),
    ({"model__method": "mvae_original", "objective__unimodal_weights": "one"}, "objective.unimodal_weights: would do"),
    ({"model__subsets": "full", "objective__component_choice": "all"}, "component_choice: would do nothing: there is"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_does_not_go_together_is_refused_with_the_reason(changes, message):
    with pytest.raises(UsageProblem, match=message) as caught:
        tiny(3, **changes)
    assert caught.value.code == 2


def test_of_two_modalities_no_subset_can_be_sampled():
    with pytest.raises(UsageProblem, match=r"objective.random_subsets: would do nothing"):
        tiny(2, model__method="mvae_original", objective__random_subsets=1)
    assert tiny(2, model__method="mvae_original").objective.random_subsets is None


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(UsageProblem, match=r"3 error\(s\)"):
        tiny(3, objective__alpha=0.5, objective__samples=3, objective__component_weights="sum")


ACCEPTED = [
    {**ALL, **SAMPLED, **MIXTURE, "objective__bound": "tight"},
    {**SAMPLED, "objective__estimator": "stl", "objective__samples": 1},
    {"objective__prior": "dynamic"},
    {"objective__prior": "pairwise", "objective__prior_share": 0.2},
    {"model__subsets": {"max_size": 2}, "model__prior_expert": "none", "objective__kl": "total_correlation"},
    {**ALL, "model__private": "auxiliary", "model__private_dim": 2, **MIXTURE},
    {"model__method": "mmvm", "objective__prior": "mixture"},
    {"model__learn_prior": True},
]


@pytest.mark.parametrize("changes", ACCEPTED)
def test_what_goes_together_does(changes):
    assert not [line for line in tiny(3, objective__beta=1.0, **changes).cautions if "biased" in line]


@pytest.mark.parametrize(("changes", "caution"), [
    ({**SAMPLED, "objective__estimator": "stl"}, "biased for more than one sample"),
    ({**ALL, "objective__component_weights": "learned", "objective__entropy_weight": 0}, "easiest to reconstruct from"),
    ({**SAMPLED, "objective__beta": 2.5}, "no bound on log p"),
])  # fmt: skip
def test_what_may_surprise_is_said(changes, caution):
    (found,) = tiny(3, **{"objective__beta": 1.0} | changes).cautions
    assert caution in found
    assert tiny(3).cautions == []
