"""Exact intervals for a rate (Clopper and Pearson 1934), and how many trials a claim needs."""

from __future__ import annotations

from dataclasses import dataclass

MOST_TRIALS = 1_000_000  # a claim that needs more is as good as one that cannot be made


@dataclass(frozen=True)
class Rate:
    """``count`` of ``trials``, with its two-sided exact interval; null where there is no trial."""

    count: int
    trials: int
    value: float | None
    low: float | None
    high: float | None


def rate(count: int, trials: int, confidence: float) -> Rate:
    """Return the rate of ``count`` in ``trials`` with its two-sided interval at ``confidence``."""
    if not trials:
        return Rate(0, 0, None, None, None)
    tail = (1 - confidence) / 2
    low = at_least(count, trials, tail)
    return Rate(count, trials, count / trials, low, 1 - at_least(trials - count, trials, tail))


def at_least(count: int, trials: int, tail: float) -> float:
    """Return the rate below which ``count`` or more of ``trials`` has a chance under ``tail``."""
    from scipy.stats import beta

    return float(beta.ppf(tail, count, trials - count + 1)) if count else 0.0


def trials_needed(claimed: float, observed: float, confidence: float) -> int | None:
    """Return how many trials show "at least ``claimed``" if the observed rate stays as it is.

    The one-sided lower bound at ``confidence`` then reaches the claim, with misses rounded up;
    rounding makes the bound jump, so a few less may do as well.
    Null if the observed rate does not exceed the claim, or more than a million are needed.
    """
    if observed < claimed or (observed == claimed and observed < 1):
        return None
    if claimed >= 1:
        return None

    def shows(trials: int) -> bool:
        caught = int(observed * trials + 1e-9)
        return at_least(caught, trials, 1 - confidence) >= claimed

    high = 1
    while not shows(high):
        high *= 2
        if high > MOST_TRIALS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shows(middle) else (middle, high)
    return high
