"""Intervals around a figure: a bootstrap over groups, and exact or score intervals for rates.

Rows of one group (the same question, copies of one answer) say nearly the same, so whole groups
are drawn, never single rows. Knows numbers only: no metric, no model, no file.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Sums = NDArray[np.float64]  # (..., columns): sums over the rows of a sample

BLOCK_CELLS = 2_000_000  # draws held in memory at once: 16 MB of group numbers
BOOTSTRAP = "studentised bootstrap by group"
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
    rows: Floats, groups: NDArray[Any], resampling: Resampling, *, exponential: bool = False
) -> Interval:
    """Estimate a ratio of sums, or the difference of two, and its interval over groups.

    Studentised ("bootstrap-t"; Efron and Tibshirani 1993, section 12.5): each draw's distance from
    the figure is counted in the draw's own standard errors, so that skewed figures of few groups
    are covered as often as they should be. No end lies beyond what any draw gave.

    Args:
        rows: (rows, 2), numerator and weight, or (rows, 4): the first ratio minus the second. Rows
            whose columns are all zero tell nothing and do no harm.
        groups: One name a row.
        resampling: Confidence, number of draws, seed.
        exponential: Take the exponential of each ratio.
    """
    import numpy as np

    sums = group_sums(rows, groups)
    centred, ratios = _centred(sums)
    whole = estimates(centred.sum(axis=0), _products(centred).sum(axis=0), ratios, exponential)
    value = float(whole.values)
    point = Interval(value, None, None, len(rows), BOOTSTRAP)
    if not math.isfinite(value):
        return replace(point, value=None, why="the figure is not a finite number")
    fewest = fewest_groups(resampling.confidence)
    if len(sums) < fewest:
        return replace(point, why=f"{len(sums)} groups of rows; an interval needs {fewest}")
    draws = _draws(centred, ratios, exponential, resampling)
    one = Estimates(np.array([value]), whole.errors[None])
    ends = studentised(one, draws, resampling.confidence)
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


@dataclass(frozen=True)
class Estimates:
    """Figures with their standard errors, of one shape."""

    values: Floats
    errors: Floats


def estimates(totals: Sums, products: Sums, ratios: Floats, exponential: bool) -> Estimates:
    """Return a figure of sums and its standard error by linearisation, for many sums at once.

    A common factor of all errors is left out: only their proportions matter here.

    Args:
        totals: (..., 2) or (..., 4): sums of numerators less ``ratios`` times weights, and weights.
        products: (..., columns, columns): sums over groups of the products of their columns.
        ratios: What has been taken off, one for each pair of columns.
        exponential: Take the exponential of each ratio.
    """
    import numpy as np

    weights = totals[..., 1::2]
    with np.errstate(divide="ignore", invalid="ignore"):  # no weight at all gives NaN: no figure
        left = totals[..., 0::2] / weights
        found = np.exp(left + ratios) if exponential else left + ratios
        sides = np.array([1.0, -1.0])[: len(ratios)]
        slopes = sides * (found if exponential else 1.0) / weights
        gradient = np.stack([slopes, -slopes * left], axis=-1).reshape(totals.shape)
        variance = np.einsum("...a,...ab,...b->...", gradient, products, gradient)
    return Estimates((sides * found).sum(axis=-1), np.sqrt(np.maximum(variance, 0.0)))


def _centred(sums: Sums) -> tuple[Sums, Floats]:
    """Return the sums with the whole's ratios taken off, and those: so that no digits cancel."""
    import numpy as np

    totals = sums.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = totals[0::2] / totals[1::2]
    centred = sums.copy()
    centred[:, 0::2] -= ratios * sums[:, 1::2]
    return centred, ratios


def _products(sums: Sums) -> Sums:
    return sums[..., :, None] * sums[..., None, :]


def _draws(centred: Sums, ratios: Floats, exponential: bool, resampling: Resampling) -> Estimates:
    """Return the figure of each draw of groups, (1, samples)."""
    import numpy as np

    generator = np.random.default_rng(resampling.seed)
    count, width = centred.shape
    columns = np.concatenate([centred, _products(centred).reshape(count, -1)], axis=1)
    block = max(1, BLOCK_CELLS // count)
    parts = []
    for start in range(0, resampling.samples, block):
        drawn = counts(generator, count, min(block, resampling.samples - start))
        # not a matrix product: numpy's own sum gives the same bits whatever the threads
        sums = np.einsum("sg,gc->sc", drawn, columns)
        products = sums[:, width:].reshape(-1, width, width)
        parts.append(estimates(sums[:, :width], products, ratios, exponential))
    values, errors = ([getattr(part, side) for part in parts] for side in ("values", "errors"))
    return Estimates(np.concatenate(values)[None, :], np.concatenate(errors)[None, :])


def counts(generator: np.random.Generator, groups: int, samples: int) -> Floats:
    """Draw ``groups`` groups with replacement and return how often each came, (samples, groups)."""
    import numpy as np

    drawn = generator.integers(groups, size=(samples, groups))
    at = drawn + groups * np.arange(samples)[:, None]
    found = np.bincount(at.ravel(), minlength=samples * groups).reshape(samples, groups)
    return found.astype(np.float64)


@dataclass(frozen=True)
class Ends:
    """The ends of many intervals, each array in the order of what was asked."""

    low: Floats
    high: Floats


def studentised(whole: Estimates, draws: Estimates, confidence: float) -> Ends:
    """Return the ends of many figures at once; see ``bootstrap``.

    Args:
        whole: The figures, (figures,).
        draws: Each figure on resampled groups, (figures, samples).
        confidence: In (0, 1).
    """
    import numpy as np

    away = draws.values - whole.values[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):  # a draw may have no error at all
        distances = np.where(away == 0, 0.0, away / draws.errors)
    ends = []
    for value, error, drawn, distance in zip(
        whole.values, whole.errors, draws.values, distances, strict=True
    ):
        known = np.isfinite(drawn)
        shares = ((1 - confidence) / 2, (1 + confidence) / 2)
        below, above = np.quantile(distance[known], shares, method="nearest")
        least, most = drawn[known].min(), drawn[known].max()
        low = least if above == np.inf else value - above * error
        high = most if below == -np.inf else value - below * error
        ends.append((min(value, max(low, least)), max(value, min(high, most))))
    low, high = np.array(ends).T
    return Ends(low, high)
