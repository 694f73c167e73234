"""Which runs may stand side by side, and what is said about the rest."""

from pathlib import Path
from typing import Any

import pytest

from mmvae_cli.comparison.collect import collect, find_runs
from mmvae_cli.disk.sealed import write_json
from mmvae_cli.process.errors import DataProblem
from mmvae_cli.run.layout import Run
from mmvae_cli.run.result import NAMED_LATER

from made_runs import MST, SETTINGS, VIEWS, collection, evaluation, make_run, recipe, study


def other_data(**changes: object) -> dict[str, object]:
    return {"name": "polymnist", "fingerprint": "f" * 16, "split": "test", "count": 10000} | changes


def reasons(folder: Path) -> dict[str, str]:
    return {item.folder.name: item.reason for item in collect([folder]).left_out}


def test_groups_are_everything_but_seed_name_and_place(tmp_path: Path) -> None:
    for seed in range(3):
        for beta in (1.0, 2.5):
            made = recipe("polymnist", VIEWS, training__seed=seed, objective__beta=beta, name=f"any{seed}")
            make_run(tmp_path, made, "polymnist")
    elsewhere = recipe("polymnist", VIEWS, training__seed=9, objective__beta=1.0, dataset={"name": "/mnt/p"})
    make_run(tmp_path, elsewhere, "polymnist", folder="elsewhere")
    found = collection(tmp_path)
    assert [(g.label, g.seeds) for g in found.groups] == [
        ("MoPoE-VAE beta=1", [0, 1, 2, 9]),
        ("MoPoE-VAE beta=2.5", [0, 1, 2]),
    ]
    assert [g.differing for g in found.groups] == [{"objective.beta": 1.0}, {"objective.beta": 2.5}]
    assert found.notes == ["MoPoE-VAE beta=2.5: no usable run for seed 9"]


def test_runs_of_different_code_of_ones_own_are_different_groups(tmp_path: Path) -> None:
    """A recipe names own.NET and does not hold it: the same name may stand for another network."""
    for seed, code in ((0, "a" * 64), (1, "a" * 64), (1, "b" * 64)):
        made = recipe("polymnist", VIEWS, training__seed=seed)
        folder = make_run(tmp_path, made, "polymnist", folder=f"{code[0]}{seed}")
        write_json(folder / "environment.json", {"code": {"file": "nets.py", "sha256": code}})
    found = collection(tmp_path)
    assert [(g.label, g.seeds) for g in found.groups] == [
        (f"MoPoE-VAE code={'a' * 16}", [0, 1]), (f"MoPoE-VAE code={'b' * 16}", [1]),
    ]  # fmt: skip


def test_methods_are_named_and_bent_presets_are_not_the_method(tmp_path: Path) -> None:
    study(tmp_path, "polymnist", VIEWS, seeds=1)
    bent = recipe("polymnist", VIEWS, "mopoe", model__prior_expert="none", name="bent")
    make_run(tmp_path, bent, "polymnist")
    eq5 = recipe("polymnist", VIEWS, "mopoe", objective__component_choice="all", name="eq5")
    make_run(tmp_path, eq5, "polymnist")
    labels = [group.label for group in collection(tmp_path).groups]
    assert labels == ["MVAE", "MMVAE", "MoPoE-VAE Eq. (5)", "MoPoE-VAE", "bent"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"settings": SETTINGS | {"latent_samples": 100}}, "setting latent_samples 100 (the others: 500)"),
        ({"dataset": other_data(fingerprint="0123456789abcdef", count=500)}, "items 500 (the others: 10000)"),
    ],
)
def test_runs_measured_differently_are_named_not_mixed(
    tmp_path: Path, changes: dict[str, object], expected: str
) -> None:
    study(tmp_path, "polymnist", VIEWS, seeds=2)
    odd = make_run(tmp_path, recipe("polymnist", VIEWS, training__seed=7), "polymnist", **changes)
    found = collect([tmp_path])
    assert [(item.folder, item.reason) for item in found.left_out] == [(odd, f"measured differently: {expected}")]
    assert 7 not in found.contents[0].groups[-1].seeds


