"""Every method of the table on a model whose evidence is known: bounds, exact values, special cases, missing parts."""

import math
from pathlib import Path

import pytest
import torch
from tiny_recipes import NEEDS, of_method, tiny

from mmvae_cli.comparison.groups import Group, Member
from mmvae_cli.model import distributions, fusion, regularisers
from mmvae_cli.model.bound import bound_terms, outline
from mmvae_cli.model.distributions import Gaussian, at, kl
from mmvae_cli.model.estimators import ESTIMATORS
from mmvae_cli.model.objective import Objective, draw_noise
from mmvae_cli.model.terms import elbo, weigh
from mmvae_cli.model.vae import MultimodalVAE, parameter_counts
from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.recipe import METHODS, choices
from mmvae_cli.recipe.methods import Method

from linear_gaussian import data, evidence, linear_model

EVERYONE = slice(None)
NAMED = [name for name in METHODS if name != "custom"]
SAME = {"mvae": {"objective__unimodal_weights": "same"}, "mmvaeplus": {"model__private_dim": 4}}


def of(method, blur=0.4, **changes):
    settings = {"model__method": method, "objective__beta": 1.0} | NEEDS.get(method, {}) | SAME.get(method, {})
    return linear_model(blur, **settings | changes)


def noise_for(recipe, model, batch, seed=0):
    torch.manual_seed(seed)
    return draw_noise(model, Objective.of(recipe), batch, len(next(iter(batch.values()))), EVERYONE, "cpu")


def terms_of(recipe, model, batch, seed=0, noise=None):
    objective = Objective.of(recipe)
    return bound_terms(model, batch, objective, noise_for(recipe, model, batch, seed) if noise is None else noise)


def loss_of(recipe, model, batch, seed=0, noise=None):
    return weigh(terms_of(recipe, model, batch, seed, noise))


def mean_loss(recipe, model, batch, count=420, of=weigh):
    """The loss of every item, over ``count`` draws; a multiple of 3, 4 and 7, so that every item meets every component
    equally often."""
    many = {name: x.repeat(count, 1, 1, 1) for name, x in batch.items()}
    with torch.no_grad():
        return of(terms_of(recipe, model, many)).unflatten(0, (count, -1)).mean(0).double()


# --- the table -------------------------------------------------------------------------------------------------------


def test_names_in_recipes_are_the_functions_of_the_model():
    from typing import get_args

    assert set(get_args(choices.Fusion)) == set(fusion.FUSIONS)
    assert set(get_args(choices.PriorInside)) == set(regularisers.PRIORS)
    assert set(get_args(choices.Regulariser)) == set(regularisers.REGULARISERS)
    assert set(get_args(choices.Estimator)) == {"elbo", *ESTIMATORS}
    assert set(get_args(choices.LatentFamily)) == set(distributions.NOISE)


@pytest.mark.parametrize("method", NAMED)
def test_every_method_trains_everything_it_has(method):
    recipe = of_method(method, shape=(3, 8, 8))
    torch.manual_seed(0)
    model = MultimodalVAE(recipe)
    batch = {name: torch.rand(14, 3, 8, 8) for name in model.names}
    terms = terms_of(recipe, model, batch)
    weigh(terms).mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []
    assert all(term.shown().shape == (14,) for term in terms.values())
    assert list(terms) == list(outline(recipe)), "what is logged is known without data"
    assert parameter_counts(model)["total"] == sum(p.numel() for p in model.parameters())


