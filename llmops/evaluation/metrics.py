"""What is measured of an answer: every metric's name, unit, direction and formula per row.

A metric is a ratio of sums: each row gives a numerator and a weight, the figure is the sum of the
numerators over the sum of the weights, and perplexity takes the exponential of that. So one
bootstrap serves all. Knows columns of responses, not where they come from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from llmops.errors import unknown_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Columns = Mapping[str, Sequence[Any]]
WORD = re.compile(r"[a-z0-9]+")
Better = Literal["lower", "higher"]
Shape = Literal["ratio", "mean", "rate"]


@dataclass(frozen=True)
class Metric:
    """``numerators`` gives one number a row, null where it has none; ``columns`` is what it reads.

    ``weights`` names the column of weights of a ratio. ``better`` is null where neither direction
    is good by itself; such a metric cannot be a gate's rule of improvement.
    """

    name: str
    unit: str
    better: Better | None
    shape: Shape
    columns: tuple[str, ...]
    numerators: Callable[[Columns], Sequence[float | None]]
    weights: str | None = None
    exponential: bool = False


def find(name: str, *, where: str = "evaluation.metrics") -> Metric:
    """Return the metric of that name.

    Raises:
        ConfigError: If there is none, with the nearest name.
    """
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS, where=where)
    return METRICS[name]


def columns_read(metrics: Sequence[Metric]) -> tuple[str, ...]:
    """Return the response columns that ``metrics`` read, each once, sorted."""
    read = {column for metric in metrics for column in metric.columns}
    return tuple(sorted(read | {metric.weights for metric in metrics if metric.weights}))


def _column(name: str) -> Callable[[Columns], Sequence[float | None]]:
    def values(columns: Columns) -> Sequence[float | None]:
        return [None if value is None else float(value) for value in columns[name]]

    return values


def _per_pair(score: Callable[[str, str], float]) -> Callable[[Columns], Sequence[float | None]]:
    def values(columns: Columns) -> Sequence[float | None]:
        pairs = zip(columns["text"], columns["reference"], strict=True)
        return [score(text, reference) for text, reference in pairs]

    return values


@cache
def _sacrebleu(name: str, **options: bool) -> Any:
    from sacrebleu import metrics

    return getattr(metrics, name)(**options)


def rouge_l(text: str, reference: str) -> float:
    """Return ROUGE-L's F in [0, 1]: the longest common run of words, gaps allowed (Lin 2004).

    Words are runs of ASCII letters and digits in lower case, as in Google's rouge-score, whose
    figures these equal; that package takes seconds to import.
    """
    from rapidfuzz.distance import LCSseq

    answered, wanted = WORD.findall(text.lower()), WORD.findall(reference.lower())
    total = len(answered) + len(wanted)
    return 2 * LCSseq.similarity(answered, wanted) / total if answered and wanted else 0.0


def chrf(text: str, reference: str) -> float:
    """Return chrF2 of one answer in [0, 100] (Popovic 2015; sacrebleu's default signature)."""
    return float(_sacrebleu("CHRF").sentence_score(text, [reference]).score)


def bleu(text: str, reference: str) -> float:
    """Return BLEU of one answer in [0, 100], with sacrebleu's effective order for short texts."""
    return float(_sacrebleu("BLEU", effective_order=True).sentence_score(text, [reference]).score)


def exact_match(text: str, reference: str) -> float:
    """Return 1 if both texts are the same words, whatever the white space between them."""
    return float(text.split() == reference.split())


_PAIR = ("text", "reference")

METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "loss",
            "nats per answer token",
            "lower",
            "ratio",
            ("nll",),
            _column("nll"),
            "nll_tokens",
        ),
        Metric(
            "perplexity",
            "exp(loss)",
            "lower",
            "ratio",
            ("nll",),
            _column("nll"),
            "nll_tokens",
            True,
        ),
        Metric("rouge_l", "F, 0 to 1", "higher", "mean", _PAIR, _per_pair(rouge_l)),
        Metric("chrf", "chrF2, 0 to 100", "higher", "mean", _PAIR, _per_pair(chrf)),
        Metric("bleu", "0 to 100", "higher", "mean", _PAIR, _per_pair(bleu)),
        Metric("exact_match", "share of rows", "higher", "rate", _PAIR, _per_pair(exact_match)),
        Metric(
            "length", "output tokens", None, "mean", ("output_tokens",), _column("output_tokens")
        ),
        Metric("truncated", "share of rows", "lower", "rate", ("truncated",), _column("truncated")),
        Metric("blocked", "share of rows", "lower", "rate", ("blocked",), _column("blocked")),
    )
}
