"""``mmvae export --to csv``: one row for each run."""

import csv
import io
import json

import pytest

from mmvae_cli.disk.sealed import write_json
from mmvae_cli.export import command
from mmvae_cli.export.command import ExportRequest
from mmvae_cli.process.errors import DataProblem, UsageProblem
from mmvae_cli.run import result
from mmvae_cli.run.layout import Run

from made_runs import MST, make_run, recipe


def table(*paths, **options):
    text = command.run(list(paths), ExportRequest("csv", **options), data_dir=None)
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def study(tmp_path):
    """Two values of beta, and a run that is not finished."""
    for beta in (1.0, 2.5):
        make_run(tmp_path, recipe("polymnist", MST, objective__beta=beta), "polymnist")
    young = make_run(tmp_path, recipe("polymnist", MST, "mvae"), "polymnist", state="running", evaluated=False)
    record = {"step": 7, "epoch": 1, "loss": 12.5, "kl.shared": 3.25}
    Run(young).log([record])
    return tmp_path


def test_a_row_for_each_run_with_all_numbers_and_the_settings_that_differ(study):
    rows = table(study)
    assert [row["method"] for row in rows] == ["mopoe", "mopoe", "mvae"]
    assert [row["objective.beta"] for row in rows] == ["1.0", "2.5", "2.5"]
    assert "training.batch_size" not in rows[0]  # the same in all
    found = result.load(Run(study / "polymnist_mopoe-beta=2.5-seed0").evaluation_path())
    assert float(rows[1]["default.latent.values.mnist+svhn"]) == found.latent.values["mnist+svhn"]
    assert float(rows[1]["default.coherence.joint"]) == found.coherence.joint
    assert rows[1]["state"] == "finished"
    assert (rows[2]["state"], rows[2]["default.coherence.joint"]) == ("running", "")
    assert (rows[2]["training.last.loss"], rows[2]["training.last.kl.shared"]) == ("12.5", "3.25")


def test_protocols_and_samplers_stand_in_the_row(tmp_path):
    folder = make_run(tmp_path, recipe("polymnist", MST), "polymnist")
    make_run(tmp_path / "other", recipe("polymnist", MST), "polymnist", protocol="released")
    (tmp_path / "other" / folder.name / "evaluation.released.json").rename(folder / "evaluation.released.json")
    mixture = json.loads((folder / "evaluation.json").read_text())
    mixture["settings"]["sampler"] = "gmm of 10"
    write_json(Run(folder).evaluation_path("default", "gmm"), {k: v for k, v in mixture.items() if k != "sha256"})
    (row,) = table(folder)
    assert float(row["released.chance"]) == float(row["default.chance"]) == float(row["default.gmm.chance"]) == 0.1


def test_a_damaged_run_is_left_out_with_a_word(study, capsys):
    path = study / "polymnist_mopoe-beta=1-seed0" / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chance": 0.7}))
    assert len(table(study)) == 2
    assert "left out" in capsys.readouterr().err


def test_it_is_written_to_a_file_that_is_not_there_yet(study, tmp_path):
    out = tmp_path / "tables" / "runs.csv"
    assert command.run([study], ExportRequest("csv", out), data_dir=None) == str(out)
    assert len(out.read_text().splitlines()) == 4
    with pytest.raises(UsageProblem, match=r"runs\.csv exists"):
        command.run([study], ExportRequest("csv", out), data_dir=None)


def test_what_is_refused(tmp_path):
    with pytest.raises(DataProblem, match="no run can be read"):
        table(tmp_path)
    with pytest.raises(UsageProblem, match="--given has no effect with --to csv"):
        table(tmp_path, given="m0")
    with pytest.raises(UsageProblem, match="--device has no effect with --to csv"):
        table(tmp_path, device="cuda")


def test_every_part_of_an_evaluation_is_in_the_table(tmp_path):
    folder = make_run(tmp_path, recipe("polymnist", MST), "polymnist")
    found = json.loads((folder / "evaluation.json").read_text())
    found["alignment"] = {"items": {"mnist ~ svhn": 9}, "pairs": {"mnist ~ svhn": {"foscttm": 0.25}}}
    write_json(folder / "evaluation.json", {k: v for k, v in found.items() if k != "sha256"})
    (row,) = table(folder)
    assert float(row["default.alignment.pairs.mnist ~ svhn.foscttm"]) == 0.25
