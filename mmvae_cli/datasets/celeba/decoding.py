"""Decoding CelebA's JPEGs with all cores, straight into arrays on disk.

Processes, not threads: Pillow gives up the interpreter's lock only inside its longest calls, and an image is a hundred
short ones. On 4 cores, threads decode 1,800 images a second and processes 4,800.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np

from mmvae_cli import store
from mmvae_cli.datasets.celeba import files
from mmvae_cli.datasets.celeba.files import SIDE, Images
from mmvae_cli.process import console, cores, signals
from mmvae_cli.process.errors import Failure, Unreadable

_BATCH = 128
_WORTH_A_PROCESS = 1024  # images; starting one takes as long as decoding some 500


def decode_all(folder: Path, source: Path, wanted: dict[str, list[str]]) -> dict[str, dict[int, str]]:
    """Decode the images ``wanted`` (array -> image names) into arrays ``folder/array`` uint8 (N, 3, 64, 64).

    Returns array -> {row: reason} for the images that could not be decoded; their rows stay zero.
    """
    tasks = []
    for array, names in wanted.items():
        store.new_array(folder, array, (len(names), 3, SIDE, SIDE))
        tasks += [(folder, array, first, names[first : first + _BATCH]) for first in range(0, len(names), _BATCH)]
    bad: dict[str, dict[int, str]] = {array: {} for array in wanted}
    total = sum(len(names) for names in wanted.values())
    with console.progress("decoding", total, "images") as shown, _results(source, tasks, total) as results:
        for array, done, damaged in results:
            bad[array] |= damaged
            shown.advance(done)
            signals.leave_if_requested("nothing was written")
    return bad


_Task = tuple[Path, str, int, list[str]]
_Result = tuple[str, int, dict[int, str]]


@contextmanager
def _results(source: Path, tasks: list[_Task], total: int) -> Iterator[Iterator[_Result]]:
    """The results of all tasks in any order; by processes where that is worth it."""
    workers = min(cores.usable(), total // _WORTH_A_PROCESS)
    if workers < 2:
        try:
            yield (_decode(source, *task) for task in tasks)
        finally:
            _opened.cache_clear()
        return
    # spawn: a fork would copy the locks of whatever threads the caller has
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_watch_parent)
    try:
        with _signals_held():
            futures = [pool.submit(_decode, source, *task) for task in tasks]
        yield (future.result() for future in as_completed(futures))
    except BrokenProcessPool as error:
        raise Failure("a decoding process was killed", "free some memory and run the same command again") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Processes started inside never hear signals: a cluster sends them to all, and the parent alone answers them.

    The pool exists before this, as its first lock starts Python's resource tracker, which resets the mask.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals.ALL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _watch_parent() -> None:
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@cache
def _opened(source: Path) -> Images:
    """The source, opened once in each process."""
    return files.open_images(source)


def _decode(source: Path, folder: Path, array: str, first: int, names: list[str]) -> _Result:
    """Write rows ``first``.. of an array. It is mapped anew each time, so that its pages do not stay in memory."""
    rows: Any = np.load(folder / array, mmap_mode="r+")
    damaged, images = {}, _opened(source)
    for row, name in enumerate(names, first):
        try:
            rows[row] = files.decode(images.read(name))
        except Unreadable:
            raise
        except Exception as error:  # a decoder fails in its own ways; each of them means this image
            damaged[row] = " ".join(str(error).split())[:80] or type(error).__name__
    return array, len(names), damaged