def test_a_method_whose_choices_exist_is_one_row(monkeypatch):
    """MoPoE over subsets of two at most with mmJSD's prior, as docs/CONTRIBUTING.md has it."""
    preset = {"model.subsets": {"max_size": 2}, "model.prior_expert": "none", "objective.prior": "dynamic"}
    monkeypatch.setitem(
        METHODS, "mopoe_pairs", Method("MoPoE over pairs", "products of two", "an example", 2026, preset)
    )
    recipe = tiny(3, shape=(1, 4, 4), model__method="mopoe_pairs")
    assert [len(subset) for subset in recipe.families()] == [1, 1, 1, 2, 2, 2]
    said = {key.replace(".", "__"): value for key, value in preset.items()}
    twin = tiny(3, shape=(1, 4, 4), model__method="custom", **said)
    torch.manual_seed(0)
    model, batch = MultimodalVAE(recipe), {f"m{i}": torch.rand(6, 1, 4, 4) for i in range(3)}
    assert torch.equal(loss_of(recipe, model, batch), loss_of(twin, model, batch))
    assert "kl.shared" in terms_of(recipe, model, {"m1": batch["m1"]})
    assert Group("", [Member(Path("run"), recipe, None, {}, given=Path("run"))]).name == "MoPoE over pairs"


# --- bounds on the evidence ------------------------------------------------------------------------------------------

OF_THE_EVIDENCE = ["mmvae", "mopoe", "mmvae_iwae", "mmvae_dreg", "average", "barycenter", "hellinger"]
BOUNDS = {
    **{name: ["joint"] for name in OF_THE_EVIDENCE},
    "mvae": ["joint", "each"], "dmvae": ["joint"] * 4, "independent": ["each"],
}  # fmt: skip
"""What minus the loss is below, with all weights 1: log p(X) so often, the sum of log p(x_m)."""


def truth_of(batch, parts):
    joint, each = evidence(batch), sum(evidence(batch, (name,)) for name in batch)
    return sum(joint if part == "joint" else each for part in parts)


@pytest.mark.parametrize("method", BOUNDS)
def test_minus_the_loss_is_below_the_evidence_that_it_bounds(method):
    normal = {"model__posterior": "normal", "model__learn_prior": False} if method.startswith("mmvae_") else {}
    recipe, model = of(method, **normal)
    batch = data(14)
    assert (-mean_loss(recipe, model, batch)).mean() < truth_of(batch, BOUNDS[method]).mean() - 0.1


@pytest.mark.parametrize(("method", "changes"), [
    ("mvae", {}), ("mopoe", {"model__subsets": "full"}), ("dmvae", {"model__prior_expert": "all"}),
    ("independent", {"model__prior_expert": "all"}),
])  # fmt: skip
def test_where_the_posteriors_are_exact_the_loss_is_the_evidence(method, changes):
    """MVAE's joint product is p(z | X), its unimodal ones p(z | x_m); DMVAE decodes everything from every one."""
    recipe, model = of(method, 0.0, **changes)
    batch = data(8)
    found = -mean_loss(recipe, model, batch, 840)
    if method == "dmvae":  # a posterior of one modality explains the others as far as it can
        assert (found < truth_of(batch, ["joint"] * 4)).all()
        own = mean_loss(recipe, model, batch, 840, of=elbo)
        torch.testing.assert_close(own, evidence(batch), atol=0.35, rtol=0)
    else:
        torch.testing.assert_close(found, truth_of(batch, BOUNDS[method]), atol=0.6, rtol=0)


@pytest.mark.parametrize("method", ["mvtcae", "crmvae"])
def test_the_elbo_of_total_correlation_is_that_of_the_joint_posterior(method):
    """The loss weighs likelihoods with 1 - a/n and bounds something else: with exact posteriors it exceeds log p(X)."""
    batch = data(14)
    recipe, model = of(method, 0.0)
    plain, twin = of("custom", 0.0, model__subsets="full", model__prior_expert="none")
    found = elbo(terms_of(recipe, model, batch))
    torch.testing.assert_close(found, -loss_of(plain, twin, batch))
    assert (
        mean_loss(recipe, model, batch, of=elbo).mean()
        < evidence(batch).mean()
        < -mean_loss(recipe, model, batch).mean()
    )


