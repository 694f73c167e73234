"""Recipes and overrides, mutated as documents and as texts: planned, or explained with exit code 2."""

import json

import pytest
import yaml
from hypothesis import strategies as st
from tiny_recipes import tiny

from mmvae_cli import recipe as recipes
from mmvae_cli.process.errors import UsageProblem

from fuzzing import CASES, JUNK, NUMBERS, STRINGS, TALLY, hold, mmvae, mutated, replace_file

KEYS = [*sorted(recipes.flatten(tiny(2).model_dump(mode="json"))), "model", "modalities", "modalities.m0", "training"]
YAML = st.sampled_from(
    ["", "~", "yes", "1e3", "1_000", "0x10", "0o7", "1:30", ".inf", "-.inf", ".nan", "2024-01-01", "[m0]",
     "[[m0], [m1]]", "{max_size: 1}", "{max_size: -1}", "{a: b, a: c}",
     "&a [*a]", "!!set {a}", "!!binary aGk=", "!x 1", "[", "}", "'",
     "- -", "|", "? a", "\t", "\x07", "\ud800", "#", "a: b: c", "%YAML 9", "---\n---", "[" * 2000, "9" * 5000,
     "m0: {<<: *x}"]
)  # fmt: skip


@CASES
def test_any_recipe_is_planned_or_explained(cases, record_property, tmp_path):
    """A file of any content: a mutated document as YAML or JSON, or a text with a piece of YAML put in."""
    known, path = tiny(2, shape=(3, 8, 8)).model_dump(mode="json"), tmp_path / "fuzzed.yaml"

    def check(content):
        replace_file(path, content)
        done = mmvae("train", path, "--dry-run")
        assert done.code in (0, 2), done.stderr
        assert done.code or recipes.validate(yaml.safe_load(done.stdout), "printed").name

    hold(
        "recipes",
        check,
        documents(known) | spliced(recipes.shipped()["quickstart"].read_text()) | st.binary(max_size=60),
        cases,
        record_property,
    )


@st.composite
def documents(draw, known):
    document = draw(mutated(known))
    if draw(st.booleans()):
        return json.dumps(document).encode()
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=draw(st.booleans())).encode(errors="surrogatepass")


@st.composite
def spliced(draw, text):
    at, end = sorted(draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))))
    return (text[:at] + draw(YAML) + text[min(end, at + 20) :]).encode(errors="surrogatepass")


@pytest.mark.parametrize("name", ["keys", "items", "training", "forward", "labels", "m0-1", "0", "T_destination"])
def test_a_modality_may_be_called_anything_or_the_name_is_refused(name, tmp_path):
    content = tiny(2, shape=(3, 8, 8)).model_dump(mode="json")
    content["modalities"][name] = content["modalities"].pop("m1")
    replace_file(tmp_path / "named.yaml", json.dumps(content).encode())
    done = mmvae("train", tmp_path / "named.yaml", "--dry-run")
    assert (done.code == 0) == (name in ("labels", "m0-1", "0"))
    assert done.code == 0 or f"modalities.{name}: torch keeps this name for itself" in done.stderr


@CASES
def test_any_override_is_applied_or_explained(cases, record_property):
    def check(overrides):
        try:
            found = recipes.load("quickstart", overrides)
        except UsageProblem:  # anything else is a failure
            TALLY["refused (2)"] += 1
            return
        TALLY["done"] += 1
        again = recipes.validate(yaml.safe_load(found.dump()), "dumped")
        assert again == found, "what is written into the run reads back to the same recipe"

    hold("overrides", check, st.lists(override(), min_size=1, max_size=3), cases, record_property)


@st.composite
def override(draw):
    key = draw(st.sampled_from(KEYS) | st.text(max_size=12) | STRINGS)
    if draw(st.integers(0, 4)) == 0:
        key = draw(st.sampled_from([f"{key}.x", f".{key}", f"{key}.", key.upper(), key.replace(".", "..", 1)]))
    value = draw(YAML | JUNK.map(json.dumps) | NUMBERS.map(str) | st.text(max_size=12))
    return draw(st.sampled_from([f"{key}={value}"] * 8 + [key, f"{key}==", f"{key} = {value}", f"{key}:{value}"]))
