"""The only module that prints: the result goes to stdout, everything else to stderr.

On a terminal progress is one live line; elsewhere it is a plain line every 30 seconds (MMVAE_PROGRESS_SECONDS),
flushed, so that a cluster's log can be followed and searched. NO_COLOR and TERM=dumb are honoured; colour carries no
information.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from mmvae_cli.process.environment import seconds
from mmvae_cli.process.errors import Failure
from mmvae_cli.process.paths import is_odd, shown

_quiet = False
_rank = 0
_results: TextIO | None = None
"""Where results go while :func:`only_results` holds."""


def set_quiet(quiet: bool) -> None:
    """Drop messages and progress; warnings, errors and results stay."""
    global _quiet
    _quiet = quiet


def set_rank(rank: int) -> None:
    """Only rank 0 of a data-parallel job prints messages and results; errors of the others carry their rank."""
    global _rank
    _rank = rank


def open_closed_streams() -> None:
    """Open standard streams that the caller closed (``>&-``) to the null device. Otherwise the next file that is opened
    would get the number of one of them, and what is printed would land in that file."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - as long as the process
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _lead_nowhere(number: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def result(text: str) -> None:
    """Write the product to stdout; the last line a command prints there is a path or one JSON document. Raises
    BrokenPipeError where its reader is gone, Failure where it cannot be written."""
    if _rank:
        return
    stream = _results or sys.stdout
    encoding = stream.encoding or "utf-8"
    try:
        if is_odd(text) and encoding.lower() == "utf-8":  # a script that reads the path gets the name as it is
            stream.buffer.write(os.fsencode(f"{text}\n"))
            stream.flush()
        else:
            print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except OSError as error:
        _lead_nowhere(stream.fileno())  # or Python tries it once more at its end
        if isinstance(error, BrokenPipeError):
            raise
        raise Failure(
            f"cannot write to standard output: {error.strerror}", "send it to a file or to another program"
        ) from error


@contextmanager
def only_results() -> Iterator[None]:
    """A block in which standard output carries results alone. What code of the user's own prints, or a program that it
    starts, goes to stderr."""
    global _results
    usual, is_real = sys.stdout, _has_number(sys.stdout, 1)
    _results = open(os.dup(1), "w", encoding=usual.encoding) if is_real else usual  # noqa: SIM115 - closed below
    sys.stdout = sys.stderr
    try:
        if is_real:
            os.dup2(2, 1)
        yield
    finally:
        sys.stdout = usual
        if is_real:
            os.dup2(_results.fileno(), 1)
            _results.close()
        _results = None


def _has_number(stream: TextIO, number: int) -> bool:
    with suppress(OSError):  # what stands for it inside of a notebook or a test has none
        return stream.fileno() == number
    return False


@contextmanager
def _for_whoever_reads() -> Iterator[None]:
    """Write to stderr; that its reader or terminal is gone does not end the work."""
    try:
        yield
    except OSError:
        _lead_nowhere(2)


def tell(text: str) -> None:
    """A line on stderr, whole between those of other threads."""
    with _for_whoever_reads():
        print(f"{shown(text)}\n", end="", file=sys.stderr, flush=True)


def say(text: str) -> None:
    if not (_quiet or _rank):
        tell(text)


def warn(text: str) -> None:
    if not _rank:
        tell(f"warning: {text}")


def error(message: str, hint: str = "") -> None:
    tell(f"error: rank {_rank}: {message}" if _rank else f"error: {message}")
    if hint:
        tell(f"  hint: {hint}")


def is_live() -> bool:
    """Whether stderr is a terminal that can redraw a line."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") != "dumb"


class Progress:
    """Counts towards ``total`` and shows it; made by :func:`progress`."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done = self._first = 0
        self.start = self._shown = time.monotonic()
        self._hidden = _quiet or _rank > 0
        self._every = seconds("MMVAE_PROGRESS_SECONDS")
        self._note = ""
        self.live: Live | None = None
        if is_live() and not self._hidden:
            self.live = Live(console=Console(stderr=True), transient=True, auto_refresh=False)
            self.live.start()

    def start_at(self, done: int) -> None:
        """Begin from ``done`` (a resumed run), so that the rate counts only this process's work."""
        self.done = self._first = done

    def advance(self, amount: int = 1, note: str = "") -> None:
        """``note`` stays beside the count until another one comes."""
        self.done += amount
        self._note = note or self._note
        now = time.monotonic()
        if now - self._shown >= (0.1 if self.live else self._every) and not self._hidden:
            self._shown = now
            self._show()

    def _show(self) -> None:
        elapsed = time.monotonic() - self.start
        rate = (self.done - self._first) / elapsed if elapsed > 0 else 0.0
        left = (self.total - self.done) / rate if rate > 0 else float("inf")
        speed = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        line = f"{self.title}: {self.done:,}/{self.total:,} {self.unit}, {speed}/s, {duration(left)} left"
        line = f"{line}, {self._note}" if self._note else line
        if self.live:
            with _for_whoever_reads():
                self.live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)
        else:
            tell(line)


@contextmanager
def progress(title: str, total: int, unit: str) -> Iterator[Progress]:
    """A progress display that leaves the terminal clean however the block ends."""
    shown = Progress(title, total, unit)
    try:
        yield shown
    finally:
        if shown.live:
            with _for_whoever_reads():
                shown.live.stop()


def duration(seconds: float) -> str:
    """``75`` -> ``1m15s``; an unknown duration is ``?``."""
    if seconds == float("inf"):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def table(title: str, header: list[str], rows: list[list[str]]) -> str:
    """A plain text table: first column left, others right; fit for a log, a terminal and grep alike."""
    return f"{title}\n{ruled([header, *rows])}"


def number(value: float | None, digits: int = 3) -> str:
    """A number in a table; - where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def ruled(rows: list[list[str]]) -> str:
    """The rows as lines, the first one with a rule below it."""
    lines = aligned(rows)
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def aligned(rows: list[list[str]]) -> list[str]:
    """The rows as lines, first column left, others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = [[c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
             for row in rows]  # fmt: skip
    return ["  ".join(row).rstrip() for row in cells]