@pytest.mark.parametrize("kl", ["components", "total_correlation"])
def test_what_is_logged_of_learned_weights_adds_up_to_the_elbo(kl):
    recipe, model = of("codevae", objective__kl=kl)
    with torch.no_grad():
        model.component_logits.copy_(torch.linspace(-2, 2, len(model.component_logits)))
    terms = terms_of(recipe, model, data(6))
    shown = {name: term.shown() for name, term in terms.items()}
    likelihood = sum(value for name, value in shown.items() if name.startswith("log_likelihood."))
    cost = shown["kl.shared"]
    if kl == "total_correlation":
        omega = model.component_logits.softmax(0)
        names = ["+".join(f"m{m}" for m in subset) for subset in recipe.families()]
        cost = sum(weight * shown[f"kl.{name}"] for name, weight in zip(names, omega, strict=True))
    torch.testing.assert_close(likelihood - cost, elbo(terms))


# --- special cases (equations 4.6) -----------------------------------------------------------------------------------


def test_total_correlation_without_alpha_is_the_elbo_of_the_product():
    batch = data(6)
    recipe, model = of("mvtcae", objective__alpha=0.0)
    plain, twin = of("custom", model__subsets="full", model__prior_expert="none")
    torch.testing.assert_close(loss_of(recipe, model, batch), loss_of(plain, twin, batch))


def test_mvtcae_is_a_weighted_sum_of_the_elbo_and_of_bounds_that_take_one_expert_for_the_prior():
    """(1-a) [sum_n NLL_n + beta KL(q||N0)] + a/M sum_m [sum_{n != m} NLL_n + beta KL(q||q_m)] (Hwang et al. 2021)."""
    for alpha in ("auto", 0.9):
        recipe, model = of("mvtcae", objective__alpha=alpha, objective__beta=2.5)
        batch, a = data(6), 3 / 4 if alpha == "auto" else alpha
        terms = {name: term.value for name, term in terms_of(recipe, model, batch).items()}
        experts = model.encode(batch).shared
        q = at(model.family.components(experts), 0)
        nll = {name: -terms[f"log_likelihood.{name}"] for name in batch}
        expected = (1 - a) * (sum(nll.values()) + 2.5 * q.kl_to_prior())
        for m, name in enumerate(batch):
            others = sum(value for other, value in nll.items() if other != name)
            expected = expected + a / 3 * (others + 2.5 * kl(q, at(experts, m)))
        torch.testing.assert_close(loss_of(recipe, model, batch), expected, rtol=1e-4, atol=1e-3)


def test_alpha_of_one_reconstructs_every_modality_from_the_others():
    recipe, model = of("mvtcae", objective__alpha=1.0)
    weights = {name: term.weight for name, term in terms_of(recipe, model, data(4)).items()}
    assert weights["log_likelihood.m0"] == pytest.approx(-2 / 3)


def test_total_correlation_over_a_family_is_the_mean_of_its_components():
    """A singleton reconstructs itself at half weight and the others fully; every row has its component's weights."""
    batch = data(7)
    recipe, model = of("custom", model__subsets="all", model__prior_expert="none", objective__kl="total_correlation",
                       objective__component_choice="all")  # fmt: skip
    noise = noise_for(recipe, model, batch)
    expected = sum_of_total_correlations(model, model.family.subsets, batch, noise.shared[0]) / 7
    torch.testing.assert_close(loss_of(recipe, model, batch, noise=noise), expected, rtol=1e-4, atol=1e-3)
    one, twin = of("custom", model__subsets="all", model__prior_expert="none", objective__kl="total_correlation")
    rows = mean_loss(one, twin, batch).mean().item()
    assert rows == pytest.approx(mean_loss(recipe, model, batch).mean().item(), rel=0.02)


def test_total_correlation_is_of_every_component_where_those_of_one_modality_are_bounds_of_their_own():
    batch = data(7)
    recipe, model = of("dmvae", model__prior_expert="none", objective__kl="total_correlation")
    noise = noise_for(recipe, model, batch)
    expected = sum_of_total_correlations(model, [(0, 1, 2), (0,), (1,), (2,)], batch, torch.cat(noise.shared))
    torch.testing.assert_close(loss_of(recipe, model, batch, noise=noise), expected, rtol=1e-4, atol=1e-3)


