"""How the classifiers of generated samples are trained: until they get no better on held-out training items."""

import copy
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from mmvae_cli.compute.seeds import derive
from mmvae_cli.evaluation.encoding import Evaluation
from mmvae_cli.evaluation.scores import average_precision
from mmvae_cli.process import console, signals
from mmvae_cli.process.errors import DataProblem
from mmvae_cli.recipe.kinds import KINDS
from mmvae_cli.store import batches

BATCH, LEARNING_RATE = 128, 2e-3
EVERY, LEAST, MOST = 100, 300, 5000
"""Steps: between two looks at the held-out items; before the training may end; after which it ends anyway."""
PATIENCE, GAIN = 1 / 3, 0.001
"""The training ends when this last share of it has not made the score on the held-out items better by so much."""
MEMORY = 8
"""The weights that are scored and kept are a mean in which the last 1 / (MEMORY + 1) of all steps weigh most."""
SHIFT = 14
"""Images are moved by this part of their side at most: two pixels of 28."""
SOFT, BLUR, CONTRAST = 4, (1 / 70, 1 / 17), (0.3, 1.0)
"""One row of so many is softened: images are blurred by a Gaussian of 0.4 to 1.6 pixels of 28; what varies keeps this
share."""
HELD_OUT, ROWS_A_LABEL = 2000, 10


class Score(NamedTuple):
    """Accuracy, or average precision averaged over the attributes that occur and by attribute."""

    value: float
    per_label: dict[str, float | None]


def train(name: str, network: nn.Module, evaluation: Evaluation) -> Score:
    """Train ``network`` on a modality of the training split; returns its score on the test split, which has no other
    part in it. A function of the data alone.

    Adam at a constant rate, the weights averaged over the steps (polynomial decay: Shamir and Zhang 2013), which does
    what a falling rate does, but can end at any time. The released code has the weights only, no training
    (equations 8.4).
    """
    seed = derive(0, "classifier", name)
    torch.manual_seed(seed)
    for module in network.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
    for split in ("train", "test"):
        if not len(evaluation.store.complete(split, [name])):
            raise DataProblem(f"no item of {split} has {name}, so no classifier can learn it",
                              "measure without coherence: --metrics latent,likelihood")  # fmt: skip
    data = batches.Split(evaluation.store, "train", [name], evaluation.device, seed)
    labels = torch.from_numpy(evaluation.store.labels("train").astype("int64")).to(evaluation.device)
    learned, held_out = _divided(name, evaluation, seed)
    network.load_state_dict(_best(name, network, data, labels, learned.to(data.data_device), held_out, evaluation))
    return score(name, network, evaluation)


