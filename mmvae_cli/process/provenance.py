"""Which state of the program's source is running. No torch."""

import json
import os
import subprocess
from importlib import metadata
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
Answer = tuple[str | None, str | None]


def commit(source: Path = SOURCE) -> Answer:
    """The commit of the source, with ``-dirty`` where files differ from it, and None; or None and why it is unknown.

    Asked of git where the program runs from a checkout; of pip's record (PEP 610) where it was installed from git.
    """
    if (source / ".git").exists():  # never another repository in which the program happens to be installed
        return _of_checkout(source)
    try:
        record = json.loads(metadata.distribution("mmvae-cli").read_text("direct_url.json") or "{}")
        return record["vcs_info"]["commit_id"], None
    except (metadata.PackageNotFoundError, OSError, ValueError, KeyError, TypeError):
        return None, "installed from a package that does not say its commit"


def _of_checkout(source: Path) -> Answer:
    command = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=False,
            env=clean | {"GIT_OPTIONAL_LOCKS": "0"}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return None, f"git could not be asked ({type(error).__name__})"
    if done.returncode:
        return None, f"git does not say ({' '.join(done.stderr.split())[:120]})"
    return done.stdout.strip(), None
