"""Quality on cases whose answer is known, and the ways in which features are found."""

import pytest
import torch
from known_answers import SHAPE, Classifier
from tiny_recipes import tiny

from mmvae_cli.evaluation import coherence, features, joint, quality
from mmvae_cli.evaluation.distances import frechet, moments
from mmvae_cli.evaluation.encoding import ShuffledSplit
from mmvae_cli.evaluation.features import Features
from mmvae_cli.evaluation.seen import RULES, Seen
from mmvae_cli.model.networks.inception import Inception
from mmvae_cli.process.errors import DataProblem
from mmvae_cli.recipe.families import powerset
from mmvae_cli.run.result import INCEPTION, NOT_FINITE, NotMeasured, Quality, with_reasons

CORNERS = Features(lambda x: x[:, :, 0, 0], "corner", 1000)


def seen(evaluation, test, of=CORNERS):
    return Seen(evaluation, test, dict.fromkeys(evaluation.model.names, of))


def measured(evaluation, of=CORNERS):
    data = ShuffledSplit(evaluation, "test", "evaluated items")
    found = quality.measure(evaluation, data, seen(evaluation, data.encode(data.order), of))
    values, reasons = with_reasons({"quality": found})
    return Quality.model_validate(values["quality"]), reasons, data


def test_the_distance_of_a_black_picture_is_that_of_the_real_moments(evaluation):
    found, reasons, data = measured(evaluation)
    real = moments(CORNERS(data.batch(data.order)["m2"]))
    wanted = float(real.mean.square().sum() + real.covariance.trace())
    assert not reasons
    assert found.unconditional["frechet"]["m2"] == pytest.approx(wanted)
    assert found.conditional["frechet"]["m0+m1"] == pytest.approx({"m2": wanted})
    assert set(found.conditional["frechet"]) == {"m0", "m1", "m2", "m0+m1", "m0+m2", "m1+m2"}
    assert found.conditional["coverage"]["m0"]["m2"] == 0.0
    assert (found.generated, found.reference_count, found.joint_samples, found.reference_split) == (24, 24, 40, "test")
    assert found.feature_size == {"m0": 3, "m1": 3, "m2": 3}


@pytest.mark.parametrize("evaluation", [{"model__method": "mmvm"}], indirect=True)
def test_what_is_given_a_view_stands_beside_that_of_other_methods_where_z_has_no_prior(evaluation):
    """``joint_samples`` is how many the protocol asks for; compare sets aside what was measured with another number."""
    found, reasons, _ = measured(evaluation)
    assert found.joint_samples == joint.measure(evaluation, {})["joint_samples"] == 40
    assert found.unconditional["frechet"] == dict.fromkeys(evaluation.model.names)
    assert found.conditional["frechet"]["m0"]["m1"] is not None
    assert "--sampler gmm" in reasons["quality.unconditional.frechet.m0"]


def test_quality_sees_the_samples_that_coherence_classifies(evaluation):
    judged, looked = [], []

    class Recorder(Classifier):
        def forward(self, x):
            judged.append(x)
            return super().forward(x)

    def look(x):
        looked.append(x)
        return x.mean((2, 3))

    data = ShuffledSplit(evaluation, "test", "evaluated items")
    coherence.measure(evaluation, data, data.encode(data.order), dict.fromkeys(evaluation.model.names, Recorder()))
    measured(evaluation, Features(look, "", 1000))
    shown = {round(float(x.clamp(0, 1).sum()), 1) for batch in judged for x in batch}
    seen = {round(float(x.sum()), 1) for batch in looked for x in batch}
    rounded = {round(float(((x.clamp(0, 1) * 255).round() / 255).sum()), 1) for batch in judged for x in batch}
    assert seen <= shown | rounded
    assert len(seen) > 10


@pytest.mark.parametrize("evaluation", [{"evaluation__pairs": "multivae"}], indirect=True)
def test_a_rule_without_rounding_hands_over_what_the_decoder_gives(evaluation):
    for name in evaluation.model.names:
        evaluation.model.decoders[name] = Beyond()
    found, _, _ = measured(evaluation, Features(lambda x: x.mean((2, 3)), "", 1000))
    real = measured(evaluation, Features(lambda x: 0 * x.mean((2, 3)) + 2.0, "", 1000))[0]
    assert found.unconditional["frechet"]["m0"] > 3 * (2 - 1) ** 2
    assert real.unconditional["frechet"]["m0"] == 0, "constant features"
    assert set(found.conditional["frechet"]) == {"m1", "m2", "m1+m2"}
    assert {name for row in found.conditional["frechet"].values() for name in row} == {"m0"}


