"""Private latents (Eq. 34): counts, weights, the loss by hand in numpy, fusion without them, any presence mask."""

import json
import math

import numpy as np
import pytest
import torch
from tiny_recipes import tiny

from mmvae_cli.compute.seeds import derive
from mmvae_cli.model import bound
from mmvae_cli.model.objective import Objective, draw_noise
from mmvae_cli.model.terms import elbo, weigh
from mmvae_cli.model.vae import MultimodalVAE, parameter_counts
from mmvae_cli.process import signals
from mmvae_cli.process.errors import Stopped, UsageProblem
from mmvae_cli.recipe import load
from mmvae_cli.run import checkpoint
from mmvae_cli.run.layout import Run
from mmvae_cli.store import Store, batches
from mmvae_cli.store import folder as store
from mmvae_cli.training import loop
from mmvae_cli.training.loop import Request, train

from faces import face_store, faces

EVERYONE = slice(None)
RECIPES = ("celeba_mopoe", "celeba_mmvae", "celeba_mvae")


def made(recipe, seed=0):
    torch.manual_seed(seed)
    return MultimodalVAE(recipe).eval()


def pairs(count=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {"image": torch.rand(count, 3, 64, 64, generator=generator),
            "text": torch.randint(0, 71, (count, 256), generator=generator)}  # fmt: skip


def views(names, count=14):
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(count, 3, 28, 28, generator=generator) for name in names}


def drawn(recipe, model, batch, seed=0):
    torch.manual_seed(seed)
    objective, count = Objective.of(recipe), len(next(iter(batch.values())))
    return objective, draw_noise(model, objective, batch, count, EVERYONE, "cpu")


def terms_of(recipe, model, batch):
    objective, noise = drawn(recipe, model, batch)
    return bound.bound_terms(model, batch, objective, noise)


def loss_of(recipe, model, batch):
    return weigh(terms_of(recipe, model, batch))


# --- recipes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_the_papers_model_has_70_326_218_parameters(name):
    with torch.device("meta"):
        counts = parameter_counts(MultimodalVAE(load(name)))
    assert counts == {"encoder.image": 21_559_040, "encoder.text": 13_250_816, "decoder.image": 21_912_323,
                      "decoder.text": 13_604_039, "total": 70_326_218}  # fmt: skip


def test_width_scales_both_networks_of_a_modality():
    with torch.device("meta"):
        small, large = (parameter_counts(MultimodalVAE(faces(modalities__image__width=width))) for width in (2, 64))
    assert small["encoder.image"] < 10_000 < 1_000_000 < large["encoder.image"]
    assert small["decoder.image"] < 10_000 < 1_000_000 < large["decoder.image"]
    assert small["encoder.text"] == large["encoder.text"]


def test_width_is_refused_where_a_network_has_one_size():
    with pytest.raises(UsageProblem, match=r"modalities.mnist.width: network 'mnist' has one size only"):
        load("mst_mopoe", ["modalities.mnist.width=8"])


@pytest.mark.parametrize("bad", ["0", "-3", "big", "99999"])
def test_width_is_a_sensible_number(bad):
    with pytest.raises(UsageProblem, match=r"modalities.image.width"):
        load("celeba_mopoe", [f"modalities.image.width={bad}"])


@pytest.mark.parametrize(("option", "image", "text"), [("by_size", 1, 48), ("equal", 1, 1)])
def test_likelihood_weights_of_an_image_and_a_text(option, image, text):
    weights = load("celeba_mopoe", [f"objective.likelihood_weights={option}"]).weights()
    assert weights == pytest.approx({"image": image, "text": text})


@pytest.mark.parametrize("name", RECIPES)
def test_effective_coefficients_are_those_of_the_released_script(name):
    """Facts 1.8: content 2.5, style of the image 5, style of the text 25, image 1/3, text 16."""
    objective = Objective.of(load(name))
    style = {
        m: objective.spec.beta * objective.spec.beta_private * weight for m, weight in objective.private_weights.items()
    }
    assert (objective.spec.beta * objective.spec.beta_content, style) == (2.5, {"image": 5.0, "text": 25.0})
    assert objective.weights == pytest.approx({"image": 1 / 3, "text": 16})


