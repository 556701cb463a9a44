"""What tuning really did: the tuned models against the same tuning on shuffled answers.

A model tuned on answers that belong to other questions learns style, length and words, and nothing
about any question. Only what the tuned model has beyond that control is learning, and only as far
as the end of the interval that speaks least for it. Knows rows of figures, no model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmops.evaluation import intervals
from llmops.evaluation.metrics import Metric
from llmops.evaluation.summary import Settings, ratio
from llmops.evaluation.table import Contestant

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

TUNED = "tuned"
CONTROL = "tuned_on_shuffled"
LEARNED, WORSE = "learned beyond the control", "worse than the control"
NOTHING = "nothing beyond the control is shown"
SEED_MARK = "@"  # tuned@43 is the tuning of seed 43


def family(name: str) -> str:
    """Return the contestant that a name belongs to, whatever its tuning seed."""
    return name.partition(SEED_MARK)[0]


@dataclass(frozen=True)
class Claim:
    """``difference`` is tuned minus control, each the mean over its tuning seeds."""

    metric: str
    difference: float
    low: float
    high: float
    seeds: int
    seed_deviation: float | None
    holds: bool
    text: str


def learned(
    table: Sequence[Contestant], metrics: Sequence[Metric], settings: Settings
) -> tuple[Claim, ...]:
    """Return a claim for each metric that has a better side; none without a control."""
    tuned = [one for one in table if family(one.name) == TUNED]
    control = [one for one in table if family(one.name) == CONTROL]
    if not tuned or not control:
        return ()
    judged = [metric for metric in metrics if metric.better and not metric.exponential]
    made = (_claim(tuned, control, metric, settings) for metric in judged)
    return tuple(claim for claim in made if claim is not None)


def _claim(
    tuned: Sequence[Contestant], control: Sequence[Contestant], metric: Metric, settings: Settings
) -> Claim | None:
    import numpy as np

    rows = np.concatenate([_mean(tuned, metric), _mean(control, metric)], axis=1)
    if not np.isfinite(rows).all() or not (rows[:, 1].sum() and rows[:, 3].sum()):
        return None
    found = intervals.bootstrap(rows, tuned[0].groups, settings.resampling(metric))
    if found.value is None or found.low is None or found.high is None:
        return None
    noise = _seed_noise(tuned, control, metric)
    reach = 0.0 if noise is None else _quantile(tuned, control, settings.confidence) * noise
    low = found.value - math.hypot(found.value - found.low, reach)
    high = found.value + math.hypot(found.high - found.value, reach)
    better, worse = (high < 0, low > 0) if metric.better == "lower" else (low > 0, high < 0)
    seeds = min(len(tuned), len(control))
    verdict = LEARNED if better else WORSE if worse else NOTHING
    text = _text(metric, (found.value, low, high), verdict, seeds)
    return Claim(metric.name, found.value, low, high, seeds, noise, better, text)


def _mean(models: Sequence[Contestant], metric: Metric) -> Floats:
    import numpy as np

    return np.asarray(np.mean([one.rows[metric.name] for one in models], axis=0))


def _figures(models: Sequence[Contestant], metric: Metric) -> Floats:
    import numpy as np

    return np.array([ratio(one.rows[metric.name].sum(axis=0)[None, :])[0] for one in models])


def _seed_noise(
    tuned: Sequence[Contestant], control: Sequence[Contestant], metric: Metric
) -> float | None:
    """Return the standard error that other tuning seeds give; null where there is one seed."""
    if len(tuned) < 2 or len(control) < 2:
        return None
    sides = (_figures(tuned, metric), _figures(control, metric))
    return math.sqrt(sum(float(side.var(ddof=1)) / len(side) for side in sides))


def _quantile(
    tuned: Sequence[Contestant], control: Sequence[Contestant], confidence: float
) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(len(tuned) + len(control) - 2, (1 + confidence) / 2))


def _text(metric: Metric, ends: tuple[float, float, float], verdict: str, seeds: int) -> str:
    value, low, high = ends
    over = f"over {seeds} tuning seeds" if seeds > 1 else "one tuning seed, so of no other"
    return (
        f"{metric.name}: {verdict}: tuned - tuned on shuffled answers is {value:+.4g}"
        f" [{low:+.4g}, {high:+.4g}] {metric.unit}, {over}"
    )


def as_json(claims: Sequence[Claim]) -> list[Mapping[str, Any]]:
    """Return the claims as plain JSON."""
    from dataclasses import asdict

    return [asdict(claim) for claim in claims]
