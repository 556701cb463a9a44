"""All figures of an evaluation: per contestant with intervals, and paired with the baseline.

Turns a table of rows into the plain JSON of the ``metrics`` artifact. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from llmops.errors import unknown_name
from llmops.evaluation import intervals, paired
from llmops.evaluation.intervals import Interval, Resampling, stable_seed
from llmops.evaluation.metrics import Metric
from llmops.evaluation.table import Contestant

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """How figures are made; ``baseline`` names the contestant that the others are paired with."""

    baseline: str
    confidence: float
    bootstrap_samples: int
    seed: int

    def resampling(self, metric: Metric) -> Resampling:
        """Return the draws for one metric; ``loss`` and ``perplexity`` share theirs."""
        name = "loss" if metric.exponential else metric.name
        return Resampling(self.confidence, self.bootstrap_samples, stable_seed(self.seed, name))


def summarise(
    table: Sequence[Contestant], metrics: Sequence[Metric], settings: Settings
) -> dict[str, Any]:
    """Return the ``metrics`` document: contestants, paired differences, and what they rest on.

    Raises:
        ConfigError: If the baseline is not among the contestants.
    """
    by_name = {one.name: one for one in table}
    if settings.baseline not in by_name:
        raise unknown_name("contestant", settings.baseline, by_name, where="evaluation.baseline")
    baseline = by_name[settings.baseline]
    others = [one for one in table if one is not baseline]
    paired_figures = {
        metric.name: {one.name: _paired(one, baseline, metric, settings) for one in others}
        for metric in metrics
    }
    return {
        "contestants": {
            one.name: {metric.name: _figure(one, metric, settings) for metric in metrics}
            for one in table
        },
        "paired": paired_figures,
        "against": _against_champion(table, baseline, metrics, settings),
        "comparisons": correct(paired_figures),
        "baseline": baseline.name,
        "rows": len(baseline.keys),
        "groups": len(set(baseline.groups.tolist())),
        "confidence": settings.confidence,
    }


def _against_champion(
    table: Sequence[Contestant],
    baseline: Contestant,
    metrics: Sequence[Metric],
    settings: Settings,
) -> dict[str, Any]:
    """Return the differences from the champion, if it answers and is not the baseline."""
    champion = next((one for one in table if one.name == "champion"), None)
    if champion is None or champion is baseline:
        return {}
    others = [one for one in table if one is not champion]
    return {
        "champion": {
            metric.name: {one.name: _paired(one, champion, metric, settings) for one in others}
            for metric in metrics
        }
    }


def correct(paired_figures: Mapping[str, dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Give every comparison with a ``p`` its ``p_corrected``, and say what was corrected for."""
    tested = [one for rows in paired_figures.values() for one in rows.values() if "p" in one]
    for one, corrected in zip(tested, paired.holm([one["p"] for one in tested]), strict=True):
        one["p_corrected"] = corrected
    return {"tested": len(tested), "test": paired.TEST, "correction": "Holm"}


def figure(one: Contestant, metric: Metric, settings: Settings) -> Interval:
    """Return one metric of one contestant with its interval."""
    import numpy as np

    rows = one.rows[metric.name]
    why = _gap(rows)
    if why:
        return Interval(None, None, None, len(rows), "none", why=why)
    if metric.shape == "rate":
        return intervals.wilson(rows[:, 0], one.groups, settings.confidence)
    found = intervals.bootstrap(rows, one.groups, settings.resampling(metric))
    if not metric.exponential:
        return found
    ends = (found.value, found.low, found.high)
    value, low, high = (None if end is None else float(np.exp(end)) for end in ends)
    return replace(found, value=value, low=low, high=high)


def difference(
    one: Contestant, baseline: Contestant, metric: Metric, settings: Settings
) -> Interval:
    """Return one - baseline on the same rows: both are drawn together, group by group."""
    import numpy as np

    rows = np.concatenate([one.rows[metric.name], baseline.rows[metric.name]], axis=1)
    why = _gap(rows)
    if why:
        return Interval(None, None, None, len(rows), "none", why=why)

    resampling = settings.resampling(metric)
    return intervals.bootstrap(rows, one.groups, resampling, exponential=metric.exponential)


def ratio(sums: Floats) -> Floats:
    """Return numerator over weight of each row of sums; NaN where there is no weight at all."""
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):  # no weight at all gives NaN: no figure
        return np.asarray(sums[:, 0] / sums[:, 1])


def _gap(rows: Floats) -> str | None:
    import numpy as np

    gaps = int(np.count_nonzero(~np.isfinite(rows).all(axis=1)))
    if not gaps:
        return None
    if gaps == len(rows):
        return "the generator gives no figure for this metric"
    return f"{gaps} of {len(rows)} rows have no figure"


def _figure(one: Contestant, metric: Metric, settings: Settings) -> Mapping[str, Any]:
    fields = asdict(figure(one, metric, settings))
    return _tidy({**fields, "unit": metric.unit, "better": metric.better})


def _paired(
    one: Contestant, baseline: Contestant, metric: Metric, settings: Settings
) -> dict[str, Any]:
    fields = asdict(difference(one, baseline, metric, settings))
    tested = {} if metric.exponential else _tested(one, baseline, metric, settings)
    return _tidy({"difference": fields.pop("value"), **fields, **tested})


def _tested(
    one: Contestant, baseline: Contestant, metric: Metric, settings: Settings
) -> Mapping[str, float]:
    """Return the test's p-value and what such rows can show; nothing where there is no figure.

    A metric that is an exponential is left out: it asks the same question as its exponent.
    """
    import numpy as np

    mine, theirs = one.rows[metric.name], baseline.rows[metric.name]
    if _gap(np.concatenate([mine, theirs], axis=1)) or not (
        mine[:, 1].sum() and theirs[:, 1].sum()
    ):
        return {}
    spread = paired.group_differences(mine, theirs, one.groups)
    if len(spread) < 2:
        return {}
    seed = settings.resampling(metric).seed
    return {
        "p": float(paired.p_values(spread[None, :], seed)[0]),
        "detectable": paired.detectable(
            paired.group_errors(mine, theirs, one.groups), settings.confidence
        ),
    }


def _tidy(fields: dict[str, Any]) -> dict[str, Any]:
    if fields["why"] is None:
        del fields["why"]
    return fields
