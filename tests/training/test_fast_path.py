"""The engine's step against the formulas written out with loops: the same losses, gradients and weights."""

import copy
from itertools import combinations

import pytest
import torch
from tiny_recipes import tiny
from torch.distributions import Laplace, Normal, kl_divergence

from mmvae_cli.model import bound
from mmvae_cli.model.networks.fast_layers import BiasApart, Subpixel
from mmvae_cli.model.objective import Objective, draw_noise
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.training.step import RESULTS, StepLoss, make_optimizer

VIEWS, BATCH, SHAPE, BETA = 4, 33, (3, 8, 8), 1.5
FAMILIES = {"mvae": [VIEWS], "mmvae": [1], "mopoe": range(1, VIEWS + 1)}


def product(method, encoded, subset):
    """Mean and variance of the subset's product of experts, with the released code's prior expert."""
    precisions = [1 / (encoded[m][1].exp() + 1e-8) for m in subset]
    total, weighted = sum(precisions), sum(encoded[m][0] * p for m, p in zip(subset, precisions, strict=True))
    if method == "mvae" or (method == "mopoe" and len(subset) == VIEWS):
        total = total + 1 / (1 + 1e-8)
    return weighted / total, 1 / total


def to_prior(mean, variance):
    return kl_divergence(Normal(mean, variance.sqrt()), Normal(0.0, 1.0)).sum(-1)


