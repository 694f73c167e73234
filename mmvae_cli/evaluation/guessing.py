"""What a report says of scores that a guess reaches too."""

from mmvae_cli.run.result import CHANCE, EvaluationResult, at_chance


def score(outcome: EvaluationResult, value: float | None, source: str) -> str:
    """A latent or conditional score given ``source`` with three decimals; marked where a guess is as good."""
    return _marked(value, outcome.chance, outcome.trials_of(source))


def joint(outcome: EvaluationResult) -> str:
    """The joint coherence, what it would be if the modalities had nothing in common, and what real data have."""
    part = outcome.coherence
    if part is None or part.joint is None:
        return "-"
    beside = {"by chance": part.joint_chance, "real data": part.joint_ceiling}
    known = ", ".join(f"{what} {value:.3f}" for what, value in beside.items() if value is not None)
    return _marked(part.joint, part.joint_chance, part.joint_samples) + (f" ({known})" if known else "")


def _marked(value: float | None, chance: float | None, trials: float) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}{CHANCE if chance is not None and at_chance(value, chance, trials) else ''}"


def remarks(outcome: EvaluationResult, tables: list[str]) -> list[str]:
    """What the mark means, where ``tables`` have it, and which answers are always the same."""
    if outcome.chance is None or not any(CHANCE in table for table in tables):
        return outcome.constants()
    guess = f"a guess, which has {outcome.chance:.3f} (of the joint coherence: its own chance)"
    return [f"{CHANCE} at chance: no better than {guess}", *outcome.constants()]


def warning(outcome: EvaluationResult) -> str:
    """One line where nothing of a kind is better than a guess (three standard errors, for they are many); or empty."""
    if (chance := outcome.chance) is None:
        return ""
    latent = outcome.latent.values.values() if outcome.latent else ()
    rows = outcome.coherence.conditional.items() if outcome.coherence else ()
    generated = [value for source, row in rows for name, value in row.items() if name not in source.split("+")]
    kinds = {"the latent representation": latent, "what is generated from other modalities": generated}
    known = {what: [v for v in values if v is not None] for what, values in kinds.items()}
    what = [what for what, values in known.items()
            if values and all(at_chance(value, chance, outcome.trials, errors=3) for value in values)]  # fmt: skip
    if not what:
        return ""
    joint = "; the joint coherence then says nothing either" if outcome.coherence and outcome.coherence.joint else ""
    return (f"{' and '.join(what)}: every score is at chance, no better than a guess ({chance:.3f}){joint}. The model "
            "may need more epochs, more data or another objective.beta")  # fmt: skip
