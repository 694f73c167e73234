"""The one model class: encoders, a subset family, decoders."""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmvae_cli.model.distributions import Latent, posterior
from mmvae_cli.model.likelihood import Likelihood
from mmvae_cli.model.networks import WithParameter, pair
from mmvae_cli.model.posterior import Family, fuse_of
from mmvae_cli.model.prior import AuxiliaryPriors, Prior
from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.recipe import Recipe
from mmvae_cli.recipe.families import Subset
from mmvae_cli.recipe.kinds import COUNTS
from mmvae_cli.store.presence import Pattern

Batch = dict[str, Tensor]
"""modality -> images (B, C, H, W) in [0, 1] or text codes (B, L); a missing modality is a missing key."""


class Encoded(NamedTuple):
    """What the encoders say of a batch. ``present``: positions of the modalities that were there."""

    present: tuple[int, ...]
    shared: Any  # the experts, Gaussian or Laplace (M present, B, D)
    private: Any | None  # of the same kind (M present, B, P)


def encode_one(encoder: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """What one modality's encoder says of x (B, *shape): a region."""
    return encoder(x)


def decode_one(decoder: nn.Module, latent: Tensor) -> Tensor:
    """One modality's decoder: latents (..., D + P) -> (..., *shape). Leading dimensions are flattened for the network
    here."""
    output: Tensor = decoder(latent.flatten(0, -2))
    return output.unflatten(0, latent.shape[:-1]).float()


def likelihood_of_one(decoder: nn.Module, likelihood: Likelihood, latent: Tensor, x: Tensor) -> Tensor:
    """log p(x_m | z, s_m) of one modality: latents (Z, B, D + P), x (B, *shape) -> (Z, B): a region."""
    return likelihood.log_prob(decode_one(decoder, latent), x)


def two_at_least(network: nn.Module, x: Tensor) -> Any:
    """What a network says of x (n, ...). In training a single row is taken twice, as batch normalisation of one row is
    none: where rows differ in what they have, one row of a batch may be all there is of a modality."""
    if len(x) > 1 or not network.training:
        return network(x)
    output = network(x.expand(2, *x.shape[1:]))
    return output[:1] if isinstance(output, Tensor) else tuple(part[:1] for part in output)


def as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    """The region of a model whose networks are not compiled."""
    return function


class Encoder(nn.Module):
    """A trunk and one linear head that gives the two parameters of the shared and of the private posterior."""

    def __init__(self, trunk: nn.Module, latent: int, private: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(int(trunk.features), 2 * (latent + private))  # type: ignore[arg-type]
        self.sizes = [latent, latent, private, private]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, *shape) -> shared mean and log-variance, or raw scale, (B, D), and the private ones (B, P)."""
        mean, logvar, private_mean, private_logvar = self.head(self.trunk(x)).split(self.sizes, -1)
        return mean, logvar, private_mean, private_logvar


class Apart(nn.Module):
    """Two separate encoders of one modality: one for the shared, one for the private posterior."""

    def __init__(self, shared: Encoder, private: Encoder) -> None:
        super().__init__()
        self.shared, self.private = shared, private

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As :meth:`Encoder.forward`."""
        return *self.shared(x)[:2], *self.private(x)[:2]


class MultimodalVAE(nn.Module):
    """M encoders and decoders over one shared latent space, and a private one per modality where P > 0 (Eq. 34).

    Two attributes change how a pass is run, not what it computes. ``region``: applied to functions that are the same
    for many modalities (torch.compile); they get the networks as arguments, so that equal networks share what is
    compiled. ``lanes``: runs the modalities one after the other, or side by side.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        spec = recipe.model
        self.names = list(recipe.modalities)
        self.latent_dim, self.private_dim = spec.latent_dim, spec.private_dim
        self.latent_family = spec.posterior
        self.prior = Prior(spec.posterior, spec.latent_dim, learned=spec.learn_prior)
        self.private_prior = Prior(spec.posterior, spec.private_dim)
        self.auxiliary = AuxiliaryPriors(len(self.names), spec.private_dim) if spec.private == "auxiliary" else None
        self.family, self.unimodal = _parts(recipe)
        self._restricted: dict[Subset, list[Family]] = {}
        learned = recipe.objective.component_weights == "learned"
        self.component_logits = nn.Parameter(torch.zeros(len(self.family))) if learned else None
        self.likelihoods = {n: Likelihood(m.likelihood, m.scale) for n, m in recipe.modalities.items()}
        self.encoders, self.decoders = nn.ModuleDict(), nn.ModuleDict()
        for name, modality in recipe.modalities.items():
            if hasattr(self.encoders, name) and name not in self.encoders:
                raise UsageProblem(f"modalities.{name}: torch keeps this name for itself", "rename the modality")
            trunk, decoder = pair(modality, spec.latent_dim + spec.private_dim)
            if spec.private_dim and getattr(trunk, "apart", False):
                other, _ = pair(modality, spec.private_dim)
                self.encoders[name] = Apart(Encoder(trunk, spec.latent_dim, 0), Encoder(other, spec.private_dim, 0))
            else:
                self.encoders[name] = Encoder(trunk, spec.latent_dim, spec.private_dim)
            if self.likelihoods[name].has_parameter:
                decoder = WithParameter(decoder, (modality.shape or ()) if modality.likelihood in COUNTS else ())
            self.decoders[name] = decoder
        self.region: Callable[[Callable[..., Any]], Callable[..., Any]] = as_it_is
        self.lanes: Callable[[range], Iterable[int]] = iter
        self.to(memory_format=torch.channels_last)  # convolutions take a fifth to nine tenths less time on a CPU

    def positions(self, modalities: Collection[str]) -> Subset:
        """Where the named modalities stand in the model; raises ValueError when none of them is the model's."""
        present = tuple(i for i, name in enumerate(self.names) if name in modalities)
        if not present:
            raise ValueError(f"the batch has none of the modalities {', '.join(self.names)}")
        return present

    def parts(self, present: Subset) -> list[Family]:
        """The parts of the family of a model of the ``present`` modalities alone, the joint posterior's first."""
        known = self._restricted.get(present)
        if known is None or known[0].table.device != self.family.table.device:
            known = [part.restrict(present) for part in (self.family, self.unimodal) if part is not None]
            self._restricted[present] = known
        return known

    def posteriors(self, experts: Latent, subsets: list[Subset], *, spread: bool = True) -> Latent:
        """q(z | X_A) for every A in ``subsets``, as :meth:`Family.given` has it: experts (M, B, D) -> (S, B, D)."""
        fused = self.family.given(self.prior.standardised(experts), subsets, spread=spread)
        return self.prior.restored(fused)

    def component_log_weights(self, part: Family) -> Tensor | None:
        """log omega (S,) of a part's components, where it is learned; what became equal adds up."""
        if self.component_logits is None:
            return None
        every = self.component_logits.unbind()
        logits = [torch.logsumexp(torch.stack([every[s] for s in sources]), 0) for sources in part.sources]
        return torch.log_softmax(torch.stack(logits), 0)

    def encode(self, batch: Batch) -> Encoded:
        """Run each present modality's encoder once. Raises ValueError when none of the model's modalities is there."""
        present = self.positions(batch)
        encode, names = self.region(encode_one), [self.names[i] for i in present]
        outputs = [encode(self.encoders[names[i]], batch[names[i]]) for i in self.lanes(range(len(names)))]
        return self._encoded(present, outputs)

    def encode_patterns(self, batch: Batch, patterns: list[Pattern]) -> list[Encoded]:
        """The same for rows that differ in what they have. Each encoder runs once, on the rows that ``batch`` holds of
        its modality; what it says of them is dealt out to the ``patterns``."""
        dealt: list[list[tuple[Tensor, ...]]] = [[] for _ in patterns]
        for m, name in enumerate(self.names):
            having = [one for one, pattern in zip(dealt, patterns, strict=True) if m in pattern.present]
            if having:
                sizes = [pattern.rows for pattern in patterns if m in pattern.present]
                outputs = [part.split(sizes) for part in two_at_least(self.encoders[name], batch[name])]
                for own, output in zip(having, zip(*outputs, strict=True), strict=True):
                    own.append(output)
        return [self._encoded(pattern.present, own) for pattern, own in zip(patterns, dealt, strict=True)]

    def _encoded(self, present: Subset, outputs: list[tuple[Tensor, ...]]) -> Encoded:
        mean, raw, private_mean, private_raw = (torch.stack(parts) for parts in zip(*outputs, strict=True))
        private = posterior(self.latent_family, private_mean, private_raw) if self.private_dim else None
        return Encoded(present, posterior(self.latent_family, mean, raw), private)

    def decode(self, name: str, z: Tensor, private: Tensor | None = None) -> Tensor:
        """Decoder output of one modality: z (..., D), private (..., P) -> (..., *shape)."""
        return decode_one(self.decoders[name], _latent(z, private))

    def decode_rows(self, name: str, latents: list[tuple[Tensor, Tensor | None]]) -> list[Tensor]:
        """The same for latents of several patterns, z (Z, B, D) and private ones (Z, B, P), in one pass of the decoder:
        -> (Z, B, *shape) of each."""
        every = [_latent(*pair) for pair in latents]
        outputs = two_at_least(self.decoders[name], torch.cat([latent.flatten(0, -2) for latent in every])).float()
        parts = outputs.split([latent.shape[:-1].numel() for latent in every])
        return [part.unflatten(0, latent.shape[:-1]) for part, latent in zip(parts, every, strict=True)]

    def log_likelihood(self, name: str, z: Tensor, private: Tensor | None, x: Tensor) -> Tensor:
        """log p(x_m | z, s_m): z (Z, B, D), x (B, *shape) -> (Z, B)."""
        return self.region(likelihood_of_one)(self.decoders[name], self.likelihoods[name], _latent(z, private), x)

    @torch.no_grad()
    def largest_output(self) -> int:
        """Numbers that the largest layer of a decoder puts out for one latent; the model is in eval mode."""
        with output_sizes(self.decoders.modules()) as sizes:
            for decoder in self.decoders.values():
                decoder(torch.zeros(1, self.latent_dim + self.private_dim, device=next(decoder.parameters()).device))
        return max(sizes)


@contextmanager
def output_sizes(layers: Iterable[nn.Module]) -> Iterator[list[int]]:
    """How many numbers each of the layers puts out, as often as it is called inside the block."""
    sizes: list[int] = []

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel())

    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        yield sizes
    finally:
        for handle in handles:
            handle.remove()


