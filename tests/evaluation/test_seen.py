"""Coherence and quality share what is generated: each finds what it finds alone, and nothing is decoded twice."""

import numpy as np
import pytest
import torch
from tiny_recipes import tiny

from mmvae_cli.evaluation import coherence, generation, quality, seen
from mmvae_cli.evaluation.encoding import Evaluation, ShuffledSplit
from mmvae_cli.evaluation.features import Features
from mmvae_cli.evaluation.seen import Seen
from mmvae_cli.model.networks import build_coherence_classifier
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.store import Store

from stores import image_store

SHAPE = (3, 8, 8)
COUNT = 300  # a block of 256 and one of 44
LOOKED_AT = 270  # quality looks at a part of the last block


def evaluation_of(folder, **changes):
    """An untrained model and untrained classifiers: whatever they say, they have to say it again."""
    image_store(folder, shape=SHAPE, counts=(40, COUNT))
    recipe = tiny(3, shape=SHAPE, evaluation__joint_samples=300, **changes)
    torch.manual_seed(1)
    return Evaluation(MultimodalVAE(recipe).eval(), recipe, Store(folder), torch.device("cpu"))


class Measures:
    def __init__(self, evaluation):
        torch.manual_seed(2)
        self.evaluation, self.data = evaluation, ShuffledSplit(evaluation, "test", "evaluated items")
        self.test = self.data.encode(self.data.order)
        self.classifiers = {
            name: build_coherence_classifier(evaluation.store.info.modalities[name], 4)
            for name in evaluation.model.names
        }

    def seen(self):
        classifiers = {
            name: build_coherence_classifier(self.evaluation.store.info.modalities[name], 4)
            for name in self.classifiers
        }
        for name, classifier in classifiers.items():
            classifier.load_state_dict(self.classifiers[name].state_dict())
        return Seen(
            self.evaluation, self.test, {n: Features(j.eval().features, "", 1024) for n, j in classifiers.items()}
        )

    def coherence(self, looks=None):
        return coherence.measure(self.evaluation, self.data, self.test, self.classifiers, looks)

    def quality(self, looks):
        return quality.measure(self.evaluation, self.data, looks)


def rows_decoded(evaluation, measure, *arguments):
    """How many latents each decoder gets, and what the measure finds."""
    rows = dict.fromkeys(evaluation.model.names, 0)

    def counting(name):
        def count(network, given):
            rows[name] += len(given[0])

        return evaluation.model.decoders[name].register_forward_pre_hook(count)

    hooks = [counting(name) for name in rows]
    found = measure(*arguments)
    for hook in hooks:
        hook.remove()
    return rows, found


@pytest.mark.parametrize("changes", [
    {}, {"evaluation__protocol": "released"}, {"model__method": "mmvaeplus", "model__private_dim": 2},
    {"model__method": "mmvae", "evaluation__pairs": "all"},
])  # fmt: skip
def test_each_finds_alone_what_both_find_together(tmp_path, monkeypatch, changes):
    """Of seven subsets four are drawn at first, then three: in between the released code's dropout draws, too."""
    monkeypatch.setattr(seen, "ITEMS", LOOKED_AT)
    monkeypatch.setattr(generation, "SUBSETS_AT_ONCE", 4)
    one = Measures(evaluation_of(tmp_path / "s", **changes))
    judged_alone, looked_alone = one.coherence(), one.quality(one.seen())
    both = one.seen()
    judged, looked = one.coherence(both), one.quality(both)
    assert judged == judged_alone
    assert looked == looked_alone


def test_what_coherence_decodes_is_not_decoded_again(tmp_path):
    evaluation = evaluation_of(tmp_path / "s")
    one = Measures(evaluation)
    both = one.seen()
    alone, _ = rows_decoded(evaluation, one.coherence)
    shared, _ = rows_decoded(evaluation, one.coherence, both)
    again, features = rows_decoded(evaluation, both.features)
    assert set(alone.values()) == {7 * COUNT + 300}
    assert shared == alone
    assert set(again.values()) == {0}
    assert {len(own) for own in features.values()} == {300}, "items, and samples of no item"
    assert len(features) == 3 * 2 + 3 + 3, "from each single other, from both others, from none"


def test_items_that_lack_a_modality_are_judged_but_not_looked_at(tmp_path):
    evaluation = evaluation_of(tmp_path / "s")
    one = Measures(evaluation)
    has = torch.from_numpy(np.random.default_rng(0).random((COUNT, 3)) > 0.1)
    one.test = one.test._replace(present=has)
    both = one.seen()
    for number, part in enumerate(evaluation.blocks(one.test)):
        handed = both.of_items(number, generation.conditional(evaluation, number, part))
        assert sum(len(positions) for _, positions, _ in handed) == 3 * 7
    shared, alone = both.features(), one.seen().features()
    assert both.items.items.tolist() == one.test.items[has.all(1)].tolist()
    assert all(torch.equal(shared[key], alone[key]) for key in alone)
    assert {len(own) for (_, s), own in shared.items() if s >= 0} == {int(has.all(1).sum())}
