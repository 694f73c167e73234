"""The folder of a dataset: built under a hidden name, in its place when it is complete."""

import errno
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmvae_cli.errors import Failure, UsageProblem, cannot_read, cannot_write
from mmvae_cli.files import is_abandoned, own_mark
from mmvae_cli.paths import refuse_dangling

_OURS_TO_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@contextmanager
def dataset_folder(folder: Path, *, force: bool) -> Iterator[Path]:
    """:func:`building`, but ``force`` replaces only a dataset: a slip in ``--out`` must cost no home folder."""
    if folder.exists() and force and not is_replaceable(folder):
        raise UsageProblem(f"{folder} exists and is no dataset; it is left alone", "choose another --out")
    with building(folder, force=force) as temporary:
        yield temporary


def is_replaceable(folder: Path) -> bool:
    """A dataset folder (even a damaged one), or an empty folder; never a link, a file or anything else."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    return (folder / "dataset.json").is_file() or not any(folder.iterdir())


@contextmanager
def building(folder: Path, *, force: bool) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that takes its place when the block ends well, and vanishes otherwise.

    An existing ``folder`` is refused without ``force``, and replaced only when the new one is complete.
    """
    refuse_dangling(folder)
    _restore_old(folder)
    if folder.exists() and not force:
        raise _exists(folder)
    temporary = folder.with_name(f".{folder.name}.tmp-{own_mark()}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for kind in ("tmp", "old"):
            for stale in folder.parent.glob(f".{glob.escape(folder.name)}.{kind}-*"):
                if is_abandoned(stale):
                    shutil.rmtree(stale, ignore_errors=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        _take_place(temporary, folder, force)
    except OSError as error:
        raise _explained(error, folder) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _exists(folder: Path) -> UsageProblem:
    return UsageProblem(f"{folder} exists", "give --force to replace it, or --out for another folder")


def _explained(error: OSError, folder: Path) -> Failure:
    """A source that cannot be read, or a folder that cannot be written."""
    at = Path(error.filename) if isinstance(error.filename, str) else folder
    if error.errno not in _OURS_TO_WRITE and not at.is_relative_to(folder.parent):
        return cannot_read(at, error)
    return cannot_write(folder, error)


def _restore_old(folder: Path) -> None:
    """A process killed between the two renames of :func:`_take_place` left only the old folder, under its hidden name:
    put it back, so that it stays until the new one is complete."""
    if not folder.exists():
        for old in folder.parent.glob(f".{glob.escape(folder.name)}.old-*"):
            if is_abandoned(old):
                with suppress(OSError):
                    os.replace(old, folder)
                return


def _take_place(new: Path, folder: Path, force: bool) -> None:
    """Put ``new`` where ``folder`` is. Another process may have finished a ``folder`` meanwhile: only ``force``
    replaces it. If the second rename fails, the old folder is put back."""
    old = folder.with_name(f".{folder.name}.old-{own_mark()}")
    if folder.exists():
        if not force:
            raise _exists(folder)
        os.replace(folder, old)
    try:
        os.rename(new, folder)
    except OSError:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
