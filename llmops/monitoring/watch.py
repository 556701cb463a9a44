"""A window of traffic judged by the limits of the config: drift, rates, latency, cost, feedback.

Nothing alerts that chance could have made: a drift has to pass its limit and its corrected test, a
rate or a latency its limit at the end of its interval. Too few answers are said to be too few.
Knows plain rows, no log and no page.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from llmops.monitoring import drift
from llmops.monitoring.drift import Drift
from llmops.safety.rates import rate
from llmops.safety.refusal import is_refusal

if TYPE_CHECKING:
    from numpy.typing import NDArray

PERCENTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class Limits:
    """What raises an alert; null: it is shown only. Rates and drifts in [0, 1]."""

    input_length: float | None
    vocabulary: float | None
    embedding: float | None
    score: float | None
    blocked_rate: float | None
    refused_rate: float | None
    failed_rate: float | None
    thumbs_down_rate: float | None
    latency_p95_s: float | None
    cost_per_day: float | None


@dataclass(frozen=True)
class Asked:
    """Questions of one side; ``texts`` are null where the log keeps none."""

    name: str  # for people: "7 days to 2026-11-25", "training rows of v1-3f9c21ab"
    lengths: Sequence[int]
    texts: Sequence[str] | None
    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)
    vectors: NDArray[Any] | None = None


@dataclass(frozen=True)
class Answered:
    """One answer of the window, as the log has it; ``answer`` is null where it keeps no text."""

    day: str  # ISO date, UTC
    answer: str | None
    blocked: bool
    failed: bool
    latency_s: float
    cost: float | None
    rating: str | None  # up, down, or null: nobody said


def watch(
    now: Asked,
    before: Asked,
    answers: Sequence[Answered],
    limits: Limits,
    *,
    confidence: float,
    min_rows: int,
    days: float,
    seed: int,
) -> dict[str, Any]:
    """Return the document of a window: every figure with its limit, and the alerts."""
    enough = min(len(now.lengths), len(before.lengths)) >= min_rows
    drifts = drift.corrected(list(_drifts(now, before, confidence, seed))) if enough else []
    rates = _rates(answers, limits, confidence) if len(answers) >= min_rows else []
    report: dict[str, Any] = {
        "now": now.name,
        "against": before.name,
        "rows": len(now.lengths),
        "against_rows": len(before.lengths),
        "answers": len(answers),
        "confidence": confidence,
        "enough": enough and len(answers) >= min_rows,
        "min_rows": min_rows,
        "drift": [_judged(one, limits, confidence) for one in drifts],
        "rates": rates,
        "latency": _latency([one.latency_s for one in answers if not one.failed], limits),
        "cost": _cost(answers, days, limits),
        "days": _days(answers),
    }
    return report | {"alerts": list(_alerts(report))}


# ------------------------------------------------------------------ drift


def _drifts(now: Asked, before: Asked, confidence: float, seed: int) -> Iterator[Drift]:
    how: dict[str, Any] = {"confidence": confidence, "seed": seed}
    yield drift.of_numbers("input_length", now.lengths, before.lengths, **how)
    if now.texts and before.texts:
        yield drift.of_words("vocabulary", now.texts, before.texts, **how)
    if now.vectors is not None and before.vectors is not None:
        yield drift.of_vectors("embedding", now.vectors, before.vectors, **how)
    for category in sorted(set(now.scores) & set(before.scores)):
        if now.scores[category] and before.scores[category]:
            name = f"score {category}"
            yield drift.of_numbers(name, now.scores[category], before.scores[category], **how)


def _judged(found: Drift, limits: Limits, confidence: float) -> dict[str, Any]:
    key = "score" if found.name.startswith("score ") else found.name
    limit: float | None = getattr(limits, key)
    certain = found.p_corrected <= 1 - confidence
    alert = limit is not None and found.distance > limit and certain
    return {**asdict(found), "limit": limit, "alert": alert}


# ------------------------------------------------------------------ rates, latency, cost


def _rates(answers: Sequence[Answered], limits: Limits, confidence: float) -> list[dict[str, Any]]:
    """Return each rate with its exact interval, widened for how many are looked at (Bonferroni)."""
    told = [one for one in answers if one.answer is not None and not one.failed]
    rated = [one for one in answers if one.rating is not None]
    counts = [
        ("blocked", sum(one.blocked for one in answers), len(answers), limits.blocked_rate),
        ("failed", sum(one.failed for one in answers), len(answers), limits.failed_rate),
        ("refused", sum(is_refusal(o.answer or "") for o in told), len(told), limits.refused_rate),
        (
            "thumbs_down",
            sum(one.rating == "down" for one in rated),
            len(rated),
            limits.thumbs_down_rate,
        ),
    ]
    each = 1 - (1 - confidence) / len(counts)
    found = []
    for name, count, trials, limit in counts:
        figures = asdict(rate(count, trials, each))
        low = figures["low"]
        alert = limit is not None and low is not None and low > limit
        found.append({"name": name, **figures, "limit": limit, "alert": alert})
    return found


def _latency(seconds: Sequence[float], limits: Limits) -> dict[str, Any]:
    """Return percentiles; the alert goes by the lower end of p95's distribution-free interval."""
    ordered = sorted(seconds)
    found = {f"p{100 * share:g}_s": _at(ordered, share) for share in PERCENTILES}
    low = _lower_bound(ordered, 0.95)
    limit = limits.latency_p95_s
    alert = limit is not None and low is not None and low > limit
    return {**found, "p95_low_s": low, "limit_s": limit, "alert": alert}


