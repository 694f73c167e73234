"""Recipes: every shipped one is valid and complete; errors come with path, what is allowed, and what is near."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_recipes import tiny

from mmvae_cli import recipe as recipes
from mmvae_cli import store
from mmvae_cli.datasets.commands import make_dataset
from mmvae_cli.disk import plain_yaml
from mmvae_cli.process.errors import DataProblem, UsageProblem
from mmvae_cli.recipe import Recipe

SHIPPED = sorted(recipes.shipped())


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_read_back_and_name_themselves(name, tmp_path):
    recipe = recipes.load(name)
    assert recipe.name == name
    (tmp_path / "again.yaml").write_text(recipe.dump())
    assert recipes.load(str(tmp_path / "again.yaml")) == recipe
    text = recipes.shipped()[name].read_text()
    assert text.startswith("# ")
    assert "# Needs: mmvae make-dataset" in text
    assert f"# Run:   mmvae train {name}" in text


def test_what_a_mac_leaves_beside_recipes_is_none(tmp_path, monkeypatch):
    shutil.copytree(recipes.shipped()["quickstart"].parent, tmp_path / "recipes")
    (tmp_path / "recipes" / "._quickstart.yaml").write_bytes(b"\0\5\x16\7")
    monkeypatch.setattr(recipes.reading.resources, "files", lambda package: tmp_path)
    assert sorted(recipes.shipped()) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_say_what_their_preset_is(name):
    """The comment beside `method` must be the preset, or the recipe's own settings; it may start from others than the
    method does."""
    method = recipes.METHODS[recipes.load(name).model.method]
    resolved = recipes.flatten(recipes.load(name).model_dump())
    said = recipes.flatten(recipes.read(recipes.shipped()[name]))
    wanted = recipes.flatten(method.preset) | {key: said.get(key, value) for key, value in method.usual.items()}
    assert {key: resolved[key] for key in wanted} == wanted


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_are_dry_run_without_data(name, tmp_path):
    from mmvae_cli.training import estimate

    lines = estimate.describe(recipes.load(name), tmp_path / "nowhere", None)
    assert int(next(line for line in lines if "parameters of total" in line).split()[-1].replace(",", "")) > 1e5
    assert any(line.startswith("weight of ") for line in lines)
    assert re.search(r"memory, about +[\d,]+ MiB", lines[-1])


@pytest.mark.parametrize("name", SHIPPED)
def test_a_missing_dataset_of_a_shipped_recipe_is_answered_with_the_command_that_makes_it(name, tmp_path):
    """The command that the recipe's own comment says; it writes where this recipe looks, also below another folder."""
    recipe = recipes.load(name)
    assert f"\n# Needs: {recipes.how_to_make(recipe, Path('data'))}\n" in recipes.shipped()[name].read_text()
    for data_dir in (Path("data"), tmp_path / "other place"):
        with pytest.raises(DataProblem, match="no dataset at") as caught:
            store.of_recipe(recipe, data_dir, verify=False)
        _, mmvae, verb, kind, *words = shlex.split(caught.value.hint.replace("make it:", "make-it:"))
        assert (mmvae, verb) == ("mmvae", "make-dataset")
        command = typer.main.get_command(make_dataset).commands[kind]
        asked = command.make_context(kind, words).params
        assert (asked["out"] or asked["data_dir"] / kind) == data_dir / recipe.dataset.name


def test_a_missing_dataset_of_ones_own_recipe_is_answered_too():
    """By another of the same data, else in general."""
    assert recipes.how_to_make(tiny(2, dataset__name="mst_embedded"), Path("d")).endswith(" --out d/mst_embedded")
    assert recipes.how_to_make(tiny(2), Path("d")) == "mmvae make-dataset, or give its place with --data-dir"


def test_the_paper_settings():
    for method, family in (("mvae", "full_and_singletons"), ("mmvae", "singletons"), ("mopoe", "all")):
        recipe = recipes.load(f"polymnist_{method}")
        assert (recipe.model.latent_dim, recipe.objective.beta, recipe.model.subsets) == (512, 2.5, family)
        assert (recipe.training.epochs, recipe.training.batch_size, recipe.training.learning_rate) == (300, 256, 1e-3)