def test_a_limit_above_the_number_of_items_is_no_difference(tmp_path: Path) -> None:
    for seed, limit in enumerate((None, 20_000)):
        settings = {"latent_samples": 500, "seed": 0, "items": limit, "likelihood_items": limit}
        make_run(tmp_path, recipe("polymnist", VIEWS, training__seed=seed), "polymnist", settings=settings)
    assert collect([tmp_path]).left_out == []


def test_an_evaluation_of_before_a_setting_had_a_name_stands_beside_one_of_today(tmp_path: Path) -> None:
    for seed, named in enumerate(({}, NAMED_LATER["default"])):
        settings = {"latent_samples": 500, **named, **({"joint_samples": 10_000} if named else {})}
        make_run(tmp_path, recipe("polymnist", VIEWS, training__seed=seed), "polymnist", settings=settings)
    assert collect([tmp_path]).left_out == []


def test_one_metric_measured_differently_leaves_only_that_metric(tmp_path: Path) -> None:
    study(tmp_path, "polymnist", VIEWS, seeds=2)
    made = recipe("polymnist", VIEWS, training__seed=7)
    fewer = evaluation(made, "polymnist")["likelihood"] | {"importance_samples": 12}
    make_run(tmp_path, made, "polymnist", likelihood=fewer)
    found = collect([tmp_path])
    assert found.left_out[0].reason == "likelihood: measured differently: importance_samples 12 (the others: 15)"
    member = found.contents[0].groups[-1].members[-1]
    assert member.seed == 7
    assert member.evaluation.likelihood is None
    assert member.evaluation.latent is not None


def test_unfinished_unevaluated_and_strange_runs_are_named(tmp_path: Path) -> None:
    def run(seed: int, **more: object) -> Path:
        return make_run(
            tmp_path, recipe("polymnist", VIEWS, training__seed=seed), "polymnist", folder=f"r{seed}", **more
        )  # type: ignore[arg-type]

    run(0)
    run(1, state="stopped")
    run(2, state="running", evaluated=False)
    run(3, state="diverged", evaluated=False)
    run(4, evaluated=False)
    (run(5) / "evaluation.json").write_text("{ cut")
    (run(6) / "recipe.yaml").write_text("name: [")
    (run(7) / "status.json").unlink()
    early = evaluation(recipe("polymnist", VIEWS, training__seed=8), "polymnist")["run"] | {"epoch": 100}
    run(8, run=early)
    other = evaluation(recipe("polymnist", VIEWS, training__seed=0), "polymnist")
    write_json(run(9) / "evaluation.json", other)
    make_run(tmp_path, recipe("polymnist", VIEWS, training__seed=0), "polymnist", folder="z-copy-of-r0")
    high = evaluation(recipe("polymnist", VIEWS, training__seed=10), "polymnist")
    high["latent"]["values"]["m0"] = 1.5
    write_json(run(10) / "evaluation.json", high)
    (tmp_path / "begun" / "checkpoints").mkdir(parents=True)
    said = reasons(tmp_path)
    assert said["r1"] == "unfinished: stopped after 3 of 300 epochs; --any-epoch takes its evaluation"
    assert said["r2"].startswith("unfinished: running, or killed")
    assert said["r3"] == "training diverged after 3 of 300 epochs"
    assert "not evaluated" in said["r4"]
    assert "not valid JSON" in said["r5"]
    assert "recipe.yaml" in said["r6"]
    assert "no status.json" in said["r7"]
    assert said["r8"] == "evaluated at epoch 100 of 300: evaluate it again, or give --any-epoch"
    assert said["r9"] == "evaluation.json is another run's: seed 0, the recipe has 9"
    assert said["r10"] == "evaluation.json: latent.values.m0: has to be 1 or less, not 1.5"
    assert said["z-copy-of-r0"].startswith("same recipe and seed as")
    assert "no recipe.yaml" in said["begun"]
    assert len(said) == 12


