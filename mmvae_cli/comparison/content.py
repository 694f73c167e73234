"""What a comparison says, in words and numbers, before it gets a format."""

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from mmvae_cli.comparison import layouts, published
from mmvae_cli.comparison.groups import Collection, remarks, short
from mmvae_cli.comparison.marking import RULE
from mmvae_cli.comparison.measures import DDOF_NOTE
from mmvae_cli.comparison.progress import Unfinished
from mmvae_cli.comparison.published import Published
from mmvae_cli.comparison.tables import Table
from mmvae_cli.process.console import duration
from mmvae_cli.process.paths import shown
from mmvae_cli.run import result

RUN_HEADER = ["run", "group", "seed", "epoch", "step", "checkpoint", "training time"]
_REASONS = 8
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: Any) -> str:
    """One line without control characters, so that text from a file cannot steer a terminal."""
    return _CONTROL.sub(" ", shown(str(text)))


class LeftOut(NamedTuple):
    """A run (or one metric of it) that is in no average, and why."""

    folder: Path
    reason: str


@dataclass(frozen=True)
class Plot:
    """``name``: of the files; ``about``: the caption; ``files``: its bytes as png, svg and pdf; ``width``: on the page,
    in CSS pixels, of what stands there as SVG; 0: a grid of pictures, which stands there as PNG."""

    name: str
    title: str
    about: str
    files: dict[str, bytes]
    width: int = 0

    def file(self, ending: str) -> str:
        return f"comparison-{self.name}.{ending}"


@dataclass
class Content(Collection):
    """What is said of one dataset; ``plots``: where they have been drawn."""

    plots: list[Plot] = field(default_factory=list)

    @property
    def title(self) -> str:
        count, groups = len(self.members), len(self.groups)
        return f"{self.name}: {groups} group{'s' * (groups > 1)}, {count} run{'s' * (count > 1)}"

    @property
    def protocol(self) -> str:
        return self.reference.protocol

    @property
    def warning(self) -> str:
        """What is not the real thing about the data."""
        return self.reference.dataset.stand_in or ""

    @property
    def experiment(self) -> str:
        return published.experiment(self)

    @cached_property
    def published(self) -> list[Published]:
        return published.beside(self)

    @cached_property
    def tables(self) -> list[Table]:
        return layouts.build(self, self.published)

    @property
    def header(self) -> list[str]:
        """Title and facts as lines, the warning among them."""
        warning = [f"WARNING, stand-in data: {self.warning}"] if self.warning else []
        return [self.title, *warning, *(f"{name}: {value}" for name, value in self.facts)]

    @property
    def facts(self) -> list[tuple[str, str]]:
        evaluation = self.reference
        data = evaluation.dataset
        facts = [
            ("dataset", f"{data.name}, split {data.split}, {data.count:,} items, fingerprint {data.fingerprint}"),
            ("protocol", f"{evaluation.protocol}{_measured(self)}"),
            ("numbers", f"mean ± {DDOF_NOTE}"),
        ]
        if len(self.groups) > 1:
            facts.append(("marked", RULE))
        if evaluation.chance is not None:
            what = "mean base rate of the attributes" if evaluation.base_rates else "share of the most frequent class"
            facts.append(("chance", f"a guess has {evaluation.guess}, the {what}"))
        elif evaluation.latent or evaluation.coherence:
            unknown = "not known of evaluations by an earlier version, so no score is marked: evaluate again"
            facts.append(("chance", unknown))
        return facts

    @property
    def differences(self) -> list[tuple[str, list[str]]]:
        """Recipe key -> its value in each group."""
        return [(key, [_value(one.differing[key]) for one in self.groups]) for key in self.groups[0].differing]

    @property
    def notes(self) -> list[str]:
        """Remarks on the whole, and what evaluations say about values they could not measure."""
        notes, members = remarks(self.groups), self.members
        if repeated := self.reference.dataset.repeated:
            notes.insert(0, f"{repeated}: what is measured on them says nothing about new ones")
        reasons = Counter(
            f"{what}: {why}" for m in members for why, what in result.unmeasured(m.evaluation.reasons).items()
        )
        for text, n in reasons.most_common(_REASONS):
            notes.append(f"not measured in {n} of {len(members)} runs: {text[:480]}")
        if len(reasons) > _REASONS:
            notes.append(f"{len(reasons) - _REASONS} more reasons of this kind in the evaluation.json files")
        return notes + [
            f"{group.label}, seed {member.seed}: {text}"
            for group in self.groups for member in group.members for text in member.evaluation.constants()
        ]  # fmt: skip

    @property
    def runs(self) -> list[list[str]]:
        """Rows under RUN_HEADER."""
        return [
            [str(m.folder), group.label, str(m.seed), str(m.evaluation.run.epoch), str(m.evaluation.run.step),
             m.evaluation.run.checkpoint, _seconds(m.status.get("seconds"))]
            for group in self.groups for m in group.members
        ]  # fmt: skip


@dataclass
class Comparison:
    """What is written: each dataset by itself, and the runs that are in no average, with the reasons; ``unfinished``:
    those of them with learning curves, and the ``plots`` of these."""

    contents: list[Content]
    left_out: list[LeftOut]
    unfinished: list[Unfinished]
    plots: list[Plot] = field(default_factory=list)

    @property
    def title(self) -> str:
        if not self.contents:
            return f"{len(self.unfinished)} unfinished run{'s' * (len(self.unfinished) > 1)}"
        if len(self.contents) == 1:
            return self.contents[0].title
        return f"{len(self.contents)} datasets: {', '.join(content.name for content in self.contents)}"


def _measured(collection: Collection) -> str:
    """Sample counts of the first run that has each metric; equal in all that are averaged."""
    most = collection.reference.settings.get("subsets_per_size")
    parts = [f"means by size over at most {most} drawn subsets of each"] if most else []
    evaluations = [member.evaluation for member in collection.members]
    if coherence := next((e.coherence for e in evaluations if e.coherence), None):
        parts.append(f"{coherence.joint_samples:,} samples of the {evaluations[0].sampler} for the joint coherence")
    if likelihood := next((e.likelihood for e in evaluations if e.likelihood), None):
        grouping = "grouped per item" if likelihood.grouping == "per_item" else "grouped across items as released"
        parts.append(f"{likelihood.importance_samples} importance samples {grouping} over {likelihood.count:,} items")
    return "; " + ", ".join(parts) if parts else ""


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " ".join("+".join(map(str, v)) if isinstance(v, list) else str(v) for v in value)[:80]
    return "-" if value is None else short(value)


def _seconds(value: Any) -> str:
    known = type(value) in (int, float) and 0 <= value < 1e9
    return duration(float(value)) if known else "unknown"
