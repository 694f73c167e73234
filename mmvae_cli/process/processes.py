"""Which process is meant. Its number alone does not say: two containers may share a host's name and have a process 1
each, and a number is used again."""

import hashlib
import os
import socket
import uuid
from functools import cache
from pathlib import Path

PROC = Path("/proc")


@cache
def place() -> str:
    """Eight hex digits for where a process's number means what it means here: this host, since it was started, and the
    process namespace, of which every container has its own. Where the system has namespaces and does not name them,
    nobody else's digits."""
    return hashlib.blake2b(_place().encode(), digest_size=4).hexdigest()


def _place() -> str:
    if not (PROC / "self").exists():  # macOS
        return socket.gethostname()
    try:
        boot = (PROC / "sys" / "kernel" / "random" / "boot_id").read_text()
        return f"{socket.gethostname()} {boot} {os.readlink(PROC / 'self' / 'ns' / 'pid')}"
    except OSError:
        return uuid.uuid4().hex


def exists(pid: int) -> bool:
    """Whether this place has a process of that number."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def started(pid: int) -> int | None:
    """When a process of this place began, in clock ticks since the host's start: tells it from a later one of the same
    number. None where the system does not say."""
    try:
        if os.readlink(PROC / "self") != str(os.getpid()):  # another namespace's numbers
            return None
        return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