def sum_of_total_correlations(model, subsets, batch, noise):
    """Of equations 4.4 with beta 1, every component decoding everything from its own row of ``noise`` (S, B, D)."""
    experts, total = model.encode(batch).shared, 0.0
    for subset, eps in zip(subsets, noise, strict=True):
        inside = torch.tensor([[float(m in subset) for m in range(3)]])
        q, size = at(fusion.product(experts, fusion.Members(inside, torch.zeros(1))), 0), len(subset)
        a, z = size / (size + 1), q.sample(eps)
        for m, name in enumerate(batch):
            nll = -model.log_likelihood(name, z[None], None, batch[name])[0]
            total = total + (1 - a / size * (m in subset)) * nll
        among = sum(kl(q, at(experts, m)) for m in subset)
        total = total + (1 - a) * q.kl_to_prior() + a / size * among
    return total


def test_crmvae_with_the_joint_z_for_every_modality_is_mvtcae():
    recipe, model = of("crmvae", objective__beta=0.5)
    plain, twin = of("mvtcae", objective__beta=0.5)
    batch = data(6)
    terms = terms_of(recipe, model, batch)
    same = {name: term._replace(value=terms[name.removeprefix("unimodal.")].value) for name, term in terms.items()}
    noise = noise_for(recipe, model, batch)
    joint = noise._replace(shared=noise.shared[:1], choice=torch.zeros(6).long())
    of_product = loss_of(plain, twin, batch, noise=joint)
    torch.testing.assert_close(weigh(same), of_product)
    assert not torch.allclose(weigh(terms), of_product)


def test_crmvae_counts_every_likelihood_half():
    """(1 - a/M) sum_n 1/2 [NLL_n(z) + NLL_n(z_n)] + beta R with a = M/(M+1)."""
    recipe, model = of("crmvae", objective__beta=0.5)
    weights = {name: term.weight for name, term in terms_of(recipe, model, data(4)).items()}
    for name in ("log_likelihood.m1", "unimodal.log_likelihood.m1"):
        assert weights[name] == pytest.approx(-0.5 * (1 - 1 / 4))
    assert weights["kl.shared"] == pytest.approx(0.5)
    assert not [name for name in weights if name.startswith("unimodal.kl")]


def test_independent_is_the_sum_of_models_of_one_modality():
    batch = data(6)
    recipe, model = of("independent")
    noise = noise_for(recipe, model, batch)
    expected = 0.0
    for m, name in enumerate(batch):
        q = at(model.encode(batch).shared, m)
        nll = -model.log_likelihood(name, q.sample(noise.shared[0][m])[None], None, batch[name])[0]
        expected = expected + nll + q.kl_to_prior()
    torch.testing.assert_close(loss_of(recipe, model, batch, noise=noise), expected, rtol=1e-4, atol=1e-3)


def test_mmvm_with_the_whole_share_for_n0_is_independent():
    batch = data(6)
    recipe, model = of("mmvm", objective__prior_share=1.0)
    plain, twin = of("independent")
    torch.testing.assert_close(loss_of(recipe, model, batch), loss_of(plain, twin, batch))


@pytest.mark.parametrize("prior", ["pairwise", "mixture"])
def test_mmvm_sums_over_the_modalities(prior):
    """beta sum_m KL(q_m || h), not the mean (Sutter et al. 2024)."""
    batch = data(6)
    recipe, model = of("mmvm", objective__prior=prior, objective__beta=2.0)
    noise = noise_for(recipe, model, batch)
    q = model.family.components(model.encode(batch).shared)
    terms = terms_of(recipe, model, batch, noise=noise)
    if prior == "pairwise":
        r = sum(kl(at(q, m), at(q, n)) for m in range(3) for n in range(3)) / 3
    else:
        z = q.sample(noise.shared[0])
        log_h = torch.stack([at(q, n).log_prob(z) for n in range(3)]).logsumexp(0) - math.log(3)
        r = (q.log_prob(z) - log_h).sum(0)
    nll = -sum(terms[f"log_likelihood.{name}"].value for name in batch)
    torch.testing.assert_close(weigh(terms), nll + 2.0 * r, rtol=1e-4, atol=1e-3)


