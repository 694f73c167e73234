"""A recorded step is the step: on a CPU by a tape that does what a CUDA graph does."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmvae_cli import recipe as recipes
from mmvae_cli import store
from mmvae_cli.compute.recorded import CALLED, Lanes, Recorded
from mmvae_cli.model import objective
from mmvae_cli.model.objective import Objective
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.run import checkpoint
from mmvae_cli.run.layout import Run
from mmvae_cli.store import text
from mmvae_cli.training import engine
from mmvae_cli.training.loop import Request, train
from mmvae_cli.training.step import Step

from faces import face_store, faces
from recipes import tiny
from stores import image_store

SHAPE = (3, 8, 8)


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


def word_store(folder):
    """Pictures and words of one to four letters that stand elsewhere in every epoch, the words as an index."""
    folder.mkdir()
    for split in ("train", "test"):
        pictures = store.new_array(folder, f"{split}/m0.npy", (32, *SHAPE))
        pictures[:] = np.random.default_rng(0).integers(0, 256, (32, *SHAPE))
        store.new_array(folder, f"{split}/word.npy", (4, 8))[:] = text.encode(["a", "bc", "def", "ghij"], 8)
        store.new_array(folder, f"{split}/word.index.npy", (32,), np.int32)[:] = np.arange(32) % 4
    word = store.ModalityInfo(kind="text", shape=(8,), alphabet=text.ALPHABET, placement="random", fill=" ")
    store.finish(folder, store.StoreInfo(
        name="words", modalities={"m0": store.ModalityInfo(kind="image", shape=SHAPE), "word": word},
        splits={split: store.SplitInfo(count=32) for split in ("train", "test")},
        labels=store.LabelInfo(kind="class", names=("a", "b", "c", "d")),
    ))  # fmt: skip
    return folder


def losses(run):
    return [json.loads(line)["loss"] for line in run.metrics_path.read_text().splitlines()]


@pytest.mark.parametrize(("method", "more"), [
    ("mopoe", {}), ("mmvae", {}), ("mvae", {}), ("mopoe", {"training__schedule": "cosine"}),
    ("mopoe", {"objective__component_choice": "random"}), ("mopoe", {"objective__kl": "mixture"}),
])  # fmt: skip
def test_replayed_steps_give_the_same_weights(method, more, tmp_path, called_and_replayed):
    recipe = tiny(3, shape=SHAPE, model__method=method, training__epochs=4, training__log_every=1, **more)
    called_and_replayed(recipe, image_store(tmp_path / "tiny", shape=SHAPE), 4 * 5)


def test_replayed_steps_drop_and_normalise(tmp_path, called_and_replayed):
    """Dropout and batch normalisation are active in the faces' networks."""
    called_and_replayed(faces(), face_store(tmp_path / "faces"), 2 * 4)


def test_replayed_steps_find_the_words_of_the_epoch(tmp_path, called_and_replayed):
    recipe = recipes.validate({
        "name": "words", "dataset": {"name": "words"}, "model": {"method": "mopoe", "latent_dim": 4},
        "modalities": {"m0": {"network": "conv", "shape": list(SHAPE)}, "word": {"network": "text8"}},
        "training": {"epochs": 3, "batch_size": 8, "learning_rate": 1e-3, "log_every": 1},
    }, "words")  # fmt: skip
    called_and_replayed(recipe, word_store(tmp_path / "words"), 3 * 4)


def test_a_step_that_reads_a_number_is_found_out(tmp_path, called_and_replayed, monkeypatch):
    """The tape is a judge worth having: beta that grows in Python stays what it was when the step was recorded."""
    weigh, calls = objective.weigh, []

    def growing(terms):
        calls.append(None)
        return weigh(terms) * len(calls)

    monkeypatch.setattr(objective, "weigh", growing)
    recipe = tiny(2, shape=SHAPE, training__epochs=4, training__log_every=1)
    with pytest.raises(AssertionError):
        called_and_replayed(recipe, image_store(tmp_path / "tiny", views=2, shape=SHAPE), 4 * 5)


@pytest.mark.parametrize("method", ["mopoe", "mmvae", "mvae"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_regions_are_compiled_once_and_give_the_same_losses(method, precision):
    graphs = []

    def backend(graph, inputs):
        graphs.append(len(inputs))
        return graph.forward

    def compiler(function):
        return torch.compile(function, backend=backend, fullgraph=True)

    recipe = tiny(4, shape=SHAPE, model__method=method)
    goal = Objective.of(recipe)
    torch.manual_seed(0)
    plain = Step(MultimodalVAE(recipe), goal, precision)
    regional = Step(MultimodalVAE(recipe), goal, precision)
    regional.load_state_dict(plain.state_dict())
    torch._dynamo.reset()
    regional.model.region, regional.model.lanes = cache(compiler), Lanes(torch.device("cpu"), 4)
    for _ in range(3):
        batch = {f"m{v}": torch.rand(8, *SHAPE) for v in range(4)}
        noise = objective.draw_noise(plain.model, goal, plain.model.names, 8, slice(None), "cpu")
        (loss, terms), (expected, known) = regional(batch, noise), plain(batch, noise)
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(terms, known, rtol=1e-4, atol=1e-4)
        loss.backward()
    assert len(graphs) == 3, "encoder, decoder with likelihood, middle"