@pytest.mark.parametrize(("method", "network", "latent", "beta", "training"), [
    ("mmjsd", "image28", 512, 2.5, (300, 256, 1e-3)), ("mvtcae", "image28", 512, 2.5, (300, 256, 1e-3)),
    ("mmvaeplus", "resnet28", 32, 2.5, (150, 32, 1e-3)), ("mmvm", "resnet28", 512, 1.0, (400, 128, 5e-4)),
    ("codevae", "image28", 512, 2.5, (300, 256, 1e-3)),
])  # fmt: skip
def test_the_settings_of_other_papers(method, network, latent, beta, training):
    recipe = recipes.load(f"polymnist_{method}")
    assert {(m.network, m.likelihood, m.scale) for m in recipe.modalities.values()} == {(network, "laplace", 0.75)}
    assert (recipe.model.method, recipe.model.latent_dim, recipe.objective.beta) == (method, latent, beta)
    assert (recipe.training.epochs, recipe.training.batch_size, recipe.training.learning_rate) == training


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("modalities.m0.likelihood=lapalce", r"modalities.m0.likelihood: 'lapalce' is not one of laplace.*laplace"),
        ("objective.bta=1", r"objective.bta: unknown key \(did you mean 'beta'\?\)"),
        ("training.lr=1", r"training.lr: unknown key \(did you mean 'learning_rate'\?\)"),
        ("z_dim=16", r"z_dim: unknown key \(did you mean 'model.latent_dim'\?\)"),
        ("beta=5", r"the command line, on .*polymnist_mopoe.yaml: 1 error\(s\)\n  beta: .*'objective.beta'"),
        ("model.method=MVTCAE", r"did you mean 'mvtcae'\?"),
        ("modalities.m0.network=tiny", r"one of your own is own.tiny, with --code"),
        ("lr=1", r"lr: unknown key \(did you mean 'training.learning_rate'\?\)"),
        ("training.beta=1", r"training.beta: unknown key \(did you mean 'objective.beta'\?\)"),
        ("modalities.m0.batch-size=1", r"unknown key \(did you mean 'training.batch_size'\?\)"),
        ("training.batch=1", r"training.batch: unknown key \(did you mean 'batch_size'\?\)"),
        ("scale=1", r"scale: unknown key \(did you mean 'modalities.\*.scale'\?\)"),
        ("model.subsets={size: 2}", r"model.subsets.size: unknown key \(did you mean 'max_size'\?\)"),
        ("training.warmup=1", r"training.warmup: unknown key \(did you mean 'objective.beta_warmup'\?\)"),
        ("training.nesterov=1", r"training.nesterov: unknown key$"),
        ("model.latent_dim=x", r"model.latent_dim: has to be a whole number, not 'x'"),
        ("model.latent_dim=0", r"model.latent_dim: has to be 1 or more, not 0"),
        ("modalities.m0.layer_norm=[]", r"modalities.m0.layer_norm: has to be true or false, not \[\]"),
        ("training.tensorboard=true", r"training.tensorboard: is gone: mmvae export RUN --to tensorboard --follow"),
        ("name=a b", r"name: has to be a name \(letters.*64 at most\), not 'a b'"),
        ("training.learning_rate=.nan", r"training.learning_rate: .*finite"),
        ("training.learning_rate=-1", r"training.learning_rate: has to be greater than 0, not -1"),
        ("model.method=mopo", r"model.method: 'mopo' is not one of mvae, mvae_original, mmvae, .*'mopoe'"),
        ("model.subsets=[[m0, m9]]", r"model.subsets: unknown modality 'm9'"),
        ("model.subsets=[[m0, m0]]", r"model.subsets: .*twice"),
        ("model.subsets=[]", r"model.subsets: .*empty"),
        ("model.subsets=[[m0]]", r"model.subsets: 'm1' is in no subset"),
        ("model.subsets={max_size: 9}", r"model.subsets: max_size 9 is more than"),
        ("modalities.m0.shape=[3, 28]", r"modalities.m0.shape"),
        ("modalities.mO=null", r"modalities.mO=null: 'mO' is not one of m0, m1, m2, m3, m4"),
        ("modalities.m0=", r"model.subsets: unknown modality 'm0'; the recipe has m1"),
        ("modalities.*.scale=-1", r"1 error\(s\)\n  modalities.m0.scale: has to be greater than 0"),
        ("modalities.*.sclae=1", r"1 error\(s\)\n  modalities.m0.sclae: unknown key \(did you mean 'scale'"),
        ("modalities.*.private_weight=2", r"5 error\(s\)\n  modalities.m0.private_weight: would do nothing: there"),
        ("objective.beta_private=2", r"objective.beta_private: would do nothing: there are no private latents"),
        ("modalities.*=null", r"modalities.\*=... sets no key"),
        ("objective.likelihood_weights={m0: 1}", r"objective.likelihood_weights: no weight for m1, m2, m3, m4"),
        ("objective.likelihood_weights={m0: 1, m8: 1}", r"weights: 'm8' is not one of m0, m1.*; no weight for m1, m2"),
        ("objective.likelihood_weights={m0: x}", r"objective.likelihood_weights.m0: has to be a number, not 'x'"),
        ("training=5", r"training: "),
    ],
)  # fmt: skip
def test_errors_name_the_path(override, message):
    others = ["model.subsets=[[m0, m1, m2, m3, m4]]"] if override == "modalities.m0=" else []
    with pytest.raises(UsageProblem, match=message) as caught:
        recipes.load("polymnist_mopoe", [*others, override])
    assert caught.value.code == 2


