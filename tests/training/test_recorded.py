"""A recorded step is the step: on a CPU by a tape that does what a CUDA graph does."""

import json
from functools import cache

import pytest
import torch
from tiny_recipes import of_method, tiny, words
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmvae_cli.compute.ranks import ALONE
from mmvae_cli.compute.recorded import CALLED, Lanes, Recorded
from mmvae_cli.model.objective import Objective, draw_noise
from mmvae_cli.model.terms import weigh
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.recipe import METHODS
from mmvae_cli.run import checkpoint
from mmvae_cli.run.layout import Run
from mmvae_cli.store import Store
from mmvae_cli.store.batches import Split
from mmvae_cli.training import engine
from mmvae_cli.training.loop import Request, train
from mmvae_cli.training.step import StepLoss, make_optimizer

from faces import face_store, faces
from stores import image_store, word_store

SHAPE = (3, 8, 8)
CPU = torch.device("cpu")


class Tape(TorchDispatchMode):
    """Notes every operation with the very tensors it read and wrote, and does them again. Whatever lay outside of
    tensors is what it was, as in a CUDA graph."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        results = function(*args, **(kwargs or {}))
        self.operations.append((function, args, kwargs or {}, results))
        return results

    @torch.no_grad()
    def replay(self):
        for function, args, kwargs, results in self.operations:
            for old, new in zip(tree_leaves(results), tree_leaves(function(*args, **kwargs)), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Taped(Recorded):
    """Recorded, with a tape for the graph."""

    replays = 0

    def __call__(self, step):
        self._calls += 1
        if self._calls <= CALLED:
            step()
        elif self._calls == CALLED + 1:
            self.tape = Tape()
            with self.tape:
                step()
        else:
            Taped.replays += 1
            self.tape.replay()


@pytest.fixture
def called_and_replayed(tmp_path, monkeypatch):
    """Trains a recipe by calls and by replays; both runs have the same losses and weights."""

    def both(recipe, dataset, steps):
        called = Run(train(recipe, Request(tmp_path / "called", dataset, "cpu")))
        monkeypatch.setattr(engine, "Recorded", Taped)
        monkeypatch.setattr(Taped, "replays", 0)
        replayed = Run(train(recipe, Request(tmp_path / "replayed", dataset, "cpu")))
        assert Taped.replays == steps - CALLED - 1
        assert losses(called) == losses(replayed)
        one, other = (checkpoint.newest(run).tensors for run in (called, replayed))
        assert all(torch.equal(one[name], other[name]) for name in one)

    return both


def losses(run):
    return [json.loads(line)["loss"] for line in run.metrics_path.read_text().splitlines()]


@pytest.mark.parametrize(("method", "more"), [
    ("mopoe", {}), ("mmvae", {}), ("mvae", {}), ("mopoe", {"training__schedule": "cosine"}),
    ("mopoe", {"objective__component_choice": "random"}), ("mopoe", {"objective__kl": "mixture"}),
    ("mvae_original", {"objective__beta_warmup": 3}), ("mmvae_dreg", {}), ("mmvaeplus", {}), ("codevae", {}),
])  # fmt: skip
def test_replayed_steps_give_the_same_weights(method, more, tmp_path, called_and_replayed):
    recipe = of_method(method, shape=SHAPE, training__epochs=4, training__log_every=1, **more)
    called_and_replayed(recipe, image_store(tmp_path / "tiny", shape=SHAPE), 4 * 5)


def test_replayed_steps_drop_and_normalise(tmp_path, called_and_replayed):
    """Dropout and batch normalisation are active in the faces' networks."""
    called_and_replayed(faces(), face_store(tmp_path / "faces"), 2 * 4)


def test_replayed_steps_find_the_words_of_the_epoch(tmp_path, called_and_replayed):
    called_and_replayed(words(SHAPE, epochs=3), word_store(tmp_path / "words", SHAPE), 3 * 4)


NOT_RECORDED = ("lift_fresh", "_local_scalar_dense", "nonzero", "masked_select", "_to_copy", "unique", "bincount")
"""Parts of the names of operations that a GPU has to be waited for, or that bring numbers from the host to it (on a CPU
``_to_copy`` is also how a type changes, which is harmless)."""


@pytest.mark.parametrize("method", [name for name in METHODS if name != "custom"])
def test_a_step_does_nothing_that_cannot_be_recorded(method, tmp_path, monkeypatch):
    """Every method: no number is looked at, no tensor made of Python's numbers, no size depends on values."""
    recipe = of_method(method, shape=SHAPE)
    data = Split(Store(image_store(tmp_path / "tiny", shape=SHAPE)), "train", [*recipe.modalities], CPU, 0)
    step = StepLoss(MultimodalVAE(recipe), Objective.of(recipe), "fp32")
    optimizer = make_optimizer(step.model, 1e-3)
    made = engine.Engine(step, optimizer, data, recipe.training, ALONE, engine.Way(), start=0, total=99)
    monkeypatch.setattr(made.meter, "check", lambda: None)  # which only a CPU does within a step
    made.take(0)
    tape = Tape()
    with tape:
        made._one()
    found = [function for function, arguments, keys, _ in tape.operations
             if any(part in str(function) for part in NOT_RECORDED)
             and not ("_to_copy" in str(function) and keys.get("device", CPU) == CPU)]  # fmt: skip
    assert not found
    assert len(tape.operations) > 100


def test_a_step_that_reads_a_number_is_found_out(tmp_path, called_and_replayed, monkeypatch):
    """The tape is a classifier worth having: beta that grows in Python stays what it was when the step was recorded."""
    calls = []

    def growing(terms):
        calls.append(None)
        return weigh(terms) * len(calls)

    monkeypatch.setattr("mmvae_cli.training.step.weigh", growing)
    recipe = tiny(2, shape=SHAPE, training__epochs=4, training__log_every=1)
    with pytest.raises(AssertionError):
        called_and_replayed(recipe, image_store(tmp_path / "tiny", views=2, shape=SHAPE), 4 * 5)


@pytest.mark.parametrize(("method", "precision"), [
    *((method, precision) for method in ("mopoe", "mmvae", "mvae") for precision in ("fp32", "bf16")),
    ("mvtcae", "fp32"), ("mmjsd", "fp32"), ("mmvae_dreg", "fp32"), ("mmvaeplus", "fp32"), ("codevae", "fp32"),
    ("mvae_original", "fp32"), ("hellinger", "fp32"),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_regions_are_compiled_once_and_give_the_same_losses(method, precision):
    graphs = []

    def backend(graph, inputs):
        graphs.append(len(inputs))
        return graph.forward

    def compiler(function):
        return torch.compile(function, backend=backend, fullgraph=True)

    recipe = of_method(method, 4, shape=SHAPE)
    objective = Objective.of(recipe)
    torch.manual_seed(0)
    plain = StepLoss(MultimodalVAE(recipe), objective, precision)
    regional = StepLoss(MultimodalVAE(recipe), objective, precision)
    regional.load_state_dict(plain.state_dict())
    torch._dynamo.reset()
    regional.model.region, regional.model.lanes = cache(compiler), Lanes(torch.device("cpu"), 4)
    for _ in range(3):
        batch = {f"m{v}": torch.rand(8, *SHAPE) for v in range(4)}
        noise = draw_noise(plain.model, objective, plain.model.names, 8, slice(None), "cpu")
        (loss, terms), (expected, known) = regional(batch, noise), plain(batch, noise)
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(terms, known, rtol=1e-4, atol=1e-4)
        loss.backward()
    assert len(graphs) == 3, "encoder, decoder with likelihood, middle"