class Beyond(torch.nn.Module):
    """Paints 2, which no picture can hold."""

    def forward(self, z):
        return torch.full((len(z), *SHAPE), 2.0)


def test_a_model_that_gives_no_numbers_has_no_distance(evaluation):
    evaluation.model.decoders["m1"] = Broken()
    found, reasons, _ = measured(evaluation)
    assert found.unconditional["frechet"]["m1"] is None
    assert reasons["quality.unconditional.frechet.m1"] == NOT_FINITE.why
    assert found.unconditional["frechet"]["m0"] is not None


def test_real_samples_whose_features_are_no_numbers_are_not_compared_with(evaluation):
    looked_at = seen(evaluation, (data := ShuffledSplit(evaluation, "test", "evaluated items")).encode(data.order))
    looked_at.features()
    looked_at.usable |= {0: Features(lambda x: x[:, :, 0, 0] * torch.nan, "", 1000)}
    found = quality.measure(evaluation, data, looked_at)["unconditional"]
    assert {found[measure]["m0"] for measure in ("frechet", "recall")} == {NOT_FINITE}


class Broken(torch.nn.Module):
    def forward(self, z):
        return torch.full((len(z), *SHAPE), torch.nan)


def test_reconstructions_are_of_single_modalities_and_of_all(evaluation):
    found, _, _ = measured(evaluation)
    assert set(found.reconstruction) == {"m0", "m1", "m2", "m0+m1+m2"}
    assert set(found.reconstruction["m0"]) == {"m0"}
    assert set(found.reconstruction["m0"]["m0"]) == {"mse", "ssim"}
    assert found.reconstruction["m0"]["m0"]["mse"] < found.reconstruction["m2"]["m2"]["mse"], "m2 is painted black"


def pairs_of(rule, count=5):
    chosen = [(target, subset) for subset in powerset(range(count)) for target in range(count)
              if RULES[rule].wanted(target, subset, count)]  # fmt: skip
    return len(chosen), chosen


def test_rules_of_pairs_are_those_of_the_papers():
    assert pairs_of("default")[0] == 20 + 5
    assert pairs_of("all")[0] == 75
    assert pairs_of("mmvaeplus")[0] == 25, "itself included"
    assert pairs_of("mvtcae")[1][:2] == [(1, (0,)), (0, (1,))]
    assert pairs_of("mvtcae")[0] == 8
    assert (0, (1, 2, 3)) in pairs_of("mvtcae")[1]
    assert (1, (0, 2)) in pairs_of("mvtcae")[1]
    assert pairs_of("multivae")[0] == 4 + 6 + 4 + 1
    assert RULES["mvtcae"].reference == "train"
    assert [name for name, rule in RULES.items() if not rule.rounded] == ["multivae"]
    assert pairs_of("default", 2)[0] == 2


@pytest.mark.parametrize("evaluation", [{"evaluation__pairs": "mvtcae"}], indirect=True)
def test_training_items_are_the_real_ones_where_the_rule_says_so(evaluation):
    found, _, _ = measured(evaluation)
    assert (found.reference_split, found.reference_count) == ("train", 40)
    data = ShuffledSplit(evaluation, "test", "evaluated items")
    real, _ = quality._reference(evaluation, data, seen(evaluation, data.encode(data.order)))
    stored = ShuffledSplit(evaluation, "train", "reference items").batch(torch.arange(40))["m0"]
    assert not torch.equal(real[0], CORNERS(stored)), "labels are mixed, as neighbours are looked for among the first"


def test_real_samples_that_are_there_many_times_over_have_no_neighbours(evaluation):
    words = Features(lambda x: (4 * x.mean((1, 2, 3))).round()[:, None] + 1, "", 1000)
    found, reasons, _ = measured(evaluation, words)
    assert found.unconditional["frechet"]["m0"] is not None
    assert found.unconditional["recall"]["m0"] is None
    assert reasons["quality.unconditional.recall.m0"] == quality.REPEATED.why