def test_no_modality_is_called_as_the_shared_latents_kl_is():
    """Its component's KL, which is only logged, would take the place of the regulariser."""
    content = tiny(2).model_dump(mode="json", exclude_none=True)
    content["modalities"]["shared"] = content["modalities"].pop("m1")
    with pytest.raises(UsageProblem, match=r"modalities\.shared: kl\.shared is the KL of the shared latent"):
        recipes.validate(content, "made")


def test_null_drops_a_modality():
    recipe = recipes.load("polymnist_mopoe", ["modalities.m3=null", "modalities.m0.scale=0.5", "modalities.m1="])
    assert list(recipe.modalities) == ["m0", "m2", "m4"]
    assert len(recipe.families()) == 7


def test_a_key_of_every_modality_is_set_where_it_matters():
    scaled = recipes.load("mst_mopoe", ["modalities.*.scale=0.5", "modalities.svhn.scale=0.1"]).modalities
    assert {name: spec.scale for name, spec in scaled.items()} == {
        "mnist": 0.5,
        "svhn": 0.1,
        "text": None,
    }
    normal = recipes.load("mst_mopoe", ["modalities.*.likelihood=normal"]).modalities
    assert [spec.likelihood for spec in normal.values()] == ["normal", "normal", "categorical"]
    weighed = recipes.load("celeba_mopoe", ["modalities.*.private_weight=2"]).modalities
    assert {spec.private_weight for spec in weighed.values()} == {2.0}
    with pytest.raises(UsageProblem, match="has one size only"):
        recipes.load("mst_mopoe", ["modalities.*.width=8"])
    with pytest.raises(UsageProblem, match=r"text.scale: would do nothing: likelihood 'categorical' has none"):
        recipes.load("mst_mopoe", ["modalities.text.scale=0.5"])


def test_all_errors_come_at_once():
    overrides = ["modalities.m0.likelihood=lapalce", "objective.bta=1", "training.epochs=0"]
    with pytest.raises(UsageProblem, match=r"3 error\(s\)"):
        recipes.load("polymnist_mopoe", overrides)


@pytest.mark.parametrize(
    "override", ["beta", "=1", "a..b=1", "objective.beta=[", "objective.beta=!!python/name:os.system"]
)
def test_malformed_overrides(override):
    with pytest.raises(UsageProblem):
        recipes.load("polymnist_mopoe", [override])


@pytest.mark.parametrize("text", ["5e-4", "5.0e-4", "0.0005", "5E-4"])
def test_every_spelling_of_a_number_is_a_number(text):
    assert recipes.load("polymnist_mopoe", [f"training.learning_rate={text}"]).training.learning_rate == 0.0005


@pytest.mark.parametrize(("override", "key", "value"), [
    ("training.compile=off", "training.compile", "off"), ("training.seed=010", "training.seed", 10),
    ("model.learn_prior=false", "model.learn_prior", False),
])  # fmt: skip
def test_words_and_numbers_mean_what_they_say(override, key, value, tmp_path):
    """Not as in YAML 1.1, where off is false and 010 is 8; what is written reads back the same."""
    recipe = recipes.load("polymnist_mopoe", [override])
    (tmp_path / "again.yaml").write_text(recipe.dump())
    for one in (recipe, recipes.load(str(tmp_path / "again.yaml"))):
        assert recipes.flatten(one.model_dump())[key] == value


