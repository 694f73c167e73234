"""Drawing samples from a trained model: latents, decoded modalities and the test items they came from, as arrays.

What a figure needs and what its .npz holds are the same arrays. Keys, for a modality ``m`` (R rows, N columns)::

    sample_m   (R, N, ...)  images uint8 (C, H, W); text as positions in the alphabet uint8 (L,)
    input_m    (N, ...)     the observed test items, or the text that was typed
    true_m     (N, ...)     what the test items have where the model generates, which it does not see
    string_sample_m, string_input_m, string_true_m   the same texts as strings, padding stripped
    measured_sample_m, measured_input_m, measured_true_m   standardised vectors in the unit that they were measured in
    z          (R, N, D)    the shared latents that were decoded
    private_m  (R, N, P), (R, 1, P) where a row shares one, (1, N, P) where a column does
    items, labels           positions of the test items in their split (N,), and their labels
    mean_m, point_m         the means of q(z | x_m) (N, D), and the same along their two principal directions (N, 2)
    share                   of the variance of all means, what lies along each of the two directions (2,)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmvae_cli.compute.seeds import derive
from mmvae_cli.drawing.grids import MOST_BARS, SHOWN_CHANNELS
from mmvae_cli.model.distributions import Distribution, at, placed
from mmvae_cli.model.vae import Batch, MultimodalVAE
from mmvae_cli.process import signals
from mmvae_cli.process.errors import DataProblem, UsageProblem
from mmvae_cli.recipe import Recipe
from mmvae_cli.run.samplers import Latents
from mmvae_cli.run.trained import Trained
from mmvae_cli.sampling.figures import Figure, attributes_in
from mmvae_cli.sampling.latent_space import principal
from mmvae_cli.store import UNLABELLED, ModalityInfo, attribute_text, batches
from mmvae_cli.store.arrays import Arrays, as_batch, as_given

Modalities = tuple[str, ...]
"""Their names."""
ROWS = 10
"""Samples per item in a conditional grid, as in the released code (equations 6.2)."""
NOTHING_WRITTEN = "no figure was written"
_AT_ONCE = {"cpu": 128, "cuda": 2048}


@dataclass(frozen=True)
class Sampler:
    """A trained model, where its items come from, the seed of everything drawn, and latents that come from no item."""

    trained: Trained
    recipe: Recipe
    seed: int
    latents: Latents

    @property
    def model(self) -> MultimodalVAE:
        return self.trained.model

    @property
    def split(self) -> str:
        """The split that the recipe evaluates on."""
        return self.recipe.evaluation.split

    def info(self, name: str) -> ModalityInfo:
        return self.trained.store.info.modalities[name]

    def noise(self, *shape: int, of: str) -> Tensor:
        """Standard noise: a function of the seed and of its purpose. It is drawn on the CPU, whatever the device."""
        generator = torch.Generator().manual_seed(derive(self.seed, "sample", of))
        return self.model.prior.noise(*shape, device="cpu", generator=generator).to(self.trained.device)


@torch.no_grad()
def draw(sampler: Sampler, figure: Figure, count: int) -> Arrays:
    """All arrays of one figure with ``count`` latents or test items. Raises UsageProblem for more items than there are
    and for typed text that the data's alphabet cannot write."""
    torch.manual_seed(derive(sampler.seed, "sample", "components"))  # few rows: which component of a mixture each gets
    if figure.kind == "prior":
        return prior(sampler, figure.target, count)
    if figure.texts:
        typed, arrays = _typed(sampler, figure)
        return arrays | conditional(sampler, typed, figure.given, figure.target)
    items = choose_items(sampler, count)
    needed = list(dict.fromkeys([*figure.given, *figure.target]))
    seed = sampler.recipe.evaluation.seed
    split = batches.Split(sampler.trained.store, sampler.split, needed, sampler.trained.device, seed)
    batch = split.batch(torch.from_numpy(items))
    arrays = {"items": items, "labels": np.array(sampler.trained.store.labels(sampler.split)[items])}
    if figure.kind == "latent":
        return arrays | _latent(sampler, figure, batch)
    seen = figure.given if figure.kind == "conditional" else needed
    arrays |= _texts(sampler, {f"{'input' if name in seen else 'true'}_{name}": _observed(sampler.info(name).kind, x)
                              for name, x in batch.items()})  # fmt: skip
    maker = {"reconstruction": reconstruction, "conditional": conditional, "swap": _swap}[figure.kind]
    return arrays | maker(sampler, batch, figure.given, figure.target)