def test_few_items_are_warned_of_and_two_are_needed(evaluation, capsys):
    data = ShuffledSplit(evaluation, "test", "evaluated items")
    found = quality.measure(evaluation, data, seen(evaluation, data.encode(data.order[:1])))
    assert "quality of m0: 1 items for 3 features; a Frechet distance is biased upward" in capsys.readouterr().err
    assert found["unconditional"]["frechet"]["m0"] == NotMeasured("needs two items")
    assert found["unconditional"]["recall"]["m0"] == NotMeasured("needs more than 5 items")


# --- features --------------------------------------------------------------------------------------------------------


def no_classifiers():
    raise AssertionError("these features need none")


def test_without_labels_there_are_no_classifiers_to_take_features_of(evaluation, tmp_path):
    object.__setattr__(evaluation.store, "info", evaluation.store.info.model_copy(update={"labels": None}))
    found = features.ready(evaluation, tmp_path, no_classifiers, force=False)
    assert found["m0"].why.startswith("no labels, so no classifier")
    values, reasons, _ = measured(evaluation, found["m0"])
    assert values.unconditional["frechet"]["m0"] is None
    assert reasons["quality.unconditional.frechet.m0"].startswith("no labels")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights with the names of the official file."""
    torch.manual_seed(0)
    network = Inception()
    state = network.network.state_dict() | {f"fc.{key}": value for key, value in network.classes.state_dict().items()}
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(state, path)
    return path


@pytest.mark.parametrize("evaluation", [{"evaluation__features": "inception"}], indirect=True)
def test_another_file_than_the_official_one_is_refused_unless_forced(
    evaluation, weights, tmp_path, monkeypatch, capsys
):
    with pytest.raises(DataProblem, match=r"no file of Inception's weights in .*inception"):
        features.ready(evaluation, tmp_path, no_classifiers, force=True)
    monkeypatch.setenv(features.VARIABLE, str(weights))
    with pytest.raises(DataProblem, match="is not the file that FID is defined by: its SHA-256 is"):
        features.ready(evaluation, tmp_path, no_classifiers, force=False)
    found = features.ready(evaluation, tmp_path, no_classifiers, force=True)
    assert "what is measured is no FID" in capsys.readouterr().err
    assert features.SHA256.startswith(INCEPTION)
    assert found["m0"].weights != INCEPTION
    grey = found["m0"](torch.rand(2, 1, 28, 28))
    assert grey.shape == (2, 2048)
    assert grey.isfinite().all()
    monkeypatch.setattr(features, "SHA256", features.sha256(weights))
    assert features.ready(evaluation, tmp_path, no_classifiers, force=False)["m0"].weights == features.SHA256[:16]


@pytest.mark.parametrize("evaluation", [{"evaluation__features": "inception"}], indirect=True)
def test_a_file_of_the_right_size_is_found_under_any_name(evaluation, weights, tmp_path, monkeypatch):
    folder = tmp_path / "inception"
    folder.mkdir()
    (folder / "whatever").symlink_to(weights)
    monkeypatch.setattr(features, "BYTES", weights.stat().st_size)
    monkeypatch.setattr(features, "SHA256", features.sha256(weights))
    assert set(features.ready(evaluation, tmp_path, no_classifiers, force=False)) == {"m0", "m1", "m2"}


@pytest.mark.parametrize(("content", "said"), [
    (b"no weights", "is not the Inception of FID"), ([1, 2], "it holds no table of tensors"),
    ({"fc.bias": torch.zeros(3)}, "Conv2d_1a_3x3.bn.bias is not there"),
])  # fmt: skip
@pytest.mark.parametrize("evaluation", [{"evaluation__features": "inception"}], indirect=True)
def test_a_file_that_holds_other_things_is_no_inception(evaluation, tmp_path, monkeypatch, content, said):
    path = tmp_path / "file.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    monkeypatch.setenv(features.VARIABLE, str(path))
    with pytest.raises(DataProblem, match=said):
        features.ready(evaluation, tmp_path, no_classifiers, force=True)


def test_inception_sees_images_of_one_or_three_channels():
    info = tiny(1).modalities["m0"]
    assert features._unfit(info) is None
    assert features._unfit(info.model_copy(update={"shape": (2, 8, 8)})).why == "Inception sees 1 or 3 channels, not 2"


def test_frechet_is_symmetric():
    one, other = (moments(torch.randn(50, 4, generator=torch.Generator().manual_seed(seed))) for seed in (0, 1))
    assert frechet(one, other) == pytest.approx(frechet(other, one))