# --- the loss --------------------------------------------------------------------------------------------------------


def kl_numpy(mean, logvar):
    return 0.5 * (np.exp(logvar) + mean**2 - 1 - logvar).sum(-1)


def nll_numpy(model, name, private, z, x):
    """-log p(x | s, z) per item: style first, then content."""
    latent = torch.from_numpy(np.concatenate([private, z], 1).astype(np.float32))
    output = model.decoders[name](latent).detach().numpy().astype(np.float64)
    if name == "image":
        return (np.abs(output - x.numpy()) / 0.75 + math.log(1.5)).reshape(len(z), -1).sum(1)
    logp = output - np.log(np.exp(output).sum(-1, keepdims=True))
    return -np.take_along_axis(logp, x.numpy()[..., None], -1).sum((1, 2))


def posteriors_numpy(model, batch):
    """modality -> (mean, logvar, private mean, private logvar) in float64."""
    return {name: [part.detach().numpy().astype(np.float64) for part in model.encoders[name](x)]
            for name, x in batch.items()}  # fmt: skip


def test_mopoe_loss_with_private_latents_equals_numpy():
    recipe = faces()
    model, batch = made(recipe), pairs(6)
    objective, noise = drawn(recipe, model, batch)
    found = weigh(bound.bound_terms(model, batch, objective, noise))
    q = posteriors_numpy(model, batch)
    t = {name: 1 / (np.exp(part[1]) + 1e-8) for name, part in q.items()}
    total = np.stack([t["image"], t["text"], t["image"] + t["text"] + 1 / (1 + 1e-8)])
    weighted = {name: t[name] * q[name][0] for name in q}
    mean = np.stack([weighted["image"], weighted["text"], weighted["image"] + weighted["text"]]) / total
    expected = 2.5 * kl_numpy(mean, -np.log(total)).mean(0)
    component, rows = np.array([0, 0, 1, 1, 2, 2]), np.arange(6)
    z = mean[component, rows] + total[component, rows] ** -0.5 * noise.shared[0][0].numpy()
    for m, (name, weight, style) in enumerate([("image", 1 / 3, 5.0), ("text", 16.0, 25.0)]):
        _, _, private_mean, private_logvar = q[name]
        own = private_mean + np.exp(0.5 * private_logvar) * noise.private[0][m][0].numpy()
        expected += style * kl_numpy(private_mean, private_logvar) + weight * nll_numpy(
            model, name, own, z, batch[name]
        )
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5)


def test_mvae_loss_with_private_latents_equals_numpy():
    """J + U_image + U_text, where every U has weight 1, its own samples and one private KL more (equations 4.1)."""
    recipe = faces(model__method="mvae")
    model, batch = made(recipe), pairs(3)
    objective, noise = drawn(recipe, model, batch)
    found = weigh(bound.bound_terms(model, batch, objective, noise))
    q = posteriors_numpy(model, batch)
    t = {name: 1 / (np.exp(part[1]) + 1e-8) for name, part in q.items()}
    one = 1 / (1 + 1e-8)
    total = t["image"] + t["text"] + one
    mean = (t["image"] * q["image"][0] + t["text"] * q["text"][0]) / total
    z = mean + total**-0.5 * noise.shared[0][0].numpy()
    expected = 2.5 * kl_numpy(mean, -np.log(total))
    for m, (name, weight, style) in enumerate([("image", 1 / 3, 5.0), ("text", 16.0, 25.0)]):
        _, _, private_mean, private_logvar = q[name]
        deviation = np.exp(0.5 * private_logvar)
        alone, alone_mean = t[name] + one, t[name] * q[name][0] / (t[name] + one)
        z_alone = alone_mean + alone**-0.5 * noise.shared[1][m].numpy()
        own, own_alone = (private_mean + deviation * eps.numpy()
                          for eps in (noise.private[0][m][0], noise.private[1][m][0]))  # fmt: skip
        expected += weight * nll_numpy(model, name, own, z, batch[name]) + style * kl_numpy(
            private_mean, private_logvar
        )
        expected += 1.0 * nll_numpy(model, name, own_alone, z_alone, batch[name])
        expected += 2.5 * kl_numpy(alone_mean, -np.log(alone)) + style * kl_numpy(private_mean, private_logvar)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5)