def test_mmjsd_is_mmvae_with_another_divergence():
    batch = data(6)
    recipe, model = of("mmjsd")
    plain, twin = of("mmvae")
    one, other = terms_of(recipe, model, batch), terms_of(plain, twin, batch)
    for name in batch:
        torch.testing.assert_close(one[f"log_likelihood.{name}"].value, other[f"log_likelihood.{name}"].value)
    assert not torch.allclose(one["kl.shared"].value, other["kl.shared"].value)
    lone = {"m1": batch["m1"]}
    mine = terms_of(recipe, model, lone)["kl.shared"].value
    q = at(model.encode(lone).shared, 0)
    t, t_f = torch.exp(-q.logvar), (torch.exp(-q.logvar) + 1) / 2
    f = Gaussian(t * q.mean / 2 / t_f, -t_f.log())
    zero = Gaussian(torch.zeros_like(q.mean), torch.zeros_like(q.mean))
    torch.testing.assert_close(mine, (kl(q, f) + kl(zero, f)) / 2, rtol=1e-4, atol=1e-4)


def test_codevae_without_correlation_and_with_mean_weights_is_eq_12_without_prior_expert():
    batch = data(6)
    recipe, model = of("codevae", model__correlation=0.0, objective__component_weights="mean")
    plain, twin = of("mopoe", model__prior_expert="none", objective__component_choice="all")
    torch.testing.assert_close(loss_of(recipe, model, batch), loss_of(plain, twin, batch), rtol=1e-4, atol=1e-3)


def test_codevae_starts_uniform_and_its_entropy_keeps_it_there():
    batch = data(12)
    recipe, model = of("codevae", objective__entropy_weight=0.0)
    same, _ = of("codevae", objective__component_weights="mean")
    torch.testing.assert_close(loss_of(recipe, model, batch), loss_of(same, model, batch), rtol=1e-4, atol=1e-3)
    heavy, _ = of("codevae", objective__entropy_weight=1000.0)
    bonus = loss_of(heavy, model, batch) - loss_of(recipe, model, batch)
    torch.testing.assert_close(bonus, torch.full((12,), -1000 * math.log(7)), rtol=1e-4, atol=0)
    for weight, least in ((1e4, 0.99 * math.log(7)), (0.0, None)):
        recipe, model = of("codevae", objective__entropy_weight=weight)
        optimizer = torch.optim.Adam([model.component_logits], 0.1)
        for seed in range(60):
            optimizer.zero_grad()
            loss_of(recipe, model, batch, seed).mean().backward()
            optimizer.step()
        omega = torch.softmax(model.component_logits, 0)
        entropy = -(omega * omega.log()).sum().item()
        assert entropy > least if least else entropy < 0.7 * math.log(7), "without it one component takes all"


def test_mmvaeplus_without_private_latents_is_mmvae_with_the_mixtures_kl():
    batch = data(6)
    plus = {"model__posterior": "laplace", "objective__kl": "mixture", "objective__component_choice": "all"}
    without, twin = of("mmvae", **plus)
    recipe, model = of("mmvaeplus", objective__beta_private=0.0)
    for decoder in model.decoders.values():
        decoder.forward = lambda z, inner=decoder: type(inner).forward(inner, z[:, -4:])
    noise = noise_for(recipe, model, batch)
    torch.testing.assert_close(loss_of(recipe, model, batch, noise=noise),
                               loss_of(without, twin, batch, noise=noise._replace(private=((),))))  # fmt: skip


def test_mmvaeplus_decodes_others_from_auxiliary_priors_and_pays_for_its_own():
    """Component m decodes x_m from q(s_m | x_m), others from r_n; a private KL counts 1/M (Palumbo et al. 2023)."""
    recipe, model = of("mmvaeplus", objective__beta=2.5, objective__beta_private=0.5)
    with torch.no_grad():
        model.auxiliary.raw.copy_(torch.randn(3, 4))
    batch = data(6)
    noise = noise_for(recipe, model, batch)
    encoded = model.encode(batch)
    q = encoded.shared
    z = q.sample(noise.shared[0])
    log_mix = torch.stack([at(q, m).log_prob(z) for m in range(3)]).logsumexp(0) - math.log(3)
    expected = 2.5 * (log_mix - model.prior.log_prob(z)).mean(0)
    for n, name in enumerate(batch):
        own = at(encoded.private, n)
        expected = expected + 2.5 * 0.5 / 3 * own.kl_to_prior()
        for m in range(3):
            eps = noise.private[0][n][m]
            s = own.sample(eps) if m == n else eps * 4 * torch.softmax(model.auxiliary.raw[n], -1)
            expected = expected - model.log_likelihood(name, z[m][None], s[None], batch[name])[0] / 3
    torch.testing.assert_close(loss_of(recipe, model, batch, noise=noise), expected, rtol=1e-4, atol=1e-3)