def slow_loss(method, model, batch, noise):
    """One step's loss as it stands in the paper: a loop over subsets, one over modalities, torch's distributions."""
    encoded = [model.encoders[name](x)[:2] for name, x in batch.items()]
    components = [product(method, encoded, s) for n in FAMILIES[method] for s in combinations(range(VIEWS), n)]
    rows = BATCH // len(components)
    z = []
    for i in range(BATCH):
        mean, variance = components[min(i // rows, len(components) - 1)]
        z.append(mean[i] + variance[i].sqrt() * noise.shared[0][0, i])
    loss = BETA * torch.stack([to_prior(*component) for component in components]).mean()
    for m, (name, x) in enumerate(batch.items()):
        loss = loss - Laplace(model.decoders[name](torch.stack(z)), 0.75).log_prob(x).sum((1, 2, 3)).mean()
        if method == "mvae":
            mean, variance = product(method, encoded, (m,))
            own = model.decoders[name](mean + variance.sqrt() * noise.shared[1][m])
            loss = loss - Laplace(own, 0.75).log_prob(x).sum((1, 2, 3)).mean() + BETA * to_prior(mean, variance).mean()
    return loss


@pytest.mark.parametrize("method", FAMILIES)
def test_fifty_steps_equal_the_formulas(method):
    recipe = tiny(VIEWS, shape=SHAPE, model__method=method)
    objective = Objective.of(recipe)
    torch.manual_seed(0)
    fast = MultimodalVAE(recipe)
    slow = copy.deepcopy(fast)
    step, optimizer = StepLoss(fast, objective, "fp32"), make_optimizer(fast, 1e-3)
    reference = torch.optim.Adam(slow.parameters(), 1e-3, foreach=False, fused=False)
    data = torch.rand(50, VIEWS, BATCH, *SHAPE)
    for at in range(50):
        batch = {f"m{v}": data[at, v] for v in range(VIEWS)}
        noise = draw_noise(fast, objective, batch, BATCH, slice(None), "cpu")
        loss, _ = step(batch, noise)
        expected = slow_loss(method, slow, batch, noise)
        torch.testing.assert_close(loss, expected, rtol=2e-5, atol=0, msg=lambda text, at=at: f"step {at}: {text}")
        for network, value, adam in ((fast, loss, optimizer), (slow, expected, reference)):
            network.zero_grad()
            value.backward()
            if at == 0:
                gradients = [p.grad.clone() for p in network.parameters()]
                if network is fast:
                    first = gradients
            adam.step()
        if at == 0:
            for ours, theirs in zip(first, gradients, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    for (name, ours), theirs in zip(fast.named_parameters(), slow.parameters(), strict=True):
        # in the norm: Adam turns the rounding of a gradient near zero into a step of full size
        distance = (ours.detach() - theirs.detach()).norm() / theirs.detach().norm()
        assert float(distance) < 1e-2, name


@pytest.mark.parametrize("kl", ["components", "mixture"])
def test_bf16_is_for_the_networks_only(kl):
    """From the experts that the bf16 encoders give, every KL of the step is that of fp32, to the last digits."""
    recipe = tiny(VIEWS, shape=SHAPE, objective__kl=kl)
    objective = Objective.of(recipe)
    torch.manual_seed(0)
    model = MultimodalVAE(recipe)
    for encoder in model.encoders.values():
        torch.nn.init.normal_(encoder.head.weight, std=0.3)
    batch = {f"m{v}": torch.rand(BATCH, *SHAPE) for v in range(VIEWS)}
    step = StepLoss(model, objective, "bf16")
    _, means = step(batch, draw_noise(model, objective, batch, BATCH, slice(None), "cpu"))
    with torch.autocast("cpu", torch.bfloat16):
        experts = model.encode(batch).shared
    expected = model.family.components(experts).kl_to_prior().mean(1)
    kls = [
        value for name, value in zip([*RESULTS, *bound.outline(recipe)], means, strict=True) if name.startswith("kl.m")
    ]
    torch.testing.assert_close(torch.stack(kls), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("fast", "inside", "outside", "size", "extra"), [
    (BiasApart, 128, 64, (4, 4), 1), (BiasApart, 64, 32, (7, 7), 1),
    (Subpixel, 32, 3, (14, 14), 1), (Subpixel, 8, 1, (4, 7), (0, 1)),
])  # fmt: skip
def test_a_faster_transposed_convolution_is_the_same_layer(fast, inside, outside, size, extra, precision):
    """Outputs and gradients of the decoder's widest and last layers equal torch's own, with gradients and without."""
    torch.manual_seed(0)
    ours = fast(inside, outside, 3, 2, 1, output_padding=extra)
    plain = torch.nn.ConvTranspose2d(inside, outside, 3, 2, 1, output_padding=extra)
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(8, inside, *size)
    found = []
    for layer in (ours, plain):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            given = x.bfloat16() if precision == "bf16" else x  # as the layer before gives it
            out = layer(given)
            with torch.no_grad():
                without = layer(given)
        loss = (out.float() * torch.linspace(-1, 1, out[0].numel()).view(out.shape[1:])).sum()
        found.append((out, without, *torch.autograd.grad(loss, list(layer.parameters()))))
    close = {"rtol": 1e-4, "atol": 1e-5} if precision == "fp32" else {"rtol": 3e-2, "atol": 3e-2}
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, **close)
    assert found[0][0].dtype == found[1][0].dtype


def test_every_image_network_is_channels_last():
    model = MultimodalVAE(tiny(VIEWS, shape=SHAPE))
    weights = [p for p in model.parameters() if p.dim() == 4]
    assert len(weights) == 6 * VIEWS
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)


@pytest.mark.parametrize(("method", "precision", "kl"), [
    ("mopoe", "fp32", "components"), ("mopoe", "bf16", "components"), ("mopoe", "bf16", "mixture"),
    ("mvae", "bf16", "components"), ("mmvae", "tf32", "components"),
])  # fmt: skip
def test_a_step_is_one_graph_compiled_once(method, precision, kl):
    """What a GPU's compiler gets: nothing that breaks the graph or makes a later step compile again; the same loss."""
    graphs = []

    def compiler(graph, inputs):
        graphs.append(len(inputs))
        return graph.forward

    recipe = tiny(3, shape=SHAPE, model__method=method, objective__kl=kl)
    objective = Objective.of(recipe)
    torch.manual_seed(0)
    step = StepLoss(MultimodalVAE(recipe), objective, precision)
    torch._dynamo.reset()
    compiled = torch.compile(step, backend=compiler, fullgraph=True)
    for _ in range(3):
        batch = {f"m{v}": torch.rand(BATCH, *SHAPE) for v in range(3)}
        noise = draw_noise(step.model, objective, step.model.names, BATCH, slice(None), "cpu")
        (loss, terms), (expected, known) = compiled(batch, noise), step(batch, noise)
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(terms, known, rtol=1e-4, atol=1e-4)
        loss.backward()
    assert len(graphs) == 1


def test_the_tables_of_the_families_move_with_the_model():
    model = MultimodalVAE(tiny(3, shape=SHAPE, model__method="mvae")).to("meta")
    assert {family.table.device.type for family in (model.family, model.unimodal)} == {"meta"}
    assert not [name for name in model.state_dict() if name.endswith("table")], "a checkpoint holds what was learned"
