"""Pages that are made from the code are fresh, and every key of a recipe has its meaning."""

import importlib.util
from pathlib import Path

import pytest
from driving import completed

from mmvae_cli.recipe import METHODS, NETWORKS, listing, shipped
from mmvae_cli.recipe.meanings import MEANINGS

DOCS = Path(__file__).parents[2] / "docs"


def program(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate, pictures = program("generate"), program("pictures")


@pytest.mark.parametrize("page", generate.PAGES)
def test_the_page_is_fresh(page):
    """Words and their order: how lines are broken differs between versions of click."""
    made = generate.PAGES[page]()
    assert (DOCS / page).read_text(encoding="utf-8").split() == made.split(), f"{page} is old: run make docs"


def test_the_drawn_house_is_the_one_that_stands():
    drawn = (DOCS / "pictures" / "house.svg").read_text(encoding="utf-8")
    assert drawn == pictures.house(), "rooms or their imports changed: run make pictures"


def test_every_command_is_on_the_page():
    from mmvae_cli.cli import app, make_dataset

    verbs = [command.name or command.callback.__name__ for command in app.registered_commands]
    makers = [f"make-dataset {command.name}" for command in make_dataset.registered_commands]
    assert set(generate.COMMANDS) == {"", "make-dataset", *verbs, *makers}


def test_every_key_has_its_meaning_and_no_other():
    assert [key.name for key in listing.settings()] == list(MEANINGS)


def test_list_prints_what_can_be_typed_without_a_recipe():
    listed = completed("train", "--list").stdout
    said = {line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2] != " "}
    assert said >= {*shipped(), *METHODS, *NETWORKS, *MEANINGS}


@pytest.mark.parametrize(("key", "values", "default"), [
    ("objective.beta", "number >= 0", "1.0"),
    ("evaluation.items", "whole number >= 1 | null", "null"),
    ("model.subsets", "full | singletons | full_and_singletons | all | {max_size: K} | list", "the method's"),
    ("objective.component_choice", "stratified | balanced | random | all", "the method's, else stratified"),
    ("training.epochs", "whole number >= 1", "has to be given"),
    ("modalities.*.layer_norm", "true | false | null", "the network's"),
])  # fmt: skip
def test_a_key_in_words(key, values, default):
    found = {one.name: one for one in listing.settings()}[key]
    assert (found.values, found.default) == (values, default)


def test_what_a_method_needs_is_what_its_refusal_says():
    needs = program("generate").needs
    assert needs("custom") == "model.subsets: is required by method custom"
    assert needs("mopoe") == ""
