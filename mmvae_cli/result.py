"""evaluation.json: what was measured, and everything needed to know later exactly how. No torch.

Subsets are named by their modalities joined with ``+`` in the recipe's order (``m0+m3``). A value that could not be
measured is null, and ``reasons`` says why under the same dotted path.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmvae_cli.errors import DataProblem
from mmvae_cli.files import read_json
from mmvae_cli.recipe.wording import first_problem

Score = float | None
BySubset = dict[str, Score]
ByTarget = dict[str, dict[str, Score]]
"""source subset -> target modality -> value"""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class RunFacts(_Part):
    recipe: str
    method: str
    seed: int
    checkpoint: str
    step: int
    epoch: int


class DatasetFacts(_Part):
    name: str
    fingerprint: str
    split: str
    count: int
    stand_in: str | None = None


class Latent(_Part):
    """Linear classification of the representation (facts of Table 2, Fig. 3 left). ``values``: subset -> score;
    ``per_label``: subset -> attribute -> average precision, where labels are attributes."""

    metric: Literal["accuracy", "average_precision"]
    values: BySubset
    per_label: dict[str, dict[str, Score]] = Field(default_factory=dict)


class Coherence(_Part):
    """``joint``: share of prior samples whose modalities agree. ``conditional``: source -> target -> score, targets
    inside the source included (the paper's tables leave those out). ``classifiers``: modality -> test score;
    ``classifiers_per_label``: modality -> attribute -> average precision on the test split."""

    metric: Literal["accuracy", "average_precision"]
    joint: Score
    joint_samples: int
    conditional: ByTarget
    per_label: dict[str, dict[str, dict[str, Score]]] = Field(default_factory=dict)
    classifiers: dict[str, float]
    classifiers_per_label: dict[str, dict[str, Score]] = Field(default_factory=dict)


class Likelihood(_Part):
    """Importance-sampled log p(X | subset) in nats per item, unweighted. ``joint``: all modalities;
    ``per_modality``: source -> target -> log p(x_target | source)."""

    importance_samples: int
    grouping: Literal["per_item", "released"]
    count: int
    joint: BySubset
    per_modality: ByTarget


class EvaluationResult(_Part):
    """``base_rates``: the share of the evaluated items that have each attribute, which is the average precision of a
    guess (empty for classes)."""

    format: Literal["mmvae-evaluation"] = "mmvae-evaluation"
    version: Literal[1] = 1
    protocol: Literal["default", "released"]
    run: RunFacts
    dataset: DatasetFacts
    modalities: list[str]
    settings: dict[str, Any] = Field(default_factory=dict)
    base_rates: dict[str, float] = Field(default_factory=dict)
    latent: Latent | None = None
    coherence: Coherence | None = None
    likelihood: Likelihood | None = None
    reasons: dict[str, str] = Field(default_factory=dict)


def by_reason(reasons: dict[str, str]) -> dict[str, str]:
    """Why something could not be measured -> what: ``latent.values.m0, latent.values.m1 and 29 more``."""
    paths: dict[str, list[str]] = {}
    for path, why in reasons.items():
        paths.setdefault(why, []).append(path)
    return {why: ", ".join(p[:4]) + (f" and {len(p) - 4} more" if len(p) > 4 else "") for why, p in paths.items()}


def load(path: Path) -> EvaluationResult:
    """Read and check an evaluation.json. Raises DataProblem in one line, Unreadable where it may not be read."""
    try:
        return EvaluationResult.model_validate(read_json(path))
    except ValidationError as error:
        raise DataProblem(f"{path}: {first_problem(error)}", "run mmvae evaluate again") from error