def test_evaluations_of_any_epoch_are_groups_of_their_own(tmp_path: Path) -> None:
    made = recipe("polymnist", VIEWS)
    facts = evaluation(made, "polymnist")["run"]
    stopped = make_run(tmp_path, made, "polymnist", folder="stopped", state="stopped", run=facts | {"epoch": 3})
    write_json(tmp_path / "early.json", evaluation(made, "polymnist", run=facts | {"epoch": 1, "folder": str(stopped)}))
    make_run(tmp_path, made, "polymnist", folder="whole")
    make_run(tmp_path, made, "polymnist", folder="unevaluated", state="stopped", evaluated=False)
    found = collect([tmp_path, tmp_path / "early.json"], any_epoch=True)
    (only,) = found.contents
    assert [(one.label, one.differing) for one in only.groups] == [
        (f"MoPoE-VAE epochs={epoch}", {"training.epochs": epoch}) for epoch in (1, 3, 300)
    ]
    assert only.notes == [f"MoPoE-VAE epochs={epoch}: evaluated at epoch {epoch} of 300" for epoch in (1, 3)]
    assert [one.folder.name for one in found.left_out] == ["unevaluated"]
    assert "seconds" not in only.groups[0].members[0].status  # those of more epochs than were evaluated


def test_no_usable_run_says_why_for_each(tmp_path: Path) -> None:
    make_run(tmp_path, recipe("polymnist", VIEWS), "polymnist", evaluated=False)
    with pytest.raises(DataProblem) as problem:
        collect([tmp_path, tmp_path / "missing"])
    assert "polymnist_mopoe-beta=2.5-seed0: finished, but not evaluated" in str(problem.value)
    assert "missing: does not exist" in str(problem.value)
    assert problem.value.code == 3


def test_runs_are_found_once_and_in_subfolders(tmp_path: Path) -> None:
    run = make_run(tmp_path / "study" / "part", recipe("polymnist", VIEWS), "polymnist")
    assert find_runs([tmp_path, run, run / ".." / run.name]) == [run]
    (tmp_path / "empty").mkdir()
    assert find_runs([tmp_path / "empty"]) == [tmp_path / "empty"]


def test_released_evaluations_are_taken_only_where_asked_or_alone(tmp_path: Path) -> None:
    for seed in range(2):
        make_run(tmp_path, recipe("mnist-svhn-text", MST, training__seed=seed), "mnist-svhn-text", protocol="released")
    assert collection(tmp_path).reference.protocol == "released"
    folder = next(path for path in sorted(tmp_path.iterdir()) if path.name.endswith("seed0"))
    write_json(folder / "evaluation.json", evaluation(recipe("mnist-svhn-text", MST), "mnist-svhn-text"))
    default = collect([tmp_path])
    (own,) = default.contents
    assert (own.reference.protocol, own.groups[0].seeds) == ("default", [0])
    assert default.left_out[0].reason == "finished, but evaluated by protocol released only, not by default"
    (both,) = collect([tmp_path], "released").contents
    assert both.groups[0].seeds == [0, 1]


def test_every_data_set_has_a_collection_of_its_own(tmp_path: Path) -> None:
    study(tmp_path / "poly", "polymnist", VIEWS, seeds=2)
    study(tmp_path / "mst", "mnist-svhn-text", MST, seeds=1)
    make_run(tmp_path, recipe("polymnist", VIEWS), "polymnist", folder="rebuilt", dataset=other_data())
    make_run(tmp_path, recipe("polymnist", VIEWS[:2]), "polymnist", folder="two", dataset=other_data())
    found = collect([tmp_path])
    assert found.left_out == []
    assert {one.name: len(one.members) for one in found.contents} == {
        "mnist-svhn-text": 3, "polymnist 01234567 m0+m1+m2+m3+m4": 6, "polymnist ffffffff m0+m1+m2+m3+m4": 1,
        "polymnist ffffffff m0+m1": 1,
    }  # fmt: skip


def test_samplers_are_never_mixed(tmp_path: Path) -> None:
    for seed in range(2):
        make_run(tmp_path, recipe("polymnist", VIEWS, training__seed=seed), "polymnist", sampler="gmm")
    assert collection(tmp_path).reference.sampler == "gmm", "where nothing else was measured"
    folder = next(path for path in sorted(tmp_path.iterdir()) if path.name.endswith("seed0"))
    write_json(folder / "evaluation.json", evaluation(recipe("polymnist", VIEWS), "polymnist"))
    default = collect([tmp_path])
    (own,) = default.contents
    assert (own.reference.sampler, own.groups[0].seeds) == ("prior", [0])
    reason = "finished, but evaluated by protocol default with samples of gmm only, not by default"
    assert default.left_out[0].reason == reason
    (both,) = collect([tmp_path], sampler="gmm").contents
    assert both.groups[0].seeds == [0, 1]
    write_json(folder / "evaluation.gmm.json", evaluation(recipe("polymnist", VIEWS), "polymnist"))
    wrong = collect([tmp_path], sampler="gmm")
    assert wrong.left_out[0].reason == "evaluation.gmm.json was measured by protocol default"


