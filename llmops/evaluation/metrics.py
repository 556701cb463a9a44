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

from llmops.errors import ConfigError, unknown_name
from llmops.evaluation import code
from llmops.prompts.output import NOTHING, read_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Columns = Mapping[str, Sequence[Any]]
GROUP = "llmops.metrics"
WORD = re.compile(r"[a-z0-9]+")
REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) (?:sorry|unable|not able)|i (?:can(?:'|no)t|cannot|won't|will not) "
    r"(?:help|assist|answer|provide|do that|comply|fulfil)|as an ai\b|"
    r"(?:can't|cannot|unable to) (?:help|assist) (?:you )?with)",
    re.IGNORECASE,
)
REFUSAL_CHARACTERS = 200  # a refusal comes first
Better = Literal["lower", "higher"]
Shape = Literal["ratio", "mean", "rate"]


@dataclass(frozen=True)
class Metric:
    """``numerators`` gives one number a row, null where it has none; ``columns`` is what it reads.

    ``weights`` names the column of weights of a ratio, or computes them. ``better`` is null where
    neither direction is good by itself; such a metric cannot be a gate's rule of improvement. A
    project's own metric raises ``revision`` when its figures change for the same answers.
    """

    name: str
    unit: str
    better: Better | None
    shape: Shape
    columns: tuple[str, ...]
    numerators: Callable[[Columns], Sequence[float | None]]
    weights: str | Callable[[Columns], Sequence[float | None]] | None = None
    exponential: bool = False
    revision: int = 1


def find(
    name: str,
    *,
    where: str = "evaluation.metrics",
    own: Mapping[str, Metric] | None = None,
) -> Metric:
    """Return the metric of that name, built in or among the project's ``own``.

    Raises:
        ConfigError: If there is none, with the nearest name.
    """
    known = {**METRICS, **(own or {})}
    if name not in known:
        raise unknown_name("metric", name, known, where=where)
    return known[name]


def own_metrics(project_metrics: Sequence[str]) -> Mapping[str, Metric]:
    """Return the metrics that a project brings, by name.

    An entry point of the group ``llmops.metrics`` names a module with ``METRICS``, a tuple of
    ``Metric``. Only those that the config lists in ``project.metrics`` are imported.

    Raises:
        ConfigError: If an entry point is not installed, or brings a name that is taken.
    """
    if not project_metrics:
        return {}
    from importlib.metadata import entry_points

    installed = {point.name: point for point in entry_points(group=GROUP)}
    brought: dict[str, Metric] = {}
    for name in project_metrics:
        if name not in installed:
            raise unknown_name(f"entry point of {GROUP}", name, installed, where="project.metrics")
        for metric in installed[name].load().METRICS:
            if metric.name in METRICS or metric.name in brought:
                raise ConfigError(
                    f"project.metrics: '{name}' brings a metric '{metric.name}', which exists",
                    hint="give the project's metric another name",
                )
            brought[metric.name] = metric
    return brought


def columns_read(metrics: Sequence[Metric]) -> tuple[str, ...]:
    """Return the response columns that ``metrics`` read, each once, sorted."""
    read = {column for metric in metrics for column in metric.columns}
    weights = {metric.weights for metric in metrics if isinstance(metric.weights, str)}
    return tuple(sorted(read | weights))


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


def valid_json(text: str) -> float:
    """Return 1 if the text is one JSON value, with or without a fence around it."""
    return float(read_json(text) is not NOTHING)


def refusal(text: str) -> float:
    """Return 1 if the first 200 characters hold a usual phrase of refusal in English.

    A heuristic: it misses polite refusals in other words, and takes a quoted phrase for one.
    """
    return float(REFUSAL.search(text[:REFUSAL_CHARACTERS].replace("\u2019", "'")) is not None)


def _per_text(score: Callable[[str], float]) -> Callable[[Columns], Sequence[float | None]]:
    return lambda columns: [score(text) for text in columns["text"]]


_PAIR = ("text", "reference")
_TEXT = ("text",)

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
        Metric(
            "semantic_similarity",
            "cosine, -1 to 1",
            "higher",
            "mean",
            ("similarity",),
            _column("similarity"),
        ),
        Metric("valid_json", "share of rows", "higher", "rate", _TEXT, _per_text(valid_json)),
        Metric("valid_output", "share of rows", "higher", "rate", ("valid",), _column("valid")),
        Metric(
            "code_parses",
            "share of Python blocks",
            "higher",
            "ratio",
            _TEXT,
            _per_text(lambda text: float(sum(map(code.parses, code.blocks(text))))),
            _per_text(lambda text: float(len(code.blocks(text)))),
        ),
        Metric("code_passes", "share of rows", "higher", "rate", ("passes",), _column("passes")),
        Metric("refusal", "share of rows", None, "rate", _TEXT, _per_text(refusal)),
        Metric(
            "empty",
            "share of rows",
            "lower",
            "rate",
            _TEXT,
            _per_text(lambda text: float(not text.strip())),
        ),
        Metric("latency", "seconds", "lower", "mean", ("latency_s",), _column("latency_s")),
        Metric("cost", "money an answer", "lower", "mean", ("cost",), _column("cost")),
        Metric("judge", "score, 0 to 1", "higher", "mean", ("judged",), _column("judged")),
        Metric("truncated", "share of rows", "lower", "rate", ("truncated",), _column("truncated")),
        Metric("blocked", "share of rows", "lower", "rate", ("blocked",), _column("blocked")),
    )
}
