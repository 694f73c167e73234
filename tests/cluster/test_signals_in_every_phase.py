"""A signal in any phase of any verb ends it within 20 seconds, with the documented code and nothing half-written; the
same command then goes on. Without a terminal all output is plain lines, and the last one on stdout is the product."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from tiny_recipes import tiny

pytestmark = pytest.mark.slow
MMVAE = [sys.executable, "-m", "mmvae_cli"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "MMVAE_PROGRESS_SECONDS": "0"}
PHASES = {
    "make-dataset": "polymnist: ",
    "train": "train tiny: ",
    "classifiers": "classifier of m",
    "latent": "latent classifiers: ",
    "coherence": "coherence: ",
    "likelihood": "log-likelihood: ",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A dataset and a trained run, copied for every test; evaluated in one copy, so that its classifiers are there."""
    root = tmp_path_factory.mktemp("made")
    run(root, "make-dataset", "polymnist", "--digits", "embedded", "--views", 3, "--repeat", 3, "--out", "data/tiny")
    (root / "tiny.yaml").write_text(tiny(3, training__epochs=1, training__batch_size=64).dump())
    run(root, "train", "tiny.yaml", "--run", "run")
    shutil.copytree(root, root / "judged")
    run(root / "judged", "evaluate", "--ckpt", "run", "--metrics", "coherence", "--force")
    (root / "judged" / "run" / "evaluation.json").unlink()
    return root


def run(folder, *arguments):
    done = subprocess.run([*MMVAE, *map(str, arguments)], cwd=folder, capture_output=True, env=ENVIRONMENT, check=False)
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 0, err
    for text in (out, err):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\x1b]", text), "no control characters but line ends"
    return out, err


def command_of(phase, root, folder):
    """The command, run in a copy of what it needs, and what it must not leave behind when it is stopped."""
    if phase == "make-dataset":
        options = ["--digits", "embedded", "--repeat", "40", "--views", "5", "--out", "data/new"]
        return [*MMVAE, "make-dataset", "polymnist", *options], folder / "data" / "new"
    shutil.copytree(root if phase in ("train", "classifiers") else root / "judged", folder, dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("judged"))  # fmt: skip
    if phase == "train":
        shutil.rmtree(folder / "run")
        return [*MMVAE, "train", "tiny.yaml", "training.epochs=200", "--run", "run"], None
    metric = "coherence" if phase == "classifiers" else phase
    options = ["--metrics", metric, "--force", "--no-verify"]
    return [*MMVAE, "evaluate", "--ckpt", "run", *options], folder / "run" / "evaluation.json"


def _hear_interrupts():
    """A shell starts its background jobs deaf to SIGINT, nohup its command to SIGHUP, these tests among them."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def stopped(phase, numbers, root, folder):
    """Start the phase's command, send the signals as soon as the phase shows: (exit code, stderr, seconds it took)."""
    command, unwanted = command_of(phase, root, folder)
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=ENVIRONMENT, preexec_fn=_hear_interrupts)  # fmt: skip
    killer = threading.Timer(300, process.kill)
    killer.start()
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith(PHASES[phase]):
            break
    else:
        raise AssertionError("".join(lines))
    began = time.monotonic()
    for number in numbers:
        process.send_signal(number)
        time.sleep(1.2 if len(numbers) > 1 else 0)  # within a second it would count as one
    out, rest = process.communicate(timeout=60)
    killer.cancel()
    assert not out, "a command that was stopped has no product"
    assert unwanted is None or not unwanted.exists(), "nothing half-written"
    return process.returncode, "".join(lines) + rest, time.monotonic() - began


EVERYWHERE = [(phase, signal.SIGTERM) for phase in PHASES]
ELSEWHERE = [("make-dataset", signal.SIGUSR1), ("classifiers", signal.SIGUSR1), ("train", signal.SIGUSR2),
             ("make-dataset", signal.SIGHUP)]  # fmt: skip