def test_auxiliary_priors_learn_from_other_components_only():
    recipe, model = of("mmvaeplus")
    loss_of(recipe, model, data(6)).mean().backward()
    assert model.auxiliary.raw.grad.abs().max() > 0
    model.zero_grad()
    loss_of(recipe, model, {"m0": data(6)["m0"]}).mean().backward()
    assert model.auxiliary.raw.grad is None or model.auxiliary.raw.grad.abs().max() == 0


def test_with_learned_weights_a_private_kl_counts_as_the_component_that_draws_from_it():
    """Component m alone decodes x_m from q(s_m | x_m): its private KL has the weight omega_m, not 1/M."""
    recipe, model = of("mmvaeplus", objective__component_weights="learned", objective__beta_private=0.5)
    with torch.no_grad():
        model.component_logits.copy_(torch.tensor([2.0, 0.0, -1.0]))
    terms, omega = terms_of(recipe, model, data(4)), model.component_logits.softmax(0)
    for m, weight in enumerate(omega):
        torch.testing.assert_close(torch.as_tensor(terms[f"kl.private.m{m}"].weight), 0.5 * weight)
    shown = {name: term.shown() for name, term in terms.items()}
    likelihood = sum(value for name, value in shown.items() if name.startswith("log_likelihood."))
    cost = shown["kl.shared"] + sum(weight * shown[f"kl.private.m{m}"] for m, weight in enumerate(omega))
    torch.testing.assert_close(likelihood - cost, elbo(terms))


def test_dmvae_counts_the_private_kls_once_for_every_posterior():
    recipe, model = of("dmvae", model__private_dim=2)
    weights = {name: term.weight for name, term in terms_of(recipe, model, data(4)).items()}
    assert weights["kl.private.m0"] == pytest.approx(4.0)
    assert weights["unimodal.log_likelihood.m0"] == pytest.approx(-3.0)


def test_the_original_mvae_without_sampled_subsets_is_the_released_one_with_equal_weights():
    batch = data(6)
    recipe, model = of("mvae_original", objective__random_subsets=0, objective__beta_warmup=0)
    plain, twin = of("mvae", objective__unimodal_weights="same")
    torch.testing.assert_close(loss_of(recipe, model, batch), loss_of(plain, twin, batch))


def test_sampled_subsets_add_their_elbos_over_their_members():
    recipe, model = of("mvae_original", objective__random_subsets=2, objective__beta=1.7)
    batch = data(6)
    noise = noise_for(recipe, model, batch)
    assert noise.random.shape == (2, 3)
    noise = noise._replace(random=torch.tensor([[1.0, 0, 1], [1, 1, 0]]))
    without, _ = of("mvae_original", objective__random_subsets=0, objective__beta=1.7)
    expected = loss_of(without, model, batch, noise=noise._replace(random=None, shared=noise.shared[:2]))
    experts = model.encode(batch).shared
    for k, subset in enumerate([(0, 2), (0, 1)]):
        q = model.family.given(experts, [subset])
        q = Gaussian(q.mean[0], q.logvar[0])
        z = q.sample(noise.shared[2][k])
        expected = expected + 1.7 * q.kl_to_prior()
        for m in subset:
            name = f"m{m}"
            expected = expected - model.log_likelihood(name, z[None], None, batch[name])[0]
    torch.testing.assert_close(loss_of(recipe, model, batch, noise=noise), expected, rtol=1e-4, atol=1e-3)


