"""Degenerate data and models: every metric has a defined result, or null with a reason, or is refused in one line."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from tiny_recipes import tiny

from mmvae_cli import store
from mmvae_cli.disk.sealed import read_json
from mmvae_cli.evaluation import classifier_training
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.run import checkpoint, result
from mmvae_cli.run.layout import Run

from fuzzing import mmvae
from stores import describe_anyway, image_store

SHAPE = (3, 8, 8)
METRICS = {"latent", "coherence", "likelihood"}


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    """What the classifiers of coherence say is of no interest here."""
    monkeypatch.setattr(classifier_training, "MOST", 3)


def train(root, recipe):
    (root / "tiny.yaml").write_text(recipe.dump())
    return mmvae("train", root / "tiny.yaml", "--run", root / "run", "--data-dir", root, "--device", "cpu")


def evaluate(root, *more):
    return mmvae("evaluate", "--ckpt", root / "run", "--data-dir", root, "--force", "--json", *more)


def strict(text):
    def refused(constant):
        raise AssertionError(f"{constant} in JSON")

    return json.loads(text, parse_constant=refused)


def nulls(document, prefix=""):
    """Dotted paths of the values of the metrics that are null."""
    for key, value in document.items():
        if isinstance(value, dict):
            yield from nulls(value, f"{prefix}{key}.")
        elif value is None:
            yield prefix + key


def check(found):
    """All scores in bounds, all nats finite, and a reason for every null."""
    measured = {name: found[name] for name in METRICS if found[name]}
    for path in nulls(measured):
        assert found["reasons"].get(path), f"{path} is null without a reason"
    for name in {"latent", "coherence"} & measured.keys():
        for key in ("values", "joint", "conditional", "per_label"):
            for value in leaves(measured[name].get(key)):
                assert value is None or 0 <= value <= 1
    return measured


def leaves(value):
    return [leaf for inner in value.values() for leaf in leaves(inner)] if isinstance(value, dict) else [value]


def classes(**options):
    return lambda folder: image_store(folder, **({"views": 2, "shape": SHAPE, "counts": (40, 24)} | options))


def attributes(train_rows, test_rows):
    """A store of two views whose items have the attributes of ``train_rows`` and ``test_rows`` in turn."""

    def build(folder):
        image_store(folder, views=2, shape=SHAPE, counts=(40, 12))
        for split, rows, count in (("train", train_rows, 40), ("test", test_rows, 12)):
            labels = np.array([rows[item % len(rows)] for item in range(count)], np.uint8)
            store.new_array(folder, f"{split}/labels.npy", labels.shape, np.uint8)[:] = labels
        info = store.Store(folder, verify=False).info.model_dump()
        names = tuple("abc"[: len(train_rows[0])])
        info["labels"] = {"kind": "attributes", "names": names}
        store.finish(folder, store.StoreInfo.model_validate(info), replace=True)

    return build


def test_what_was_not_measured_is_null_with_its_reason_at_its_path():
    measured = {"latent": result.NotMeasured("no labels"), "likelihood": {"joint": {"m0": -math.inf, "m1": -2.0}}}
    assert result.with_reasons(measured) == (
        {"latent": None, "likelihood": {"joint": {"m0": None, "m1": -2.0}}},
        {"latent": "no labels", "likelihood.joint.m0": "the model gives numbers that are not finite"},
    )


MIXED = [(0, 1), (1, 0), (1, 1), (0, 0)]
ONE_CLASS = "the training samples have one class only"
UNSCORED = "no attribute could be scored"
NO_POSITIVE = "no evaluated item has this attribute"

# what -> (dataset, recipe settings, expected reasons by path)
CASES = {
    "one class everywhere": (classes(classes=1), {}, {"latent.values.m0": ONE_CLASS}),
    "one test item": (classes(counts=(40, 1)), {}, {}),
    "limit of 1 item": (classes(), {"evaluation__items": 1, "evaluation__likelihood_items": 1}, {}),
    "one latent training sample": (classes(), {"evaluation__latent_samples": 1}, {"latent.values.m1": ONE_CLASS}),
    "a class that no training sample has": (classes(classes=20), {"evaluation__latent_samples": 9}, {}),
    "more samples than items": (classes(counts=(8, 3)), {"evaluation__latent_samples": 10**6}, {}),
    "one importance sample": (classes(), {"evaluation__importance_samples": 1}, {}),
    "more subsets than rows": (classes(views=4, counts=(40, 2)), {"training__batch_size": 2}, {}),
    "more components than rows": (
        classes(views=4, counts=(40, 2)), {"training__batch_size": 2, "model__method": "mmvae"}, {}),
    "batches of one": (classes(counts=(5, 3)), {"training__batch_size": 1}, {}),
    "a single modality": (classes(views=1), {}, {"coherence.joint": "needs two modalities"}),
    "released, less than one block": (
        classes(), {"evaluation__protocol": "released"}, {"latent.values.m0+m1": ONE_CLASS}),
    "an attribute nobody has": (
        attributes([(0, 0), (1, 0)], [(0, 0), (1, 0)]), {},
        {"latent.per_label.m0.b": NO_POSITIVE, "coherence.per_label.m0.m1.b": NO_POSITIVE}),
    "an attribute that only training items have": (
        attributes(MIXED, [(0, 0), (1, 0)]), {}, {"latent.per_label.m1.b": NO_POSITIVE}),
    "an attribute that no training item has": (attributes([(0, 0), (1, 0)], MIXED), {}, {}),
    "an attribute that all have": (attributes([(1, 0), (1, 1)], [(1, 0), (1, 1)]), {}, {}),
    "attributes nobody has at all": (
        attributes([(0, 0)], [(0, 0)]), {},
        {"latent.values.m0": UNSCORED, "coherence.conditional.m0.m1": UNSCORED}),
}  # fmt: skip


@pytest.mark.parametrize("what", CASES)
def test_every_metric_is_defined_or_null_with_a_reason(what, tmp_path, record_property):
    build, changes, expected = CASES[what]
    build(tmp_path / "tiny")
    views = len(store.Store(tmp_path / "tiny").info.modalities)
    settings = {"training__epochs": 1, "evaluation__latent_samples": 20} | changes
    assert train(tmp_path, tiny(views, shape=SHAPE, **settings)).code == 0
    done = evaluate(tmp_path)
    assert done.code == 0, done.stderr
    found = strict(done.stdout)
    assert set(check(found)) == METRICS
    unseen = "have no training sample, so they cannot be found" in done.stderr
    assert unseen or what != "a class that no training sample has"
    assert {path: found["reasons"].get(path) for path in expected} == expected
    run = Run(tmp_path / "run")
    assert read_json(run.evaluation_path(run.recipe().evaluation.protocol)) == found, "strict JSON on disk, too"
    for kind in ("table", "json", "md", "csv", "tex"):
        shown = mmvae("compare", tmp_path / "run", "--format", kind)
        assert shown.code == 0, shown.stderr
        assert kind != "json" or strict(shown.stdout)
        for why in set(expected.values()) if kind in ("table", "md") else ():
            assert why in shown.stdout
    record_property("hostile", [f"numbers: {what}", "null with a reason" if expected else "defined", 1])


def test_what_could_not_be_measured_is_a_dash_with_its_reason(tmp_path):
    classes(classes=1)(tmp_path / "tiny")
    assert train(tmp_path, tiny(2, shape=SHAPE, training__epochs=1)).code == 0
    done = mmvae("evaluate", "--ckpt", tmp_path / "run", "--data-dir", tmp_path, "--force", "--metrics", "latent")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["m0", "-"] in lines
    assert f"not measured: latent.values (3 numbers): {ONE_CLASS}" in done.stdout
    table = mmvae("compare", tmp_path / "run").stdout
    summary = table.partition("Summary")[2].partition("\n\n")[0]
    assert "all modalities" in summary
    assert " -" in summary
    assert f"not measured in 1 of 1 runs: latent.values (3 numbers): {ONE_CLASS}" in table
    values = strict(mmvae("compare", tmp_path / "run", "--format", "json").stdout)["groups"][0]["values"]
    assert [(v["mean"], v["n"]) for v in values if v["metric"] == "latent" and v["subset"] == "m0"] == [(None, 0)]


def changed_weights(root, change):
    """Put a checkpoint beside the newest one whose weights ``change(name, tensor)`` has altered in place."""
    run = Run(root / "run")
    model = MultimodalVAE(run.recipe())
    found = checkpoint.newest(run)
    found.load_model(model)
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            change(name, weight)
    optimizer = torch.optim.Adam(model.parameters())
    position = found.position
    checkpoint.save(run.checkpoint_path(position.step), model, optimizer, position)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp("guarded")
    classes()(root / "tiny")
    assert train(root, tiny(2, shape=SHAPE, training__epochs=1, evaluation__latent_samples=20)).code == 0
    return root


@pytest.fixture
def trained(original, tmp_path):
    return shutil.copytree(original, tmp_path, dirs_exist_ok=True)


def test_constant_latents_are_scored_as_what_they_are(trained, record_property):
    """A collapsed posterior: the linear classifier can but say the same for every item."""
    changed_weights(trained, lambda name, weight: weight.zero_() if name.startswith("encoders") else None)
    done = evaluate(trained)
    found = strict(done.stdout)
    check(found)
    assert set(found["latent"]["values"].values()) == {0.25} == {found["chance"]}, "four classes, six items each"
    assert set(found["latent"]["constant"]) == {"m0", "m1", "m0+m1"}
    assert "warning: the latent representation and what is generated" in done.stderr
    assert "every score is at chance, no better than a guess (0.250)" in done.stderr
    assert len(set(found["likelihood"]["joint"].values())) >= 1
    record_property("hostile", ["numbers: constant latents", "defined", 1])


def test_constant_pictures_are_scored_as_what_they_are(trained, record_property):
    changed_weights(trained, lambda name, weight: weight.zero_() if name.startswith("decoders") else None)
    found = strict(evaluate(trained).stdout)
    check(found)
    assert found["coherence"]["joint"] in (0.0, 1.0), "two constant pictures have one label each"
    assert found["coherence"]["joint_chance"] == found["coherence"]["joint"]
    assert set(found["coherence"]["joint_constant"]) == {"m0", "m1"}
    record_property("hostile", ["numbers: constant pictures", "defined", 1])


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("verb", ["evaluate", "sample"])
def test_weights_that_are_not_finite_are_refused(value, verb, trained, record_property):
    changed_weights(trained, lambda name, weight: weight.fill_(value) if "decoders.m1" in name else None)
    done = mmvae(verb, "--ckpt", trained / "run", "--data-dir", trained)
    assert done.code == 3
    assert "weights that are not finite (decoders.m1" in done.stderr
    assert not (trained / "run" / "evaluation.json").exists()
    record_property("hostile", ["numbers: weights that are not finite", "refused (3)", 1])


@pytest.mark.parametrize("part", ["encoders", "decoders"])
def test_weights_that_overflow_are_null_with_a_reason(part, trained, record_property):
    """Finite, but so large that what the networks give is not."""

    def overflow(name, weight):
        if name.startswith(f"{part}.m1") and name.endswith("weight"):
            weight.fill_(1e38)

    changed_weights(trained, overflow)
    done = evaluate(trained)
    assert done.code == 0, done.stderr
    found = strict(done.stdout)
    check(found)
    assert found["likelihood"]["joint"]["m0+m1"] is None
    assert found["coherence"]["conditional"]["m1"]["m1"] is None
    assert found["reasons"]["likelihood.joint.m0+m1"] == "the model gives numbers that are not finite"
    if part == "encoders":
        assert found["latent"]["values"]["m1"] is None
    else:
        assert found["coherence"]["joint"] is None
    assert mmvae("compare", trained / "run").code == 0
    record_property("hostile", [f"numbers: {part} that overflow", "null with a reason", 1])


@pytest.mark.parametrize("label", [-1, 4, 2**40])
def test_labels_outside_the_classes_are_refused_by_every_metric(label, trained, record_property):
    for split in ("train", "test"):
        labels = np.load(trained / "tiny" / split / "labels.npy")
        labels[-1] = label
        np.save(trained / "tiny" / split / "labels.npy", labels)
    describe_anyway(trained / "tiny")
    (trained / "run" / "environment.json").unlink()  # which knows the data that it was trained on
    for metric in ("latent", "coherence", "likelihood"):
        done = evaluate(trained, "--metrics", metric)
        assert done.code == 3
        assert "has a label outside 0..3" in done.stderr
        record_property("hostile", ["numbers: labels outside the classes", "refused (3)", 1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training__batch_size": 41}, "training.batch_size 41 is more than the 40 training items"),
        ({"model__subsets": [[]]}, "is empty"),
        ({"model__subsets": []}, "empty"),
        ({"evaluation__items": 0}, "has to be 1 or more, not 0"),
        ({"evaluation__importance_samples": 0}, "has to be 1 or more, not 0"),
        ({"evaluation__latent_samples": 0}, "has to be 1 or more, not 0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_nothing_to_measure_is_refused(changes, message, tmp_path, record_property):
    classes()(tmp_path / "tiny")
    content = tiny(2, shape=SHAPE).model_dump(mode="json")
    for key, value in changes.items():
        section, _, name = key.partition("__")
        content[section][name] = value
    (tmp_path / "tiny.yaml").write_text(json.dumps(content))
    done = mmvae("train", tmp_path / "tiny.yaml", "--run", tmp_path / "run", "--data-dir", tmp_path)
    assert done.code == 2
    assert message in done.stderr
    record_property("hostile", [f"numbers: {next(iter(changes)).replace('__', '.')}", "refused (2)", 1])


def test_one_seed_has_no_deviation_and_equal_seeds_have_none_to_show(trained):
    evaluate(trained, "--metrics", "likelihood")
    alone = strict(mmvae("compare", trained / "run", "--format", "json").stdout)["groups"][0]
    assert {value["std"] for value in alone["values"]} == {None}
    assert "nan" not in mmvae("compare", trained / "run").stdout.lower()