"""One flag serves all signals: the others are tried where work is done outside the usual loops."""


@pytest.mark.parametrize(("phase", "number"), [*EVERYWHERE, *ELSEWHERE])
def test_a_signal_in_any_phase_is_75_within_20_seconds(phase, number, made, tmp_path):
    code, text, seconds = stopped(phase, [number], made, tmp_path)
    assert code == 75, text
    assert seconds < 20
    assert f"error: stopped by {number.name}" in text
    assert "hint: run the same command again" in text


@pytest.mark.parametrize("phase", ["make-dataset", "train", "likelihood"])
def test_a_second_signal_leaves_at_once(phase, made, tmp_path):
    code, text, seconds = stopped(phase, [signal.SIGTERM, signal.SIGTERM], made, tmp_path)
    assert code == 75, text
    assert seconds < 5


@pytest.mark.parametrize("phase", PHASES)
def test_an_interrupt_is_130(phase, made, tmp_path):
    code, text, seconds = stopped(phase, [signal.SIGINT], made, tmp_path)
    assert code == 130, text
    assert seconds < 20
    assert "Traceback" not in text
    if phase == "train":
        assert re.search(
            r"error: interrupted: checkpoint written at step \d+ of \d+ in run\n  hint: run the same", text
        )
    else:
        assert text.splitlines()[-1] == "error: interrupted"


def test_a_stopped_evaluation_goes_on_to_the_same_numbers(made, tmp_path):
    stopped("classifiers", [signal.SIGTERM], made, tmp_path / "a")
    kept = sorted(path.name for path in (tmp_path / "a" / "data" / "tiny").glob("classifiers/*.safetensors"))
    assert not [name for name in kept if not re.fullmatch(r"m\d\.safetensors", name)]
    run(tmp_path / "a", "evaluate", "--ckpt", "run", "--metrics", "coherence", "--force")
    run(made / "judged", "evaluate", "--ckpt", "run", "--metrics", "coherence", "--force")
    first, second = (json.loads((folder / "run" / "evaluation.json").read_text()) for folder in
                     (tmp_path / "a", made / "judged"))  # fmt: skip
    (made / "judged" / "run" / "evaluation.json").unlink()
    assert first["coherence"] == second["coherence"]


def test_five_verbs_without_a_terminal_print_plain_lines_and_end_with_the_product(made, tmp_path):
    """NO_COLOR is not even needed; FORCE_COLOR must not help."""
    root = tmp_path / "w"
    shutil.copytree(made / "judged", root)
    shutil.rmtree(root / "run")
    ENVIRONMENT["FORCE_COLOR"] = "1"
    try:
        out, err = run(root, "make-dataset", "polymnist", "--digits", "embedded", "--views", 2, "--out", "data/other")
        assert out.splitlines()[-1] == "data/other"
        out, err = run(root, "train", "tiny.yaml", "--run", "run")
        assert out.splitlines()[-1] == "run"
        shown = [line for line in err.splitlines() if line.startswith("train tiny: ")]
        assert re.fullmatch(
            r"train tiny: [\d,]+/[\d,]+ steps, [\d.,]+/s, \S+ left, loss [-\d.,]+ \(weighted\), "
            r"log-likelihood [-\d.,]+, KL [\d.,]+, [\d,]+ items/s", shown[-1]
        ), shown[-1]  # fmt: skip
        out, err = run(root, "evaluate", "--ckpt", "run", "--metrics", "latent,coherence", "--force")
        assert out.splitlines()[-1] == "run/evaluation.json"
        out, err = run(root, "sample", "--ckpt", "run", "--kind", "prior", "--count", 4)
        assert (root / out.splitlines()[-1]).exists()
        out, err = run(root, "compare", "run", "--format", "html", "--out", "report")
        assert (root / out.splitlines()[-1]).is_file()
        for flag in (["--json"], ["--format", "csv"]):
            run(root, "compare", "run", *flag)
    finally:
        ENVIRONMENT.pop("FORCE_COLOR")