def remark(sampler: Sampler, figure: Figure) -> str:
    """What else a reader has to know, in sentences: where private latents come from, that a mixture encodes each cell
    from a part of what is given, that not all channels are shown."""
    model, parts = sampler.model, []
    subset = tuple(sorted(model.names.index(name) for name in figure.given))
    if figure.kind in ("reconstruction", "conditional", "swap") and len(model.family.components_of(subset)) > 1:
        parts.append("Each cell is encoded from a part of what is given, as the mixture has it.")
    private = {"prior": "Private latents come from the prior, one a column and modality.",
               "conditional": "Private latents come from the prior, one a row.",
               "reconstruction": "Each modality has its own private latent."}  # fmt: skip
    if figure.kind == "prior" and sampler.latents.mixtures:
        parts.append("Latents come from the mixture fitted to encoded training items.")
    elif model.private_dim and figure.kind in private:
        parts.append(private[figure.kind])
    info = sampler.trained.store.info.modalities
    if any(info[n].kind == "image" and info[n].shape[0] not in SHOWN_CHANNELS for n in (*figure.given, *figure.target)):
        parts.append("Of more than three channels the first is shown.")
    if any(info[n].kind == "vector" and info[n].shape[0] > MOST_BARS for n in (*figure.given, *figure.target)):
        parts.append(f"Of longer vectors the first {MOST_BARS} numbers are shown.")
    return " ".join(parts)


# --- the kinds -------------------------------------------------------------------------------------------------------


def prior(sampler: Sampler, target: Modalities, count: int) -> Arrays:
    """z from the prior, or from the mixture in its place, decoded by every modality (Figures 7, 9 and 14); private
    latents likewise."""
    latents, seeds = sampler.latents, {n: derive(sampler.seed, "sample", f"private {n}") for n in target}
    z = latents.shared(count, derive(sampler.seed, "sample", "prior"))
    return decoded(sampler, z, {name: latents.private(name, count, seed) for name, seed in seeds.items()})


def reconstruction(sampler: Sampler, batch: Batch, given: Modalities, target: Modalities) -> Arrays:
    """z ~ q(z | X) of the full set, private latents from the own modality's posterior (Figure 8; Eq. 34)."""
    encoded = sampler.model.encode(batch)
    z = _content(sampler, batch, given, 1)
    private: dict[str, Tensor | None] = dict.fromkeys(target)
    if encoded.private is not None:
        for position, name in enumerate(target):
            own = at(encoded.private, position)
            private[name] = own.sample(sampler.noise(*own.mean.shape, of=f"own private {name}"))[None]
    return decoded(sampler, z, private)


def conditional(
    sampler: Sampler, batch: Batch, given: Modalities, target: Modalities, rows: int = ROWS, *, styles: int = 1
) -> Arrays:
    """``rows`` samples of the target for every item: z ~ q(z | X_A) anew in every cell. A row has one prior private
    latent for all items (equations 3.4, 6.2; Figures 4, 10 and 11), or as many ``styles`` as items."""
    z = _content(sampler, batch, given, rows)
    return decoded(sampler, z, {name: prior_private(sampler, name, rows, styles) for name in target})


def _swap(sampler: Sampler, batch: Batch, given: Modalities, target: Modalities) -> Arrays:
    """Row i, column j: the content of item i in the style of item j. Posterior means, so that nothing else changes."""
    model, (name,) = sampler.model, target
    content = posterior(model, batch, given).mean  # (N, D)
    encoded = model.encode({name: batch[name]})
    assert encoded.private is not None  # planned only where there are private latents
    z = content[:, None].expand(-1, len(content), -1)  # (N, N, D)
    return decoded(sampler, z, {name: encoded.private.mean})


