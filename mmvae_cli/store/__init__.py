"""The dataset folder: what it says of itself, how it is written, read and made into batches."""

from mmvae_cli.store.fitting import of_recipe
from mmvae_cli.store.folder import Store, finish, new_array
from mmvae_cli.store.info import UNLABELLED, LabelInfo, ModalityInfo, SplitInfo, StoreInfo

__all__ = [
    "UNLABELLED", "LabelInfo", "ModalityInfo", "SplitInfo", "Store", "StoreInfo", "finish", "new_array", "of_recipe",
]  # fmt: skip
