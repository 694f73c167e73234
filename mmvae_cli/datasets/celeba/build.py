"""Bimodal CelebA: a face and its attributes as text (the paper, section 4.3 and appendix; equations 7.4).

The official files are read where they lie (:mod:`files`), every image is decoded once, by all cores, and goes
straight into the store's array on disk: memory does not grow with the number of images.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mmvae_cli import store
from mmvae_cli.datasets import building, placing
from mmvae_cli.datasets.celeba import cartoon_faces, decoding, files
from mmvae_cli.datasets.celeba.files import SIDE, Damage, Faces
from mmvae_cli.process import console
from mmvae_cli.process.errors import DataProblem, UsageProblem
from mmvae_cli.store import LabelInfo, ModalityInfo, StoreInfo, attribute_text, text

NAME = "celeba"
SPLITS = ("train", "validation", "test")
COMPLETE = 202_599
MODALITIES = {
    "image": ModalityInfo(kind="image", shape=(3, SIDE, SIDE)),
    "text": ModalityInfo(
        kind="text", shape=(attribute_text.LENGTH,), alphabet=text.ALPHABET, placement="fixed", fill="*"
    ),
}  # fmt: skip
LABELS = LabelInfo(kind="attributes", names=attribute_text.ATTRIBUTES)
COLUMNS = {
    18: (4, 5, 8, 9, 11, 12, 15, 17, 18, 20, 21, 22, 26, 28, 31, 32, 33, 35),
    40: tuple(range(len(attribute_text.ATTRIBUTES))),
}
"""How many attributes a vector holds -> which: those that Wu and Goodman (2018) took for visually distinctive; all."""


def build(
    folder: Path, data_dir: Path, *, source: str | None = None, count: int = cartoon_faces.COUNT,
    limit: int | None = None, seed: int = 0, skip_damaged: bool = False, attributes: int | None = None,
    texts_at_first: bool = False, force: bool = False,
) -> StoreInfo:  # fmt: skip
    """Build the store at ``folder``. ``source``: a folder with the official files, ``embedded`` for ``count`` cartoon
    faces, None for the official files under ``data_dir`` or, failing that, torchvision's download.

    ``attributes``: 18 or 40 of them are a modality too, a vector of zeros and ones.
    ``limit``: at most so many images, shared out over the splits in proportion. ``skip_damaged``: leave out what is
    damaged instead of refusing. ``texts_at_first``: texts begin at the first of their places, not at a drawn
    one. Raises UsageProblem for settings that make no dataset and DataProblem for files that are missing or damaged.
    """
    if attributes not in (None, *COLUMNS):
        raise UsageProblem(f"--attributes {attributes}: there are the 18 of MVAE, or all 40", "give 18 or 40")
    if limit is not None and limit < len(SPLITS):
        raise UsageProblem(f"--limit {limit} is below the {len(SPLITS)} splits", "each split needs at least one image")
    embedded = source == "embedded"
    official = None if embedded else _find_source(source, data_dir)
    if official is not None and official.resolve().is_relative_to(folder.resolve()):  # no older dataset to replace
        raise UsageProblem(f"{folder} holds the official files", "give --out DIR, another folder for the dataset")
    with building.dataset_folder(folder, force=force) as new:
        if embedded:
            cartoon_faces.write(official := new / "official", count, seed)
        official = official or _download(data_dir)
        console.say(f"reading {cartoon_faces.STAND_IN if embedded else official}")
        faces = files.read(official)
        _complain(official, faces.damage, skip_damaged)
        modalities, columns = dict(MODALITIES), COLUMNS[attributes] if attributes else ()
        if columns:
            names = tuple(attribute_text.ATTRIBUTES[column] for column in columns)
            modalities["attributes"] = ModalityInfo(kind="vector", shape=(len(names),), features=names)

        def text_of(row: int) -> str:
            return attribute_text.render(faces.attributes[row], faces.names[row], seed, at_first=texts_at_first)

        counts, left_out = _write_splits(new, official, faces, limit, text_of, skip_damaged, columns)
        if embedded:
            shutil.rmtree(official)
        total = sum(counts.values())
        part = None if total == COMPLETE else f"subset of CelebA: {total:,} of {COMPLETE:,} images"
        notes = [cartoon_faces.STAND_IN if embedded else part, attribute_text.AT_FIRST if texts_at_first else None]
        return placing.finish(new, NAME, modalities, counts, LABELS, {
            "source": "generated" if embedded else "CelebA, aligned and cropped (Liu et al. 2015)",
            "limit": limit, "left_out": [str(kind) for kind in [*faces.damage, *left_out]],
        }, notes, seed=seed)  # fmt: skip


# --- sources ---------------------------------------------------------------------------------------------------------


def _find_source(source: str | None, data_dir: Path) -> Path | None:
    if source is not None:
        return Path(source)
    here = (data_dir / NAME, data_dir / "sources" / NAME)
    return next((folder for folder in here if files.is_source(folder)), None)


def _download(data_dir: Path) -> Path:
    """The official files by torchvision, into DATA_DIR/sources/celeba, where the next build finds them."""
    root = data_dir / "sources"
    hint = f"download CelebA yourself and give --source DIR ({files.LAYOUT}), or try --source embedded"
    console.say(f"no CelebA under {data_dir}: downloading 1.4 GB to {root / NAME}")
    try:
        from torchvision.datasets import CelebA

        root.mkdir(parents=True, exist_ok=True)
        CelebA(str(root), split="all", download=True)
    except Exception as error:  # gdown, urllib, zipfile and torchvision each have their own
        reason = " ".join(str(error).split())[:200]
        raise DataProblem(f"CelebA could not be downloaded ({type(error).__name__}: {reason})", hint) from error
    return root / NAME


def _complain(source: Path, damage: list[Damage], skip: bool) -> None:
    """Refuse the damage, or name what is left out. Raises DataProblem."""
    if damage and not skip:
        problems = "; ".join(str(kind) for kind in damage)
        raise DataProblem(
            f"{source}: {problems}; nothing was built", "repair the files, or leave these out with --skip-damaged"
        )
    for kind in damage:
        console.warn(f"left out: {kind}")


# --- splits ----------------------------------------------------------------------------------------------------------


def share_out(available: list[int], limit: int | None) -> list[int]:
    """How many images of each split: all, or ``limit`` in total in proportion, one at least (largest remainders)."""
    if limit is None or limit >= sum(available):
        return available
    exact = [limit * n / sum(available) for n in available]
    taken = [max(1, int(share)) for share in exact]
    for split in sorted(range(len(exact)), key=lambda i: int(exact[i]) - exact[i]):
        taken[split] += sum(taken) < limit
    while sum(taken) > limit:
        taken[taken.index(max(taken))] -= 1
    return taken


def _write_splits(
    folder: Path, source: Path, faces: Faces, limit: int | None, text_of: Callable[[int], str], skip: bool,
    columns: tuple[int, ...],
) -> tuple[dict[str, int], list[Damage]]:  # fmt: skip
    """Write all arrays of all splits; returns images per split and what could not be decoded."""
    rows = [np.flatnonzero(faces.partition == number) for number in range(len(SPLITS))]
    if empty := [split for split, items in zip(SPLITS, rows, strict=True) if not len(items)]:
        raise DataProblem(f"{source}: no image in the split {empty[0]}", files.LAYOUT)
    kept = [items[:n] for items, n in zip(rows, share_out([len(items) for items in rows], limit), strict=True)]
    wanted = {f"{split}/image.npy": [faces.names[row] for row in items]
              for split, items in zip(SPLITS, kept, strict=True)}  # fmt: skip
    bad = decoding.decode_all(folder, source, wanted)
    where = [f"{wanted[name][at]}: {reason}" for name, damaged in bad.items() for at, reason in sorted(damaged.items())]
    damage = [Damage("unreadable images", where)] if where else []
    _complain(source, damage, skip)
    counts = {}
    for split, items in zip(SPLITS, kept, strict=True):
        good = np.delete(items, list(dropped := bad[f"{split}/image.npy"]))
        if not len(good):
            raise DataProblem(f"{source}: no readable image in the split {split}", "copy the images again")
        if dropped:
            _close_gaps(folder, f"{split}/image.npy", np.delete(np.arange(len(items)), list(dropped)))
        _write_text(folder, split, faces, good, text_of)
        if columns:
            vectors: Any = store.new_array(folder, f"{split}/attributes.npy", (len(good), len(columns)), np.float32)
            vectors[...] = faces.attributes[good][:, list(columns)]
        counts[split] = len(good)
    return counts, damage


def _close_gaps(folder: Path, name: str, keep: np.ndarray) -> None:
    old: Any = np.load(folder / name, mmap_mode="r")
    new: Any = store.new_array(folder, f"{name}.new", (len(keep), *old.shape[1:]))
    building.fill(new, lambda rows: old[rows], keep)
    (folder / f"{name}.new").replace(folder / name)


def _write_text(folder: Path, split: str, faces: Faces, rows: np.ndarray, text_of: Callable[[int], str]) -> None:
    strings: Any = store.new_array(folder, f"{split}/text.npy", (len(rows), attribute_text.LENGTH))
    labels: Any = store.new_array(folder, f"{split}/labels.npy", (len(rows), len(attribute_text.ATTRIBUTES)))
    labels[...] = faces.attributes[rows]

    def rendered(some: np.ndarray) -> np.ndarray:
        return text.encode([text_of(row) for row in some], attribute_text.LENGTH)

    with console.progress(f"writing {split}/text.npy", len(rows), "texts") as shown:
        building.fill(strings, rendered, rows, shown)