def _latent(sampler: Sampler, figure: Figure, batch: Batch) -> Arrays:
    """The means of q(z | x_m) of every modality m, and the principal directions of all of them together."""
    means = {name: _means(sampler, batch, name) for name in figure.given}
    points, share = principal(np.concatenate(list(means.values())))
    parts = zip(figure.given, np.split(points, len(means)), strict=True)
    return {**{f"mean_{name}": mean for name, mean in means.items()},
            **{f"point_{name}": part.astype(np.float32) for name, part in parts}, "share": share}  # fmt: skip


def _means(sampler: Sampler, batch: Batch, name: str) -> np.ndarray:
    means = []
    for part in batch[name].split(_AT_ONCE.get(sampler.trained.device.type, 128)):
        signals.leave_if_requested(NOTHING_WRITTEN)
        means.append(posterior(sampler.model, {name: part}, (name,)).mean.cpu().numpy())
    return np.concatenate(means)


# --- latents ---------------------------------------------------------------------------------------------------------


def posterior(model: MultimodalVAE, batch: Batch, given: Modalities) -> Distribution:
    """q(z | X_A) of every item, (B, D). Only the given modalities are encoded: the places of the others hold zeros,
    which no product over A reads."""
    subset = tuple(model.names.index(name) for name in given)
    encoded = model.encode({name: batch[name] for name in given})
    experts = placed(encoded.shared, encoded.present, len(model.names))
    return at(model.posteriors(experts, [subset]), 0)


def dealt(model: MultimodalVAE, batch: Batch, given: Modalities, generator: torch.Generator) -> Distribution:
    """q(z | X_A) of every item, (B, D). Where the family has only parts of A (MMVAE), they are dealt out to the items
    in a random order, as the block rule wants it."""
    count = len(next(iter(batch.values())))
    order = torch.randperm(count, generator=generator).to(next(iter(batch.values())).device)
    posteriors = posterior(model, {name: batch[name][order] for name in given}, given)
    return at(posteriors, order.argsort())


def _content(sampler: Sampler, batch: Batch, given: Modalities, rows: int) -> Tensor:
    """Samples of q(z | X_A), (rows, B, D).

    Where the family has only parts of A (MMVAE), each item is encoded from one of the parts. Which one is drawn anew
    for every row: the items are shuffled, split into one block a part, and put back in order.
    """
    generator = torch.Generator().manual_seed(derive(sampler.seed, "sample", "order", *given))
    count = len(next(iter(batch.values())))
    noise = sampler.noise(rows, count, sampler.model.latent_dim, of=f"content {'+'.join(given)}")
    return torch.stack([dealt(sampler.model, batch, given, generator).sample(noise[row]) for row in range(rows)])


def prior_private(sampler: Sampler, name: str, rows: int, columns: int) -> Tensor | None:
    size = sampler.model.private_dim
    prior = sampler.model.private_prior
    return prior.sample(sampler.noise(rows, columns, size, of=f"private {name}")) if size else None


# --- decoding --------------------------------------------------------------------------------------------------------


def decoded(sampler: Sampler, z: Tensor, private: dict[str, Tensor | None]) -> Arrays:
    """Every modality of ``private`` decoded from z (R, N, D) and its private latents (R | 1, N | 1, P)."""
    arrays: Arrays = {}
    for name, own in private.items():
        arrays[f"sample_{name}"] = _decode(sampler, name, z, own)
        if own is not None:
            arrays[f"private_{name}"] = own.cpu().numpy()
    return _texts(sampler, arrays) | {"z": z.contiguous().cpu().numpy()}


def _decode(sampler: Sampler, name: str, z: Tensor, private: Tensor | None) -> np.ndarray:
    flat = z.flatten(0, 1)
    own = None if private is None else private.expand(*z.shape[:-1], -1).flatten(0, 1)
    parts = []
    for rows in torch.arange(len(flat), device=z.device).split(_AT_ONCE.get(z.device.type, 128)):
        signals.leave_if_requested(NOTHING_WRITTEN)
        output = sampler.model.decode(name, flat[rows], None if own is None else own[rows])
        parts.append(_as_data(sampler.info(name).kind, sampler.model.likelihoods[name].mean(output)))
    joined = np.concatenate(parts)
    return joined.reshape(*z.shape[:2], *joined.shape[1:])


