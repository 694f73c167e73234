"""Which process is meant. A number alone does not say it: two containers may share a host's name, and numbers are used
again."""

import hashlib
import os
import socket
import uuid
from functools import cache
from pathlib import Path

PROC = Path("/proc")


@cache
def host_id() -> str:
    """Eight hex digits for the host (since it was started) and the container, within which a process number is unique.
    Containers are told apart by their process namespace; where Linux does not name it, the digits are random."""
    return hashlib.blake2b(_host().encode(), digest_size=4).hexdigest()


def _host() -> str:
    if not (PROC / "self").exists():  # macOS
        return socket.gethostname()
    try:
        boot = (PROC / "sys" / "kernel" / "random" / "boot_id").read_text()
        return f"{socket.gethostname()} {boot} {os.readlink(PROC / 'self' / 'ns' / 'pid')}"
    except OSError:
        return uuid.uuid4().hex


def exists(pid: int) -> bool:
    """Whether a process of that number runs on this host, in this container."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def started(pid: int) -> int | None:
    """When a process here began, in clock ticks since the host's start. It tells a process from a later one with the
    same number. None where the system does not say."""
    try:
        if os.readlink(PROC / "self") != str(os.getpid()):  # another namespace's numbers
            return None
        return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
