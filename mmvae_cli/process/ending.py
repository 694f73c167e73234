"""How a command ends: every outcome is one line and one documented exit code."""

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from mmvae_cli.process import console
from mmvae_cli.process.environment import rank_and_size
from mmvae_cli.process.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    Failure,
    Interrupted,
    Stopped,
    UsageProblem,
    of_own_code,
    of_system,
    of_the_machine,
)
from mmvae_cli.process.paths import require_current


def rank_of_many() -> int | None:
    """This process's number in a job of several; None in one of one, or where RANK and WORLD_SIZE make no sense, which
    ``environment.check`` says."""
    try:
        rank, size = rank_and_size()
    except UsageProblem:
        return None
    return rank if size > 1 else None


def outcome(app: Callable[[], None], debug: bool) -> int:
    """Run the app, say in one line what went wrong, and return the exit code."""
    try:
        require_current()
        app()
    except Failure as failure:
        if debug:
            traceback.print_exc()
        if not (type(failure) in (Stopped, Interrupted) and rank_of_many()):  # the first process says it for all
            console.error(str(failure), failure.hint)
        return failure.code
    except SystemExit as end:
        if failed := of_own_code(end):
            console.error(str(failed), failed.hint)
            return failed.code
        if end.code == EXIT_INTERRUPTED:  # typer leaves in silence
            console.error("interrupted")
        return end.code if isinstance(end.code, int) else EXIT_FAILED if end.code else 0
    except KeyboardInterrupt:
        console.error("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_FAILED
    except Exception as error:
        if debug:
            traceback.print_exc()
        if failed := of_system(error) if isinstance(error, OSError) else of_the_machine(error) or of_own_code(error):
            console.error(str(failed), failed.hint)
            return failed.code
        console.error(f"{type(error).__name__}: {error}", "this is a bug; --debug shows the traceback")
        return EXIT_FAILED
    return 0


def leave(code: int) -> NoReturn:
    """End the process. One of several leaves without Python's clearing up: a thread of torch.distributed that still
    runs then would abort a command that is done."""
    if rank_of_many() is None:
        sys.exit(code)
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(code)
