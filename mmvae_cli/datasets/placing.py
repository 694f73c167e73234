"""Where a dataset ends up: its folder, its preview picture, what the command says about it. Shared by every dataset."""

import json
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mmvae_cli import __version__, store
from mmvae_cli.datasets import repeats
from mmvae_cli.disk.files import write_atomic
from mmvae_cli.drawing import grids
from mmvae_cli.drawing.grids import Cell, Grid
from mmvae_cli.process import console
from mmvae_cli.process.paths import shown
from mmvae_cli.store import LabelInfo, ModalityInfo, SplitInfo, StoreInfo
from mmvae_cli.store.info import REPEATED

_COLUMNS, _LONGEST_HEAD = 10, 100


def finish(
    folder: Path, name: str, modalities: dict[str, ModalityInfo], counts: dict[str, int], labels: LabelInfo | None,
    provenance: dict[str, Any], notes: Sequence[str | None] = (), *, seed: int | None, own: bool = False,
) -> StoreInfo:  # fmt: skip
    """Write preview.png and dataset.json over the arrays in ``folder``; returns the complete info. ``counts``: items of
    each split. ``notes``: what is not the real thing, and so makes a stand-in of it, as do test images that are
    training images too. The user's ``own`` data stand in for nothing: of them the repeated images are noted by
    themselves."""
    import PIL

    versions = {"mmvae": __version__, "numpy": np.__version__, "pillow": PIL.__version__,
                "python": platform.python_version()}  # fmt: skip
    info = StoreInfo(
        name=name, modalities=modalities, splits={split: SplitInfo(count=count) for split, count in counts.items()},
        labels=labels, seed=seed, provenance=provenance | (versions if own else {"versions": versions}),
    )  # fmt: skip
    repeated = repeats.in_store(folder, info)
    if own and repeated:
        info = info.model_copy(update={"provenance": info.provenance | {REPEATED: "; ".join(repeated)}})
    stand_in = "; ".join(note for note in [*notes, *(() if own else repeated)] if note)
    info = info.model_copy(update={"stand_in": shown(stand_in) or None})
    write_atomic(folder / "preview.png", preview(folder, info).png())
    return store.finish(folder, info)


@contextmanager
def reported(folder: Path, *, as_json: bool) -> Iterator[None]:
    """A block that builds the dataset in ``folder``. Afterwards what lies there is said, and the product printed: its
    path, or one JSON document."""
    started = time.monotonic()
    yield
    opened = store.Store(folder, verify=False)
    info, seconds = opened.info, time.monotonic() - started
    counts = {name: split.count for name, split in info.splits.items()}
    sizes = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    console.say(f"{info.name}: {sizes} items of {len(info.modalities)} modalities ({', '.join(info.modalities)})")
    if info.stand_in:
        console.say(f"note: {info.stand_in}")
    console.say(f"took {console.duration(seconds)}; fingerprint {opened.fingerprint}; see {folder / 'preview.png'}")
    product = {"path": str(folder), "name": info.name, "counts": counts, "modalities": list(info.modalities),
               "fingerprint": opened.fingerprint, "stand_in": info.stand_in, "repeated": info.repeated,
               "seconds": round(seconds, 3)}  # fmt: skip
    console.result(json.dumps(product) if as_json else str(folder))


def preview(folder: Path, info: StoreInfo) -> Grid:
    """The paper's Figure 2 for any dataset: a row per modality, a column per tuple of the test split.

    Reads the arrays in ``folder``; dataset.json need not be there yet.
    """
    by_class = info.labels is not None and info.labels.kind == "class"
    labels = np.load(folder / "test" / "labels.npy", mmap_mode="r", allow_pickle=False) if by_class else None
    count = info.splits["test"].count
    items = _items(np.zeros(count) if labels is None else np.asarray(labels), _held(folder, info, count))
    rows = [_row(folder, name, known, items) for name, known in info.modalities.items()]
    names = info.labels.names if info.labels else ()
    heads = None if labels is None else [names[labels[item]][:_LONGEST_HEAD] for item in items]
    return Grid(rows, list(info.modalities), heads, title=f"{info.name}: {len(items)} items of the test split",
                about="Each column is one item, each row one modality.", origin=info.stand_in or "",
                scale=max(1, round(64 / grids.widest(rows))))  # fmt: skip


def _held(folder: Path, info: StoreInfo, count: int) -> np.ndarray:
    """How many modalities each item of the test split has, (count,)."""
    indices = [folder / "test" / f"{name}.index.npy" for name in info.modalities]
    lacking = [np.load(index, mmap_mode="r", allow_pickle=False) < 0 for index in indices if index.is_file()]
    return len(indices) - sum(lacking, np.zeros(count, np.int64))


def _items(labels: np.ndarray, held: np.ndarray) -> list[int]:
    """Up to ten items, as many of each class, chosen inside it and not always its first. An item with a hole is there
    only where its class has too few that have all: ``held`` counts the modalities of each."""
    classes = np.unique(labels)
    chosen = classes[np.linspace(0, len(classes) - 1, min(_COLUMNS, len(classes))).astype(int)]
    each = _COLUMNS // len(chosen)
    items: list[int] = []
    for k, label in enumerate(chosen):
        members = np.flatnonzero(labels == label)
        fullest = members[np.argsort(-held[members], kind="stable")]
        complete = int((held[members] == held.max()).sum())
        places = np.sort(fullest[: max(each, complete)])
        steps = (2 * (j * len(chosen) + k) + 1 for j in range(each))
        items += dict.fromkeys(int(places[len(places) * step // (2 * len(chosen) * each)]) for step in steps)
    return items


def _row(folder: Path, name: str, known: ModalityInfo, items: list[int]) -> list[Cell]:
    """A cell for each item; vectors with their bars on one scale, and numbers as they were measured."""
    contents = [_content(folder, name, known, item) for item in items]
    if known.kind != "vector":
        return ["absent" if content is None else grids.cell(known.kind, content) for content in contents]
    full = grids.full_bar([one for one in contents if one is not None], standardised=known.means is not None)
    return ["absent" if one is None else grids.cell("vector", one, known.features, full, _measured(one, known))
            for one in contents]  # fmt: skip


def _measured(content: np.ndarray, known: ModalityInfo) -> np.ndarray:
    """A vector (F,) in the unit that it was measured in."""
    if known.means is None or known.deviations is None:
        return content
    return content * np.array(known.deviations) + np.array(known.means)


def _content(folder: Path, name: str, known: ModalityInfo, item: int) -> Any:
    """The item's row, a text as a string; None where the item lacks it."""
    index = folder / "test" / f"{name}.index.npy"
    row = int(np.load(index, mmap_mode="r", allow_pickle=False)[item]) if index.is_file() else item
    if row < 0:
        return None
    content = np.array(np.load(folder / "test" / f"{name}.npy", mmap_mode="r", allow_pickle=False)[row])
    if known.kind == "text":
        return "".join((known.alphabet or "")[position] for position in content).strip(f" {known.fill or ''}")
    return content
