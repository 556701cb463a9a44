"""How figures, times and names are written for people, on the page and on the screen alike.

Knows no run and no file; every function turns one value into a short text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METRIC_TITLES: Mapping[str, str] = {
    "loss": "held-out loss",
    "perplexity": "perplexity",
    "rouge_l": "ROUGE-L",
    "chrf": "chrF",
    "truncated": "truncated",
    "blocked": "blocked",
}
OUTCOMES: Mapping[str, str] = {
    "running": "running",
    "succeeded": "succeeded",
    "refused": "refused by the gate",
    "failed": "failed",
    "interrupted": "interrupted",
}
STATUS_WORDS: Mapping[str, str] = {
    "cached": "cached",
    "done": "done",
    "failed": "failed",
    "skipped": "skipped",
    "not_reached": "not reached",
    "run": "to run",
    "waits": "to run",
}
SHARE = "share of rows"  # the unit of a rate, as the evaluation names it
NOTHING = "\N{EN DASH}"


def metric_title(metric: str) -> str:
    """Return the metric's name as its field writes it."""
    return METRIC_TITLES.get(metric, metric.replace("_", " "))


def plain_name(name: str) -> str:
    """Return ``untuned_with_examples`` as ``untuned with examples``; a ``prompt/model`` stays."""
    return name if "/" in name else name.replace("_", " ")


def figure(value: float | None, unit: str = "") -> str:
    """Write a figure with about three digits that matter; a share of rows as a percentage."""
    if value is None:
        return NOTHING
    if unit == SHARE:
        return percent(value)
    size = abs(value)
    decimals = 3 if size < 1 else 2 if size < 100 else 1
    return f"{value:,.{decimals}f}"


def signed(value: float | None, unit: str = "") -> str:
    """Write a difference, always with its sign."""
    if value is None:
        return NOTHING
    if value == 0:
        return figure(value, unit)
    sign = "\N{MINUS SIGN}" if value < 0 else "+"
    return sign + figure(abs(value), unit)


def percent(share: float | None) -> str:
    """Write a share in [0, 1] as a percentage; a small one keeps two digits."""
    if share is None:
        return NOTHING
    points = share * 100
    if points == int(points):
        return f"{int(points)}%"
    return f"{points:.2f}%" if abs(points) < 1 else f"{points:.1f}%"


def interval(low: float | None, high: float | None, unit: str = "") -> str:
    """Write ``[low, high]``, or nothing if there is no interval."""
    if low is None or high is None:
        return ""
    ends = [figure(end, unit).replace("-", "\N{MINUS SIGN}") for end in (low, high)]
    return f"[{ends[0]}, {ends[1]}]"


def seconds(value: float | None) -> str:
    """Write a duration: ``0.42 s``, ``12 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if value is None:
        return NOTHING
    if value < 10:
        return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def moment(text: str | None) -> str:
    """Write an ISO moment in UTC, e.g. ``2026-11-23 10:15:02 UTC``."""
    if not text:
        return ""
    return f"{text[:19].replace('T', ' ')} UTC"


def size(number_of_bytes: int | None) -> str:
    """Write a size in bytes with a decimal unit: ``98.4 MB``."""
    if number_of_bytes is None:
        return NOTHING
    amount = float(number_of_bytes)
    for unit in ("bytes", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def count(number: int | None, noun: str = "", plural: str = "") -> str:
    """Write a whole number with thousands marked, and its noun: ``1 row``, ``3,177 rows``."""
    if number is None:
        return NOTHING
    word = noun if number == 1 else plural or (f"{noun}s" if noun else "")
    return f"{number:,} {word}".rstrip()


def value(plain: Any) -> str:
    """Write a leaf of the config: as YAML would, on one line unless it is a long text."""
    if plain is None:
        return "null"
    if isinstance(plain, bool):
        return "true" if plain else "false"
    return str(plain)