def test_private_latents_never_enter_the_fusion():
    recipe = faces()
    model, batch = made(recipe), pairs()
    head = model.encoders["image"].head
    before = terms_of(recipe, model, batch)
    before["kl.shared"].value.sum().backward(retain_graph=True)
    assert torch.all(head.weight.grad[6:] == 0), "rows 6.. of the head are private mean and log-variance"
    assert head.weight.grad[:6].abs().sum() > 0
    with torch.no_grad():
        head.bias[6:] += 1.0
    after = terms_of(recipe, model, batch)
    equal = {name: torch.equal(term.value, before[name].value) for name, term in after.items()}
    assert all(equal[name] for name, term in after.items() if term.role == "component")
    assert equal["log_likelihood.text"], "another modality's private latent"
    assert not equal["log_likelihood.image"]
    assert torch.all(after["kl.private.image"].value != before["kl.private.image"].value)


@pytest.mark.parametrize("method", ["mvae", "mmvae", "mopoe"])
@pytest.mark.parametrize("present", [("m0",), ("m1", "m2"), ("m0", "m1", "m2")])
def test_any_presence_mask_equals_a_model_built_for_those_modalities(method, present):
    recipe = tiny(3, model__method=method, model__private_dim=4, objective__likelihood_weights="equal",
                  objective__beta_private=0.5, modalities__m1__private_weight=3.0, modalities__m1__network="conv",
                  modalities__m1__shape=[3, 28, 28])  # fmt: skip
    model = made(recipe)
    small = tiny(3, model__method=method, model__private_dim=4, objective__likelihood_weights="equal",
                 objective__beta_private=0.5, modalities={n: recipe.modalities[n] for n in present})  # fmt: skip
    twin, weights = made(small), model.state_dict()
    twin.load_state_dict({name: weights[name] for name in twin.state_dict()})
    batch = views(present)
    torch.testing.assert_close(loss_of(recipe, model, batch), loss_of(small, twin, batch))


@pytest.mark.parametrize("method", ["mvae", "mmvae", "mopoe"])
@pytest.mark.parametrize("present", [("image",), ("text",)])
def test_a_face_without_its_text_and_a_text_without_its_face(method, present):
    recipe = faces(model__method=method)
    batch = {name: x for name, x in pairs().items() if name in present}
    terms = terms_of(recipe, made(recipe), batch)
    for kind in ("log_likelihood", "kl.private"):
        assert {name for name in ("image", "text") if f"{kind}.{name}" in terms} == set(present)
    assert torch.isfinite(weigh(terms)).all()


def test_private_latents_on_polymnist_too():
    recipe = load("polymnist_mopoe", ["model.private_dim=8", "model.latent_dim=16"])
    model, batch = made(recipe), views([f"m{i}" for i in range(5)], 31)
    assert model.encoders["m0"].head.out_features == 2 * (16 + 8)
    terms = terms_of(recipe, model, batch)
    loss, value = weigh(terms), {name: term.value for name, term in terms.items()}
    private, reconstruction = (sum(value[f"{kind}.{n}"] for n in batch) for kind in ("kl.private", "log_likelihood"))
    torch.testing.assert_close(loss, 2.5 * (value["kl.shared"] + private) - reconstruction)
    torch.testing.assert_close(elbo(terms), reconstruction - value["kl.shared"] - private)
    assert model.decode("m3", torch.zeros(2, 5, 16), torch.zeros(1, 5, 8)).shape == (2, 5, 3, 28, 28)


