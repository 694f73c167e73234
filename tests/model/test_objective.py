"""The bound: against a model whose evidence is known, against hand computations, and its special cases."""

import pytest
import torch
from tiny_recipes import tiny

from mmvae_cli.model import bound
from mmvae_cli.model.objective import Objective, draw_noise
from mmvae_cli.model.terms import weigh
from mmvae_cli.model.vae import MultimodalVAE, parameter_counts
from mmvae_cli.recipe import load

from linear_gaussian import data, evidence, linear_model

EVERYONE = slice(None)


def loss_of(recipe, model, batch, seed=0):
    objective = Objective.of(recipe)
    torch.manual_seed(seed)
    count = len(next(iter(batch.values())))
    noise = draw_noise(model, objective, batch, count, EVERYONE, "cpu")
    terms = bound.bound_terms(model, batch, objective, noise)
    return weigh(terms), terms


def repeated(batch, times):
    """The batch so many times, one below the other: as many draws of the noise in one call."""
    return {name: x.repeat(times, 1, 1, 1) for name, x in batch.items()}


def images(views, count=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {f"m{i}": torch.rand(count, 3, 28, 28, generator=generator) for i in range(views)}


def test_with_the_exact_posterior_the_elbo_is_the_evidence():
    recipe, model = linear_model(model__subsets="full", model__prior_expert="all", objective__beta=1.0)
    batch = data(8)
    many = -loss_of(recipe, model, repeated(batch, 600))[0].view(600, 8)
    torch.testing.assert_close(many.mean(0).double(), evidence(batch), atol=0.35, rtol=0)
    mixture, model = linear_model(
        model__subsets="full", model__prior_expert="all", objective__beta=1.0, objective__kl="mixture"
    )
    # log p(x|z) + log p(z) - log q(z|x) is log p(x) at every z when q is exact: no Monte Carlo error at all
    torch.testing.assert_close(-loss_of(mixture, model, batch)[0].double(), evidence(batch), atol=1e-3, rtol=0)


@pytest.mark.parametrize("subsets", ["all", "singletons", [["m0", "m1"], ["m2"]]])
def test_sum_of_subset_elbos_is_below_the_mixture_bound_is_below_the_evidence(subsets):
    batch = data(4)
    values = {}
    for kl in ("components", "mixture"):
        recipe, model = linear_model(0.4, model__method="custom", model__subsets=subsets, objective__beta=1.0,
                                     objective__kl=kl, objective__component_choice="all")  # fmt: skip
        values[kl] = -loss_of(recipe, model, repeated(batch, 400))[0].mean()
    assert values["components"] < values["mixture"] < evidence(batch).mean()


def test_stratified_and_all_components_have_one_expectation():
    batch = data(7)  # 7 rows, 7 components: each row is in the block of each component 300 times
    recipe, model = linear_model(0.4, objective__component_choice="all", objective__beta=1.0)
    everyone = loss_of(recipe, model, repeated(batch, 300))[0].mean()
    recipe, model = linear_model(0.4, objective__beta=1.0)
    stratified = loss_of(recipe, model, repeated(batch, 2100))[0].mean()
    assert stratified.item() == pytest.approx(everyone.item(), rel=1e-5), "the same draws"


def test_loss_equals_a_hand_computation():
    """MoPoE, M=2, beta 1.5: the formula of equations 4.1 written out for one item per component."""
    recipe = tiny(2, objective__likelihood_weights={"m0": 2.0, "m1": 0.5})
    model, batch = MultimodalVAE(recipe), images(2, 3)
    objective = Objective.of(recipe)
    noise = draw_noise(model, objective, batch, 3, EVERYONE, "cpu")
    loss = weigh(bound.bound_terms(model, batch, objective, noise))
    mu, lv, _, _ = (torch.stack(p) for p in zip(*(model.encoders[n](batch[n]) for n in batch), strict=True))
    t = 1 / (lv.exp() + 1e-8)
    total = torch.stack([t[0], t[1], t[0] + t[1] + 1 / (1 + 1e-8)])
    mean = torch.stack([t[0] * mu[0], t[1] * mu[1], t[0] * mu[0] + t[1] * mu[1]]) / total
    kl = (0.5 * (1 / total + mean**2 - 1 + total.log())).sum(-1).mean(0)
    rows = torch.arange(3)
    z = mean[rows, rows] + total[rows, rows] ** -0.5 * noise.shared[0][0]
    nll = sum(
        w * (((model.decoders[n](z) - batch[n]).abs() / 0.75).flatten(1) + torch.tensor(1.5).log()).sum(1)
        for n, w in {"m0": 2.0, "m1": 0.5}.items()
    )
    torch.testing.assert_close(loss, nll + 1.5 * kl, rtol=1e-5, atol=1e-3)


def test_mvae_adds_unweighted_unimodal_elbos():
    changes = {"model__method": "mvae", "objective__likelihood_weights": {"m0": 3.0, "m1": 1.0}}
    recipe = tiny(2, **changes)
    model, batch = MultimodalVAE(recipe), images(2)
    loss, terms = loss_of(recipe, model, batch)
    assert [name for name, term in terms.items() if term.role == "component"] == ["kl.m0+m1"]
    value = {name: term.value for name, term in terms.items()}
    joint = -3 * value["log_likelihood.m0"] - value["log_likelihood.m1"] + 1.5 * value["kl.shared"]
    single = sum(-value[f"unimodal.log_likelihood.{n}"] + 1.5 * value[f"unimodal.kl.{n}"] for n in batch)
    torch.testing.assert_close(loss, joint + single)
    same = tiny(2, **changes, objective__unimodal_weights="same")
    difference = loss_of(same, model, batch)[0] - loss
    torch.testing.assert_close(difference, -2 * value["unimodal.log_likelihood.m0"], rtol=1e-3, atol=0.05)


@pytest.mark.parametrize(
    ("method", "equal"),
    [
        ("mmvae", {"model__subsets": "singletons", "model__prior_expert": "none"}),
        ("mvae", {"model__subsets": "full_and_singletons", "model__prior_expert": "all", "objective__decode": "members",
                  "objective__component_weights": "sum", "objective__component_choice": "all"}),
    ],
)  # fmt: skip
def test_presets_are_choices(method, equal):
    preset = tiny(3, model__method=method)
    custom = tiny(3, model__method="custom", **equal)
    model = MultimodalVAE(preset)
    twin = MultimodalVAE(custom)
    twin.load_state_dict(model.state_dict())
    torch.testing.assert_close(loss_of(preset, model, images(3))[0], loss_of(custom, twin, images(3))[0])


@pytest.mark.parametrize("method", ["mvae", "mmvae", "mopoe"])
@pytest.mark.parametrize("present", [("m0",), ("m1", "m2"), ("m0", "m2"), ("m0", "m1", "m2")])
def test_any_presence_mask_equals_a_model_built_for_those_modalities(method, present):
    recipe = tiny(3, model__method=method, objective__likelihood_weights="equal")
    model = MultimodalVAE(recipe)
    small = tiny(3, model__method=method, objective__likelihood_weights="equal",
                 modalities={n: recipe.modalities[n] for n in present})  # fmt: skip
    twin = MultimodalVAE(small)
    weights = model.state_dict()
    twin.load_state_dict({name: weights[name] for name in twin.state_dict()})
    batch = {name: x for name, x in images(3, 14).items() if name in present}
    torch.testing.assert_close(loss_of(recipe, model, batch)[0], loss_of(small, twin, batch)[0])


def test_a_custom_family_under_a_mask_draws_its_own_components():
    """{m0, m1} and {m2} without m1 are {m0} and {m2}: two components, not the one of the first two modalities."""
    recipe = tiny(3, model__method="custom", model__subsets=[["m0", "m1"], ["m2"]])
    model = MultimodalVAE(recipe)
    batch = {name: x for name, x in images(3).items() if name != "m1"}
    noise = draw_noise(model, Objective.of(recipe), batch, 6, EVERYONE, "cpu")
    assert noise.choice.tolist() == [0, 0, 0, 1, 1, 1]


def test_no_modality_is_an_error():
    with pytest.raises(ValueError, match="none of the modalities"):
        MultimodalVAE(tiny(2)).encode({})


def test_rows_of_a_split_batch_see_the_noise_of_the_whole():
    recipe = tiny(3, model__method="mvae")
    model, objective = MultimodalVAE(recipe), Objective.of(recipe)

    def draw(rows):
        torch.manual_seed(5)
        return draw_noise(model, objective, model.names, 10, rows, "cpu")

    whole, first, second = draw(EVERYONE), draw(slice(0, 4)), draw(slice(4, 10))
    for joined, one, two in zip(whole.shared, first.shared, second.shared, strict=True):
        torch.testing.assert_close(torch.cat([one, two], 1), joined)
    torch.testing.assert_close(torch.cat([first.choice, second.choice]), whole.choice)


def test_polymnist_parameter_counts():
    counts = parameter_counts(MultimodalVAE(load("polymnist_mopoe")))
    assert (counts["encoder.m0"], counts["decoder.m4"], counts["total"]) == (1_667_648, 1_143_747, 14_056_975)


def test_conv_bn_is_conv_with_batch_normalisation_before_the_hidden_relus():
    plain, normalised = (
        MultimodalVAE(tiny(1, modalities__m0__network=network, model__latent_dim=8)) for network in ("conv", "conv_bn")
    )
    extra = 2 * (32 + 64 + 128) + 2 * (64 + 32)
    assert parameter_counts(normalised)["total"] - parameter_counts(plain)["total"] == extra
    images = torch.rand(16, 3, 28, 28)
    hidden = normalised.encoders["m0"].trunk.conv1(images)
    torch.testing.assert_close(hidden.mean((0, 2, 3)), torch.zeros(32), atol=1e-5, rtol=0)
    one, all_ = (normalised.eval().encode({"m0": images[:n]}).shared.mean[:, :1] for n in (1, 16))
    torch.testing.assert_close(one, all_)  # in evaluation an item's code does not depend on its neighbours


@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 28, 28), (3, 32, 32), (2, 17, 41), (1, 1, 1)])
@pytest.mark.parametrize("samples", [1, 3])
def test_decoders_take_any_number_of_leading_dimensions(shape, samples):
    model = MultimodalVAE(tiny(1, shape=shape))
    assert model.decode("m0", torch.randn(samples, 5, 6)).shape == (samples, 5, *shape)
    assert model.log_likelihood("m0", torch.randn(samples, 5, 6), None, torch.rand(5, *shape)).shape == (samples, 5)