def _parts(recipe: Recipe) -> tuple[Family, Family | None]:
    """The family, and apart from it the components of one modality each where every component is a bound of its
    own."""
    count, subsets, fuse = len(recipe.modalities), tuple(recipe.families()), fuse_of(recipe.model)
    policy = recipe.model.prior_expert
    if not recipe.has_unimodal_bounds:
        return Family(subsets, count, policy, fuse=fuse), None
    singletons, everyone = subsets[:-1], subsets[-1:]
    joint = Family(everyone, count, policy, fuse=fuse, admitted=singletons)
    return joint, Family(singletons, count, policy, fuse=fuse, unimodal=True, admitted=everyone)


def _latent(z: Tensor, private: Tensor | None) -> Tensor:
    """The input of a decoder: the private latent first, then the shared one, as in the released code."""
    return z if private is None else torch.cat([private.expand(*z.shape[:-1], -1), z], -1)


def parameter_counts(model: MultimodalVAE) -> dict[str, int]:
    """Trainable parameters per network and in total."""
    parts = {f"{kind}.{name}": module for kind, modules in (("encoder", model.encoders), ("decoder", model.decoders))
             for name, module in modules.items()}  # fmt: skip
    parts |= {"prior of z": model.prior} if model.prior.raw is not None else {}
    parts |= {"auxiliary priors": model.auxiliary} if model.auxiliary is not None else {}
    counts = {key: sum(p.numel() for p in part.parameters()) for key, part in parts.items()}
    if model.component_logits is not None:
        counts["component weights"] = model.component_logits.numel()
    return counts | {"total": sum(counts.values())}