def test_sampled_subsets_are_proper_and_every_size_is_as_likely_as_another():
    from mmvae_cli.model.objective import random_subsets

    torch.manual_seed(0)
    drawn = random_subsets(5, 6000, "cpu")
    sizes = torch.bincount(drawn.sum(1).long(), minlength=6)
    assert sizes[[0, 1, 5]].sum() == 0
    assert (sizes[2:5] > 1850).all()
    assert (drawn.mean(0) - 0.6).abs().max() < 0.03


def test_k_samples_of_every_component_keep_no_tensor_of_components_by_samples_by_components():
    """(S, K, S, B, D) would have 5 x 20 x 5 x 16 x 64 numbers; what is saved for the gradient grows with S K alone."""
    recipe = tiny(5, shape=(1, 4, 4), model__method="mmvae_dreg", model__latent_dim=64, objective__samples=20)
    torch.manual_seed(0)
    model = MultimodalVAE(recipe)
    batch = {name: torch.rand(16, 1, 4, 4) for name in model.names}
    saved = []

    def note(tensor):
        if tensor.shape[-1:] == (64,) and tensor.dim() >= 4:
            saved.append((tensor.untyped_storage().data_ptr(), tensor.numel()))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss_of(recipe, model, batch)
    assert sum(dict(saved).values()) <= 6 * 5 * 20 * 16 * 64


# --- missing modalities ----------------------------------------------------------------------------------------------

PRESENT = [("m0",), ("m1", "m2"), ("m0", "m2"), ("m0", "m1", "m2")]


def restricted_weights(model, twin, present):
    """The weights of a smaller model with the same networks: what is learned for every component or modality is that
    of the ones that are left."""
    weights = model.state_dict()
    found = {name: weights[name] for name in twin.state_dict() if name in weights}
    positions = model.positions(present)
    if twin.auxiliary is not None:
        found["auxiliary.raw"] = weights["auxiliary.raw"][list(positions)]
    if twin.component_logits is not None:
        found["component_logits"] = model.component_log_weights(model.parts(positions)[0]).detach()
    return found


@pytest.mark.parametrize("method", NAMED)
@pytest.mark.parametrize("present", PRESENT)
def test_missing_modalities_are_a_smaller_model_with_the_same_weights(method, present):
    changes = {"model__method": method, "objective__likelihood_weights": "equal", "model__private_dim": 3}
    changes = NEEDS.get(method, {}) | changes
    recipe = tiny(3, **changes)
    torch.manual_seed(3)
    model = MultimodalVAE(recipe)
    auxiliary = None if model.auxiliary is None else model.auxiliary.raw
    with torch.no_grad():
        for learned in (model.component_logits, model.prior.raw, auxiliary):
            if learned is not None:
                learned.normal_()
    smaller = {"modalities": {name: recipe.modalities[name] for name in present}}
    if len(present) == 1 and method == "mmvm":
        smaller["objective__prior_share"] = 1.0  # a recipe of one modality would regularise nothing
    if len(present) == 1 and method == "mmvaeplus":
        smaller["model__private"] = "posterior"  # and would have no use for auxiliary priors
    small = tiny(3, **changes | smaller)
    twin = MultimodalVAE(small)
    twin.load_state_dict(restricted_weights(model, twin, present))
    batch = {f"m{i}": torch.rand(14, 3, 28, 28, generator=torch.Generator().manual_seed(i)) for i in range(3)}
    batch = {name: batch[name] for name in present}
    found, expected = terms_of(recipe, model, batch), terms_of(small, twin, batch)
    if len(present) == 1 and method == "mmvm":
        torch.testing.assert_close(found["kl.shared"].value, torch.zeros(14), atol=1e-3, rtol=0)
        found["kl.shared"] = expected["kl.shared"]
    torch.testing.assert_close(weigh(found), weigh(expected), rtol=1e-4, atol=1e-2)


def test_a_method_says_what_it_needs():
    with pytest.raises(UsageProblem, match=r"model.private_dim: method mmvaeplus needs private latents.*dim=16"):
        tiny(3, model__method="mmvaeplus")