@pytest.mark.parametrize("override", ["training.epochs=1:30", "objective.beta=true", "training.compile=no"])
def test_what_is_no_number_or_word_is_refused(override):
    with pytest.raises(UsageProblem):
        recipes.load("polymnist_mopoe", [override])


def test_a_key_given_twice_is_refused():
    with pytest.raises(UsageProblem, match=r"objective.beta is set twice"):
        recipes.load("polymnist_mopoe", ["objective.beta=5", "objective.beta=2"])


def test_another_method_means_its_own_presets_on_a_resolved_recipe_too(tmp_path):
    path = tmp_path / "resolved.yaml"
    path.write_text(recipes.load("polymnist_mopoe").dump())
    recipe = recipes.load(str(path), ["model.method=mvae"])
    assert (recipe.model.subsets, recipe.model.prior_expert) == ("full_and_singletons", "all")
    assert (recipe.objective.decode, recipe.objective.component_weights) == ("members", "sum")
    bent = recipes.load(str(path), ["model.method=mvae", "model.prior_expert=none"])
    assert (bent.model.prior_expert, bent.objective.decode) == ("none", "members")
    path.write_text(recipes.load("polymnist_mopoe", ["model.prior_expert=none"]).dump())
    assert recipes.load(str(path), ["model.method=mopoe"]).model.prior_expert == "none", "not another method"


def test_unknown_recipes_are_listed_with_the_nearest():
    with pytest.raises(UsageProblem, match="no recipe 'polymnist_mopo'") as caught:
        recipes.load("polymnist_mopo")
    assert "did you mean polymnist_mopoe?" in caught.value.hint
    assert "quickstart" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("./nothere.yaml", "./nothere.yaml: no such file", "give a path"),
        ("below/nothere", "below/nothere: no such file", "give a path"),
        ("mine", "no recipe 'mine'", "did you mean mine.yaml?"),
        ("./mine", "./mine: no such file", "did you mean ./mine.yaml?"),
        ("./mime.yaml", "./mime.yaml: no such file", "did you mean ./mine.yaml?"),
        ("polymnist_mopoe.yaml", "polymnist_mopoe.yaml: no such file", "did you mean polymnist_mopoe?"),
        ("runs", "runs: is a folder", "did you mean runs/recipe.yaml?"),
        (
            "objective.beta=5",
            "'objective.beta=5' is a setting, not a recipe",
            "mmvae train RECIPE objective.beta=VALUE",
        ),
        ("mvtcae", "'mvtcae' is a method, not a recipe", "mmvae train RECIPE model.method=mvtcae"),
        ("x" * 300, "no recipe 'xxx", "shipped recipes"),
    ],
)
def test_what_is_no_recipe_is_told_what_it_may_mean(name, message, hint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "mine.yaml", tmp_path / "runs" / "recipe.yaml"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(tiny(2).dump())
    with pytest.raises(UsageProblem) as caught:
        recipes.find(name)
    assert str(caught.value).startswith(message)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "text",
    ["name: a\nname: b\n", "- 1\n", "[", "a: &a [*a]\n", "!!python/object/apply:os.system ['true']\n", "\x00", "",
     "a: &a [1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n"
     "d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\n"],
)  # fmt: skip
def test_strange_yaml_is_one_usage_problem(text, tmp_path):
    path = tmp_path / "strange.yaml"
    path.write_text(text)
    with pytest.raises(UsageProblem):
        recipes.load(str(path))


@pytest.mark.parametrize(("text", "where"), [
    ("a: 1\nmodel:\n  method: mvae\n\n  method: mopoe\n",
     "line 5, column 3: key 'method' is there twice, first in line 3"),
    ("a: {x: 1, y: 2,\n    x: 3}\n", "line 2, column 5: key 'x' is there twice, first in line 1"),
    ("a: &a {p: 1}\nb: {<<: *a, p: 2, p: 3}\n", "line 2, column 19: key 'p' is there twice, first in line 2"),
])  # fmt: skip
def test_a_duplicate_key_is_reported_where_it_is(text, where):
    with pytest.raises(UsageProblem) as caught:
        plain_yaml.parse(text, "r.yaml")
    assert str(caught.value) == f"r.yaml: {where}"


