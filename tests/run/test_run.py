import pytest

from mmvae_cli import recipe as recipes
from mmvae_cli.disk import sealed
from mmvae_cli.process.errors import DataProblem, UsageProblem
from mmvae_cli.run.layout import Run


@pytest.fixture
def run(tmp_path):
    made = Run(tmp_path / "run")
    made.prepare(recipes.load("quickstart"))
    return made


WINDOWS = {
    "CRLF": lambda content: content.replace(b"\n", b"\r\n"),
    "byte-order mark": lambda content: b"\xef\xbb\xbf" + content,
    "both": lambda content: b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"),
}


@pytest.mark.parametrize("way", WINDOWS)
def test_the_seal_of_a_recipe_holds_on_windows_line_ends_and_sees_every_other_change(run, way):
    before, content = run.recipe(), run.recipe_path.read_bytes()
    run.recipe_path.write_bytes(WINDOWS[way](content))
    assert run.recipe() == before
    run.refuse_another(before, "this is the same one")
    changed = content.replace(b"epochs: 7", b"epochs: 8")
    assert changed != content
    for spoiled in (changed, content.rstrip(b"\n"), content.replace(b"latent_dim", b"latent_dim ")):
        run.recipe_path.write_bytes(WINDOWS[way](spoiled))
        with pytest.raises(DataProblem, match=r"recipe\.yaml was changed after it was written"):
            run.recipe()


def test_a_recipe_of_a_newer_version_is_told_as_one(tmp_path):
    content = recipes.load("quickstart").dump().replace("method: mopoe", "method: of_next_year")
    sealed.write_yaml(tmp_path / "recipe.yaml", content)
    with pytest.raises(DataProblem, match=r"(?s)^a newer version .* trained .*'of_next_year' is not one of"):
        Run(tmp_path).recipe()


@pytest.mark.parametrize("inside", ["checkpoints", "checkpoints/step-00000003.safetensors"])
def test_what_lies_in_a_run_is_told_to_be_no_run_and_whose_it_is(run, inside):
    with pytest.raises(DataProblem, match="is no run") as problem:
        Run(run.folder / inside).recipe()
    assert problem.value.hint == f"give the run's folder: {run.folder}"


def test_a_dataset_is_no_place_for_a_run(tmp_path):
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(UsageProblem, match="is a dataset, no place for a run"):
        Run(tmp_path).prepare(recipes.load("quickstart"))
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.json"]
