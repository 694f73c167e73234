"""What is said of a wrong value of an option."""

import pytest
from typer.testing import CliRunner

from mmvae_cli.cli import app


@pytest.mark.parametrize(("words", "said"), [
    ("train quickstart --seed abc", "'--seed': has to be a whole number, not 'abc'"),
    ("train quickstart --seed -1", "'--seed': has to be 0 or more, not '-1'"),
    ("train quickstart --seeds 0-1 --jobs 99", "'--jobs': has to be 64 or less, not '99'"),
    ("sample --ckpt r --kind foo", "'--kind': 'foo' is not one of 'prior', 'conditional', 'reconstruction', 'swap'"),
    ("train quickstart --epochs 3", "No such option: --epochs\n  hint: a setting is written without dashes: "
     "training.epochs=3"),
    ("train quickstart --batch-size=8", "without dashes: training.batch_size=8"),
    ("train quickstart --lr 1", "without dashes: training.learning_rate=1"),
    ("train quickstart --seed 0-4", "hint: a run for each of several seeds: --seeds 0-4"),
    ("evaluate runs/mine --json", "hint: --ckpt runs/mine\n"),
    ("train quickstart --data-dir", "Option '--data-dir' requires an argument"),
    ("sample", "hint: --ckpt RUN names the run's folder"),
    ("export runs/mine --to numpy", "hint: did you mean latents?"),
    ("export runs/mine --to tensorbord", "hint: did you mean tensorboard?"),
    ("make-dataset polymnist --limit 1.5", "'--limit': has to be a whole number, not '1.5'"),
])  # fmt: skip
def test_a_wrong_value_is_told_in_our_words(words, said):
    """typer would pass pydantic's on: "Input should be a valid integer, unable to parse string as an integer"."""
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 2
    assert said in done.stderr
    assert "Value error" not in done.stderr
    assert "Input should" not in done.stderr
