"""MNIST-SVHN-Text's networks: counts, shapes and activations of equations 8.2, recipes, and that they can learn."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmvae_cli import recipe as recipes
from mmvae_cli.model.bound import bound_terms
from mmvae_cli.model.networks import build_classifier, image, mst
from mmvae_cli.model.objective import Objective, draw_noise
from mmvae_cli.model.terms import weigh
from mmvae_cli.model.vae import MultimodalVAE, parameter_counts
from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.store import ModalityInfo
from mmvae_cli.store.text import ALPHABET

METHODS = ("mst_mvae", "mst_mmvae", "mst_mopoe", "mst_eq5")
SHAPES = {"mnist": (1, 28, 28), "svhn": (3, 32, 32), "text": (8,)}


def batch(count: int) -> dict[str, torch.Tensor]:
    return {"mnist": torch.rand(count, 1, 28, 28), "svhn": torch.rand(count, 3, 32, 32),
            "text": torch.randint(0, 71, (count, 8))}  # fmt: skip


def info(name: str, length: int = 8) -> ModalityInfo:
    if name == "text":
        return ModalityInfo(kind="text", shape=(length,), alphabet=ALPHABET)
    return ModalityInfo(kind="image", shape=SHAPES[name])


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_parameter_counts_are_the_released_ones(name):
    assert parameter_counts(MultimodalVAE(recipes.load(name))) == {
        "encoder.mnist": 330_040, "encoder.svhn": 236_360, "encoder.text": 145_704,
        "decoder.mnist": 322_784, "decoder.svhn": 233_763, "decoder.text": 143_175, "total": 1_411_826,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "parameters", "buffers"), [("mnist", 165_866, 0), ("svhn", 233_066, 580), ("text", 459_850, 1_926)]
)
def test_classifiers_have_the_released_sizes(name, parameters, buffers):
    network = build_classifier(info(name), 10)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert sum(b.numel() for b in network.buffers()) == buffers
    assert build_classifier(info(name), 7)(torch.zeros(2, *SHAPES[name], *([71] if name == "text" else []))).shape == (
        2,
        7,
    )


def test_other_shapes_get_the_general_classifier_or_an_answer():
    assert isinstance(build_classifier(ModalityInfo(kind="image", shape=(3, 28, 28)), 10), image.DigitClassifier)
    with pytest.raises(UsageProblem, match=r"no classifier for text of shape \[9\]"):
        build_classifier(info("text", 9), 10)


def inner_sizes(network: nn.Module, x: torch.Tensor) -> list[tuple[int, ...]]:
    seen: list[tuple[int, ...]] = []
    for part in network.modules():
        if not list(part.children()):
            part.register_forward_hook(lambda _part, _inputs, output: seen.append(tuple(output.shape[1:])))
    network.eval()(x)
    return seen


@pytest.mark.parametrize(
    ("network", "x", "expected"),
    [
        (mst.DigitTrunk(), torch.rand(2, 1, 28, 28), [(400,)]),
        (mst.DigitDecoder(20), torch.randn(2, 20), [(400,), (784,)]),
        (mst.HouseNumberTrunk(), torch.rand(2, 3, 32, 32), [(32, 16, 16), (64, 8, 8), (64, 4, 4), (128, 1, 1)]),
        (mst.HouseNumberDecoder(20), torch.randn(2, 20),
         [(128,), (64, 4, 4), (64, 8, 8), (32, 16, 16), (3, 32, 32)]),
        (mst.WordTrunk(), torch.zeros(2, 8).long(), [(128, 4), (128, 1)]),  # the first one is a lookup
        (mst.WordDecoder(20), torch.randn(2, 20), [(128,), (128, 4), (128, 8), (71, 8)]),
        (mst.MnistClassifier(10), torch.rand(2, 1, 28, 28),
         [(32, 13, 13), (64, 5, 5), (128, 1, 1), (128,), (10,)]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)  # fmt: skip
def test_every_layer_has_the_size_of_the_table(network, x, expected):
    assert inner_sizes(network, x) == expected


# --- what goes in and comes out --------------------------------------------------------------------------------------


def test_the_lookup_is_the_convolution_over_one_hot_rows():
    torch.manual_seed(0)
    trunk, codes = mst.WordTrunk(), torch.randint(0, 71, (5, 8))
    x = F.relu(trunk.conv1(F.one_hot(codes, 71).float().transpose(1, 2)))
    expected = F.relu(trunk.conv3(F.relu(trunk.conv2(x)))).flatten(1)
    torch.testing.assert_close(trunk(codes), expected)
    slow = torch.autograd.grad(expected.square().sum(), list(trunk.parameters()))
    fast = torch.autograd.grad(trunk(codes).square().sum(), list(trunk.parameters()))
    torch.testing.assert_close(fast, slow)


def test_only_the_digit_decoder_is_bounded():
    torch.manual_seed(0)
    z = 1000 * torch.randn(64, 20)
    digits, houses = mst.DigitDecoder(20)(z), mst.HouseNumberDecoder(20)(z)
    assert digits.min() >= 0
    assert digits.max() <= 1
    assert houses.min() < 0 < 1 < houses.max()


def test_the_word_decoder_gives_raw_logits():
    torch.manual_seed(0)
    logits = mst.WordDecoder(20)(10 * torch.randn(16, 20))
    assert logits.shape == (16, 8, 71)
    assert logits.logsumexp(-1).abs().max() > 0.1  # a log-softmax would give 0
    linear = mst.WordDecoder(20)
    assert (linear.conv1.weight.shape, linear.linear.out_features) == ((128, 128, 4), 128)


def test_the_words_linear_layer_has_no_activation():
    """With a positive bias everywhere but one input that turns negative, the output still moves with that input."""
    torch.manual_seed(0)
    decoder = mst.WordDecoder(4)
    seen = []
    decoder.conv1.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    decoder(torch.randn(32, 4))
    assert (seen[0] < 0).float().mean() > 0.2


def test_the_house_number_classifier_drops_single_elements_before_normalising():
    stages = [type(layer) for layer in mst.HouseNumberClassifier(10).stages]
    assert stages == [nn.Conv2d, nn.Dropout, nn.BatchNorm2d, nn.ReLU] * 4


def test_the_word_classifiers_blocks_weigh_shortcut_one_and_branch_0_3_without_dropout():
    torch.manual_seed(0)
    block = mst.WordClassifier(10).block1
    x = torch.randn(16, 128, 8)
    shortcut, branch = block.shortcut(x), block.branch(x)
    torch.testing.assert_close(block(x), shortcut + 0.3 * branch)
    assert block(x).shape == (16, 192, 4)
    assert torch.equal(block(x), block(x))  # in training mode: no dropout


@pytest.mark.parametrize("name", ["mnist", "svhn", "text"])
def test_every_parameter_of_a_pair_and_a_classifier_learns(name):
    torch.manual_seed(0)
    model = MultimodalVAE(recipes.load("mst_mopoe"))
    data = batch(16)
    mean, logvar, *_ = model.encoders[name](data[name])
    (mean.square() + logvar.square()).sum().backward()
    model.log_likelihood(name, torch.randn(1, 16, 20), None, data[name]).sum().backward()
    judged = F.one_hot(data[name], 71).float() if name == "text" else data[name]
    classifier = build_classifier(info(name), 10)
    F.cross_entropy(classifier(judged), torch.arange(16) % 10).backward()
    parts = [*model.encoders[name].named_parameters(), *model.decoders[name].named_parameters()]
    dead = [key for key, p in parts if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []
    assert all(p.grad is not None for p in classifier.parameters())


# --- recipes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*METHODS, "mst_quick"])
def test_weights_count_positions_of_text_not_characters(name):
    weights = recipes.load(name).weights()
    assert weights == pytest.approx({"mnist": 3.918367, "svhn": 1.0, "text": 384.0}, abs=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_recipes_have_the_papers_settings(name):
    recipe = recipes.load(name)
    training = recipe.training
    assert (training.epochs, training.batch_size, training.learning_rate) == (150, 256, 1e-3)
    assert recipe.model.latent_dim == 20
    assert recipe.objective.beta == (2.5 if name == "mst_eq5" else 5.0)
    assert [m.likelihood for m in recipe.modalities.values()] == ["laplace", "laplace", "categorical"]
    assert len(recipe.families()) == {"mst_mvae": 4, "mst_mmvae": 3}.get(name, 7)
    assert recipe.objective.component_choice == ("all" if name in ("mst_eq5", "mst_mvae") else "stratified")


def test_text_is_categorical_unless_said_otherwise():
    assert recipes.load("mst_mopoe", ["modalities.text={network: text8}"]).modalities["text"].likelihood == (
        "categorical"
    )
    with pytest.raises(UsageProblem, match=r"modalities\.text\.likelihood: 'laplace' is not one of categorical, "):
        recipes.load("mst_mopoe", ["modalities.text.likelihood=laplace"])


@pytest.mark.parametrize("name", METHODS)
def test_a_step_of_every_method_gives_finite_gradients_to_every_parameter(name):
    torch.manual_seed(0)
    recipe = recipes.load(name)
    model, objective = MultimodalVAE(recipe), Objective.of(recipe)
    noise = draw_noise(model, objective, model.names, 14, slice(0, 14), "cpu")
    loss = weigh(bound_terms(model, batch(14), objective, noise)).mean()
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_eq5_is_the_mean_of_the_bounds_of_the_seven_subsets():
    """Eq. (5): (1/K) sum over A of [sum_m w_m NLL_m(z_A) + beta KL(q_A)], every subset on the whole batch."""
    torch.manual_seed(0)
    recipe = recipes.load("mst_eq5")
    model, objective, data = MultimodalVAE(recipe), Objective.of(recipe), batch(6)
    noise = draw_noise(model, objective, model.names, 6, slice(0, 6), "cpu")
    loss = weigh(bound_terms(model, data, objective, noise))
    experts = model.encode(data).shared
    expected = torch.zeros(6)
    for s, subset in enumerate(recipe.families()):
        precision = sum(1 / (experts.logvar[m].exp() + 1e-8) for m in subset) + (len(subset) == 3)
        mean = sum(experts.mean[m] / (experts.logvar[m].exp() + 1e-8) for m in subset) / precision
        z = mean + precision.rsqrt() * noise.shared[0][s]
        kl = 0.5 * (1 / precision + mean.square() - 1 + precision.log()).sum(-1)
        negative = sum(-recipe.weights()[name] * model.log_likelihood(name, z[None], None, data[name])[0]
                       for name in model.names)  # fmt: skip
        expected = expected + (negative + 2.5 * kl) / 7
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-2)


# --- learning --------------------------------------------------------------------------------------------------------


def words(labels: torch.Tensor) -> torch.Tensor:
    from mmvae_cli.datasets.mnist_svhn_text.build import WORDS
    from mmvae_cli.store import text

    rows = torch.from_numpy(text.encode(WORDS, 8)).long()[labels]
    lengths = torch.from_numpy(text.word_lengths(text.encode(WORDS, 8)))[labels]
    return text.move_words(rows, text.starts(lengths, 8, text.uniforms(0, 0, torch.arange(len(labels)))))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "least", "share"), [("categorical", -3.0, 0.8), ("categorical_released", -20.0, 0.4)]
)
def test_words_are_learnt_under_either_normalisation(family, least, share):
    """Text alone. A uniform guess has -8 log 71 = -34.1 nats; half of the characters are spaces. The released
    normalisation is slow (equations 4.2): 0.26 for the right character take a logit of -100."""
    torch.manual_seed(0)
    recipe = recipes.load("mst_mopoe", [
        "modalities.mnist=null", "modalities.svhn=null", f"modalities.text.likelihood={family}",
        "objective.likelihood_weights={text: 384}",  # as beside a house number
    ])  # fmt: skip
    model, objective = MultimodalVAE(recipe), Objective.of(recipe)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    data = {"text": words(torch.arange(2560) % 10)}
    for step in range(200):
        rows = slice(256 * (step % 10), 256 * (step % 10 + 1))
        noise = draw_noise(model, objective, model.names, 256, slice(0, 256), "cpu")
        loss = weigh(bound_terms(model, {"text": data["text"][rows]}, objective, noise)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        z = model.family.components(model.encode(data).shared).mean
        mean = model.likelihoods["text"].mean(model.decode("text", z))[0]
        assert model.log_likelihood("text", z, None, data["text"]).mean() > least
    assert (mean.argmax(-1) == data["text"]).float().mean() > share


@pytest.mark.slow
def test_the_word_classifier_reads_words_wherever_they_stand():
    torch.manual_seed(0)
    labels = torch.arange(1280) % 10
    data, network = F.one_hot(words(labels), 71).float(), mst.WordClassifier(10)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for step in range(40):
        rows = slice(128 * (step % 9), 128 * (step % 9 + 1))
        loss = F.cross_entropy(network(data[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = (network.eval()(data[1152:]).argmax(-1) == labels[1152:]).float().mean()
    assert right > 0.95