def _best(
    name: str, network: nn.Module, data: batches.Split, labels: Tensor, learned: Tensor, held_out: Tensor,
    evaluation: Evaluation,
) -> dict[str, Tensor]:  # fmt: skip
    """Averaged weights with the highest score on ``held_out``, the earlier ones where equal."""
    averaged = AveragedModel(network, avg_fn=_mean, use_buffers=True)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE, fused=True)
    seed, size = derive(0, "classifier", name), min(BATCH, len(learned))
    best, mark, found_at, kept = -math.inf, -math.inf, 0, network.state_dict()
    with console.progress(f"classifier of {name}", MOST, "steps (at most)") as shown:
        for step in range(MOST):
            signals.leave_if_requested("classifiers trained so far are kept")
            epoch, within = divmod(step, len(learned) // size)
            if within == 0:
                order = learned[batches.permutation(len(learned), seed, epoch, data.data_device)]
                data.begin(epoch)
            items = order[within * size : (within + 1) * size]
            network.train()
            x = _shifted(as_mean(data.batch(items)[name], evaluation, name))
            if evaluation.protocol.classifiers == "default":
                x = _softened(x)
            loss = _loss(network(x), labels[items])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            averaged.update_parameters(network)
            shown.advance()
            done = step + 1
            if done % EVERY and done < MOST:
                continue
            value = _score(name, averaged.module, data, held_out, labels, evaluation).value
            if value > best:
                best, kept = value, copy.deepcopy(averaged.module.state_dict())
            if value >= mark + GAIN:
                mark, found_at = value, done
            if done >= LEAST and found_at <= (1 - PATIENCE) * done:
                break
    return kept


def _shifted(x: Tensor) -> Tensor:
    """Images (B, C, H, W) moved by a few pixels, the same for all of them; what leaves at one side comes in at the
    other. Texts stay as they are. It is augmentation: labels do not change."""
    if x.dim() != 4:
        return x
    most = [side // SHIFT for side in x.shape[2:]]
    return x.roll([int(torch.randint(-m, m + 1, ())) for m in most], (2, 3))


def _softened(x: Tensor) -> Tensor:
    """The first quarter of a batch, made such as models generate it: images (B, C, H, W) blurred, pale, of a colour
    nearer to the mean; texts (B, L, V) and vectors (B, F) drawn towards the mean of the batch. A network that saw sharp
    data only calls a clear but blurred digit anything at all: at 1 pixel of blur its accuracy on PolyMNIST falls from
    0.99 to 0.03. Half of a batch makes it read blurred digits no better, and sharp ones worse (m2: 0.962, not 0.972).
    """
    from torchvision.transforms.functional import gaussian_blur  # takes a second

    some, others = x[: len(x) // SOFT], x[len(x) // SOFT :]
    if not len(some):
        return x
    left, colour = (_uniform(some, *bounds) for bounds in (CONTRAST, (0.0, 0.5)))
    if x.dim() != 4:
        middle = x.mean(0, keepdim=True)
        return torch.cat([middle + left * (some - middle), others])
    side = min(x.shape[2:])
    sigma = side * float(torch.empty(()).uniform_(*BLUR))
    some = gaussian_blur(some, [2 * min(math.ceil(2 * sigma), side - 1) + 1] * 2, [sigma] * 2)
    own = some.mean((2, 3), keepdim=True)
    middle = own.lerp(own.mean(0, keepdim=True), colour)
    return torch.cat([middle + left * (some - own), others])


def _uniform(rows: Tensor, low: float, high: float) -> Tensor:
    """A number for each row, in a shape that multiplies it."""
    return torch.empty(len(rows), *[1] * (rows.dim() - 1)).uniform_(low, high).to(rows.device)


def _mean(averaged: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
    """The weights' mean after ``count`` + 1 steps, of which the later ones weigh more; step counters are the last."""
    return averaged + (new - averaged) * (MEMORY + 1) / (count + 1 + MEMORY) if averaged.is_floating_point() else new


def _divided(name: str, evaluation: Evaluation, seed: int) -> tuple[Tensor, Tensor]:
    """Positions of training items to learn from, and of others to test on: a tenth of the stored rows, HELD_OUT at
    most. No held-out row is learned from through another item that shares it. Where there are too few rows (ten words,
    say), both are the same items."""
    index = evaluation.store.index("train", name)
    items = np.arange(evaluation.store.count("train")) if index is None else np.flatnonzero(index >= 0)
    moving = evaluation.store.info.modalities[name].placement == "random"  # each item then has its own text of a row
    rows = items if index is None or moving else index[items]
    used, first = np.unique(rows, return_index=True)
    mixed = batches.permutation(len(used), seed, 0, torch.device("cpu")).numpy()
    enough = len(used) >= ROWS_A_LABEL * len(evaluation.labels.names)
    chosen = mixed[: min(HELD_OUT, len(used) // 10) if enough else 0]
    learned = np.flatnonzero(~np.isin(rows, used[chosen]))
    learned = np.resize(learned, max(2, len(learned)))  # batch normalisation needs two
    held_out = first[chosen] if enough else first[mixed[:HELD_OUT]]
    return torch.from_numpy(items[learned]), torch.from_numpy(items[held_out])


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy for classes (B,); mean binary cross-entropy for attributes (B, A)."""
    if labels.ndim == 1:
        return F.cross_entropy(logits, labels)
    return F.binary_cross_entropy_with_logits(logits, labels.float())


def as_mean(x: Tensor, evaluation: Evaluation, name: str) -> Tensor:
    """The input of a classifier: data in the form of a likelihood's mean."""
    info = evaluation.store.info.modalities[name]
    return KINDS[info.kind].as_mean(x, len(info.alphabet or ""))


def score(name: str, network: nn.Module, evaluation: Evaluation) -> Score:
    """The score on all items of the test split; leaves the network in eval mode."""
    data = batches.Split(evaluation.store, "test", [name], evaluation.device, evaluation.spec.seed)
    labels = torch.from_numpy(evaluation.store.labels("test").astype("int64"))
    return _score(name, network, data, data.having(all_of_them=True), labels, evaluation)


@torch.no_grad()
def _score(
    name: str, network: nn.Module, data: batches.Split, items: Tensor, labels: Tensor, evaluation: Evaluation
) -> Score:  # fmt: skip
    network.eval()
    parts = []
    for some in items.split(512):
        signals.leave_if_requested("classifiers trained so far are kept")
        parts.append(network(as_mean(data.batch(some)[name], evaluation, name)).cpu())
    logits, truth = torch.cat(parts), labels[items].cpu()
    if truth.ndim == 1:
        return Score(float((logits.argmax(-1) == truth).double().mean()), {})
    per_label = {label: average_precision(logits[:, a].numpy(), truth[:, a].numpy())
                 for a, label in enumerate(evaluation.labels.names)}  # fmt: skip
    known = [value for value in per_label.values() if value is not None]
    return Score(sum(known) / len(known) if known else 0.0, per_label)
