"""Quality in a report: Frechet distances by source and target, neighbours' measures, reconstructions."""

from mmvae_cli.process import console
from mmvae_cli.run.result import Quality

_NEAR = ("precision", "recall", "density", "coverage")


def title(quality: Quality) -> str:
    """What the distances are called: FID is one network's."""
    size = "/".join(dict.fromkeys(str(size) for size in quality.feature_size.values()))
    what = "FID (Inception)" if quality.features == "inception" else "FD (classifier)"
    real = f"{quality.reference_count:,} real {quality.reference_split} items"
    drawn = f"{quality.joint_samples:,} samples of the {quality.sampler}, {quality.generated:,} of each source"
    return f"{what}, lower is better: {size} features, {real}, {drawn}"


def of(quality: Quality, names: list[str]) -> list[str]:
    """The tables for the modalities ``names``."""
    free = quality.unconditional
    rows = [[quality.sampler, *(console.number(free["frechet"].get(name), 2) for name in names)]]
    rows += [[source, *(console.number(targets.get(name), 2) for name in names)]
             for source, targets in quality.conditional["frechet"].items()]  # fmt: skip
    near = [[measure, *(console.number(free[measure].get(name), 3) for name in names)] for measure in _NEAR]
    likeness = [[source, name, *(f"{score} {console.number(value, 4)}" for score, value in scores.items())]
                for source, own in quality.reconstruction.items() for name, scores in own.items()]  # fmt: skip
    distances = [
        console.table(title(quality), ["source", *names], rows),
        console.table(f"samples of the {quality.sampler} among real ones", ["measure", *names], near),
    ]
    return [
        *(distances if quality.feature_size else ()),
        console.table("reconstruction", ["source", "modality", *[""] * (max(map(len, likeness)) - 2)],
                      [row + [""] * (max(map(len, likeness)) - len(row)) for row in likeness]),
    ]  # fmt: skip
