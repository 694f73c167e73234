"""Attributes in a report: every score beside the base rate, without which an average precision says nothing."""

from mmvae_cli.evaluation.encoding import Evaluation, Experts
from mmvae_cli.process import console
from mmvae_cli.run.result import EvaluationResult

Column = tuple[str, dict[str, float | None]]
"""Heading, attribute -> value."""


def base_rates(evaluation: Evaluation, test: Experts) -> dict[str, float]:
    """Share of the evaluated items that have each attribute: the average precision of a guess. Classes: ``{}``."""
    if evaluation.labels.kind == "class":
        return {}
    shares = test.labels.double().mean(0).tolist()
    return dict(zip(evaluation.labels.names, shares, strict=True))


def table(outcome: EvaluationResult) -> str:
    """Average precision by attribute, the last row being the mean over the attributes that could be scored."""
    columns: list[Column] = [("base rate", {**outcome.base_rates}), *_columns(outcome)]
    rows = [[label, *(console.number(values.get(label)) for _, values in columns)] for label in outcome.base_rates]
    rows.append(["mean", *(console.number(value) for value in (outcome.chance, *(_mean(v) for _, v in columns[1:])))])
    return console.table("average precision by attribute", ["attribute", *(name for name, _ in columns)], rows)


def _columns(outcome: EvaluationResult) -> list[Column]:
    """Representation of every subset; what is generated from each subset without the target in it; the classifiers."""
    columns: list[Column] = []
    if outcome.latent:
        columns += [(f"latent {subset}", values) for subset, values in outcome.latent.per_label.items()]
    if outcome.coherence:
        columns += [(f"{source}->{target}", values) for source, targets in outcome.coherence.per_label.items()
                    for target, values in targets.items() if target not in source.split("+")]  # fmt: skip
        columns += [(f"classifier {name}", values) for name, values in outcome.coherence.classifiers_per_label.items()]
    return columns


def _mean(values: dict[str, float | None]) -> float | None:
    known = [value for value in values.values() if value is not None]
    return sum(known) / len(known) if known else None
