"""What latents are drawn from when nothing is given: the prior, or a mixture fitted to encoded training items
(equations 6.5). The mixture stays in the run as samplers/gmm.safetensors."""

import json
from typing import NamedTuple

import torch
from torch import Tensor

from mmvae_cli.compute.ranks import ALONE, ProcessGroup, gather
from mmvae_cli.compute.seeds import derive
from mmvae_cli.disk import sealed
from mmvae_cli.model import mixture
from mmvae_cli.model.distributions import at
from mmvae_cli.model.mixture import Mixture
from mmvae_cli.model.prior import Prior
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.process import console, signals
from mmvae_cli.process.errors import DataProblem, Failure
from mmvae_cli.recipe import EvaluationSpec
from mmvae_cli.run.layout import Run
from mmvae_cli.run.trained import Trained
from mmvae_cli.store import batches

ITEMS = 20_000
"""Training items that a mixture is fitted to at most."""
_BLOCK = 1024
SHARED, PRIVATE = "z", "private "
"""Names of the mixtures: that of z, and the beginning of those of the modalities, one of which may be called z."""


class Latents(NamedTuple):
    """Latents that come from no item: samples on ``device``, each row a function of the seed and its number.
    ``mixtures``: of z and of every modality's private latents, by name; none: they are drawn from their priors."""

    model: MultimodalVAE
    device: torch.device
    mixtures: dict[str, Mixture]

    def shared(self, count: int, seed: int) -> Tensor:
        """z (1, count, D)."""
        return self._drawn(SHARED, self.model.prior, count, self.model.latent_dim, seed)

    def private(self, name: str, count: int, seed: int) -> Tensor | None:
        """The private latents (1, count, P) of a modality; None where the model has none."""
        size = self.model.private_dim
        return self._drawn(PRIVATE + name, self.model.private_prior, count, size, seed) if size else None

    def _drawn(self, name: str, prior: Prior, count: int, size: int, seed: int) -> Tensor:
        if name in self.mixtures:
            return self.mixtures[name].draw(count, seed)[None].to(self.device)
        generator = torch.Generator().manual_seed(seed)
        return prior.sample(prior.noise(1, count, size, device="cpu", generator=generator).to(self.device))


def of_run(run: Run, opened: Trained, spec: EvaluationSpec, group: ProcessGroup = ALONE) -> Latents:
    """The sampler that ``spec`` asks for. A mixture that the run has of this checkpoint, these data and settings is
    used; else it is fitted and kept. Raises Failure where it cannot be fitted."""
    if spec.sampler == "prior":
        return Latents(opened.model, opened.device, {})
    kept = _load(run, opened, spec) if group.rank == 0 else None
    if group.rank == 0 and kept is None:
        kept = _fit(opened, spec)
        _save(run, kept, _origin(opened, spec))
    mixtures = gather(group, kept)[0]
    assert mixtures is not None
    return Latents(opened.model, opened.device, mixtures)


def _fit(opened: Trained, spec: EvaluationSpec) -> dict[str, Mixture]:
    mixtures, encoded = {}, _encoded(opened, spec)
    for name, latents in encoded.items():
        signals.leave_if_requested("no mixture was written")
        console.say(f"fitting a mixture of {spec.gmm_components} Gaussians to {len(latents):,} encoded items ({name})")
        try:
            mixtures[name] = mixture.fit(latents, spec.gmm_components, derive(spec.seed, "mixture", name))
        except ValueError as problem:
            message = f"no mixture can be fitted to {name}: {problem}"
            raise Failure(message, "--sampler prior draws from the prior") from problem
    return mixtures


@torch.no_grad()
def _encoded(opened: Trained, spec: EvaluationSpec) -> dict[str, Tensor]:
    """One sample of q(z | X) of each of ITEMS training items that have all modalities (N, D), and of every modality's
    q(s_m | x_m) (N, P)."""
    model, seed = opened.model, derive(spec.seed, "mixture", "items")
    split = batches.Split(opened.store, "train", model.names, opened.device, spec.seed)
    torch.manual_seed(seed)  # mixtures of a last block shorter than their components draw which of them it gets
    generator, everyone = torch.Generator().manual_seed(seed), tuple(range(len(model.names)))
    parts: dict[str, list[Tensor]] = {}
    able = split.having(all_of_them=True)
    for items in able[torch.randperm(len(able), generator=generator)][:ITEMS].split(_BLOCK) if len(able) else ():
        signals.leave_if_requested("no mixture was written")
        encoded = model.encode(split.batch(items))
        own = {PRIVATE + name: at(encoded.private, m) for m, name in enumerate(model.names)} if encoded.private else {}
        for name, q in ({SHARED: at(model.posteriors(encoded.shared, [everyone]), 0)} | own).items():
            noise = model.prior.noise(*q.mean.shape, device="cpu", generator=generator).to(q.mean.device)
            parts.setdefault(name, []).append(q.sample(noise).cpu())
    return {name: torch.cat(part) for name, part in parts.items()} or {SHARED: torch.zeros(0, model.latent_dim)}


def _origin(opened: Trained, spec: EvaluationSpec) -> dict[str, str]:
    """What a kept mixture was fitted to; another one is never taken for it."""
    return {
        "checkpoint": opened.checkpoint.path.name, "step": str(opened.checkpoint.position.step),
        "data": opened.store.fingerprint, "components": str(spec.gmm_components), "items": str(ITEMS),
        "seed": str(spec.seed), "weights": opened.checkpoint.digest,
    }  # fmt: skip


def _save(run: Run, mixtures: dict[str, Mixture], origin: dict[str, str]) -> None:
    tensors = {f"{name}/{part}": value.contiguous() for name, one in mixtures.items()
               for part, value in one._asdict().items()}  # fmt: skip
    facts = json.dumps(origin)
    try:
        run.sampler_path.parent.mkdir(exist_ok=True)
        metadata = {"mmvae-mixture": facts, "digest": sealed.digest(tensors, facts)}
        sealed.write_tensors(run.sampler_path, tensors, metadata)
    except (OSError, Failure) as error:
        console.warn(f"the mixture is not kept, so it will be fitted again next time ({error})")


def _load(run: Run, opened: Trained, spec: EvaluationSpec) -> dict[str, Mixture] | None:
    """The run's mixtures; None where there are none, or those of another checkpoint, data or settings."""
    if not run.sampler_path.is_file():
        return None
    try:
        with sealed.reading_tensors(run.sampler_path, "is damaged and will be made again") as (tensors, metadata):
            facts = metadata["mmvae-mixture"]
            if metadata["digest"] != sealed.digest(tensors, facts):
                raise ValueError("the content does not match its digest")
            names = dict.fromkeys(key.rpartition("/")[0] for key in tensors)
            mixtures = {name: Mixture(*(tensors[f"{name}/{part}"] for part in Mixture._fields)) for name in names}
            return mixtures if json.loads(facts) == _origin(opened, spec) else None
    except DataProblem as problem:
        console.warn(str(problem))
    return None
