"""Which of several settings is better, and whether the difference is larger than the noise.

Two kinds of noise are told apart. *Rows*: other rows would have given other figures; settings are
compared on the same rows, and whole groups of rows are left out in turn (jackknife). *Tuning
seeds*: the same setting tuned with another seed gives another model; seen only where a setting was
tuned with several seeds, and then pooled over all settings. Knows numbers only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmops.evaluation.intervals import group_sums

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """One tuned model's figures: ``rows`` is (rows, 2), numerator and weight, in order of ``keys``.

    ``setting`` names everything but the seed; models of one setting differ in their seed alone.
    """

    member: str
    setting: str
    keys: Sequence[str]
    groups: NDArray[Any]
    rows: Floats


@dataclass(frozen=True)
class Standing:
    """A setting's figure, the mean over its seeds, and how it differs from the best setting's.

    ``low`` and ``high`` enclose the difference at the confidence asked for, over all comparisons
    at once; ``p`` is corrected the same way. They are null for the best itself and where ``why``
    says what cannot be compared.
    """

    setting: str
    members: tuple[str, ...]
    value: float
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    told_apart: bool = False
    why: str = ""


@dataclass(frozen=True)
class Ranking:
    """Settings from best to worst, and what was corrected for.

    ``seed_deviation`` is the standard deviation of one setting's figure over seeds, null where no
    setting was tuned with two.
    """

    standings: tuple[Standing, ...]
    comparisons: int
    seed_deviation: float | None
    seeds: int  # the most seeds that one setting has

    @property
    def best(self) -> Standing:
        """The setting with the best figure."""
        return self.standings[0]


def rank(
    measured: Sequence[Measured], *, lower_is_better: bool, exponential: bool, confidence: float
) -> Ranking:
    """Rank settings by their figure and compare each with the best.

    The best was found by looking, so every pair counts as a comparison (Bonferroni): with k
    settings k (k - 1) / 2. The variance of a difference is that over rows (jackknife over groups,
    of the mean over seeds) plus that over seeds; its degrees of freedom are Welch and
    Satterthwaite's (Satterthwaite 1946).

    Raises:
        ValueError: If nothing was measured.
    """
    settings: dict[str, list[Measured]] = {}
    for one in measured:
        settings.setdefault(one.setting, []).append(one)
    figures = {
        name: [_figure(one.rows, exponential) for one in models]
        for name, models in settings.items()
    }
    noise = _seed_noise(list(figures.values()))
    means = {name: sum(values) / len(values) for name, values in figures.items()}
    order = sorted(means, key=lambda name: (means[name] * (1 if lower_is_better else -1), name))
    comparisons = len(order) * (len(order) - 1) // 2
    best = settings[order[0]]
    standings = [Standing(order[0], _names(best), means[order[0]])]
    for name in order[1:]:
        found = _compare(settings[name], best, noise, exponential)
        standings.append(
            _standing(name, settings[name], means[name], found, comparisons, confidence)
        )
    return Ranking(
        tuple(standings),
        comparisons,
        None if noise is None else math.sqrt(noise.variance),
        max(map(len, settings.values())),
    )


def sentence(ranking: Ranking, titles: Mapping[str, str]) -> str:
    """Say in plain words what the ranking shows, and which noise it could not see."""
    others = ranking.standings[1:]
    if not others:
        return "There is one setting, so nothing is compared."
    name = titles.get(ranking.best.setting, ranking.best.setting)
    worse = [one for one in others if one.told_apart]
    blind = [one for one in others if one.p is None]
    if len(blind) == len(others):
        return f"No setting can be compared with {name}: {blind[0].why}."
    seen = "rows and of tuning seeds" if ranking.seed_deviation is not None else "rows"
    if not worse:
        said = f"No difference from {name} is larger than the noise of {seen}"
    else:
        than = "the other setting" if len(others) == 1 else f"{len(worse)} of {len(others)} others"
        said = f"{name} is better than {than} by more than the noise of {seen}"
    if ranking.comparisons > 1:
        said += f" ({ranking.comparisons} comparisons corrected for)"
    said += "."
    if ranking.seed_deviation is None:
        said += (
            " Each setting was tuned with one seed, so how much another seed would change is not "
            "known: sweep over tuning seeds as well, e.g. tuning.seed=1,2,3."
        )
    return said


@dataclass(frozen=True)
class _SeedNoise:
    variance: float
    freedom: int


@dataclass(frozen=True)
class _Compared:
    difference: float
    deviation: float
    freedom: float
    why: str = ""


def _names(models: Sequence[Measured]) -> tuple[str, ...]:
    return tuple(model.member for model in models)


def _figure(rows: Floats, exponential: bool) -> float:
    total = rows.sum(axis=0)
    ratio = float(total[0] / total[1]) if total[1] else math.nan
    return math.exp(ratio) if exponential else ratio


def _seed_noise(figures: Sequence[Sequence[float]]) -> _SeedNoise | None:
    """Pool the variance over seeds; null where no setting has two seeds."""
    squares, freedom = 0.0, 0
    for values in figures:
        mean = sum(values) / len(values)
        squares += sum((value - mean) ** 2 for value in values)
        freedom += len(values) - 1
    return _SeedNoise(squares / freedom, freedom) if freedom else None


def _compare(
    one: Sequence[Measured], best: Sequence[Measured], noise: _SeedNoise | None, exponential: bool
) -> _Compared:
    import numpy as np

    keys = [list(model.keys) for model in (*one, *best)]
    if any(key != keys[0] for key in keys):
        return _Compared(0, 0, 0, "it was scored on other rows")
    sums = [[group_sums(model.rows, model.groups) for model in models] for models in (one, best)]
    groups = len(sums[0][0])
    if groups < 2:
        return _Compared(0, 0, 0, "there is one group of rows")
    whole = _mean_figure([part.sum(axis=0)[None, :] for part in sums[0]], exponential) - (
        _mean_figure([part.sum(axis=0)[None, :] for part in sums[1]], exponential)
    )
    without = _mean_figure([part.sum(axis=0) - part for part in sums[0]], exponential) - (
        _mean_figure([part.sum(axis=0) - part for part in sums[1]], exponential)
    )
    difference = float(whole[0])
    if not (math.isfinite(difference) and np.isfinite(without).all()):
        return _Compared(0, 0, 0, "rows have no figure")
    by_rows = (groups - 1) / groups * float(((without - without.mean()) ** 2).sum())
    by_seeds = noise.variance * (1 / len(one) + 1 / len(best)) if noise else 0.0
    variance = by_rows + by_seeds
    parts = [(by_rows, groups - 1)] + ([(by_seeds, noise.freedom)] if noise else [])
    below = sum(part**2 / freedom for part, freedom in parts)
    return _Compared(difference, math.sqrt(variance), variance**2 / below if below else math.inf)


def _mean_figure(sums: Sequence[Floats], exponential: bool) -> Floats:
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = [part[:, 0] / part[:, 1] for part in sums]
    figures = [np.exp(ratio) if exponential else ratio for ratio in ratios]
    return np.asarray(np.mean(figures, axis=0))


def _standing(
    name: str,
    models: Sequence[Measured],
    value: float,
    found: _Compared,
    comparisons: int,
    confidence: float,
) -> Standing:
    from scipy.special import stdtr, stdtrit

    if found.why:
        return Standing(name, _names(models), value, why=found.why)
    freedom = min(found.freedom, 1e9)
    if found.deviation == 0:
        p = 1.0 if found.difference == 0 else 0.0
    else:
        p = 2 * float(stdtr(freedom, -abs(found.difference) / found.deviation))
    reach = float(stdtrit(freedom, 1 - (1 - confidence) / (2 * comparisons))) * found.deviation
    corrected = min(1.0, p * comparisons)
    return Standing(
        name,
        _names(models),
        value,
        difference=found.difference,
        low=found.difference - reach,
        high=found.difference + reach,
        p=corrected,
        told_apart=corrected < 1 - confidence,
    )
