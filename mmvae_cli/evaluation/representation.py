"""What a report says of the latent space beside its classifiers: private latents, clusters, alignment."""

from collections.abc import Mapping

from mmvae_cli.evaluation import guessing
from mmvae_cli.process import console
from mmvae_cli.run.result import EvaluationResult, Score


def tables(outcome: EvaluationResult) -> list[str]:
    """The tables; none of what was not measured."""
    latent, parts = outcome.latent, []
    if latent and latent.private:
        chance = "" if outcome.chance is None else f"; should be at chance, {outcome.chance:.3f}"
        rows = [[name, guessing.score(outcome, value, name)] for name, value in latent.private.items()]
        parts.append(console.table(f"private latents ({latent.metric}{chance})", ["modality", "score"], rows))
    if latent and latent.clusters:
        parts.append(_table(f"k-means of the latent space, {latent.clusters} clusters", "subset", latent.clustering))
    if outcome.alignment:
        counts = outcome.alignment.items  # chance is k / N: of incomplete data every pair has its own N
        alike = len(set(counts.values())) == 1
        pairs = {pair if alike else f"{pair} ({counts[pair]:,})": row for pair, row in outcome.alignment.pairs.items()}
        about = f"{max(counts.values()):,} items" if alike else "so many items"
        parts.append(_table(f"alignment of modalities, {about} (foscttm: 0 perfect, 0.5 chance)", "pair", pairs))
    return parts


def _table(title: str, what: str, values: Mapping[str, Mapping[str, Score]]) -> str:
    columns = list(dict.fromkeys(key for row in values.values() for key in row))
    rows = [[name, *(console.number(row.get(key)) for key in columns)] for name, row in values.items()]
    return console.table(title, [what, *columns], rows)
