"""Which mean of a column may be called the best: one rule for all tables."""

import math

from mmvae_cli.comparison.measures import METRICS, UNBOUNDED, Key, Stat

RULE = (
    "best of the groups (* or bold), only where it is above chance and exceeds every other group's mean by more than a "
    "standard deviation and by Welch's t-test at 5 % (groups of one seed each: by two binomial standard errors of the "
    "items; one seed against several: never)"
)
_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)
"""Two-sided 5 % points of Student's t for 1 to 10 degrees of freedom; the last stands for more (the limit is 1.96)."""
_NORMAL = 2.0


def best(stats: list[Stat | None], key: Key, digits: int) -> int | None:
    """Position of the one mean of a column that RULE allows to be marked. None where no group is ahead of all others,
    and where there is one group only. ``digits``: as printed, because what looks equal counts as equal."""
    sign = 1 if METRICS[key.metric][2] else -1
    known = {i: stat for i, stat in enumerate(stats) if stat}
    if len(known) < 2:
        return None
    first = max(known, key=lambda i: sign * known[i].mean)
    top = known.pop(first)
    printed = f"{top.mean:.{digits}f}"
    ahead = all(exceeds(top, other) and f"{other.mean:.{digits}f}" != printed for other in known.values())
    return first if ahead and _above_chance(top, key) else None


def _above_chance(stat: Stat, key: Key) -> bool:
    """Nats and distances have no chance level; a score whose chance is not known (an evaluation of an earlier version)
    may be any."""
    return METRICS[key.metric][1] in UNBOUNDED or (stat.chance is not None and not stat.at_chance)


def exceeds(one: Stat, other: Stat) -> bool:
    """Whether two means are further apart than seeds and items explain."""
    errors = standard_error(one), standard_error(other)
    if errors[0] is None or errors[1] is None or (one.n == 1) != (other.n == 1):
        return False
    gap, squares = abs(one.mean - other.mean), (errors[0] ** 2, errors[1] ** 2)
    factor = _NORMAL if one.n == 1 else _T[min(int(_freedom(squares, (one.n, other.n))), len(_T)) - 1]
    return gap > max(factor * math.sqrt(sum(squares)), one.std or 0.0, other.std or 0.0)


def standard_error(stat: Stat) -> float | None:
    """The standard error of a mean over seeds, and at least the binomial one of the items that all seeds were tested
    on. None where neither is known (the log-likelihood of one seed)."""
    items = stat.item_error if stat.trials else None  # one seed's log p(X) says nothing of another's
    seeds = None if stat.std is None else stat.std / math.sqrt(stat.n)
    return max((error for error in (items, seeds) if error is not None), default=None)


def _freedom(squares: tuple[float, float], counts: tuple[int, int]) -> float:
    """Welch's degrees of freedom, at least those of the smaller group."""
    weighted = sum(square**2 / (n - 1) for square, n in zip(squares, counts, strict=True))
    return sum(squares) ** 2 / weighted if weighted else min(counts) - 1