def _as_data(kind: str, mean: Tensor) -> np.ndarray:
    """The mean of a likelihood as data: images clipped to [0, 1] as uint8, text as its likeliest characters."""
    if kind == "image":
        return mean.clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()
    if kind == "text":
        return mean.argmax(-1).to(torch.uint8).cpu().numpy()
    return mean.cpu().numpy()


def _observed(kind: str, x: Tensor) -> np.ndarray:
    """A batch back as it lies in the store: images uint8 (B, C, H, W), codes uint8 (B, L)."""
    if kind == "text":
        return x.to(torch.uint8).cpu().numpy()
    return _as_data(kind, x)


def _texts(sampler: Sampler, arrays: Arrays) -> Arrays:
    """``arrays`` with the strings of every text beside it, padding stripped, and standardised numbers in their unit."""
    beside: Arrays = {}
    for key, content in arrays.items():
        side, _, name = key.partition("_")
        if side not in ("sample", "input", "true"):
            continue
        info = sampler.info(name)
        if word := "string" if info.kind == "text" else "measured" if info.means else "":
            beside[f"{word}_{key}"] = as_given(content, info)
    return arrays | beside


# --- what is observed ------------------------------------------------------------------------------------------------


def choose_items(sampler: Sampler, count: int) -> np.ndarray:
    """int64 (count,) test items drawn by the seed: with classes one of each class in turn (0, 1, ..., 9, 0, ...). Of
    incomplete data those that have every modality."""
    store = sampler.trained.store
    able = store.complete(sampler.split, sampler.model.names)
    total = len(able)
    if count > total:
        has = "has" if total == store.count(sampler.split) else "has, complete,"
        raise UsageProblem(
            f"--count {count}: the {sampler.split} split {has} {total:,} items", "give a smaller --count"
        )
    if not total:
        raise UsageProblem(f"no item of {sampler.split} has every modality", "samples from the prior need none: "
                           "--kind prior")  # fmt: skip
    order = able[np.random.default_rng(derive(sampler.seed, "sample", "items")).permutation(total)]
    if store.info.labels and store.info.labels.kind == "class":
        labels = store.labels(sampler.split)[order]
        grouped = np.argsort(labels, kind="stable")
        _, first, sizes = np.unique(labels[grouped], return_index=True, return_counts=True)
        turn = np.empty(total, np.int64)
        turn[grouped] = np.arange(total) - np.repeat(first, sizes)  # how many of its class come before it
        order = order[np.lexsort((labels, turn))]
    return order[:count].astype(np.int64)


def _typed(sampler: Sampler, figure: Figure) -> tuple[Batch, Arrays]:
    """What was typed as a batch, written and placed by the rule of the dataset."""
    (name,), labels = figure.given, sampler.trained.store.info.labels or UNLABELLED
    info, arrays = sampler.info(name), Arrays()
    strings: Sequence[str] = figure.texts
    if labels.names == attribute_text.ATTRIBUTES and info.shape == (attribute_text.LENGTH,):
        arrays["labels"] = rows = np.array([_attributes(one) for one in figure.texts])
        at_first = attribute_text.AT_FIRST in (sampler.trained.store.info.stand_in or "")
        strings = [attribute_text.render(row, attribute_text.phrase(row), sampler.seed, at_first=at_first)
                   for row in rows]  # fmt: skip
    try:
        batch = as_batch({name: strings}, sampler.recipe, {name: info})
    except DataProblem as problem:
        raise UsageProblem(f"--text: {problem}", problem.hint) from problem
    codes = batch[name].numpy().astype(np.uint8)
    return {name: batch[name].to(sampler.trained.device)}, _texts(sampler, {f"input_{name}": codes}) | arrays


def _attributes(typed: str) -> np.ndarray:
    """uint8 (40,): 1 for each of CelebA's attributes that was typed (equations 7.4)."""
    row = np.zeros(len(attribute_text.ATTRIBUTES), np.uint8)
    row[list(attributes_in(typed))] = 1
    return row
