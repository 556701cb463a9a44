"""How far two samples lie apart, what chance alone would give, and how sure that is. Pure.

A distance is never below zero, so two samples of one source lie apart too: a permutation test says
how far by chance, a bootstrap how far the distance could be otherwise. Everything is seeded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Distance = Callable[[Floats, Floats], Floats]  # two (draws, features) -> (draws,)

DRAWS = 400  # permutations, and as many bootstrap samples
MOST_WORDS = 2000  # of the vocabulary: the most frequent ones of both samples


@dataclass(frozen=True)
class Drift:
    """A distance with its interval. ``by_chance`` is the mean of what permutations gave.

    ``p`` is the share of permutations that lie as far apart, ``p_corrected`` the same corrected
    for how many distances are looked at together.
    """

    name: str
    measure: str
    distance: float
    low: float
    high: float
    by_chance: float
    p: float
    p_corrected: float
    rows: int
    against_rows: int


def of_numbers(
    name: str, now: Sequence[float], before: Sequence[float], *, confidence: float, seed: int
) -> Drift:
    """Compare two samples of numbers by Kolmogorov and Smirnov's distance, in [0, 1]."""
    import numpy as np

    values = np.array([*now, *before], dtype=np.float64)
    order = np.argsort(values, kind="stable")
    last_of_equals = np.append(np.diff(values[order]) > 0, True)

    def distance(left: Floats, right: Floats) -> Floats:
        apart = np.cumsum(left[:, order] - right[:, order], axis=1)[:, last_of_equals]
        found: Floats = np.abs(apart).max(axis=1)
        return found

    measure = "Kolmogorov-Smirnov distance"
    return _drift(name, measure, len(now), len(before), distance, confidence, seed)


def of_words(
    name: str, now: Sequence[str], before: Sequence[str], *, confidence: float, seed: int
) -> Drift:
    """Compare what words two samples of texts use: Jensen and Shannon's distance, in [0, 1]."""
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(max_features=MOST_WORDS, token_pattern=r"(?u)\b\w+\b")
    try:
        counts = counter.fit_transform([*now, *before]).astype(np.float64)
    except ValueError:  # no word at all
        counts = np.zeros((len(now) + len(before), 1))

    def distance(left: Floats, right: Floats) -> Floats:
        return jensen_shannon(left @ counts, right @ counts)

    return _drift(
        name, "Jensen-Shannon distance", len(now), len(before), distance, confidence, seed
    )


def of_vectors(
    name: str, now: NDArray[Any], before: NDArray[Any], *, confidence: float, seed: int
) -> Drift:
    """Compare where two samples of vectors lie: the distance of their means."""
    import numpy as np

    vectors = np.concatenate([now, before]).astype(np.float64)

    def distance(left: Floats, right: Floats) -> Floats:
        found: Floats = np.linalg.norm((left - right) @ vectors, axis=1)
        return found

    measure = "distance of the mean vectors"
    return _drift(name, measure, len(now), len(before), distance, confidence, seed)


def jensen_shannon(left: Floats, right: Floats) -> Floats:
    """Return the distance (base 2, in [0, 1]) of each row's counts; 0 where a row has none."""
    import numpy as np
    from scipy.special import rel_entr

    def shares(counts: Floats) -> Floats:
        totals = counts.sum(axis=1, keepdims=True)
        return counts / np.where(totals > 0, totals, 1.0)

    one, other = shares(np.asarray(left)), shares(np.asarray(right))
    middle = (one + other) / 2
    divergence = (rel_entr(one, middle) + rel_entr(other, middle)).sum(axis=1) / 2 / np.log(2)
    known = (one.sum(axis=1) > 0) & (other.sum(axis=1) > 0)
    found: Floats = np.where(known, np.sqrt(np.clip(divergence, 0.0, 1.0)), 0.0)
    return found


def corrected(drifts: Sequence[Drift]) -> list[Drift]:
    """Return the drifts with p-values corrected by Holm's method (1979) for how many there are."""
    from dataclasses import replace

    by_p = sorted(range(len(drifts)), key=lambda place: drifts[place].p)
    found, highest = list(drifts), 0.0
    for rank, place in enumerate(by_p):
        highest = max(highest, min(1.0, drifts[place].p * (len(drifts) - rank)))
        found[place] = replace(drifts[place], p_corrected=highest)
    return found


def _drift(
    name: str,
    measure: str,
    rows: int,
    against: int,
    distance: Distance,
    confidence: float,
    seed: int,
) -> Drift:
    """Measure by weights: a sample, permuted or drawn again, is a row of weights on all rows."""
    import numpy as np

    generator = np.random.default_rng(seed)
    left, right = _split(np.arange(rows + against)[None, :], rows)
    observed = float(distance(left, right)[0])
    permuted = generator.permuted(np.tile(np.arange(rows + against), (DRAWS, 1)), axis=1)
    chance = _in_blocks(distance, *_split(permuted, rows))
    drawn = _in_blocks(
        distance,
        _drawn(generator, rows, 0, rows + against),
        _drawn(generator, against, rows, rows + against),
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    as_far = int((chance >= observed - 1e-12).sum())
    p = (as_far + 1) / (DRAWS + 1)
    return Drift(
        name,
        measure,
        observed,
        min(observed, float(low)),
        max(observed, float(high)),
        float(chance.mean()),
        p,
        p,
        rows,
        against,
    )


def _split(orders: NDArray[Any], rows: int) -> tuple[Floats, Floats]:
    """Return weights that average the first ``rows`` of each order, and those of the rest."""
    import numpy as np

    draws, total = orders.shape
    left, right = np.zeros((draws, total)), np.zeros((draws, total))
    np.put_along_axis(left, orders[:, :rows], 1 / rows, axis=1)
    np.put_along_axis(right, orders[:, rows:], 1 / (total - rows), axis=1)
    return left, right


def _drawn(generator: np.random.Generator, rows: int, first: int, total: int) -> Floats:
    """Return weights of bootstrap samples of ``rows`` rows that begin at ``first``."""
    import numpy as np

    weights = np.zeros((DRAWS, total))
    weights[:, first : first + rows] = (
        generator.multinomial(rows, np.full(rows, 1 / rows), size=DRAWS) / rows
    )
    return weights


def _in_blocks(distance: Distance, left: Floats, right: Floats) -> Floats:
    import numpy as np

    size = 50  # rows of weights at once: memory stays small
    return np.concatenate(
        [
            distance(left[start : start + size], right[start : start + size])
            for start in range(0, len(left), size)
        ]
    )
