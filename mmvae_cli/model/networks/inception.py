"""The Inception network in whose features FID is defined: torchvision's, in the variant that was ported from
TensorFlow's of 2015-12-05."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEATURES, CLASSES = 2048, 1008
_SIDE = 299


class Inception(nn.Module):
    """Images (b, 3, H, W) in [0, 1] -> features (b, 2048), the last maps averaged over all places. Always in eval mode;
    its state has the names that the ported weights have, those of its classes (``fc``) included."""

    def __init__(self) -> None:
        from torchvision.models import inception

        super().__init__()
        self.network: Any = inception.inception_v3(
            weights=None, aux_logits=False, num_classes=CLASSES, transform_input=False, init_weights=False
        )
        for name in ("5b", "5c", "5d", "6b", "6c", "6d", "6e", "7b", "7c"):
            _repool(getattr(self.network, f"Mixed_{name}"), _highest if name == "7c" else _average)
        self.classes, self.network.fc = self.network.fc, nn.Identity()
        self.eval()

    def load(self, weights: dict[str, Tensor]) -> None:
        """Take the ported weights. Raises ValueError with a name that is missing, too much, or of another shape."""
        own = self.network.state_dict() | {f"fc.{key}": value for key, value in self.classes.state_dict().items()}
        counted = {key: value.shape for key, value in own.items() if not key.endswith("num_batches_tracked")}
        given = {key: value.shape for key, value in weights.items() if not key.endswith("num_batches_tracked")}
        if odd := sorted(key for key in counted.keys() | given.keys() if counted.get(key) != given.get(key)):
            raise ValueError(f"{odd[0]} is {_said(given.get(odd[0]))}, and should be {_said(counted.get(odd[0]))}")
        self.network.load_state_dict({key: value for key, value in weights.items() if key.partition(".")[0] != "fc"})

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        sized = F.interpolate(x, (_SIDE, _SIDE), mode="bilinear", align_corners=False)
        return self.network(2 * sized - 1)


_average = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
_highest = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)


def _repool(block: Any, pool: Callable[[Tensor], Tensor]) -> None:
    """Give the pooling branch of a block, its last one, another pool than torchvision's."""

    def forward(x: Tensor) -> Tensor:
        return torch.cat([*block._forward(x)[:-1], block.branch_pool(pool(x))], 1)

    block.forward = forward


def _said(shape: torch.Size | None) -> str:
    return "not there" if shape is None else f"of shape {list(shape)}"
