"""What all fuzz tests share: how many cases, mutations of JSON documents, and the command run in this process."""

import copy
import io
import json
import os
import signal
import sys
import time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmvae_cli import cli

QUICK, THOROUGH = 200, 2000
CASES = pytest.mark.parametrize("cases", [QUICK, pytest.param(THOROUGH, marks=pytest.mark.slow)])
"""The one setting: every fuzz test runs QUICK cases, and THOROUGH ones where slow tests run."""
NEW = os.environ.get("MMVAE_FUZZ") == "new"
"""MMVAE_FUZZ=new draws cases that were never drawn before; otherwise they are the same each time."""
DOCUMENTED = {0, 1, 2, 3, 4, 75, 130}
TALLY: Counter[str] = Counter()
"""How the cases of the running test ended."""
PATIENCE = 120
"""Seconds after which a case counts as hanging."""


def hold(what, check, strategy, cases, properties):
    """``check`` holds for ``cases`` examples of ``strategy``; how they ended goes into the table of hostile input."""
    calm = [
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
        HealthCheck.large_base_example,
    ]
    chosen = settings(
        max_examples=cases, deadline=None, derandomize=not NEW, suppress_health_check=calm, print_blob=True
    )
    done = 0

    def counted(case):
        nonlocal done
        done += 1
        check(case)

    TALLY.clear()
    chosen(given(strategy)(counted))()
    assert done >= cases, "hypothesis may find that there are fewer; then the test says more than it does"
    assert sum(TALLY.values()) == done, "every case has one outcome"
    for outcome, count in TALLY.items():
        properties("hostile", [f"fuzzed {what}", outcome, count])


@dataclass(frozen=True)
class Outcome:
    """What a command did. ``stdout`` and ``stderr`` are real UTF-8 streams, so that an unprintable name shows."""

    code: int
    stdout: str
    stderr: str


def mmvae(*arguments) -> Outcome:
    """``mmvae ARGUMENTS`` as main() runs it; fails for a traceback, a bug's message, or an undocumented exit code."""
    argv = ["mmvae", *map(str, arguments)]
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    started, code = time.monotonic(), 0
    try:
        with mock.patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
            cli.main()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(bool(leaving.code))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    done = Outcome(code, _text(out), _text(err))
    TALLY[f"refused ({done.code})" if done.code else "done"] += 1
    assert time.monotonic() - started < PATIENCE, f"{argv} took {time.monotonic() - started:.0f} s"
    assert done.code in DOCUMENTED, f"{argv} ended with {done.code}\n{done.stderr}"
    for word in ("this is a bug", "pydantic", "Input should", "Value error"):
        assert word not in done.stderr, f"{argv}\n{done.stderr}"
    assert "Traceback" not in done.stdout + done.stderr, f"{argv}\n{done.stderr}"
    assert done.code == 0 or "error" in done.stderr.lower() or "Usage" in done.stderr, f"{argv} said nothing"
    return done


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode()


# values nobody expects ------------------------------------------------------------------------------------------------

NUMBERS = st.sampled_from(
    [0, -1, 1, 2, 255, 2**31, 2**63 - 1, 2**63, 2**64, -(2**70), 10**400, 0.0, -0.0, 0.5, 1e-320, 1e308, -1e308, 1e19]
)
STRINGS = st.sampled_from(
    ["", " ", "0", "nan", "null", "true", "1e3", "m0", "m0+m1", "m1+m0", "m0+m0", "+", "../..", "a/b", "\x00",
     "\x1b[2J", "\u202e", "\ud800", "é", "𝒳", "a" * 5000, "!!python/name:os.system", "<b>", "%s", "-1",
     "__class__", "keys"]
)  # fmt: skip
PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
JUNK = st.recursive(
    NUMBERS | STRINGS | PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRINGS | st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def places(document, prefix=()):
    """Every place of a JSON document, as a tuple of keys and positions."""
    yield prefix
    inside = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in inside:
        yield from places(value, (*prefix, key))


@st.composite
def mutated(draw, document, most=3):
    """``document`` with 1 to ``most`` values dropped, replaced, retyped, renamed, copied elsewhere, or nested."""
    changed = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, most))):
        every = list(places(changed))
        where = draw(st.sampled_from(every[1:] or every))
        if not where:
            return draw(JUNK)
        parent, key = _get(changed, where[:-1]), where[-1]
        action = draw(st.sampled_from(["drop", "replace", "number", "retype", "rename", "copy", "nest", "add"]))
        _ACTIONS[action](draw, changed, parent, key, every)
    return changed


def _get(document, where):
    for key in where:
        document = document[key]
    return document


def _retyped(value):
    if isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, str):
        return list(value[:20])
    return dict(enumerate(map(str, value))) if isinstance(value, list) else list(value) if value else 0


def _rename(draw, document, parent, key, every):
    if isinstance(parent, dict):
        parent[draw(STRINGS | st.text(max_size=8))] = parent.pop(key)


def _add(draw, document, parent, key, every):
    if isinstance(parent, dict):
        parent[draw(STRINGS | st.text(max_size=8))] = draw(JUNK)
    else:
        parent.append(draw(JUNK))


def _put(make):
    def put(draw, document, parent, key, every):
        parent[key] = make(draw, document, parent[key], every)

    return put


_ACTIONS = {
    "drop": lambda draw, document, parent, key, every: parent.pop(key),
    "replace": _put(lambda draw, document, value, every: draw(JUNK)),
    "number": _put(lambda draw, document, value, every: draw(NUMBERS)),
    "retype": _put(lambda draw, document, value, every: _retyped(value)),
    "copy": _put(lambda draw, document, value, every: copy.deepcopy(_get(document, draw(st.sampled_from(every))))),
    "nest": _put(lambda draw, document, value, every: [value]),
    "rename": _rename,
    "add": _add,
}


@st.composite
def json_texts(draw, document):
    """A mutated document as bytes, sometimes broken as a text too: cut, a byte changed, a key twice, NaN, depth."""
    text = json.dumps(draw(mutated(document)), indent=draw(st.sampled_from([None, 1])))
    damage = draw(st.sampled_from(["none"] * 6 + ["cut", "byte", "twice", "nan", "infinite", "digits", "deep", "junk"]))
    at = draw(st.integers(0, max(0, len(text) - 1)))
    if damage == "cut":
        text = text[:at]
    elif damage == "twice":
        text = text.replace("{", '{"version": 1, "version": 1, ', 1)
    elif damage in ("nan", "infinite", "digits", "deep"):
        value = {"nan": "NaN", "infinite": "-1e999", "digits": "9" * 5000, "deep": "[" * 10_000 + "]" * 10_000}[damage]
        text = text.replace("1", value, 1)
    content = text.encode()
    if damage == "byte":
        content = content[:at] + bytes([draw(st.integers(0, 255))]) + content[at + 1 :]
    return draw(st.binary(max_size=60)) if damage == "junk" else content


def replace_file(path: Path, content: bytes) -> None:
    """Write anew, never through a link: what is shared with other folders stays as it is."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)
