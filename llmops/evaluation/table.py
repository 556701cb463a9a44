"""The figures of every contestant, row by row, as columns of numbers.

Built from batches of responses, so that texts are never held together: what stays in memory is a
few numbers a row. Refuses contestants that did not answer the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from llmops.errors import DataError
from llmops.evaluation.metrics import Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Contestant:
    """One contestant's rows in key order: ``rows[metric]`` is (rows, 2): numerator and weight.

    A row that has no figure holds NaN.
    """

    name: str
    keys: Sequence[str]
    groups: NDArray[Any]
    rows: Mapping[str, Floats]


@dataclass
class _Growing:
    keys: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    rows: dict[str, list[Floats]] = field(default_factory=dict)


def contestants(
    batches: Iterable[Mapping[str, Sequence[Any]]], metrics: Sequence[Metric]
) -> tuple[Contestant, ...]:
    """Measure every row of ``batches``; contestants come in order of first appearance.

    A batch maps column names to values: ``contestant``, ``row_key``, ``group`` and what the
    metrics read.

    Raises:
        DataError: If there are no rows, a row stands twice, or contestants answered other rows.
    """
    growing: dict[str, _Growing] = {}
    for batch in batches:
        for name, part in _by_contestant(batch).items():
            _add(growing.setdefault(name, _Growing()), part, metrics)
    if not growing:
        raise DataError("there are no responses to evaluate", hint="look at the step that predicts")
    grown = tuple(_finish(name, one) for name, one in growing.items())
    for one in grown:
        _check_rows(one, grown[0])
    return grown


def _by_contestant(batch: Mapping[str, Sequence[Any]]) -> dict[str, dict[str, list[Any]]]:
    places: dict[str, list[int]] = {}
    for place, name in enumerate(batch["contestant"]):
        places.setdefault(name, []).append(place)
    return {
        name: {column: [values[i] for i in chosen] for column, values in batch.items()}
        for name, chosen in places.items()
    }


def _add(growing: _Growing, part: Mapping[str, list[Any]], metrics: Sequence[Metric]) -> None:
    growing.keys.extend(part["row_key"])
    growing.groups.extend(part["group"])
    for metric in metrics:
        growing.rows.setdefault(metric.name, []).append(_measure(metric, part))


def _measure(metric: Metric, part: Mapping[str, list[Any]]) -> Floats:
    import numpy as np

    numerators = np.array(metric.numerators(part), dtype=np.float64)  # None becomes NaN
    if metric.weights is None:
        return np.stack([numerators, np.ones(len(numerators))], axis=1)
    weights = part[metric.weights] if isinstance(metric.weights, str) else metric.weights(part)
    return np.stack([numerators, np.array(weights, dtype=np.float64)], axis=1)


def _finish(name: str, growing: _Growing) -> Contestant:
    import numpy as np

    order = sorted(range(len(growing.keys)), key=growing.keys.__getitem__)
    keys = [growing.keys[i] for i in order]
    for key, following in pairwise(keys):
        if key == following:
            raise DataError(f"the responses of {name} hold row {key[:12]} twice")
    rows = {metric: np.concatenate(parts)[order] for metric, parts in growing.rows.items()}
    return Contestant(name, keys, np.array(growing.groups)[order], rows)


def _check_rows(one: Contestant, first: Contestant) -> None:
    if one.keys == first.keys:
        return
    missing = sorted(set(first.keys) ^ set(one.keys))
    raise DataError(
        f"{one.name} and {first.name} did not answer the same rows: {len(missing)} have no"
        f" counterpart, the first is {missing[0][:12]}",
        hint="figures are compared row by row; run the predict step again with --force predict",
    )
