"""The Typer app: five verbs. Each parses, calls one function, prints. No torch at import time."""

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from mmvae_cli import __version__, console, signals
from mmvae_cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, Failure

app = typer.Typer(
    name="mmvae", rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True, add_completion=False,
    help="Multimodal VAEs as one model over a family of modality subsets.\n\n"
    "Exit codes: 0 done, 1 failed, 2 wrong command or recipe, 3 data missing or damaged, 4 training diverged, "
    "75 stopped by a signal with the state written (run the same command again), 130 interrupted.",
)  # fmt: skip

DataDir = Annotated[
    Path, typer.Option("--data-dir", envvar="MMVAE_DATA_DIR", help="Where datasets are.", show_default=True)
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No messages, no progress; warnings and errors stay.")]
Debug = Annotated[bool, typer.Option("--debug", envvar="MMVAE_DEBUG", help="Show the traceback of an error.")]
DATA_DIR = Path("data")


make_dataset = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Build or import a dataset.")
app.add_typer(make_dataset, name="make-dataset")


def _version(wanted: bool) -> None:
    if wanted:
        console.result(f"mmvae {__version__}")
        raise typer.Exit


@app.callback()
def _root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    pass


def main() -> None:
    """Run the app and turn every outcome into one documented exit code."""
    debug = "--debug" in sys.argv or os.environ.get("MMVAE_DEBUG", "") not in ("", "0")
    signals.install()
    try:
        app()
    except Failure as failure:
        if debug:
            traceback.print_exc()
        console.error(str(failure), failure.hint)
        sys.exit(failure.code)
    except KeyboardInterrupt:
        console.error("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)
    except Exception as error:
        if debug:
            traceback.print_exc()
        console.error(f"{type(error).__name__}: {error}", "this is a bug; --debug shows the traceback")
        sys.exit(EXIT_FAILED)
