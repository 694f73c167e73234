"""K-sample bounds and gradient estimators, through the whole engine, on models whose evidence is known."""

import math

import pytest
import torch

from mmvae_cli.model import estimators
from mmvae_cli.model.bound import bound_terms
from mmvae_cli.model.distributions import Gaussian
from mmvae_cli.model.estimators import Path, Weighed
from mmvae_cli.model.objective import Objective, draw_noise
from mmvae_cli.model.terms import weigh

from linear_gaussian import SCALE, SLOPES, data, evidence, linear_model

EVERYONE = slice(None)
EXACT = {"model__subsets": "full", "model__prior_expert": "all"}
MIXTURE = {"model__method": "mmvae", "objective__component_choice": "all", "objective__kl": "mixture"}
TIGHT = MIXTURE | {"objective__bound": "tight"}


def setting(blur, estimator="iwae", samples=2, size=1, **changes):
    sampled = {} if estimator == "elbo" else {"objective__estimator": estimator, "objective__samples": samples}
    return linear_model(blur, size, objective__beta=1.0, **sampled, **changes)


def loss_of(recipe, model, batch, seed=0):
    torch.manual_seed(seed)
    objective = Objective.of(recipe)
    noise = draw_noise(model, objective, batch, len(batch["m0"]), EVERYONE, "cpu")
    terms = bound_terms(model, batch, objective, noise)
    return weigh(terms), terms


def rows(batch, count):
    """One item, so often."""
    return {name: x[:1].expand(count, *x.shape[1:]) for name, x in batch.items()}


def mean_bound(count=4000, **changes):
    """Estimate of the bound's expectation for one item, and its standard error."""
    recipe, model = setting(0.6, **changes)
    with torch.no_grad():
        loss, _ = loss_of(recipe, model, rows(data(1, size=1, seed=3), count))
    return -loss.mean().item(), loss.std().item() / math.sqrt(count)


def experts_of_item():
    x = data(1, size=1, seed=3)
    mean = torch.stack([x[f"m{m}"].flatten() / slope + 0.3 * 0.6 for m, slope in enumerate(SLOPES)])
    logvar = torch.tensor([[2 * math.log(SCALE / abs(slope)) + 0.6] for slope in SLOPES])
    return Gaussian(mean.double(), logvar.double()), x


def test_bounds_are_ordered_and_grow_with_k():
    """component <= loose at one sample; loose <= tight <= log p(X); all grow with K (equations 4.7)."""
    truth = evidence(data(1, size=1, seed=3)).item()
    one = {kl: mean_bound(estimator="elbo", **MIXTURE | {"objective__kl": kl})[0] for kl in ("components", "mixture")}
    assert one["components"] < one["mixture"]
    loose = [one["mixture"], *(mean_bound(samples=k, **MIXTURE)[0] for k in (4, 32))]
    tight = [mean_bound(samples=k, objective__bound="tight", **MIXTURE)[0] for k in (2, 4, 32)]
    component = [mean_bound(samples=k, **MIXTURE | {"objective__kl": "components"})[0] for k in (4, 32)]
    for bounds in (loose, tight, component, [one["components"], *component]):
        assert bounds == sorted(bounds)
    assert loose[1] < tight[1]
    assert loose[2] < tight[2]
    assert max(*loose, *component) < truth
    assert tight[2] < truth + 0.01


def test_the_loose_bound_stops_short_by_the_divergence_of_the_responsibilities():
    """With infinitely many samples: log p(X) - KL(omega || rho), rho_A the mean responsibility of component A under the
    true posterior (equations 4.7); by quadrature."""
    q, x = experts_of_item()
    grid = torch.linspace(-15, 15, 60_001, dtype=torch.double)[:, None]
    log_q = torch.stack([Gaussian(q.mean[m], q.logvar[m]).log_prob(grid) for m in range(3)])
    log_joint = -0.5 * (grid[:, 0] ** 2 + math.log(2 * math.pi))
    for m, slope in enumerate(SLOPES):
        apart = (x[f"m{m}"].flatten().double() - slope * grid[:, 0]) / SCALE
        log_joint = log_joint - 0.5 * apart**2 - math.log(SCALE * math.sqrt(2 * math.pi))
    posterior = torch.softmax(log_joint, 0)
    rho = (torch.softmax(log_q, 0) * posterior).sum(1)
    truth = evidence(x).item()
    assert torch.logsumexp(log_joint, 0).item() + math.log(30 / 60_000) == pytest.approx(truth, abs=1e-6)
    limit = truth - (math.log(1 / 3) - rho.log()).mean().item()
    assert limit < truth - 0.03, "the gap is there to be seen"
    found, error = mean_bound(count=200, samples=2000, **MIXTURE)
    assert found == pytest.approx(limit, abs=4 * error + 0.003)
    tight, error = mean_bound(count=200, samples=2000, objective__bound="tight", **MIXTURE)
    assert tight == pytest.approx(truth, abs=4 * error + 0.003)


