"""What is measured: the engine's training step, several seeds stacked into one, a plain implementation and MultiVae."""

from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import numpy as np
import torch

from mmvae_cli import recipe as recipes
from mmvae_cli import store
from mmvae_cli.compute import devices
from mmvae_cli.compute.ranks import ALONE
from mmvae_cli.model.objective import Noise, Objective, draw_noise
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.store import batches
from mmvae_cli.training.engine import Engine, Way
from mmvae_cli.training.step import StepLoss, make_optimizer

from losses import random_store
from plain import PlainMoPoE, memory_loader

VIEWS, BATCH = 5, 256
AS_IT_STANDS = Way()


def random_data(recipe: recipes.Recipe, items: int, folder: Path, tested: int = 10) -> Path:
    """Random data of a recipe's modalities; those of an earlier call, where there are some."""
    made = (folder / "dataset.json").is_file()
    return folder if made else random_store(recipe, items, folder, tested)


def engine_of(
    recipe: recipes.Recipe, model: MultimodalVAE, data: store.Store, device: torch.device, way: Way
) -> Engine:
    """What takes the steps of ``recipe`` on ``data`` for as long as one likes."""
    settings = recipe.training
    step, optimizer = StepLoss(model, Objective.of(recipe), settings.precision), make_optimizer(model, 1e-3)
    split = batches.Split(data, "train", model.names, device, 0)
    return Engine(step, optimizer, split, settings, ALONE, way, start=0, total=10**9)


def write_pngs(data: store.Store, folder: Path) -> Path:
    from PIL import Image

    for view in range(VIEWS):
        (folder / f"m{view}").mkdir(parents=True)
        for i, picture in enumerate(data.array("train", f"m{view}")):
            Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0))).save(folder / f"m{view}" / f"{i}.0.png")
    return folder


