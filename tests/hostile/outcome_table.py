"""One table of everything hostile that was tried: class of input, cases, outcome. Written as the tests run.

A test adds its cases with the fixture ``outcomes``; they travel with its report, also from another process (xdist), and
end in build/hostile.md and in the terminal summary.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

KEY = "hostile"
ROOMS = ("/hostile/", "/fuzz/", "/test_guarded_numbers.py")
TARGET = Path(__file__).parents[2] / "build" / "hostile.md"


class Outcomes:
    """Cases of one test: ``add("pickle in a tensor file", "refused (3)")``."""

    def __init__(self, properties: list[tuple[str, object]]) -> None:
        self._properties = properties

    def add(self, kind: str, outcome: str, cases: int = 1) -> None:
        self._properties.append((KEY, [kind, outcome, cases]))


class OutcomeTable:
    """Collects the cases of all reports; of a failed test only that it failed."""

    def __init__(self) -> None:
        self.kinds: dict[str, Counter[str]] = {}
        self.red: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not any(room in f"/{report.nodeid}" for room in ROOMS):
            return
        if report.failed:
            self.red.append(report.nodeid)
        elif report.when == "call":
            for key, value in report.user_properties:
                if key == KEY:
                    kind, outcome, cases = value  # type: ignore[misc]
                    self.kinds.setdefault(kind, Counter())[outcome] += cases

    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        if hasattr(config, "workerinput") or not (self.kinds or self.red):
            return
        lines = self.lines()
        TARGET.parent.mkdir(exist_ok=True)
        TARGET.write_text("\n".join(lines) + "\n", encoding="utf-8")
        terminalreporter.section("hostile input, damage, loss")
        for line in [*lines, f"written to {TARGET.relative_to(Path(__file__).parents[2])}"]:
            terminalreporter.write_line(line)

    def lines(self) -> list[str]:
        total = sum(sum(found.values()) for found in self.kinds.values())
        rows = ["| class of input | cases | outcome |", "|---|---:|---|"]
        for kind, found in self.kinds.items():
            said = ", ".join(f"{outcome}: {count}" for outcome, count in sorted(found.items()))
            rows.append(f"| {kind} | {sum(found.values())} | {said} |")
        rows.append(f"| **all** | **{total}** | {'every row green' if not self.red else f'{len(self.red)} RED'} |")
        return rows + [f"| RED: {nodeid} | | failed |" for nodeid in self.red]
