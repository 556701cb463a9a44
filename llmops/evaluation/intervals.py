"""Intervals around a figure: a bootstrap over groups, and exact or score intervals for rates.

Rows of one group (the same question, copies of one answer) say nearly the same, so whole groups
are drawn, never single rows. Knows numbers only: no metric, no model, no file.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Sums = NDArray[np.float64]  # (..., columns): sums over the rows of a sample
    Statistic = Callable[[Sums], Floats]  # sums of samples -> one figure a sample

BLOCK_CELLS = 2_000_000  # draws held in memory at once: 16 MB of group numbers
BOOTSTRAP = "bootstrap by group (BCa, small-sample quantiles)"
WILSON = "Wilson, rows discounted by group"


@dataclass(frozen=True)
class Interval:
    """A figure with its two-sided interval; all null, with ``why``, where it cannot be computed.

    ``n`` counts rows. ``low`` and ``high`` alone are null where the groups are too few.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    method: str
    why: str | None = None


@dataclass(frozen=True)
class Resampling:
    """How to draw: ``confidence`` in (0, 1), ``samples`` draws, and a seed of any kind."""

    confidence: float
    samples: int
    seed: int


def stable_seed(seed: int, name: str) -> int:
    """Return a 63-bit seed that depends on both arguments and on nothing else."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8]) >> 1


def fewest_groups(confidence: float) -> int:
    """Return the least number of groups whose bootstrap can reach ``confidence`` at all.

    Not even the range of n draws covers the median more often than 1 - 2**(1 - n).
    """
    return math.ceil(1 - math.log2(1 - confidence))


def group_sums(rows: Floats, groups: NDArray[Any]) -> Sums:
    """Add up the columns of ``rows`` (rows, columns) within each group, in order of group name."""
    import numpy as np

    _, number = np.unique(groups, return_inverse=True)
    columns = [np.bincount(number, weights=column) for column in rows.T]
    return np.stack(columns, axis=1)


def bootstrap(
    rows: Floats, groups: NDArray[Any], statistic: Statistic, resampling: Resampling
) -> Interval:
    """Estimate ``statistic`` of the column sums of ``rows`` and its interval over groups.

    Bias-corrected and accelerated percentiles (Efron 1987), taken at the quantiles of Student's t
    and widened by sqrt(g / (g - 1)) for g groups (Hesterberg 2015, "What teachers should know
    about the bootstrap", section 5.2): plain percentiles are too narrow for few groups.

    Args:
        rows: (rows, columns); rows whose columns are all zero tell nothing and do no harm.
        groups: One name a row.
        statistic: Maps sums of shape (samples, columns) to (samples,).
        resampling: Confidence, number of draws, seed.
    """
    import numpy as np

    sums = group_sums(rows, groups)
    value = float(statistic(sums.sum(axis=0)[None, :])[0])
    point = Interval(value, None, None, len(rows), BOOTSTRAP)
    if not math.isfinite(value):
        return replace(point, value=None, why="the figure is not a finite number")
    fewest = fewest_groups(resampling.confidence)
    if len(sums) < fewest:
        return replace(point, why=f"{len(sums)} groups of rows; an interval needs {fewest}")
    draws = _draws(sums, statistic, resampling)
    without = _leave_one_out(sums, statistic)
    ends = bca(np.array([value]), draws[None, :], without[None, :], resampling.confidence)
    return replace(point, low=float(ends.low[0]), high=float(ends.high[0]))


def wilson(values: Floats, groups: NDArray[Any], confidence: float) -> Interval:
    """Return the share of ones in ``values`` with Wilson's score interval (Wilson 1927).

    Rows are counted at their effective number, see ``effective_rows``.
    """
    import numpy as np

    n = len(values)
    if n == 0:
        return Interval(None, None, None, 0, WILSON, why="there are no rows")
    rate, size = float(values.mean()), effective_rows(values, groups)
    ends = wilson_ends(np.array([rate]), np.array([size]), confidence)
    return Interval(rate, float(ends.low[0]), float(ends.high[0]), n, WILSON)


def wilson_ends(rates: Floats, rows: Floats, confidence: float) -> Ends:
    """Return Wilson's ends of many rates, each over its own number of rows, within [0, 1]."""
    import numpy as np
    from scipy.special import ndtri

    z = float(ndtri((1 + confidence) / 2))
    scale = 1 + z * z / rows
    centre = (rates + z * z / (2 * rows)) / scale
    half = z / scale * np.sqrt(rates * (1 - rates) / rows + z * z / (4 * rows * rows))
    return Ends(
        np.maximum(0.0, np.minimum(rates, centre - half)),
        np.minimum(1.0, np.maximum(rates, centre + half)),
    )


def effective_rows(values: Floats, groups: NDArray[Any]) -> float:
    """Return how many independent rows ``values`` are worth: rows over the design effect.

    The design effect is the variance of the mean over groups divided by that over single rows, at
    least 1 (Korn and Graubard 1998). Where the values do not vary it is unknown, and every group
    counts as one row.
    """
    import numpy as np

    n, rate = len(values), float(values.mean())
    sums = group_sums(np.stack([values, np.ones(n)], axis=1), groups)
    count = len(sums)
    if rate in (0.0, 1.0) or count == 1:
        return float(count)
    deviations = sums[:, 0] - rate * sums[:, 1]
    by_group = count / (count - 1) * float((deviations**2).sum()) / n**2
    by_row = rate * (1 - rate) / n
    return n / max(1.0, by_group / by_row)


def upper_bound(values: Floats, groups: NDArray[Any], confidence: float) -> float:
    """Return the one-sided upper Clopper-Pearson bound of the share of ones; 1.0 for no rows.

    Clopper and Pearson 1934, on the effective number of rows.
    """
    n = len(values)
    if n == 0:
        return 1.0
    return clopper_pearson_upper(float(values.mean()), effective_rows(values, groups), confidence)


def clopper_pearson_upper(rate: float, rows: float, confidence: float) -> float:
    """Return the largest rate under which so few ones among ``rows`` are not yet too unlikely."""
    from scipy.special import betaincinv

    ones = rate * rows
    if rate >= 1:
        return 1.0
    return float(betaincinv(ones + 1, rows - ones, confidence))


def resampled_counts(groups: int, samples: int, seed: int) -> NDArray[Any]:
    """Return how often each group is drawn in each sample, (samples, groups)."""
    import numpy as np

    drawn = np.random.default_rng(seed).integers(groups, size=(samples, groups))
    at = drawn + groups * np.arange(samples)[:, None]
    return np.bincount(at.ravel(), minlength=samples * groups).reshape(samples, groups)


def _draws(sums: Sums, statistic: Statistic, resampling: Resampling) -> Floats:
    import numpy as np

    generator = np.random.default_rng(resampling.seed)
    count = len(sums)
    block = max(1, BLOCK_CELLS // count)
    parts = []
    for start in range(0, resampling.samples, block):
        drawn = generator.integers(count, size=(min(block, resampling.samples - start), count))
        # gathered column by column: numpy's own sum gives the same bits whatever the threads
        parts.append(statistic(np.stack([column[drawn].sum(axis=1) for column in sums.T], axis=1)))
    return np.concatenate(parts)


def _leave_one_out(sums: Sums, statistic: Statistic) -> Floats:
    return statistic(sums.sum(axis=0)[None, :] - sums)


@dataclass(frozen=True)
class Ends:
    """The ends of many intervals, each array in the order of what was asked."""

    low: Floats
    high: Floats


def bca(values: Floats, draws: Floats, without: Floats, confidence: float) -> Ends:
    """Return the bias-corrected and accelerated ends of many figures at once; see ``bootstrap``.

    Args:
        values: The figures, (figures,).
        draws: Each figure on resampled groups, (figures, samples).
        without: Each figure with one group left out, (figures, groups).
        confidence: In (0, 1).
    """
    import numpy as np
    from scipy.special import ndtr, ndtri, stdtrit

    groups, samples = without.shape[1], np.isfinite(draws).sum(axis=1)
    at = values[:, None]
    below = ((draws < at).sum(axis=1) + (draws == at).sum(axis=1) / 2) / samples
    bias = ndtri(np.clip(below, 1 / (samples + 1), 1 - 1 / (samples + 1)))
    spread = without.mean(axis=1, keepdims=True) - without
    scale = (spread**2).sum(axis=1) ** 1.5
    with np.errstate(divide="ignore", invalid="ignore"):
        skew = np.where(scale > 0, (spread**3).sum(axis=1) / (6 * scale), 0.0)
    reach = math.sqrt(groups / (groups - 1)) * float(stdtrit(groups - 1, (1 + confidence) / 2))
    ends = np.stack([bias - reach, bias + reach], axis=1)
    shares = ndtr(bias[:, None] + ends / np.maximum(1e-9, 1 - skew[:, None] * ends))
    found = np.stack(
        [
            np.quantile(row[np.isfinite(row)], share)
            for row, share in zip(draws, shares, strict=True)
        ]
    )
    return Ends(np.minimum(found[:, 0], values), np.maximum(found[:, 1], values))
