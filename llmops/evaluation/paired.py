"""Whether two contestants differ on the same rows: a test by groups, and what it can show.

Knows numbers only. A test asks one question; ``holm`` corrects for having asked many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmops.evaluation.intervals import group_sums
from llmops.plan.power import POWER, standard_errors_needed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

TEST = "sign flips by group"
FLIPS = 4_999  # so that the least p-value is 0.0002
BLOCK_CELLS = 4_000_000


def group_differences(one: Floats, other: Floats, groups: NDArray[Any]) -> Floats:
    """Return what each group adds to the difference of two ratios on the same rows.

    ``one`` and ``other`` are (rows, 2), numerator and weight. The ratio of sums is linearised at
    the ratio of both together, which is what holds if they do not differ; where both have the same
    weights this is exact.
    """
    sums = group_sums(one, groups), group_sums(other, groups)
    totals = [part.sum(axis=0) for part in sums]
    common = (totals[0][0] + totals[1][0]) / (totals[0][1] + totals[1][1])
    parts = [
        (part[:, 0] - common * part[:, 1]) / total[1]
        for part, total in zip(sums, totals, strict=True)
    ]
    difference: Floats = parts[0] - parts[1]
    return difference


def group_errors(one: Floats, other: Floats, groups: NDArray[Any]) -> Floats:
    """Return what each group adds to the error of the difference of two ratios; they sum to zero.

    Each ratio is linearised at itself. Where there is no difference, these are the groups'
    differences; where there is one, and groups weigh unlike much, they spread as the interval says.
    """
    sums = group_sums(one, groups), group_sums(other, groups)
    parts = []
    for part in sums:
        total = part.sum(axis=0)
        parts.append((part[:, 0] - total[0] / total[1] * part[:, 1]) / total[1])
    errors: Floats = parts[0] - parts[1]
    return errors


def p_values(differences: Floats, seed: int, flips: int = FLIPS) -> Floats:
    """Return the two-sided p-value of each row of ``differences``, (comparisons, groups).

    If two contestants do not differ, each group's difference could as well have the other sign
    (Fisher 1935). The share of random sign patterns whose sum is as far from zero as the one seen,
    the one seen included, is the p-value (Phipson and Smyth 2010).
    """
    import numpy as np

    comparisons, groups = differences.shape
    seen = np.abs(differences.sum(axis=1))
    limit = seen * (1 - 1e-12)  # sums of the same numbers in another order may differ in a last bit
    generator, extreme = np.random.default_rng(seed), np.ones(comparisons)
    block = max(1, BLOCK_CELLS // max(groups, comparisons))
    for start in range(0, flips, block):
        size = min(block, flips - start)
        signs = generator.integers(0, 2, size=(size, groups), dtype=np.int8) * 2.0 - 1.0
        extreme += (np.abs(signs @ differences.T) >= limit).sum(axis=0)
    found: Floats = extreme / (flips + 1)
    return found


def detectable(errors: Floats, confidence: float, power: float = POWER) -> float:
    """Return the smallest true difference that groups like these show with chance ``power``.

    (z_{1-a/2} + z_power) standard errors, by the spread of what ``group_errors`` returns.
    """
    return float(standard_errors_needed(confidence, power) * standard_error(errors))


def standard_error(errors: Floats) -> float:
    """Return the standard error of a sum over groups by what each adds to it."""
    import numpy as np

    groups = len(errors)
    if groups < 2:
        return float("nan")
    return float(np.sqrt(groups * errors.var(ddof=1)))


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, in the same order (Holm 1979).

    Whoever calls those below a level significant errs in any of them with at most that chance.
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    corrected, reached = [0.0] * len(values), 0.0
    for rank, place in enumerate(order):
        reached = max(reached, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = reached
    return corrected