def test_a_private_kl_is_logged_whole_however_the_bound_is_estimated():
    """Of MMVAE+ one component in M pays a modality's private KL: that is its share in the bound, not its value."""
    single = tiny(3, shape=(3, 8, 8), model__method="mmvaeplus", model__private_dim=4)
    many = tiny(3, shape=(3, 8, 8), model__method="mmvaeplus", model__private_dim=4, objective__estimator="iwae",
                objective__samples=20)  # fmt: skip
    model, batch = made(single), {name: x[..., :8, :8] for name, x in views(("m0", "m1", "m2"), 50).items()}
    with torch.no_grad():
        for encoder in model.encoders.values():
            encoder.head.bias += 1.0
        exact, sampled = (terms_of(recipe, model, batch) for recipe in (single, many))
    for name in batch:
        closed, estimate = (terms[f"kl.private.{name}"].value.mean().item() for terms in (exact, sampled))
        assert estimate == pytest.approx(closed, rel=0.1)
    assert elbo(sampled).mean().item() == pytest.approx(elbo(exact).mean().item(), rel=0.05)


# --- batch normalisation, dropout, resuming --------------------------------------------------------------------------


def test_dropout_and_batch_normalisation_work_in_training_and_rest_in_evaluation():
    recipe = faces()
    model, batch = made(recipe), pairs()

    def means(seed):
        torch.manual_seed(seed)
        return model.encode(batch).shared.mean.detach()

    buffers = {name: value.clone() for name, value in model.named_buffers()}
    assert torch.equal(means(0), means(1))
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())
    model.train()
    assert not torch.equal(means(0), means(1))
    assert torch.equal(means(2), means(2)), "dropout is a function of the step's seed"
    moved = [name for name, value in model.named_buffers() if not torch.equal(value, buffers[name])]
    assert any("encoders.image" in name for name in moved)
    assert any("encoders.text" in name for name in moved)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return face_store(tmp_path_factory.mktemp("data") / "faces")


def same_checkpoints(a, b):
    one, two = (checkpoint.newest(Run(folder)).tensors for folder in (a, b))
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def losses(folder):
    return [json.loads(line)["loss"] for line in Run(folder).metrics_path.read_text().splitlines()]


@pytest.mark.parametrize("method", ["mopoe", "mvae"])
def test_stopped_and_resumed_gives_the_same_weights_and_statistics(method, dataset, tmp_path, monkeypatch):
    recipe = faces(model__method=method)
    train(recipe, Request(tmp_path / "whole", dataset))
    real, calls = batches.Split.batch, [0]

    def counted(self, items, **keys):
        calls[0] += 1
        if calls[0] == 3:
            monkeypatch.setattr(signals, "_received", "SIGTERM")
        return real(self, items, **keys)

    monkeypatch.setattr(loop.batches.Split, "batch", counted)
    with pytest.raises(Stopped):
        train(recipe, Request(tmp_path / "parts", dataset))
    monkeypatch.setattr(signals, "_received", None)
    train(recipe, Request(tmp_path / "parts", dataset))
    assert same_checkpoints(tmp_path / "whole", tmp_path / "parts"), "weights, Adam's state, running statistics"
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")


def test_training_really_drops_and_normalises(dataset, tmp_path):
    """The trained running statistics are those of batches in train mode, not their initial values."""
    train(faces(), Request(tmp_path / "run", dataset))
    tensors = checkpoint.newest(Run(tmp_path / "run")).tensors
    counts = {int(value) for name, value in tensors.items() if name.endswith("num_batches_tracked")}
    assert counts == {8}


def test_data_from_host_memory_give_the_same_losses(dataset, tmp_path):
    for place in ("device", "host"):
        train(faces(training__data_on=place), Request(tmp_path / place, dataset))
    assert losses(tmp_path / "device") == losses(tmp_path / "host")


def test_on_the_cpu_large_data_stay_on_the_disk_with_the_same_losses(dataset, tmp_path, monkeypatch):
    """Larger than memory is no obstacle: rows are read when a batch wants them."""
    train(faces(), Request(tmp_path / "memory", dataset))
    monkeypatch.setattr(store, "IN_MEMORY", 0)
    split = batches.Split(Store(dataset), "train", ["image", "text"], torch.device("cpu"), 0, "host")
    assert {type(rows) for rows in split._rows.values()} == {store.Rows}
    train(faces(), Request(tmp_path / "disk", dataset))
    assert losses(tmp_path / "memory") == losses(tmp_path / "disk")


def test_steps_have_seeds_of_their_own():
    assert len({derive(0, "step", at) for at in range(1000)}) == 1000
