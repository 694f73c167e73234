"""Rows that differ in what they have: each has the loss of a model of its own modalities, whatever the others have."""

import pytest
import torch
from tiny_recipes import of_method

from mmvae_cli.model.bound import bound_terms, terms_by_pattern
from mmvae_cli.model.objective import Objective, draw_noise
from mmvae_cli.model.posterior import evenly
from mmvae_cli.model.terms import weigh
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.recipe import METHODS
from mmvae_cli.store.presence import Pattern

from linear_gaussian import data, evidence, linear_model

NAMED = [name for name in METHODS if name != "custom"]
PATTERNS = [Pattern((0,), 3), Pattern((1, 2), 1), Pattern((0, 2), 4), Pattern((0, 1, 2), 8)]


def rows_of(batch, patterns):
    """A complete batch as one of incomplete rows, and its parts, as batches of fewer modalities."""
    names, parts, start = list(batch), [], 0
    for pattern in patterns:
        rows = slice(start, start := start + pattern.rows)
        parts.append({names[m]: batch[names[m]][rows] for m in pattern.present})
    return {name: torch.cat([part[name] for part in parts if name in part]) for name in names}, parts


def noises_for(recipe, model, parts, patterns):
    torch.manual_seed(0)
    objective = Objective.of(recipe)
    return [draw_noise(model, objective, part, pattern.rows, slice(None), "cpu", mixed=True)
            for part, pattern in zip(parts, patterns, strict=True)]  # fmt: skip


@pytest.mark.parametrize("method", NAMED)
def test_a_row_has_the_loss_of_a_model_of_what_it_has(method):
    """Every term of every row is that of a batch of such rows alone, which is a smaller model's (test_methods)."""
    changes = {"model__private_dim": 3} if method != "mmvaeplus" else {}
    recipe = of_method(method, shape=(3, 8, 8), **changes)
    torch.manual_seed(3)
    model = MultimodalVAE(recipe)
    complete = {f"m{i}": torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(3)}
    batch, parts = rows_of(complete, PATTERNS)
    objective, noises = Objective.of(recipe), noises_for(recipe, model, parts, PATTERNS)
    found = terms_by_pattern(model, batch, PATTERNS, objective, noises)
    for pattern, own, part, noise in zip(PATTERNS, found, parts, noises, strict=True):
        alone = bound_terms(model, part, objective, noise)
        assert list(own) == list(alone)
        assert all(term.shown().shape == (pattern.rows,) for term in own.values())
        for name, term in alone.items():
            torch.testing.assert_close(own[name].value, term.value, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(weigh(own), weigh(alone), rtol=1e-4, atol=1e-2)
    torch.cat([weigh(own) for own in found]).mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("method", ["mvae", "independent"])
def test_where_posteriors_are_exact_the_loss_is_the_evidence_of_what_is_there(method):
    """MVAE: log p(x_P), and log p(x_m) for each modality that is there; independent VAEs: these alone."""
    settings = {"objective__unimodal_weights": "same"} if method == "mvae" else {"model__prior_expert": "all"}
    recipe, model = linear_model(0.0, model__method=method, objective__beta=1.0, **settings)
    batch = {name: x.repeat_interleave(600, 0) for name, x in data(4).items()}
    patterns = [Pattern((0,), 600), Pattern((1, 2), 600), Pattern((0, 2), 600), Pattern((0, 1, 2), 600)]
    mixed, parts = rows_of(batch, patterns)
    with torch.no_grad():
        noises = noises_for(recipe, model, parts, patterns)
        found = terms_by_pattern(model, mixed, patterns, Objective.of(recipe), noises)
    for part, terms in zip(parts, found, strict=True):
        there = {name: x[:1] for name, x in part.items()}
        truth = sum(evidence(there, (name,)) for name in there) + (method == "mvae") * evidence(there, tuple(there))
        assert -weigh(terms).mean().item() == pytest.approx(truth.item(), abs=0.5)


def test_every_component_is_as_likely_however_few_rows_there_are():
    torch.manual_seed(0)
    for rows, components in ((1, 7), (5, 7), (10, 7), (20, 3)):
        drawn = torch.stack([evenly(rows, components) for _ in range(3000)])
        share = torch.bincount(drawn.flatten(), minlength=components) / drawn.numel()
        assert (share - 1 / components).abs().max() < 0.02
        assert drawn[0].bincount(minlength=components).max() <= -(-rows // components) + 1


@pytest.mark.parametrize("rows", [1, 5])
def test_normalisation_sees_the_rows_that_are_there(rows):
    """One row of a modality in a batch is enough, also where a layer normalises over the batch."""
    changes = {f"modalities__m{i}": {"network": "conv_bn", "shape": [3, 8, 8]} for i in range(2)}
    recipe = of_method("mopoe", 2, shape=(3, 8, 8), **changes)
    complete = {f"m{i}": torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(2)}
    patterns = [Pattern((0,), 8 - rows), Pattern((0, 1), rows)]
    batch, parts = rows_of(complete, patterns)
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(MultimodalVAE(recipe).train())
    terms_by_pattern(models[0], batch, patterns, Objective.of(recipe), noises_for(recipe, models[0], parts, patterns))
    models[1].encoders["m1"](complete["m1"][8 - rows :].repeat(3 - min(rows, 2), 1, 1, 1))
    one, other = (dict(model.encoders["m1"].named_buffers()) for model in models)
    assert one
    assert all(torch.equal(one[name], other[name]) for name in one)
