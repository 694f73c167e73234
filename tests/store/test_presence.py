"""Which modalities an item has: as training.missing leaves them, and in the order of their patterns."""

import numpy as np
import pytest
import torch
from tiny_recipes import tiny

from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.recipe import MissingSpec
from mmvae_cli.run import prepare
from mmvae_cli.store import Store, batches, presence
from mmvae_cli.store.presence import Pattern, by_pattern, of_training, thinned

from stores import image_store

NAMES = ["m0", "m1", "m2"]
CPU = torch.device("cpu")


def everyone(count=4000):
    return np.ones((count, 3), bool)


def test_what_an_item_lacks_is_a_function_of_seed_and_item():
    once = thinned(everyone(), NAMES, MissingSpec(rate=0.4))
    assert (thinned(everyone(50), NAMES, MissingSpec(rate=0.4)) == once[:50]).all(), "not of how many there are"
    assert (thinned(everyone(), NAMES, MissingSpec(rate=0.4, seed=1)) != once).mean() > 0.3
    assert (1 - once.mean(0)).round(1).tolist() == [0.4, 0.4, 0.4]
    few = thinned(everyone(), NAMES, MissingSpec(rate=0.1))
    assert np.abs(np.corrcoef(few.T) - np.eye(3)).max() < 0.05, "modalities go one by one"
    assert (once <= few).all(), "a higher rate takes more of the same"


def test_kept_modalities_stay_and_no_item_loses_everything():
    kept = thinned(everyone(), NAMES, MissingSpec(rate=0.9, keep=("m1",)))
    assert kept[:, 1].all()
    assert kept[:, [0, 2]].mean() < 0.15
    left = thinned(everyone(), NAMES, MissingSpec(rate=0.99))
    assert left.sum(1).min() == 1
    assert left.mean(0) == pytest.approx(np.full(3, 1 / 3), abs=0.05), "what stays is no favourite"
    holes = everyone()
    holes[:, 0] = False
    assert (thinned(holes, NAMES, MissingSpec(rate=0.99)) <= holes).all(), "what the data lack does not come back"


@pytest.mark.parametrize(("rows", "count"), [("keep", 40), ("drop", None), ("published", 10)])
def test_which_items_are_trained_on(rows, count, tmp_path):
    store = Store(image_store(tmp_path / "tiny"))
    missing = {"rate": 0.5, "keep": ["m0"], "rows": rows}
    recipe = tiny(3, training__missing=missing)
    found = of_training(store, recipe)
    complete = found.table.all(1)
    assert len(found.items) == (complete.sum() if count is None else count) == prepare.trained_items(recipe, store)
    assert (found.needed is None) == (rows != "keep")
    if rows == "published":
        other = of_training(store, tiny(3, training__missing=missing | {"seed": 1})).items
        assert found.items.tolist() == sorted({*found.items.tolist()}) != other.tolist()
    data = batches.Split(store, "train", NAMES, CPU, 0, presence=found)
    assert data.used.tolist() == found.items.tolist()


def test_published_rows_of_items_ordered_by_label_have_every_label(tmp_path):
    store, labels = Store(image_store(tmp_path / "tiny", counts=(400, 24))), np.arange(400) // 100
    for rate, count in ((0.5, 100), (0.2, 256), (0, 400)):
        recipe = tiny(3, training__missing={"rate": rate, "keep": ["m0"], "rows": "published"})
        items = of_training(store, recipe).items
        assert len(items) == count, "ceil((1 - rate)^2 400)"
        assert np.bincount(labels[items]) == pytest.approx(count / 4, abs=12)


def test_too_few_complete_rows_are_one_line(tmp_path):
    store = Store(image_store(tmp_path / "tiny"))
    recipe = tiny(3, training__missing={"rate": 0.9, "rows": "drop"})
    with pytest.raises(
        UsageProblem, match=r"batch_size 8 is more than the \d training items of .* that training.missing"
    ):
        prepare.steps_per_epoch(recipe, store)


def test_where_nothing_is_left_no_batch_size_helps(tmp_path):
    recipe = tiny(3, training__missing={"rate": 0.999, "rows": "drop"})
    with pytest.raises(UsageProblem, match="more than the 0 training items") as found:
        prepare.steps_per_epoch(recipe, Store(image_store(tmp_path / "tiny")))
    assert found.value.hint == "take less away: a lower training.missing.rate, or training.missing.rows=keep"


def test_a_batch_holds_what_is_there_in_the_order_of_patterns(tmp_path):
    store = Store(image_store(tmp_path / "tiny"))
    table = np.array([[1, 1, 0], [0, 1, 0], [1, 1, 0], [0, 1, 0], *[[1, 1, 1]] * 36], bool)
    data = batches.Split(store, "train", NAMES, CPU, 0, presence=presence.Presence(np.arange(40), table))
    order, patterns = data.by_pattern(items := torch.tensor([3, 0, 1, 2]))
    assert patterns == [Pattern((1,), 2), Pattern((0, 1), 2)]
    assert items[order].tolist() == [3, 1, 0, 2]
    batch = data.batch(items[order])
    assert {name: len(x) for name, x in batch.items()} == {"m0": 2, "m1": 4}, "m2 is not there at all"
    pictures = torch.from_numpy(store.array("train", "m0")[[0, 2]]) / 255
    torch.testing.assert_close(batch["m0"], pictures)
    order, patterns = by_pattern(table[4:8])
    assert (order.tolist(), patterns) == ([0, 1, 2, 3], [Pattern((0, 1, 2), 4)])
