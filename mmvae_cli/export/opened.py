"""A run as an object for notebooks and scripts: what ``evaluate`` and ``sample`` compute, on arrays of one's own."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmvae_cli.compute.seeds import derive
from mmvae_cli.evaluation import latent
from mmvae_cli.evaluation.encoding import BLOCK, Evaluation, ShuffledSplit
from mmvae_cli.model.distributions import Distribution, Gaussian, at, joined
from mmvae_cli.model.vae import MultimodalVAE
from mmvae_cli.process.errors import DataProblem, UsageProblem, in_our_words
from mmvae_cli.run import result, samplers, trained
from mmvae_cli.run.layout import Run
from mmvae_cli.run.result import EvaluationResult
from mmvae_cli.sampling import figures, generation, making
from mmvae_cli.sampling.generation import Sampler
from mmvae_cli.store import ModalityInfo, arrays

Names = str | Sequence[str]
"""Modalities: ``"m0"``, ``"m0,m1"``, ``["m0", "m1"]``."""
Given = Mapping[str, Any]
"""modality -> data of N items: arrays, tensors, lists of strings."""


@dataclass(frozen=True)
class Latents:
    """Posteriors of N items given the modalities ``given``.

    ``mean``, ``logvar``: float32 (N, D), of the shared latent; ``private_mean``, ``private_logvar``: modality -> (N, P)
    where the model has private latents. ``items``: int64 (N,), their positions in ``split``, ``keys``: their own
    names where the data have any, and ``labels`` (N,) classes or (N, A) attributes with the names ``label_names``, for
    items of the run's data.
    """

    given: tuple[str, ...]
    mean: np.ndarray
    logvar: np.ndarray
    private_mean: dict[str, np.ndarray] = field(default_factory=dict)
    private_logvar: dict[str, np.ndarray] = field(default_factory=dict)
    split: str | None = None
    items: np.ndarray | None = None
    keys: np.ndarray | None = None
    labels: np.ndarray | None = None
    label_names: tuple[str, ...] = ()


class OpenedRun:
    """A trained run; made by :func:`mmvae_cli.open_run`.

    Data go in and come out as people have them: an image is uint8 (N, C, H, W), or numbers in [0, 1]; a text is a
    string; a vector is (N, F) in the unit that it was measured in. Every method raises UsageProblem, which says what
    is wrong, for an unknown modality and for data of another shape, type or range.
    """

    def __init__(
        self, folder: Path, chosen: Path | None, data_dir: Path, device: str, code: Path | None = None
    ) -> None:  # fmt: skip
        run = Run(folder)
        self.folder, self.recipe = folder, run.recipe()
        self._run = run
        self._trained = trained.load(run, self.recipe, chosen, data_dir=data_dir, device=device, needs_data=False,
                                     code=code)  # fmt: skip

    def __repr__(self) -> str:
        model, checkpoint = self.recipe.model, self._trained.checkpoint
        return f"<{self.folder}: {model.method} of {', '.join(self.modalities)}, step {checkpoint.position.step:,}>"

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in the recipe's order."""
        return tuple(self.recipe.modalities)

    @property
    def model(self) -> MultimodalVAE:
        """The networks, in eval mode."""
        return self._trained.model

    @property
    def described(self) -> dict[str, ModalityInfo]:
        """What the data say of each modality: its kind and shape, a text's alphabet, a vector's unit."""
        return {name: self._trained.store.info.modalities[name] for name in self.modalities}

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes or attributes of the run's data; empty where they have no labels."""
        labels = self._trained.store.info.labels
        return labels.names if labels else ()

    @property
    def step(self) -> int:
        """Steps of training after which the opened checkpoint was written."""
        return self._trained.checkpoint.position.step

    @cached_property
    def evaluation(self) -> EvaluationResult | None:
        """What ``mmvae evaluate`` measured, by the recipe's protocol and sampler; None where it has not been run."""
        path = self._run.evaluation_path(self.recipe.evaluation.protocol, self.recipe.evaluation.sampler)
        return result.load(path) if path.is_file() else None

    @property
    def about(self) -> dict[str, Any]:
        """Where its numbers come from: recipe, method, checkpoint, data."""
        known = making.facts(self._sampler(0))
        return {key: value for key, value in known.items() if key not in ("split", "seed")}

    # from data to latents --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, data: Given, given: Names | None = None, *, seed: int = 0) -> Latents:
        """q(z | X_A) of N items of your own, where A are the modalities ``given``: those of ``data`` unless named.

        Where the method stands for q(z | X_A) by a mixture (MMVAE of two and more modalities), each item is encoded by
        one component, drawn by ``seed``.
        """
        batch = self._batch(data)
        names = self._given(given, batch)
        with _drawn(_whole("seed", seed)):
            generator = torch.Generator().manual_seed(derive(seed, "encode", *names))
            shared = generation.dealt(self._trained.model, batch, names, generator)
            private = self._trained.model.encode({name: batch[name] for name in names}).private
        return Latents(names, *_pair(shared), *_by_modality(private, names))

    @torch.no_grad()
    def latents(self, split: str | None = None, given: Names | None = None) -> Latents:
        """q(z | X_A) of the items of a split of the run's data, in its order: the numbers on which ``mmvae evaluate``
        tests its classifiers. Of incomplete data those that have all of the modalities given.

        ``split``: the recipe's unless given. ``given``: all modalities unless named. Raises DataProblem where the data
        are not at hand, or no item has what is given.
        """
        split = str(split or self.recipe.evaluation.split)
        evaluation = Evaluation(self._trained.model, self.recipe, self._trained.store, self._trained.device)
        names = self._given(given, self.modalities)
        data = ShuffledSplit(evaluation, split, "evaluated items")
        subset = tuple(self.modalities.index(name) for name in names)
        everything = data.encode(data.order)
        experts, blocks = everything.having(subset), [block.having(subset) for block in everything.blocks(BLOCK)]
        if not len(experts.items):
            raise DataProblem(f"no item of {split} has all of {', '.join(names)}", "give fewer modalities")
        with _drawn(evaluation.spec.seed):
            shared = joined([latent.posterior(evaluation, block, subset) for block in blocks if len(block.items)], 0)
        back = experts.items.argsort()
        private = experts.private and at(at(experts.private, list(subset)), (slice(None), back))
        items = experts.items[back].numpy()
        labels = self._trained.store.labels(split)[items] if self.label_names else None
        keys = self._trained.store.keys(split)
        return Latents(names, *_pair(at(shared, back.to(shared.mean.device))), *_by_modality(private, names), split,
                       items, None if keys is None else keys[items], labels, self.label_names)  # fmt: skip

    # from latents to data --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(
        self, data: Given | None = None, *, given: Names | None = None, z: Any = None, private: Given | None = None,
        target: Names | None = None, count: int | None = None, seed: int = 0,
    ) -> dict[str, np.ndarray]:  # fmt: skip
        """Data of the modalities ``target``: the means of their likelihoods, as ``mmvae sample`` draws them.

        Of three things one is given. ``data`` of N items: z ~ q(z | X_A), one sample an item, (N, ...), or ``count`` of
        them, (count, N, ...); targets are the modalities not ``given`` unless named. ``z`` (N, D): decoded as it is,
        (N, ...). Neither: ``count`` samples z ~ p(z), or of the mixture that the recipe names, (count, ...). Private
        latents are those of ``private``, modality -> (N, P), or from their prior, one for each sample. The same
        ``seed`` draws the same.
        """
        if data is not None and (z is not None or private is not None):
            raise UsageProblem("z and private stand for the data", "give one or the other")
        if private is not None and z is None:
            raise UsageProblem("private belongs to a z", "give z, too")
        if count is not None and (z is not None or _whole("count", count) < 1):
            raise UsageProblem(f"count={count} has no meaning here", "a z is decoded once; else count is 1 or more")
        batch = None if data is None else self._batch(data)
        names = self._given(given, batch or ())
        rest = tuple(name for name in self.modalities if name not in names) or self.modalities
        targets = self._named("target", target) if target is not None else rest
        sampler = self._sampler(seed, kept=data is None and z is None)
        with _drawn(derive(seed, "sample", "components")):
            if batch is not None:
                items = len(next(iter(batch.values())))
                generated = generation.conditional(sampler, batch, names, targets, count or 1, styles=items)
                return self._as_given(generated, targets, alone=count is None)
            if z is None:
                return self._as_given(generation.prior(sampler, targets, count or 1), targets, alone=True)
            return self._decode(sampler, targets, z, private or {})

    @torch.no_grad()
    def reconstruct(self, data: Given, *, given: Names | None = None, seed: int = 0) -> dict[str, np.ndarray]:
        """The modalities of ``data`` (N, ...) again: z ~ q(z | X_A) of those ``given``, all of them unless named, and
        each modality's private latent from its own posterior."""
        batch = self._batch(data)
        names, targets = self._given(given, batch), tuple(batch)
        with _drawn(derive(seed, "sample", "components")):
            generated = generation.reconstruction(self._sampler(seed), batch, names, targets)
        return self._as_given(generated, targets, alone=True)

    def data(self, split: str | None = None, items: Sequence[int] | None = None) -> dict[str, np.ndarray]:
        """Items of the run's data, as they would be given: modality -> (N, ...). Those of a split that have every
        modality, unless ``items`` says their positions. Raises DataProblem where the data are not at hand."""
        split, store = str(split or self.recipe.evaluation.split), self._trained.store
        able = store.complete(split, self.modalities)
        wanted = able if items is None else _positions(items, split, store.count(split))
        if len(lacking := wanted[~np.isin(wanted, able)]):
            raise UsageProblem(f"items: item {lacking[0]} of {split} lacks a modality",
                               f"without items: run.data({split!r}), all that have every modality")  # fmt: skip
        values = {}
        for name in self.modalities:
            index, rows = store.index(split, name), store.array(split, name)
            rows = rows[wanted if index is None else index[wanted]]
            values[name] = arrays.as_given(rows, store.info.modalities[name])
        return values

    # what is asked for -----------------------------------------------------------------------------------------------

    def _sampler(self, seed: int, *, kept: bool = False) -> Sampler:
        """``kept``: what is drawn from nothing comes from what the recipe says, its prior or a mixture."""
        spec = self.recipe.evaluation if kept else self.recipe.evaluation.model_copy(update={"sampler": "prior"})
        return Sampler(
            self._trained, self.recipe, _whole("seed", seed), samplers.of_run(self._run, self._trained, spec)
        )

    def _batch(self, data: Given) -> dict[str, Tensor]:
        if not isinstance(data, Mapping):
            raise UsageProblem(f"{type(data).__name__} is no mapping of modalities to data", "as {'m0': images}")
        batch = arrays.as_batch(data, self.recipe, self._trained.store.info.modalities)
        return {name: rows.to(self._trained.device) for name, rows in batch.items()}

    def _named(self, what: str, names: Names) -> tuple[str, ...]:
        listed = [names] if isinstance(names, str) or not isinstance(names, Iterable) else names
        return figures.chosen(what, ",".join(map(str, listed)), list(self.modalities))

    def _given(self, given: Names | None, there: Mapping[str, Tensor] | tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(there) if given is None else self._named("given", given)
        if missing := [name for name in names if name not in there]:
            raise UsageProblem(f"given: there are no data of {', '.join(missing)}", "give them, or name others")
        return names

    def _decode(self, sampler: Sampler, targets: tuple[str, ...], z: Any, private: Given) -> dict[str, np.ndarray]:
        if not isinstance(private, Mapping):
            raise UsageProblem(f"private: {type(private).__name__} is no mapping of modalities to latents")
        shared, size = self._latent("z", z, self.recipe.model.latent_dim), self.recipe.model.private_dim
        for name in private:
            if not size or name not in targets:
                what = f"{name!r} is not generated" if size else "the model has no private latents"
                raise UsageProblem(f"private: {what}", "leave it out")
        own: dict[str, Tensor | None] = {}
        for name in targets:
            own[name] = generation.prior_private(sampler, name, 1, len(shared))
            if name in private:
                own[name] = self._latent(f"private[{name!r}]", private[name], size, len(shared))[None]
        return self._as_given(generation.decoded(sampler, shared[None], own), targets, alone=True)

    def _latent(self, what: str, given: Any, size: int, count: int | None = None) -> Tensor:
        rows = arrays.as_array(what, given)
        if rows.dtype.kind not in "fiub":
            raise UsageProblem(f"{what}: {rows.dtype} is no array of numbers", f"numbers (N, {size})")
        if rows.ndim != 2 or rows.shape[1] != size or len(rows) != (count or len(rows) or 1):
            raise UsageProblem(f"{what}: {rows.shape} is not ({count or 'N'}, {size})", "a row for each item")
        z = torch.from_numpy(rows.astype(np.float64)).to(self._trained.device, torch.float32)
        if not z.isfinite().all():
            raise UsageProblem(f"{what} has numbers that are not finite", "as numbers of 32 bits")
        return z

    def _as_given(
        self, generated: dict[str, np.ndarray], targets: tuple[str, ...], *, alone: bool
    ) -> dict[str, np.ndarray]:
        """What was sampled (R, N, ...), the first row of it where it stands ``alone``."""
        info = self._trained.store.info.modalities
        rows = {name: arrays.as_given(generated[f"sample_{name}"], info[name]) for name in targets}
        return {name: part[0] for name, part in rows.items()} if alone else rows


def _whole(what: str, value: Any) -> int:
    """Raises UsageProblem for anything but a whole number of 63 bits."""
    if not isinstance(value, int | np.integer) or not -(2**63) < int(value) < 2**63:
        raise UsageProblem(f"{what}={value!r} is no whole number, or too large a one", "an integer, as 3")
    return int(value)


def _positions(items: Any, split: str, count: int) -> np.ndarray:
    """``items`` (N,) as int64. Raises UsageProblem for what are no positions of ``count`` items: a mask, fractions."""
    positions = arrays.as_array("items", items)
    whole = positions.ndim == 1 and (positions.dtype.kind in "iu" or not positions.size)
    if not whole or not all(0 <= place < count for place in positions.tolist()):
        raise UsageProblem(f"items: positions of {split} are whole numbers from 0 to {count - 1}",
                           "for a mask: numpy.flatnonzero(mask)")  # fmt: skip
    return positions.astype(np.int64)


@contextmanager
def _drawn(seed: int) -> Iterator[None]:
    """torch's own generator is seeded inside the block, and is what it was after it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with in_our_words():
            yield


def _pair(q: Distribution) -> tuple[np.ndarray, np.ndarray]:
    return q.mean.cpu().numpy(), log_variance(q).cpu().numpy()


def log_variance(q: Distribution) -> Tensor:
    """Of a Laplace distribution of scale b the variance is 2 b^2."""
    return q.logvar if isinstance(q, Gaussian) else (2 * q.scale.square()).log()


def _by_modality(
    private: Distribution | None, names: tuple[str, ...]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Private posteriors (M, N, P) as modality -> (N, P)."""
    if private is None:
        return {}, {}
    mean, logvar = _pair(private)
    return dict(zip(names, mean, strict=True)), dict(zip(names, logvar, strict=True))