def _at(ordered: Sequence[float], share: float) -> float | None:
    """Return the smallest value that so large a share of all does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def _lower_bound(ordered: Sequence[float], share: float) -> float | None:
    """Return the order statistic that lies below the percentile with 97.5% confidence.

    By the binomial distribution of how many values fall below the percentile (David and Nagaraja,
    Order Statistics, 7.1); null where so few values show nothing.
    """
    from scipy.stats import binom

    if not ordered:
        return None
    place = int(binom.ppf(0.025, len(ordered), share))
    return ordered[place - 1] if place >= 1 else None


def _cost(answers: Sequence[Answered], days: float, limits: Limits) -> dict[str, Any]:
    known = [one.cost for one in answers if one.cost is not None]
    total = math.fsum(known)
    a_day = total / days if days else 0.0
    limit = limits.cost_per_day
    return {
        "total": total,
        "per_day": a_day,
        "per_answer": total / len(known) if known else None,
        "unknown": len(answers) - len(known),
        "limit_per_day": limit,
        "alert": limit is not None and a_day > limit,
    }


def _days(answers: Sequence[Answered]) -> list[dict[str, Any]]:
    by_day: dict[str, list[Answered]] = defaultdict(list)
    for one in answers:
        by_day[one.day].append(one)
    return [
        {
            "day": day,
            "answers": len(found),
            "blocked": sum(one.blocked for one in found),
            "failed": sum(one.failed for one in found),
            "p95_s": _at(sorted(one.latency_s for one in found), 0.95),
            "cost": math.fsum(one.cost or 0.0 for one in found),
        }
        for day, found in sorted(by_day.items())
    ]


# ------------------------------------------------------------------ alerts


def _alerts(report: Mapping[str, Any]) -> Iterator[str]:
    for one in report["drift"]:
        if one["alert"]:
            yield (
                f"{one['name'].replace('_', ' ')} has drifted: {one['distance']:.3f}"
                f" ({one['low']:.3f} to {one['high']:.3f}), by chance {one['by_chance']:.3f},"
                f" limit {one['limit']:g}"
            )
    for one in report["rates"]:
        if one["alert"]:
            yield (
                f"{one['name'].replace('_', ' ')}: {one['count']} of {one['trials']}"
                f" ({one['value']:.1%}, at least {one['low']:.1%}), limit {one['limit']:.1%}"
            )
    latency, cost = report["latency"], report["cost"]
    if latency["alert"]:
        yield (
            f"latency: p95 {latency['p95_s']:.2f} s, at least {latency['p95_low_s']:.2f} s,"
            f" limit {latency['limit_s']:g} s"
        )
    if cost["alert"]:
        yield f"cost: {cost['per_day']:.2f} a day, limit {cost['limit_per_day']:g}"
