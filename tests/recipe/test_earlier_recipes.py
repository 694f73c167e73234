"""Recipes as version 0.1 wrote them into its runs: read in today's words, not trained on."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_recipes import tiny

from mmvae_cli import recipe as recipes
from mmvae_cli.process.errors import DataProblem, UsageProblem
from mmvae_cli.run.layout import Run


def as_0_1(method: str, **changes: Any) -> dict[str, Any]:
    """A resolved recipe with every key that version 0.1 wrote; ``changes`` are dotted keys with ``__`` for the dots."""
    families = {"mvae": ("full", "all", True), "mmvae": ("singletons", "none", False), "mopoe": ("all", "full", False)}
    subsets, prior_expert, unimodal = families[method]
    content = tiny(2).model_dump(mode="json")
    content["model"] = {"method": method, "latent_dim": 6, "private_dim": 0, "subsets": subsets,
                        "prior_expert": prior_expert, "unimodal_elbos": unimodal}  # fmt: skip
    content["objective"] = {
        "beta": 1.5,
        "beta_content": 1.0,
        "beta_private": 1.0,
        "likelihood_weights": "by_size",
        "unimodal_weights": "one",
        "component_choice": "stratified",
        "kl": "components",
    }
    content["training"]["tensorboard"] = False
    for key, value in changes.items():
        section, _, name = key.partition("__")
        content[section][name] = value
    return content


def run_of(content: dict[str, Any], folder: Path) -> Run:
    folder.mkdir()
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    return Run(folder)


def test_keys_that_say_nothing_are_left_out_of_a_resolved_recipe_that_has_them(tmp_path):
    """Earlier versions wrote them out."""
    recipe = tiny(2, modalities__word={"network": "text8"}, model__subsets={"max_size": 2})
    content = recipe.model_dump(mode="json", exclude_none=True)
    for spec in content["modalities"].values():
        spec.update(scale=0.75, private_weight=1.0)
    content["objective"]["beta_private"], content["model"]["prior_expert"] = 1.0, "full"
    content["training"]["tensorboard"] = True
    assert run_of(content, tmp_path / "run").recipe() == recipe
    assert recipe.model.prior_expert == "none"


@pytest.mark.parametrize("method", ["mvae", "mmvae", "mopoe"])
def test_a_run_of_version_0_1_is_read_as_the_same_method(method, tmp_path):
    found = run_of(as_0_1(method), tmp_path / "run").recipe()
    assert found == tiny(2, model__method=method), "keys that said nothing are gone"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"objective__component_choice": "all", "objective__kl": "mixture"},
         {"objective__component_choice": "all", "objective__kl": "mixture"}),
        ({"model__subsets": [["m0"], ["m0", "m1"]]}, {"model__subsets": [["m0"], ["m0", "m1"]]}),
        ({"model__subsets": {"max_size": 1}}, {"model__subsets": {"max_size": 1}}),
        ({"model__subsets": "full"}, {"model__subsets": "full"}),
    ],
)  # fmt: skip
def test_choices_of_version_0_1_keep_their_meaning(changes, expected, tmp_path):
    assert run_of(as_0_1("mopoe", **changes), tmp_path / "run").recipe() == tiny(2, **expected)


@pytest.mark.parametrize(("rule", "weights"), [("released", {"image": 1 / 3, "text": 16}),
                                               ("mmjsd", {"image": 1, "text": 16})])  # fmt: skip
def test_weights_by_an_images_pixels_become_numbers(rule, weights, tmp_path):
    content = as_0_1("mopoe", objective__likelihood_weights=rule)
    celeba = recipes.load("celeba_mopoe").model_dump(mode="json")["modalities"]
    assert run_of(content | {"modalities": celeba}, tmp_path / "run").recipe().weights() == weights


def test_what_today_has_no_words_for_is_said(tmp_path):
    run = run_of(as_0_1("mopoe", model__unimodal_elbos=True), tmp_path / "run")
    with pytest.raises(DataProblem, match=r"version 0\.1.*model.unimodal_elbos beside other components"):
        run.recipe()


def test_a_run_of_version_0_1_is_not_gone_on_with(tmp_path):
    run = run_of(as_0_1("mvae"), tmp_path / "run")
    with pytest.raises(UsageProblem, match=r"was begun by mmvae 0\.1") as caught:
        run.prepare(tiny(2, model__method="mvae"))
    assert caught.value.code == 2
    assert "evaluate, sample and compare" in caught.value.hint
