"""Arrays as people have them, to what a model reads, and back: pictures, strings, numbers in their own unit."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmvae_cli.compute.seeds import derive
from mmvae_cli.process.errors import UsageProblem, in_one_line
from mmvae_cli.recipe import ModalitySpec, Recipe
from mmvae_cli.recipe.kinds import KINDS
from mmvae_cli.recipe.section import choice
from mmvae_cli.store import ModalityInfo, text
from mmvae_cli.store.fitting import strange

Arrays = dict[str, np.ndarray]


def as_batch(arrays: Mapping[str, Any], recipe: Recipe, info: Mapping[str, ModalityInfo]) -> dict[str, Tensor]:
    """modality -> data of N items, as a batch on the CPU, in the recipe's order.

    An image is uint8 (N, C, H, W) or numbers in [0, 1] of that shape, without C where it is 1. A text is N strings, in
    small letters where the alphabet has no others, or its positions in the alphabet, uint8 (N, L). A vector is (N, F),
    in the unit that the data were measured in. Raises UsageProblem for an unknown name, and for a shape, type or value
    that is none of these.
    """
    if not arrays:
        raise UsageProblem("no modality is given", f"give a mapping of {' or '.join(recipe.modalities)} to its data")
    for name in arrays:
        if name not in recipe.modalities:
            raise UsageProblem(f"modality {choice(str(name), list(recipe.modalities))}")
    names = [name for name in recipe.modalities if name in arrays]
    batch = {name: _modality(name, arrays[name], recipe, info[name]) for name in names}
    counts = {name: len(rows) for name, rows in batch.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise UsageProblem(f"the modalities have different numbers of items: {said}", "row i of each is item i")
    return batch


def _modality(name: str, given: Any, recipe: Recipe, info: ModalityInfo) -> Tensor:
    spec = recipe.modalities[name]
    array = as_array(name, given)
    if not array.ndim or not len(array):
        raise UsageProblem(f"{name}: no items", f"give an array {_form(spec)}")
    if spec.kind == "image":
        return _image(name, array, spec)
    if spec.kind == "text":
        return _text(name, array, info, recipe.evaluation.seed)
    return _vector(name, array, spec, info)


def as_array(name: str, given: Any) -> np.ndarray:
    """Arrays, tensors and lists as an array. Raises UsageProblem for lists whose rows differ in length."""
    if np.ma.is_masked(given):
        raise UsageProblem(f"{name}: some of its values are masked", "fill them, or leave their items out")
    try:
        if isinstance(given, Tensor):
            given = given.detach().cpu().to(torch.float32 if given.dtype == torch.bfloat16 else given.dtype)
        return np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        hint = "every item has the same shape, and numbers are of a type that numpy has"
        raise UsageProblem(f"{name}: no array can be made of it ({in_one_line(error)})", hint) from error


def _form(spec: ModalitySpec) -> str:
    return f"(N, {', '.join(map(str, spec.shape or ()))})"


def _shaped(name: str, array: np.ndarray, spec: ModalitySpec) -> np.ndarray:
    """``array`` (N, *shape); a side of 1 behind N may be left out. Raises UsageProblem for another shape."""
    shape = spec.shape or ()
    if array.shape[1:] == shape[1:] and shape[0] == 1:
        array = array[:, None]
    if array.shape[1:] == shape:
        return array
    hint = ""
    if array.shape == shape:
        hint = "one item is given: array[None] makes it N = 1"
    elif len(shape) == 3 and array.shape[1:] == (*shape[1:], shape[0]):
        hint = "channels come before height and width: array.transpose(0, 3, 1, 2)"
    raise UsageProblem(f"{name}: an array {array.shape} is not {spec.kind} data {_form(spec)}", hint)


def _image(name: str, array: np.ndarray, spec: ModalitySpec) -> Tensor:
    array = _shaped(name, array, spec)
    if array.dtype == np.uint8:
        return KINDS["image"].read(torch.from_numpy(array.copy()))
    return torch.from_numpy(fractions(name, array))


def fractions(name: str, array: np.ndarray) -> np.ndarray:
    """Pictures that are not bytes as float32 of the same shape. Raises UsageProblem for numbers outside [0, 1]."""
    if array.dtype.kind not in "fiu" or not array.size:
        raise UsageProblem(f"{name}: {array.dtype} {array.shape} is no image", "uint8, or numbers in [0, 1]")
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    if not (values.min() >= 0 and values.max() <= 1):  # NaN is neither
        low, high = values.min(), values.max()
        raise UsageProblem(
            f"{name}: numbers from {low:g} to {high:g}; an image that is not uint8 has numbers in [0, 1]",
            "for bytes array.astype(numpy.uint8); else divide by the largest value that there can be",
        )
    return values


def _text(name: str, array: np.ndarray, info: ModalityInfo, seed: int) -> Tensor:
    """Strings stand where evaluation places them: at the beginning, or where (seed, row) says."""
    (length,), alphabet = info.shape, info.alphabet or text.ALPHABET
    if array.dtype.kind not in "USO":
        if array.dtype != np.uint8 or array.shape[1:] != (length,) or array.max() >= len(alphabet):
            raise UsageProblem(
                f"{name}: {array.dtype} {array.shape} is no text",
                f"N strings, or positions below {len(alphabet)} in the alphabet, uint8 (N, {length})",
            )
        return torch.from_numpy(array.astype(np.int64))
    fill = info.fill or " "
    given = [one if {*one} <= {*alphabet} else text.plain(one) for one in strings(name, array)]
    rows = text.encode(given, length, fill=fill, alphabet=alphabet)
    if info.placement == "random":
        draws = text.uniforms(derive(seed, "text", name), text.FIXED_EPOCH, np.arange(len(rows)))
        lengths = text.word_lengths(rows, fill=fill, alphabet=alphabet)
        rows = text.move_words(rows, text.starts(lengths, length, draws))
    return torch.from_numpy(rows.astype(np.int64))


def strings(name: str, array: np.ndarray) -> list[str]:
    """N strings; bytes are UTF-8. Raises UsageProblem for anything else."""
    with suppress(UnicodeDecodeError):
        found = (np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array).tolist()
        if array.ndim == 1 and all(isinstance(one, str) for one in found):
            return [*found]
    raise UsageProblem(f"{name}: {array.dtype} {array.shape} is no text", "N strings, '' where there is none")


def _vector(name: str, array: np.ndarray, spec: ModalitySpec, info: ModalityInfo) -> Tensor:
    if array.dtype.kind not in "fiub":
        raise UsageProblem(f"{name}: {array.dtype} is no vector", f"numbers {_form(spec)}")
    values = _shaped(name, array, spec).astype(np.float64)
    if info.means is not None and info.deviations is not None:
        values = (values - np.array(info.means)) / np.array(info.deviations)
    with np.errstate(over="ignore"):
        rows = values.astype(np.float32)
    wrong = strange(rows, spec.likelihood) if np.isfinite(rows).all() else ~np.isfinite(rows)
    if wrong is not None:
        row, column = np.argwhere(wrong)[0].tolist()
        raise UsageProblem(
            f"{name}, row {row}, column {column}: {array.reshape(rows.shape)[row, column]} does not suit likelihood "
            f"{spec.likelihood}",
            "numbers are finite; counts are whole and from 0, bernoulli data lie in [0, 1]",
        )
    return torch.from_numpy(rows)


def as_given(rows: np.ndarray, info: ModalityInfo) -> np.ndarray:
    """Stored or generated rows (..., *shape) as people have them: pictures uint8 (..., C, H, W), texts as strings (...)
    without the padding around them, vectors (..., F) in the unit that they were measured in."""
    if info.kind == "text":
        return np.array(as_strings(rows.reshape(-1, rows.shape[-1]), info)).reshape(rows.shape[:-1])
    if info.means is not None and info.deviations is not None:
        return (rows * np.array(info.deviations) + np.array(info.means)).astype(np.float32)
    return rows


def as_strings(codes: np.ndarray, info: ModalityInfo) -> list[str]:
    """Positions (N, L) as N strings without the padding around them."""
    strings = text.decode(codes, alphabet=info.alphabet or text.ALPHABET)
    return [string.strip(f" {info.fill or ''}") for string in strings]