def test_each_data_set_has_its_own_protocol_and_its_own_twins(tmp_path: Path) -> None:
    make_run(tmp_path, recipe("polymnist", VIEWS), "polymnist", folder="a", protocol="released")
    make_run(tmp_path, recipe("polymnist", VIEWS), "polymnist", folder="b", dataset=other_data())
    found = collect([tmp_path])
    assert {one.name: one.reference.protocol for one in found.contents} == {
        "polymnist 01234567": "released", "polymnist ffffffff": "default",
    }  # fmt: skip
    assert found.left_out == []


def measured_elsewhere(run: Path, path: Path, **changes: Any) -> Path:
    """What ``evaluate --out`` writes of a run."""
    found = evaluation(Run(run).recipe(), "polymnist", **changes)
    path.parent.mkdir(exist_ok=True)
    write_json(path, found | {"run": found["run"] | {"folder": str(run)}})
    return path


def test_a_run_evaluated_elsewhere_is_compared_by_the_file_or_the_folder_of_that(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "theirs", recipe("polymnist", VIEWS, training__seed=seed), "polymnist", evaluated=False)
            for seed in range(2)]  # fmt: skip
    mine = measured_elsewhere(runs[0], tmp_path / "mine.json")
    folder = measured_elsewhere(runs[1], tmp_path / "mine" / "evaluation.json").parent
    for paths in ([mine, folder], [tmp_path, mine], [tmp_path / "theirs", mine, folder]):
        found = collect(paths)
        assert [m.folder for m in found.contents[0].members] == runs if mine in paths else runs[1:]
        assert found.left_out == [], "a run that is compared is not told to be evaluated"
    released = measured_elsewhere(runs[0], tmp_path / "b.json", protocol="released")
    assert collection(released).reference.protocol == "released"
    with pytest.raises(DataProblem, match=r"b.json was measured by protocol released"):
        collect([released], "default")


def test_of_two_evaluations_of_one_run_the_second_given_is_named_as_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path, recipe("polymnist", VIEWS), "polymnist")
    mine = measured_elsewhere(run, tmp_path / "mine" / "evaluation.json").parent
    (left,) = collect([run, mine]).left_out
    assert (left.folder, left.reason) == (mine, f"same recipe and seed as {run}")
    (left,) = collect([mine, run]).left_out
    assert (left.folder, left.reason) == (run, f"same recipe and seed as {mine}")


@pytest.mark.parametrize("name", ["not", "is", "e"])
def test_a_runs_name_is_taken_out_of_no_word_of_its_reason(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    (make_run(tmp_path, recipe("polymnist", VIEWS), "polymnist", folder=name) / "evaluation.json").write_text("x")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataProblem, match=rf"{name}: evaluation.json is not valid JSON \(Expecting value: line 1"):
        collect([Path(name)])


def test_a_file_that_is_no_evaluation_of_a_run_that_is_there_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path, recipe("polymnist", VIEWS), "polymnist", evaluated=False)
    (tmp_path / "notes.json").write_text("{}")
    nobodys = tmp_path / "nobodys.json"
    write_json(nobodys, evaluation(recipe("polymnist", VIEWS), "polymnist"))
    gone = measured_elsewhere(run, tmp_path / "gone.json")
    run.rename(tmp_path / "moved")
    for name, reason in (("notes.json", "protocol"), ("nobodys.json", "does not say of which run it is"),
                         ("gone.json", f"the run that was evaluated, {run}, is not there")):  # fmt: skip
        with pytest.raises(DataProblem, match=reason):
            collect([tmp_path / name])
    gone.rename(tmp_path / "moved" / "evaluation.step-1000.json")
    assert collection(tmp_path / "moved" / "evaluation.step-1000.json").members[0].folder == tmp_path / "moved"
