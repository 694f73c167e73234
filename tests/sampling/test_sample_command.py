"""The verb: files, bytes, refusals, and the real command."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from driving import completed
from PIL import Image

from mmvae_cli.process import signals
from mmvae_cli.process.errors import DataProblem, Failure, Stopped, UsageProblem
from mmvae_cli.process.processes import host_id
from mmvae_cli.sampling import command, layout, making
from mmvae_cli.sampling.figures import Figure, FigureRequest
from mmvae_cli.store import LabelInfo, ModalityInfo


def sample(run: Path, data: Path, out: Path | None, asked: FigureRequest | None = None, **changes):
    settings = {"count": 6, "seed": 0, "chosen": None, "force": False, "device": "cpu", "verify": True, **changes}
    return command.run(run, asked or FigureRequest(), out=out, data_dir=data, **settings)


def size(path: str | Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        return image.size


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_all_figures_of_a_run_and_their_arrays(runs, data, tmp_path):
    made = sample(runs["private"], data, tmp_path / "figures", count=None)
    written = {path for figure in made["figures"] for path in [figure["npz"], *figure["png"]]}
    assert written == {str(path) for path in (tmp_path / "figures").iterdir()}
    assert {figure["kind"] for figure in made["figures"]} == {
        "reconstruction",
        "prior",
        "conditional",
        "swap",
        "latent",
    }
    assert len(made["figures"]) == 1 + 1 + 9 + 3 + 1
    assert all(size(path)[0] > 200 for path in written if path.endswith(".png"))
    with np.load(tmp_path / "figures" / "prior.npz", allow_pickle=False) as arrays:
        assert arrays["z"].shape == (1, 100, 6)
        about = json.loads(str(arrays["about"]))
    assert about["stand_in"] == "random pixels"
    assert (about["epoch"], about["checkpoint"], about["seed"]) == (3, "step-00000004.safetensors", 0)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("mmvae", FigureRequest(given="m0,m1", target="m0")),
        ("private", FigureRequest(kind="prior")),
        ("private", FigureRequest(kind="reconstruction")),
        ("private", FigureRequest(kind="swap", target="m0")),
    ],
)
def test_the_same_command_makes_the_same_bytes_and_another_seed_does_not(runs, data, tmp_path, name, asked):
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        sample(runs[name], data, tmp_path / folder, asked, seed=seed)
    first, again, other = (content(tmp_path / folder) for folder in "abc")
    assert first == again
    assert all(other[file] != body for file, body in first.items() if file != "random_text.png")


def test_existing_figures_are_replaced_with_force_only(runs, data, tmp_path):
    sample(runs["mopoe"], data, tmp_path, FigureRequest(kind="prior"))
    before = content(tmp_path)
    with pytest.raises(UsageProblem, match=r"prior\.npz exists \(and 4 more") as caught:
        sample(runs["mopoe"], data, tmp_path, FigureRequest(kind="prior"), seed=1)
    assert "--force" in caught.value.hint
    assert content(tmp_path) == before
    sample(runs["mopoe"], data, tmp_path, FigureRequest(kind="prior"), seed=1, force=True)
    assert content(tmp_path) != before
    sample(runs["mopoe"], data, tmp_path, FigureRequest(kind="reconstruction"))


def test_one_leftover_picture_is_not_replaced_in_silence(runs, data, tmp_path):
    (tmp_path / "random_m1.png").write_bytes(b"mine")
    with pytest.raises(UsageProblem, match=r"random_m1\.png exists"):
        sample(runs["mopoe"], data, tmp_path, FigureRequest(kind="prior"))
    assert content(tmp_path) == {"random_m1.png": b"mine"}


def test_nothing_is_written_where_it_goes_wrong(runs, data, tmp_path):
    out = tmp_path / "figures"
    with pytest.raises(UsageProblem, match="the test split has 30 items"):
        sample(runs["mopoe"], data, out, count=31)
    with pytest.raises(UsageProblem, match="--count has no effect with --text"):
        sample(runs["faces"], data, out, FigureRequest(texts=("male",)))
    with pytest.raises(DataProblem, match="no dataset at"):
        sample(runs["mopoe"], tmp_path, out)
    with pytest.raises(DataProblem, match="no checkpoint"):
        sample(runs["mopoe"], data, out, chosen=tmp_path / "absent.safetensors")
    with pytest.raises(DataProblem, match="is no run"):
        sample(tmp_path, data, out)
    assert not out.exists()
    out.write_text("a file")
    with pytest.raises(UsageProblem, match="is a file"):
        sample(runs["mopoe"], data, out)
    with pytest.raises(Failure, match="cannot write") as caught:
        sample(runs["mopoe"], data, out / "below")
    assert caught.value.hint.endswith("--out FOLDER draws elsewhere")


def test_a_signal_leaves_nothing_so_that_the_same_command_works_again(runs, data, tmp_path, monkeypatch):
    def first_then_signal(*arguments, make=making.make):
        make(*arguments)
        monkeypatch.setattr(signals, "_received", "SIGTERM")

    monkeypatch.setattr(making, "make", first_then_signal)
    with pytest.raises(Stopped, match="no figure was written"):
        sample(runs["mopoe"], data, tmp_path / "figures")
    assert not (tmp_path / "figures").exists()
    monkeypatch.undo()
    sample(runs["mopoe"], data, tmp_path / "figures", FigureRequest(kind="reconstruction"))
    assert sorted(content(tmp_path / "figures")) == ["reconstruction.npz", "reconstruction.png"]


def test_a_failure_half_way_leaves_older_figures_as_they_were(runs, data, tmp_path, monkeypatch):
    sample(runs["mopoe"], data, tmp_path, FigureRequest(given="m0"))
    before = content(tmp_path)
    stale = tmp_path / f".sample.tmp-{host_id()}-999999999"
    stale.mkdir()

    def no_space(path, body):
        if path.name.startswith("text_given"):
            raise OSError(28, "No space left on device")
        path.write_bytes(body)

    monkeypatch.setattr(making, "write_atomic", no_space)
    with pytest.raises(Failure, match="No space left on device"):
        sample(runs["mopoe"], data, tmp_path, FigureRequest(given="m0"), seed=1, force=True)
    assert content(tmp_path) == before


def test_a_small_split_gives_the_items_it_has(runs, data, tmp_path, monkeypatch):
    monkeypatch.setattr("mmvae_cli.sampling.figures.DEFAULT_COUNT", {"reconstruction": 50})
    made = sample(runs["mopoe"], data, tmp_path, FigureRequest(kind="reconstruction"), count=None)
    with np.load(made["figures"][0]["npz"]) as arrays:
        assert len(arrays["items"]) == 30


@pytest.mark.parametrize(
    ("name", "asked", "count", "part"),
    [
        ("mopoe", FigureRequest(given="m0", target="m1"), 24, "the first 20 of 24"),
        ("mopoe", FigureRequest(given="m0", target="m1"), 20, ""),
        ("mopoe", FigureRequest(kind="prior"), 101, "the first 100 of 101"),
        ("private", FigureRequest(kind="reconstruction"), 21, "the first 20 of 21"),
        ("private", FigureRequest(kind="swap", target="m0"), 11, "the first 10 of 11"),
    ],
)
def test_pictures_that_show_fewer_than_were_drawn_say_so(
    runs, data, tmp_path, capsys, monkeypatch, name, asked, count, part
):
    drawn = []

    def noted(*parts, grid=layout.Grid):
        drawn.append(grid(*parts))
        return drawn[-1]

    monkeypatch.setattr(layout, "Grid", noted)
    (figure,) = sample(runs[name], data, tmp_path, asked, count=count)["figures"]
    about = drawn[-1].about  # the first of the prior's shows one latent a column, ten of them
    assert ("the first" in about, part in about) == (bool(part), True)
    said = capsys.readouterr().err
    assert said.endswith(f"; {part}; all are in {figure['npz']}\n") if part else "the first" not in said


def test_more_typed_texts_than_columns_are_not_left_out_in_silence(runs, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(layout, "COLUMNS", 1)
    monkeypatch.setitem(layout.SHOWN, "conditional", 1)
    sample(runs["faces"], data, tmp_path, FigureRequest(texts=("smiling", "male"), target="image"), count=None)
    assert "; the first 1 of 2; all are in " in capsys.readouterr().err


def test_typed_text_of_other_data_is_drawn_from(runs, data, tmp_path):
    asked = FigureRequest(texts=("three", "Four"), target="m0")
    (figure,) = sample(runs["mopoe"], data, tmp_path, asked, count=None)["figures"]
    assert figure["png"] == [str(tmp_path / "m0_given_text_three_and_Four.png")]


def test_typed_text_from_end_to_end(runs, data, tmp_path):
    made = sample(runs["faces"], data, tmp_path, FigureRequest(texts=("smiling", "wearing hat, male")), count=None)
    (figure,) = made["figures"]
    assert figure["png"] == [str(tmp_path / "image_given_text_smiling_and_male_wearing_hat.png")]
    wide, tall = size(figure["png"][0])
    assert wide > 2 * 128
    assert tall > 10 * 128


def test_a_vector_is_drawn_in_the_grids_of_pictures():
    info = ModalityInfo(kind="vector", shape=(3,))
    context = layout.Context({"s": info}, LabelInfo(kind="class", names=("a",)), "test", "a run")
    arrays = {"sample_s": np.random.default_rng(0).normal(size=(1, 4, 3)), "z": np.zeros((1, 4, 2))}
    drawn = layout.pictures(Figure("prior", "prior", ("prior", "random_s"), (), ("s",)), arrays, context)
    assert set(drawn) == {"prior", "random_s"}
    half = arrays | {"sample_s": np.full((1, 4, 3), 0.5)}
    shares = context._replace(probabilities=frozenset({"s"}))
    figure = Figure("prior", "prior", ("prior", "random_s"), (), ("s",))
    unsure, full = (layout.pictures(figure, half, one)["prior"].png() for one in (shares, context))
    assert full != unsure, "a bar of 0.5 is a full one, but of a probability"
    fitted = layout.pictures(figure, arrays, context._replace(drawn_from="a fitted mixture"))
    for made, source in ((drawn, "the prior"), (fitted, "a fitted mixture")):
        assert [one.title for one in made.values()] == [f"Samples from {source}", f"4 samples of s from {source}"]


def test_for_a_paper_every_picture_is_a_pdf_and_an_svg_too(runs, data, tmp_path, capsys):
    """Without run and data, which a caption says; replaced with --force only, as the others."""
    made = sample(runs["mopoe"], data, tmp_path, FigureRequest(given="m0", target="m1"), paper=1)
    assert {path.name for path in tmp_path.iterdir()} == {f"m1_given_m0.{end}" for end in ("npz", "png", "pdf", "svg")}
    assert made["figures"][0]["pdf"] == [str(tmp_path / "m1_given_m0.pdf")]
    assert "random pixels" not in (tmp_path / "m1_given_m0.svg").read_text()
    assert "for a paper, 3.25 inches wide" in capsys.readouterr().err
    (tmp_path / "m1_given_m0.npz").unlink()
    (tmp_path / "m1_given_m0.png").unlink()
    with pytest.raises(UsageProblem, match=r"m1_given_m0\.pdf exists \(and 1 more"):
        sample(runs["mopoe"], data, tmp_path, FigureRequest(given="m0", target="m1"), paper=1)


def test_the_latent_space_is_drawn_by_label_and_by_modality(runs, data, tmp_path):
    """Classes, and of attributes the one that splits the items most evenly."""
    for name, modalities, panels in (("mopoe", 3, "by label"), ("faces", 2, "by label: ")):
        sample(runs[name], data, tmp_path / name, FigureRequest(kind="latent"), count=10, paper=2)
        with np.load(tmp_path / name / "latent.npz") as arrays:
            points = [arrays[key] for key in arrays if key.startswith("point_")]
        assert [point.shape for point in points] == [(10, 2)] * modalities
        drawn = (tmp_path / name / "latent.svg").read_text()
        assert f"<!-- {panels}" in drawn
        assert "<!-- by modality -->" in drawn
        with Image.open(tmp_path / name / "latent.png") as image:
            assert image.text["Title"].startswith("The latent space")


def mmvae(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return completed("sample", *arguments)


@pytest.mark.slow
def test_the_command_prints_the_folder_or_one_document(runs, data, tmp_path):
    out = tmp_path / "figures"
    line = [
        "--ckpt",
        runs["mopoe"],
        "--data-dir",
        data,
        "--out",
        out,
        "--given",
        "m1",
        "--target",
        "text",
        "--device",
        "cpu",
    ]
    done = mmvae(*line)
    assert (done.returncode, done.stdout) == (0, f"{out}\n"), done.stderr
    assert done.stderr == f"conditional: {out / 'text_given_m1.png'}\n"
    again = mmvae(*line, "--force", "--json", "--quiet")
    assert again.stderr == ""
    assert json.loads(again.stdout)["figures"][0]["png"] == [str(out / "text_given_m1.png")]
    refused = mmvae(*line)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "exists" in refused.stderr


def test_the_command_refuses_an_unknown_modality_in_one_line(runs, data):
    done = mmvae("--ckpt", runs["mopoe"], "--data-dir", data, "--given", "txt")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: --given: no modality 'txt' in this run\n  hint: did you mean text? it has m0, m1, text\n"
    )