def test_merges_of_merges_keep_what_was_changed_in_between():
    text = "m0: &plain {scale: 1, width: 2}\nm1: &sharp {<<: *plain, scale: 0.5}\nm2: {<<: *sharp, width: 3}\n"
    found = plain_yaml.parse(text, "r.yaml")
    assert (found["m1"], found["m2"]) == ({"width": 2, "scale": 0.5}, {"scale": 0.5, "width": 3})
    first = plain_yaml.parse("a: &a {p: 1}\nb: &b {p: 2, q: 2}\nc: {<<: [*a, *b], r: 3}\n", "r.yaml")["c"]
    assert first == {"p": 1, "q": 2, "r": 3}


def test_too_many_subsets_are_refused_before_memory_is():
    with pytest.raises(UsageProblem, match=r"8,191 subsets of 13 modalities.*max_size"):
        tiny(13)
    assert len(tiny(13, model__subsets={"max_size": 2}).families()) == 13 + 78


def test_families_are_ordered_by_size_then_position():
    assert tiny(3).families() == [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
    assert tiny(3, model__subsets=[["m2", "m1"], ["m0"]]).families() == [(0,), (1, 2)]


def test_difference_names_keys_and_values():
    assert recipes.difference(tiny(2), tiny(2, objective__beta=3)) == ["objective.beta: 1.5 -> 3.0"]


def test_a_resolved_recipe_keeps_an_override_of_the_preset():
    recipe = tiny(2, model__prior_expert="none")
    assert recipes.validate(yaml.safe_load(recipe.dump()), "dump").model.prior_expert == "none"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=6,
)  # fmt: skip
PYDANTIC = re.compile(r"Input|input should|valid (integer|number|string|list)|pydantic|of another kind|_type|_parsing")
PATHS = [*sorted(recipes.flatten(tiny(2).model_dump(mode="json"))), "model", "modalities", "modalities.m0", "training"]


def fuzz(path, value):
    content = tiny(2).model_dump(mode="json")
    place = content
    *parents, last = path.split(".")
    for part in parents:
        place = place[part]
    place[last] = value
    try:
        assert isinstance(recipes.validate(content, "fuzzed"), Recipe)
        told = ""
    except UsageProblem as problem:  # anything else is a failure
        told = str(problem)
    assert not PYDANTIC.search(told), told


def fuzzed(cases):
    """``cases`` examples, the same each time; none says a word of pydantic, since messages repeat the value."""
    plain = JSON.filter(lambda value: not PYDANTIC.search(str(value)))
    return lambda test: settings(max_examples=cases, deadline=None, derandomize=True)(
        given(st.sampled_from(PATHS), plain)(test)
    )


@fuzzed(200)
def test_any_value_anywhere_is_accepted_or_explained(path, value):
    fuzz(path, value)


@pytest.mark.slow
@fuzzed(2000)
def test_any_value_anywhere_is_accepted_or_explained_2000_times(path, value):
    fuzz(path, value)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(max_size=40))
def test_any_override_is_accepted_or_explained(text):
    try:
        recipes.load("quickstart", [text])
    except UsageProblem:
        return


@pytest.mark.slow
def test_a_wheel_brings_the_recipes_along(tmp_path):
    """`pip install .` into an empty folder: the recipes lie inside the package, and are found from there."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path), str(root)]
    subprocess.run(command, check=True, capture_output=True)
    code = "from mmvae_cli import recipe; print(recipe.find('quickstart'))"
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert found.stdout.strip() == str(tmp_path / "mmvae_cli" / "recipes" / "quickstart.yaml")
    (metadata,) = tmp_path.glob("mmvae_cli-*.dist-info/METADATA")
    assert "\nClassifier: Operating System :: POSIX\n" in metadata.read_text()


@pytest.mark.parametrize(
    "override", ["model.subsets={max_size: x}", "model.subsets=[[1]]", "model.subsets={max_size: 0}"]
)
def test_a_wrong_part_gives_one_line_where_a_word_would_do_too(override) -> None:
    with pytest.raises(UsageProblem, match=r"1 error\(s\)\n  model\.subsets\.(max_size|0\.0): has to be"):
        recipes.load("celeba_quick", [override])


def test_a_wrong_word_gives_one_line_where_a_mapping_would_do_too() -> None:
    with pytest.raises(UsageProblem) as caught:
        recipes.load("celeba_quick", ["objective.likelihood_weights=by_sise", "model.subsets=ful"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "'full'" in lines[1]
    assert "'by_size'" in lines[2]