@pytest.mark.parametrize("estimator", ["iwae", "stl", "dreg"])
@pytest.mark.parametrize("kl", ["components", "mixture"])
def test_with_the_exact_posterior_every_weight_is_the_evidence(estimator, kl):
    recipe, model = setting(0.0, estimator, 3, 4, objective__kl=kl, **EXACT)
    batch = data(8)
    loss, terms = loss_of(recipe, model, batch)
    torch.testing.assert_close(-loss.double(), evidence(batch), atol=1e-3, rtol=0)
    torch.testing.assert_close(terms["effective_samples"].value, torch.full((8,), 3.0))


@pytest.mark.parametrize("kl", ["components", "mixture"])
@pytest.mark.parametrize(("estimator", "vanishes"), [("stl", True), ("dreg", True), ("iwae", False)])
def test_at_the_exact_posterior_stl_and_dreg_have_no_gradient_for_any_sample(estimator, vanishes, kl):
    """Not only in the mean: the path through the samples has nothing left to gain. A few samples only, so that a mean
    would not be near 0 by itself."""
    recipe, model = setting(0.0, estimator, 3, 4, objective__kl=kl, **EXACT)
    loss, _ = loss_of(recipe, model, data(2))
    encoders = [p for encoder in model.encoders.values() for p in encoder.parameters()]
    found = torch.stack([gradient.abs() for gradient in torch.autograd.grad(loss.sum(), encoders)])
    assert (found.max() < 2e-3) == vanishes, found


@pytest.mark.parametrize("changes", [EXACT, MIXTURE, TIGHT], ids=["one", "loose", "tight"])
def test_decoders_get_the_same_gradient_from_every_estimator(changes):
    gradients = []
    for estimator in ("iwae", "stl", "dreg"):
        recipe, model = setting(0.5, estimator, 4, 4, **changes)
        loss, _ = loss_of(recipe, model, data(5))
        gradients.append(torch.autograd.grad(loss.mean(), list(model.decoders.parameters())))
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("private", ["posterior", "auxiliary"])
def test_learned_priors_get_the_same_gradient_from_every_estimator(private):
    """They are parameters of the model: each sample counts once, not squared."""
    gradients = []
    for estimator in ("iwae", "stl", "dreg"):
        recipe, model = setting(0.5, estimator, 4, 4, model__posterior="laplace", model__learn_prior=True,
                                model__private_dim=3, model__private=private, **MIXTURE)  # fmt: skip
        with torch.no_grad():
            model.prior.raw.copy_(torch.tensor([0.3, -0.2, 0.1, 0.4]))
        loss, _ = loss_of(recipe, model, data(5))
        learned = [model.prior.raw, *(model.auxiliary.parameters() if model.auxiliary is not None else ())]
        gradients.append(torch.autograd.grad(loss.mean(), learned))
        assert all(gradient.abs().max() > 1e-4 for gradient in gradients[-1])
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], rtol=1e-3, atol=1e-4)


def encoder_gradients(estimator, chunks=20, count=5000, blur=0.6, samples=2, **changes):
    """Means over chunks of rows of one item, and their standard errors: of the 6 parameters of three encoders."""
    recipe, model = setting(blur, estimator, samples, **changes)
    encoders = [p for encoder in model.encoders.values() for p in encoder.parameters()]
    batch, found = rows(data(1, size=1, seed=3), count), []
    for seed in range(chunks):
        loss, _ = loss_of(recipe, model, batch, seed)
        found.append(torch.stack(torch.autograd.grad(loss.mean(), encoders)))
    found = torch.stack(found)
    return found.mean(0), found.std(0) / math.sqrt(chunks)


