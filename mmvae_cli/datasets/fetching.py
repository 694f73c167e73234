"""Downloads: into a folder of their own first, and in their place when they are complete."""

import contextlib
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mmvae_cli.process import signals
from mmvae_cli.process.errors import DataProblem, Stopped

_PATIENCE = 30  # seconds; a node without a route would otherwise wait for minutes


@contextlib.contextmanager
def downloading(beside: Path, missing: str, elsewhere: str) -> Iterator[Path]:
    """A folder in ``beside`` to download into. The block moves out of it what is complete, the rest vanishes.

    Raises DataProblem, whatever goes wrong: what is ``missing`` and why, and as a hint where to take it from
    ``elsewhere``.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE)
    try:
        beside.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(prefix=".download-", dir=beside) as folder,
            contextlib.redirect_stdout(sys.stderr),  # stdout is for the result
        ):
            yield Path(folder)
    except Stopped:
        raise
    except Exception as error:  # urllib, ssl, sockets, checksums, torchvision: each has its own
        signals.leave_if_requested("nothing was written")
        reason = str(error).strip().rstrip(":").splitlines() or [type(error).__name__]
        raise DataProblem(f"{missing} and cannot be downloaded ({reason[0][:120]})", elsewhere) from error
    finally:
        socket.setdefaulttimeout(before)
