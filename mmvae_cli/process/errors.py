"""The expected ways to fail, each with its documented exit code. Anything else is a bug and ends with code 1.

What the system refuses (an OSError) becomes one of them here, so that it is said alike everywhere.
"""

import errno
import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_DATA, EXIT_DIVERGED, EXIT_STOPPED, EXIT_INTERRUPTED = 0, 1, 2, 3, 4, 75, 130


class Failure(Exception):
    """An expected failure: one line that says what and where, and a hint that says what to do."""

    code = EXIT_FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        """The hint, where Python shows the error itself: in a notebook."""
        return [f"hint: {self.hint}"] if self.hint else []


class UsageProblem(Failure):
    """A wrong command, recipe or override."""

    code = EXIT_USAGE


class DataProblem(Failure):
    """Data that are missing or damaged."""

    code = EXIT_DATA


class Unreadable(DataProblem):
    """A file that may not be read, or not now. It may be whole: nothing but the access to it has to change."""


class Diverged(Failure):
    """A term of the bound became non-finite."""

    code = EXIT_DIVERGED


class Stopped(Failure):
    """A signal asked us to leave; what is needed to go on has been written."""

    code = EXIT_STOPPED


class Interrupted(Stopped):
    """A terminal's Ctrl-C asked us to leave."""

    code = EXIT_INTERRUPTED


class Abandoned(Stopped):
    """A signal asked us to leave while another process of the job had ended already; every process that is left says
    so."""


def in_one_line(error: BaseException) -> str:
    """An error of other people's code: its type and the first line of what it says."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first[:300]}" if first else type(error).__name__


OWN_FILES: set[str] = set()
"""Files of the user's own code that were run, by the name that a traceback has."""


def of_own_code(error: BaseException) -> Failure | None:
    """What the user's own code raised, or left by, with its line; None where it had no part in it."""
    if not (where := _own_line(error)):
        return None
    return UsageProblem(f"{where}: {in_one_line(error)}", "mend the code")


def where_in_own_code(error: BaseException) -> str:
    """`` (nets.py line 3)``; "" where the user's own code had no part in it."""
    return f" ({where})" if (where := _own_line(error)) else ""


def _own_line(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename in OWN_FILES:  # it has no frame
        return f"{error.filename} line {error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in OWN_FILES]
    return f"{frames[-1].filename} line {frames[-1].lineno}" if frames else ""


@contextmanager
def needing(what: str, package: str, extra: str, more: str = "") -> Iterator[None]:
    """The import of a package that not every installation has; ``more``: of the hint. Raises UsageProblem."""
    try:
        yield
    except ImportError as error:
        hint = f"pip install 'mmvae-cli[{extra}]'{more}"
        raise UsageProblem(f"{what} needs the package {package} ({error})", hint) from error


_OF_THE_MACHINE = (
    ("OutOfMemoryError", "the GPU has too little memory",
     "lower training.batch_size or evaluation.importance_samples, or keep the data out of it: training.data_on=host"),
    ("DefaultCPUAllocator", "this machine has too little memory", "lower training.batch_size"),
    ("no kernel image", "torch is not built for this kind of GPU",
     "install a torch whose CUDA version knows it (https://pytorch.org), or use --device cpu"),
    ("driver version is insufficient|driver on your system is too old", "the GPU's driver is too old for this torch",
     "update the driver, install a torch for an older CUDA, or use --device cpu"),
    ("busy or unavailable", "the GPU is taken by another process", "wait for it, or choose another: --device cuda:N"),
    ("CUDA error|CUDA driver|cuDNN|CUBLAS|NCCL", "the GPU failed",
     "run the same command again to go on; --device cpu does without it"),
)  # fmt: skip
"""What torch's errors mean that are no bugs of ours: words of the type or the message, what to say, what to do."""


def of_the_machine(error: Exception) -> Failure | None:
    """The failure of memory, GPU or driver that an error of torch stands for, in one line; None for any other."""
    text = f"{type(error).__name__}: {error}"
    for signs, message, hint in _OF_THE_MACHINE:
        if isinstance(error, RuntimeError) and re.search(signs, text):
            told = ". ".join(str(error).split("\n")[0].split(". ")[:2])
            return Failure(f"{message}: {told[:160]}", hint)
    return None


@contextmanager
def in_our_words() -> Iterator[None]:
    """A block for Python code that calls us: what fails in it and is no bug of ours is a Failure, as on the command
    line."""
    try:
        yield
    except Exception as error:
        if failed := of_the_machine(error) or of_own_code(error):
            raise failed from error
        raise


_PERMISSIONS = "check its permissions, and those of the folders above it"
_FULL = "free the disk, or choose another folder"
_BROKEN = "the disk or its server fails: try again, or ask who runs it"
_ADVICE = {
    errno.EACCES: _PERMISSIONS, errno.EPERM: _PERMISSIONS, errno.EROFS: "it can only be read: choose another disk",
    errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EFBIG: _FULL,
    errno.ENAMETOOLONG: "give a shorter path", errno.ELOOP: "a link there leads back to itself: give another path",
    errno.EBUSY: "something is mounted there, or uses it: choose another folder",
    errno.EMFILE: "allow more open files (ulimit -n)", errno.EIO: _BROKEN, errno.ESTALE: _BROKEN,
}  # fmt: skip
_WRONG_PATH = (errno.ENAMETOOLONG, errno.ELOOP)


def advice(error: Exception, usual: str) -> str:
    """What to do about ``error``: what its number says where it is the system's, else the ``usual``."""
    return _ADVICE.get(getattr(error, "errno", None) or 0, usual)


def cannot_read(path: os.PathLike[str], error: OSError) -> Unreadable:
    """The error for data that are there, or should be, but that the system does not let us read."""
    reason = error.strerror or str(error)
    return Unreadable(f"{path} cannot be read ({reason})", advice(error, "check that it is still there"))


def cannot_write(path: os.PathLike[str], error: OSError, kept: str = "") -> Failure:
    """``kept``: what is untouched by it, for the hint."""
    reason = error.strerror or str(error)
    hint = advice(error, "choose another folder")
    return Failure(f"cannot write {path}: {reason}", f"{hint}; {kept}" if kept else hint)


def of_system(error: OSError) -> Failure | None:
    """An OSError that no place expected, in a user's words; None where it has no number, and so is a bug."""
    if error.errno is None:
        return None
    kind = UsageProblem if error.errno in _WRONG_PATH else Failure
    where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    where = f"{where[:60]}..." if len(where) > 1000 else where
    message = f"{where}: {error.strerror}" if where else str(error.strerror)
    return kind(message, advice(error, "--debug shows where"))