def agree(one, other, sigmas=5.0):
    (mean, error), (wanted, its_error) = one, other
    return bool(((mean - wanted).abs() <= sigmas * (error.square() + its_error.square()).sqrt() + 1e-3).all())


@pytest.mark.parametrize(
    "changes",
    [
        {"model__subsets": "full", "model__prior_expert": "full"}, MIXTURE, TIGHT,
        MIXTURE | {"objective__kl": "components"}, MIXTURE | {"objective__component_choice": "stratified"},
    ],
    ids=["one", "loose", "tight", "own", "stratified"],
)  # fmt: skip
def test_dreg_has_the_expectation_of_iwae(changes):
    """For stratified samples of a mixture, too, where the published form is biased (equations 4.8)."""
    assert agree(encoder_gradients("dreg", **changes), encoder_gradients("iwae", **changes))


def test_dreg_stays_exact_where_beta_is_not_one():
    for kl in ("components", "mixture"):
        changes = MIXTURE | {"objective__kl": kl, "objective__beta_content": 0.5}
        assert agree(encoder_gradients("dreg", **changes), encoder_gradients("iwae", **changes))


def test_without_its_second_sum_dreg_would_be_found_out_and_stl_is_biased_for_two_samples(monkeypatch):
    exact = encoder_gradients("iwae", **MIXTURE)
    assert not agree(encoder_gradients("stl", **MIXTURE), exact)
    plain = estimators.dreg
    published = {"dreg": lambda w: plain(w._replace(rest=0.0))}
    monkeypatch.setattr("mmvae_cli.model.terms.ESTIMATORS", estimators.ESTIMATORS | published)
    assert not agree(encoder_gradients("dreg", **MIXTURE), exact)


def test_stl_is_unbiased_for_one_sample():
    changes = {"model__subsets": "full", "model__prior_expert": "full", "objective__kl": "mixture"}
    assert agree(encoder_gradients("stl", samples=1, **changes), encoder_gradients("elbo", **changes))


def test_private_latents_are_part_of_the_weights():
    """One sample through the engine, by hand: log w = ll + log p(z) - log q(z) + log p(s) - log q(s)."""
    changes = {"model__private_dim": 2, "objective__beta_private": 0.7, "objective__kl": "mixture"}
    recipe, model = setting(0.5, "iwae", 2, 4, **changes, **EXACT)
    batch, objective = data(3), Objective.of(recipe)
    torch.manual_seed(0)
    noise = draw_noise(model, objective, batch, 3, EVERYONE, "cpu")
    found = -weigh(bound_terms(model, batch, objective, noise))
    encoded = model.encode(batch)
    q = model.family.components(encoded.shared)
    z = q.sample(noise.shared[0])
    log_w = model.prior.log_prob(z) - q.log_prob(z)
    for m, name in enumerate(model.names):
        own = Gaussian(encoded.private.mean[m], encoded.private.logvar[m])
        s = own.sample(noise.private[0][m])
        log_w = log_w + 0.7 * (model.private_prior.log_prob(s) - own.log_prob(s))
        log_w = log_w + model.log_likelihood(name, z, s, batch[name])
    torch.testing.assert_close(found, torch.logsumexp(log_w, 0) - math.log(2))


def test_bounds_of_given_weights():
    log_w = torch.tensor([[[0.0], [2.0]], [[1.0], [-1.0]]])  # (C, K, B)
    loose, tight = (Weighed(log_w, bound, 0.0, Path()) for bound in (False, True))
    each = [math.log((1 + math.exp(2)) / 2), math.log((math.e + math.exp(-1)) / 2)]
    assert estimators.bound(loose).item() == pytest.approx(sum(each) / 2)
    assert estimators.bound(tight).item() == pytest.approx(math.log((math.exp(each[0]) + math.exp(each[1])) / 2))
    for w, parts in ((loose, [2.0, 2.0]), (tight, [4.0])):
        for name in ("iwae", "stl", "dreg"):
            assert estimators.ESTIMATORS[name](w).item() == pytest.approx(estimators.bound(w).item()), (
                "never a surrogate"
            )
        assert 1 < estimators.effective_samples(w).item() < max(parts)
    even = Weighed(torch.zeros(2, 3, 1), False, 0.0, Path())
    assert estimators.effective_samples(even).item() == pytest.approx(3)
