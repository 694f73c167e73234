"""What dataset.json says of a dataset: modalities, splits, labels, files. No torch."""

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_serializer

from mmvae_cli.process.paths import shown
from mmvae_cli.recipe.kinds import KINDS
from mmvae_cli.recipe.wording import first_problem

REPEATED = "repeated"
"""The key of the provenance that says which test images are training images too."""
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def __init__(self, **fields: Any) -> None:
        """Raises ValueError in our words, also in a script that describes a dataset of its own."""
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise ValueError(first_problem(error)) from None


class ModalityInfo(_Part):
    """One modality of a store. ``shape``: (C, H, W) of an image, (L,) of a text, (F,) of a vector.

    Of a vector: ``features`` are the names of its numbers; where they were standardised, a number x stands for
    x * ``deviations`` + ``means`` in the unit that they were measured in.
    """

    kind: str
    shape: tuple[int, ...] = Field(min_length=1, max_length=3)
    alphabet: str | None = None
    placement: Literal["fixed", "random"] = "fixed"
    fill: str | None = None
    """text only. ``fixed``: rows are used as they are. ``random``: a row holds the string at its left end, the rest
    is ``fill``; training moves it to a start drawn anew at each access, evaluation to one drawn once."""
    features: tuple[str, ...] | None = None
    means: tuple[float, ...] | None = None
    deviations: tuple[float, ...] | None = None

    def model_post_init(self, context: Any) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r} is not one of {', '.join(KINDS)}")
        if len(self.shape) != len(KINDS[self.kind].sides):
            raise ValueError(f"{self.kind} data have the shape ({', '.join(KINDS[self.kind].sides)})")
        if KINDS[self.kind].has_alphabet and not self.alphabet:
            raise ValueError(f"{self.kind} data have an alphabet")
        if min(self.shape) < 1:
            raise ValueError("every side of a shape is at least 1")
        if self.placement == "random" and (self.fill is None or self.fill not in (self.alphabet or "")):
            raise ValueError("randomly placed text needs a fill character from its alphabet")
        for key in _OF_VECTORS:
            if (known := getattr(self, key)) is not None and (self.kind != "vector" or len(known) != self.shape[0]):
                raise ValueError(f"{key}: one for each number of a vector")

    @model_serializer(mode="wrap")
    def _as_ever(self, usual: Any) -> dict[str, Any]:
        """Without what only vectors have, so that the fingerprints of other data stay what they were."""
        return {key: value for key, value in usual(self).items() if value is not None or key not in _OF_VECTORS}


_OF_VECTORS = ("features", "means", "deviations")


class SplitInfo(_Part):
    count: int = Field(ge=1)


class FileInfo(_Part):
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    shape: tuple[int, ...]
    dtype: str


class LabelInfo(_Part):
    """``class``: one of ``names`` per item; ``attributes``: any of ``names`` per item."""

    kind: Literal["class", "attributes"]
    names: tuple[str, ...] = Field(min_length=1)


UNLABELLED = LabelInfo(kind="class", names=("unlabelled",))
"""Data without labels, where labels are asked for: all items of one class."""


class StoreInfo(_Part):
    """The content of dataset.json. ``labels``: None for data without any. ``version``: 2 where an index marks items as
    absent (-1), which readers of version 1 alone do not know; else 1."""

    format: Literal["mmvae-dataset"] = "mmvae-dataset"
    version: Literal[1, 2] = 1
    name: str = Field(pattern=_NAME)
    modalities: dict[str, ModalityInfo] = Field(min_length=1)
    splits: dict[str, SplitInfo] = Field(min_length=1)
    labels: LabelInfo | None = None
    stand_in: str | None = None
    """Says what is not the real thing (generated pictures, a subset); shown wherever results are."""
    seed: int | None = None
    provenance: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, FileInfo] = Field(default_factory=dict)

    @property
    def repeated(self) -> str | None:
        """Of own data: how many test images are training images too, where it is more than a handful."""
        known = self.provenance.get(REPEATED)
        return str(known) if known else None

    @property
    def key_files(self) -> set[str]:
        """Files of items' names; where bytes are no names, it is a modality that is called keys."""
        return {name for name, file in self.files.items() if name.endswith("/keys.npy") and file.dtype.startswith("|S")}

    @field_validator("stand_in", "provenance", mode="before")
    @classmethod
    def _for_any_reader(cls, value: Any) -> Any:
        return shown(value)

    def model_post_init(self, context: Any) -> None:
        for name in self.modalities:
            if not re.fullmatch("[A-Za-z0-9_-]{1,64}", name):
                raise ValueError(f"modality name {name!r}: letters, digits, '_' and '-' only, 64 at most")
        if not {"train", "test"} <= set(self.splits):
            raise ValueError("the splits 'train' and 'test' must be there")
        for name in self.files:
            if Path(name).is_absolute() or ".." in Path(name).parts or Path(name).suffix != ".npy":
                raise ValueError(f"file {name!r} is not a plain .npy path inside the folder")
