"""dataset.json, evaluation.json and the small files of a run, mutated: read in bounds, or refused with code 2 or 3.

What the documents say reaches every verb that reads them, so each case also runs a command on them.
"""

import json
import math
import shutil
from contextlib import suppress

from hypothesis import strategies as st

from mmvae_cli.disk.sealed import read_json
from mmvae_cli.process.errors import DataProblem
from mmvae_cli.run import result
from mmvae_cli.store import Store

from fuzzing import CASES, hold, json_texts, mmvae, replace_file

FORMATS = ["table", "md", "csv", "tex", "json"]


def refuse_constant(text):
    raise AssertionError(f"{text} in JSON on stdout")


def check_output(done, text_format, given=b""):
    """A command that says it is done has said something; JSON is strict JSON."""
    if done.code == 0:
        assert done.stdout.strip()
        named = b'"nan"' in given.lower()  # a name that was typed may be repeated
        assert named or "nan" not in done.stdout.lower().split(), done.stdout
        if text_format == "json":
            json.loads(done.stdout.splitlines()[-1], parse_constant=refuse_constant)
    else:
        assert done.code in (2, 3), done.stderr
        assert done.stderr.count("error: ") == 1, done.stderr


@CASES
def test_any_dataset_json_is_read_or_refused(cases, record_property, world, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(world / "data", data)
    known = read_json(data / "tiny" / "dataset.json")  # without its seal, as somebody else would write it
    run = tmp_path / "run"
    shutil.copytree(world / "runs" / "a", run)
    commands = [
        ["train", world / "tiny.yaml", "--dry-run"],
        ["train", world / "tiny.yaml", "--run", tmp_path / "other"],
        ["evaluate", "--ckpt", run, "--metrics", "latent,likelihood"],
        ["sample", "--ckpt", run, "--count", "2", "--kind", "prior", "--force"],
    ]

    def check(case):
        content, command = case
        replace_file(data / "tiny" / "dataset.json", content)
        shutil.rmtree(tmp_path / "other", ignore_errors=True)
        with suppress(DataProblem):
            read_everything(Store(data / "tiny"))
        check_output(mmvae(*command, "--data-dir", data), "text")

    hold("dataset.json", check, st.tuples(json_texts(known), st.sampled_from(commands)), cases, record_property)


def read_everything(store):
    assert len(store.fingerprint) == 16
    for split in store.info.splits:
        for modality in store.info.modalities:
            rows = store.array(split, modality)
            index = store.index(split, modality)
            assert index is None or int(index.max()) < len(rows)
        assert len(store.labels(split)) == store.count(split)


@CASES
def test_any_evaluation_json_is_compared_or_left_out(cases, record_property, world, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(world / "runs", runs)
    path = runs / "a" / "evaluation.json"
    known = read_json(path)

    def check(case):
        content, kind, alone = case
        replace_file(path, content)
        with suppress(DataProblem):
            assert all_finite(result.load(path).model_dump())
        done = mmvae("compare", *([runs / "a"] if alone else [runs / "a", runs / "b"]), "--format", kind)
        check_output(done, kind, content)
        assert alone or done.code == 0, "the sound run can always be shown"

    hold(
        "evaluation.json",
        check,
        st.tuples(json_texts(known), st.sampled_from(FORMATS), st.booleans()),
        cases,
        record_property,
    )


def all_finite(value):
    if isinstance(value, dict | list):
        return all(map(all_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


@CASES
def test_any_small_file_of_a_run_is_used_or_refused(cases, record_property, world, tmp_path):
    """status.json, environment.json and an earlier evaluation.json, under a run that is done and one that goes on."""
    done, half = tmp_path / "done", tmp_path / "half"
    shutil.copytree(world / "runs" / "a", done)
    shutil.copytree(world / "runs" / "a", half)
    sealed = (half / "recipe.yaml").read_text()
    (half / "recipe.yaml").write_text(sealed.partition("\n")[2].replace("epochs: 1", "epochs: 2"))
    known = {path: path.read_bytes() for folder in (done, half) for path in folder.rglob("*") if path.is_file()}
    names = ["status.json", "environment.json", "evaluation.json"]
    plain = {name: read_json(done / name) for name in names}
    commands = [
        ["train", done / "recipe.yaml", "--run", done],
        ["train", half / "recipe.yaml", "--run", half],
        ["evaluate", "--ckpt", done, "--metrics", "latent"],
        ["compare", done, world / "runs" / "b"],
    ]

    def check(case):
        (name, content), command = case
        for path, before in known.items():
            replace_file(path, before)
        for path in (*half.glob("checkpoints/*"), *done.glob("checkpoints/*")):
            if path not in known:
                path.unlink()
        for folder in (done, half):
            replace_file(folder / name, content)
        check_output(mmvae(*command, *([] if command[0] == "compare" else ["--data-dir", world / "data"])), "text")

    files = st.one_of([st.tuples(st.just(name), json_texts(plain[name])) for name in names])
    hold(
        "status, environment, old evaluation",
        check,
        st.tuples(files, st.sampled_from(commands)),
        cases,
        record_property,
    )
