"""Command lines of all verbs: right options with wrong values, unknown and missing ones, in any order.

What a right command would do is small: a tiny dataset, a trained run, no network, few figures.
"""

import json
import shutil
from pathlib import Path

from hypothesis import strategies as st

from fuzzing import CASES, hold, mmvae

FLAG = None
NUMBER = ["1", "2", "3"]
SWITCHES = {"--quiet": FLAG, "-q": FLAG, "--help": FLAG}
OUT = {"--out": ["out", "out/deep", "{root}/tiny.yaml", "."], "--force": FLAG, "--json": FLAG}
DATA = {"--data-dir": ["{root}/data", "empty"], "--device": ["cpu", "auto", "cuda", "cuda:9", "cuda:", "cuda:-1"],
        "--verify": FLAG, "--no-verify": FLAG}  # fmt: skip
CHECKPOINT = {"--ckpt": ["{run}", "{root}/runs", "empty", "{run}/recipe.yaml"], "--checkpoint": ["{run}", "{run}/lock"]}
BUILD = {"--seed": NUMBER, "--limit": NUMBER, "--data-dir": ["{root}/data", "empty"], **OUT}

VERBS = {
    ("train",): DATA | {"--run": ["{run}", "fresh", "{root}/tiny.yaml"], "--run-dir": ["fresh"], "--seed": ["0", "1"],
                        "--resume": ["auto", "never", "must"], "--dry-run": FLAG},
    ("evaluate",): DATA | CHECKPOINT | {"--metrics": ["latent", "likelihood", "coherence,latent", "latent,,latent"],
                                        "--protocol": ["default", "released"], "--force": FLAG, "--json": FLAG},
    ("sample",): DATA | CHECKPOINT | OUT | {
        "--kind": ["prior", "conditional", "reconstruction", "swap"],
        "--given": ["m0", "m1", "m0,m1"],
        "--target": ["m0", "m1"], "--text": ["smiling"], "--count": NUMBER, "--seed": NUMBER},
    ("compare",): OUT | {"--format": ["table", "md", "csv", "tex", "json", "html"],
                        "--protocol": ["default", "released"]},
    ("make-dataset", "polymnist"): BUILD | {
        "--digits": ["embedded", "mnist", "{root}/data"], "--backgrounds": ["builtin", "{root}"], "--views": NUMBER,
        "--repeat": NUMBER, "--scale": NUMBER, "--rotate": NUMBER,
        "--from": ["{root}/data", "{root}/tiny.yaml", "empty"], "--format": ["npy", "png"]},
    ("make-dataset", "mnist-svhn-text"): BUILD | {
        "--digits": ["mnist", "{root}/data"], "--svhn": ["auto", "{root}/data"], "--multiplier": NUMBER},
    ("make-dataset", "celeba"): BUILD | {"--source": ["embedded", "{root}/data"], "--count": NUMBER,
                                         "--skip-damaged": FLAG, "--attributes": NUMBER},
    ("make-dataset", "mnist"): BUILD | {"--digits": ["embedded", "{root}/data"], "--validation": NUMBER},
}  # fmt: skip
ARGUMENTS = {
    "train": [
        "{root}/tiny.yaml",
        "{run}/recipe.yaml",
        "nonesuch",
        "training.seed=1",
        "objective.beta=2",
        "=",
        "model.x=1",
    ],
    "compare": ["{run}", "{root}/runs", "{root}/data", "empty"],
}
NEEDED = {"evaluate": "--ckpt", "sample": "--ckpt"}
TINY = {("make-dataset", "celeba"): ["--count", "3"], ("sample",): ["--count", "2"]}
"""Given first, so that a case that names none builds nothing large; what comes later wins."""
STRANGE = st.sampled_from(
    ["", " ", "-", "--", "-1", "0", "1.5", "nan", "inf", "1_000", "٣", "0x2", "99999999999999999999", "m0,m9", ",", "+",
     ".", "..", "cafe\u0301", "\udcff", "\x1b[31m", "a" * 300, "a" * 5000, "%s", "{0}", "*", "$HOME", "\n", "=", "=="]
) | st.text(st.characters(exclude_characters="/\x00~", exclude_categories=["Cs"]), max_size=10)  # fmt: skip
"""No "/": nothing is written outside the test's own folder. No NUL: no shell can give one."""


@st.composite
def command_lines(draw):
    verb = draw(st.sampled_from(sorted(VERBS)))
    options, words = VERBS[verb] | SWITCHES, list(TINY.get(verb, []))
    if verb[-1] in NEEDED and draw(st.integers(0, 9)):
        words += [NEEDED[verb[-1]], "{run}"]
    if (possible := ARGUMENTS.get(verb[-1])) and draw(st.integers(0, 9)):
        words += [possible[0], *draw(st.lists(st.sampled_from(possible) | STRANGE, max_size=2))]
    for name in draw(st.lists(st.sampled_from(sorted(options)), max_size=4)):
        words += draw(option(name, options[name]))
    if not draw(st.integers(0, 6)):
        words.insert(
            draw(st.integers(0, len(words))), draw(STRANGE | st.sampled_from(["--bogus", "-x", "--see", "--=1"]))
        )
    if not draw(st.integers(0, 30)):
        verb = draw(st.sampled_from([(), ("make-dataset",), ("trian",), ("--version",), ("--help",), ("",)]))
    return [*verb, *words]


@st.composite
def option(draw, name, values):
    """A right value, a strange one, none at all, one where none belongs, or the two written as one word."""
    value = draw(st.sampled_from(values or ["1"]) if draw(st.integers(0, 2)) else STRANGE)
    alone = draw(st.integers(0, 9)) == 0
    if alone != (values is FLAG):
        return [name]
    return [f"{name}={value}"] if draw(st.booleans()) else [name, value]


@CASES
def test_any_command_line_ends_with_a_documented_code(cases, record_property, world, tmp_path):
    run, here = tmp_path / "run", Path.cwd()

    def check(words):
        for old in (run, *here.iterdir()):  # a case depends on nothing that another one left
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
        shutil.copytree(world / "runs" / "a", run)
        filled = [word.replace("{root}", str(world)).replace("{run}", str(run)) for word in words]
        done = mmvae(*filled)
        if done.code == 0 and "--json" in words and not {"--help", "--version", "compare"} & set(words):
            json.loads(done.stdout.rstrip("\n").rpartition("\n")[2])

    hold("command lines", check, command_lines(), cases, record_property)
    assert (world / "data" / "tiny" / "dataset.json").is_file(), "what the test was given is still there"