class Bench:
    """Variants are functions that do one training step and return its loss: a scalar, or one of every model trained."""

    def __init__(self, device: torch.device, folder: Path, tested: int = 10, batch: int = BATCH) -> None:
        self.device, self.folder, self.tested, self.batch = device, folder, tested, batch
        self.data = store.Store(random_data(recipes.load("polymnist_mopoe"), 10 * batch, folder / "store", tested))

    def model(self, *overrides: str) -> tuple[recipes.Recipe, MultimodalVAE]:
        recipe = recipes.load("polymnist_mopoe", list(overrides))
        torch.manual_seed(0)
        return recipe, MultimodalVAE(recipe).to(self.device)

    def engine(self, precision: str, way: Way = AS_IT_STANDS) -> Callable[[], torch.Tensor]:
        """The engine that ``mmvae train`` has."""
        recipe, model = self.model(f"training.precision={precision}", f"training.batch_size={self.batch}")
        engine = engine_of(recipe, model, self.data, self.device, way)
        steps = iter(range(10**9))

        def one() -> torch.Tensor:
            devices.set_precision(precision)
            with engine.ordered():
                engine.take(next(steps))
                loss = engine.meter._sum[0] / self.batch
                engine.meter._sum.zero_()
            return loss

        return one

    def stacked(self, seeds: int, precision: str, *, compiled: bool) -> Callable[[], torch.Tensor]:
        """Several seeds in one process: their weights stacked, every layer a batched (convolutions: grouped) one.
        Autocast has no effect under vmap, so ``precision`` is fp32 or tf32."""
        recipe, model = self.model(f"training.precision={precision}")
        objective, data = Objective.of(recipe), batches.Split(self.data, "train", model.names, self.device, 0)
        items = self.data.count("train")
        models = [MultimodalVAE(recipe).to(self.device) for _ in range(seeds)]
        weights, _ = torch.func.stack_module_state(models)
        step, optimizer = StepLoss(model, objective, precision), torch.optim.Adam(weights.values(), 1e-3, fused=True)

        def alone(weights: dict[str, torch.Tensor], batch: dict[str, torch.Tensor], shared: torch.Tensor,
                  choice: torch.Tensor) -> torch.Tensor:  # fmt: skip
            named = {f"model.{name}": value for name, value in weights.items()}
            noise = Noise(choice, (shared,), ((),))
            return torch.func.functional_call(step, named, (batch, noise))[0]

        together = torch.vmap(alone, in_dims=(0, 0, 0, None))
        together = torch.compile(together) if compiled else together

        def one() -> torch.Tensor:
            devices.set_precision(precision)
            parts = [data.batch(torch.randperm(items, device=self.device)[: self.batch]) for _ in models]
            batch = {name: torch.stack([part[name] for part in parts]) for name in model.names}
            drawn = [draw_noise(model, objective, model.names, self.batch, slice(None), self.device) for _ in models]
            losses = together(weights, batch, torch.stack([noise.shared[0] for noise in drawn]), drawn[0].choice)
            optimizer.zero_grad(set_to_none=True)
            losses.sum().backward()
            optimizer.step()
            return losses.detach()

        return one

    def usual_model(self) -> tuple[recipes.Recipe, MultimodalVAE]:
        """The same networks as others would write them: torch's default memory format, its own convolutions."""
        recipe, model = self.model()
        for module in model.modules():
            if isinstance(module, torch.nn.ConvTranspose2d):
                module.__class__ = torch.nn.ConvTranspose2d
        return recipe, model.to(memory_format=torch.contiguous_format)

    def plain(self, loader: object) -> Callable[[], torch.Tensor]:
        recipe, model = self.usual_model()
        reference = PlainMoPoE(model, recipe.objective.beta)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        stream = endless(loader)

        def one() -> torch.Tensor:
            devices.set_precision("fp32")
            views = [x.to(self.device) for x in next(stream)]
            loss = reference(views, torch.randn(self.batch, recipe.model.latent_dim, device=self.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.detach()

        return one

    def multivae(self) -> Callable[[], torch.Tensor] | None:
        """Its own MoPoE with equal networks, sizes and likelihoods, stepped as its trainer steps it."""
        try:
            from multivae.data.datasets import DatasetOutput
            from multivae.models import MoPoE, MoPoEConfig
            from multivae.models.base import BaseDecoder, BaseEncoder, ModelOutput
        except ImportError:
            return None
        recipe, model = self.usual_model()

        class Encoder(BaseEncoder):  # type: ignore[misc]
            def __init__(self, inner: torch.nn.Module) -> None:
                super().__init__()
                self.inner, self.latent_dim = inner, recipe.model.latent_dim

            def forward(self, x: torch.Tensor) -> object:
                mean, logvar, *_ = self.inner(x)
                return ModelOutput(embedding=mean, log_covariance=logvar)

        class Decoder(BaseDecoder):  # type: ignore[misc]
            def __init__(self, inner: torch.nn.Module) -> None:
                super().__init__()
                self.inner, self.latent_dim = inner, recipe.model.latent_dim

            def forward(self, z: torch.Tensor) -> object:
                return ModelOutput(reconstruction=self.inner(z))

        config = MoPoEConfig(
            n_modalities=VIEWS, latent_dim=recipe.model.latent_dim, beta=recipe.objective.beta,
            input_dims=dict.fromkeys(model.names, (3, 28, 28)),
            decoders_dist=dict.fromkeys(model.names, "laplace"),
            decoder_dist_params={name: {"scale": 0.75} for name in model.names},
        )  # fmt: skip
        other = MoPoE(config, encoders={n: Encoder(model.encoders[n]) for n in model.names},
                      decoders={n: Decoder(model.decoders[n]) for n in model.names}).to(self.device)  # fmt: skip
        optimizer = torch.optim.Adam(other.parameters(), 1e-3)
        stream = endless(memory_loader([self.data.array("train", n) for n in model.names], self.batch))

        def one() -> torch.Tensor:
            data = DatasetOutput(data={n: x.to(self.device) for n, x in zip(model.names, next(stream), strict=True)})
            loss = other(data).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.detach()

        return one


def endless(loader):  # type: ignore[no-untyped-def]
    for _ in cycle([0]):
        yield from loader
