"""2,000 repetitions each: how often intervals hold the truth, and how often the test errs.

The bands hold for any seed: the Monte-Carlo error of 2,000 repetitions is half a percentage point,
and what is measured lies at least four of those from each end. Repetitions are computed together:
a block of them has the same resampling, by matrix products.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.random import default_rng

from llmops.evaluation import intervals, paired
from llmops.evaluation.intervals import Estimates

REPETITIONS = 2_000
BLOCK = 250
SAMPLES = 1_000
LOSS = 2.5  # nats per token
SIZES = (30, 64, 500)
SEEDS = (1, 2, 3)


def losses(generator, groups, repetitions=REPETITIONS):
    """Nats and tokens of (repetitions, groups): skewed, and groups of unlike length."""
    tokens = 10.0 + generator.gamma(3.0, 12.0, (repetitions, groups))
    return nats(generator, tokens), tokens


def nats(generator, tokens):
    return tokens * (LOSS + 0.3 * (generator.gamma(4.0, 1.0, tokens.shape) - 4.0))


def ends_of(columns, counts):
    """Return the ends of many repetitions: ``columns`` are (repetitions, groups) each."""
    whole = estimates([column.sum(axis=1) for column in columns], products(columns, None))
    drawn = estimates([column @ counts.T for column in columns], products(columns, counts))
    return intervals.studentised(whole, drawn, 0.95)


def products(columns, counts):
    pairs = [[one * other for other in columns] for one in columns]
    return [[one.sum(axis=1) if counts is None else one @ counts.T for one in row] for row in pairs]


def estimates(totals, moments):
    sums = np.stack(totals, axis=-1)
    square = np.stack([np.stack(row, axis=-1) for row in moments], axis=-2)
    return intervals.estimates(sums, square, np.zeros(len(totals) // 2), exponential=False)


def coverage(columns, truth, seed):
    groups, held = columns[0].shape[1], []
    for number, start in enumerate(range(0, REPETITIONS, BLOCK)):
        counts = intervals.counts(default_rng([seed, number]), groups, SAMPLES)
        found = ends_of([column[start : start + BLOCK] for column in columns], counts)
        held.append((found.low <= truth) & (found.high >= truth))
    return np.mean(held)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("groups", SIZES)
def test_a_95_percent_interval_of_the_loss_holds_it_93_to_97_times_in_100(groups, seed):
    assert 0.93 <= coverage(losses(default_rng(seed), groups), LOSS, seed) <= 0.97


@pytest.mark.parametrize("groups", SIZES)
def test_a_95_percent_interval_of_a_difference_holds_it_93_to_97_times_in_100(groups):
    generator = default_rng(4)
    tokens = losses(generator, groups)[1]
    ours, theirs = nats(generator, tokens) - 0.2 * tokens, nats(generator, tokens)
    assert 0.93 <= coverage((ours, tokens, theirs, tokens), -0.2, 4) <= 0.97


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rate", [0.2, 0.5])
@pytest.mark.parametrize("rows", SIZES)
def test_a_95_percent_interval_of_a_rate_holds_it_93_to_97_times_in_100(rows, rate, seed):
    rates = default_rng(seed).binomial(rows, rate, REPETITIONS) / rows
    found = intervals.wilson_ends(rates, np.full(REPETITIONS, float(rows)), 0.95)
    assert 0.93 <= np.mean((found.low <= rate) & (found.high >= rate)) <= 0.97


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("groups", SIZES)
def test_the_paired_test_calls_3_to_7_in_100_equal_pairs_different(groups, seed):
    generator = default_rng(seed)
    ours, tokens = losses(generator, groups)
    theirs = nats(generator, tokens)
    differences = (ours - theirs) / tokens.sum(axis=1)[:, None]
    assert 0.03 <= np.mean(paired.p_values(differences, seed=seed, flips=999) <= 0.05) <= 0.07


@pytest.mark.parametrize("groups", SIZES)
def test_holm_over_many_equal_pairs_errs_in_any_of_them_at_most_5_times_in_100(groups):
    families = default_rng(1).normal(0, 1, (REPETITIONS, groups))
    found = paired.p_values(families, seed=5, flips=999).reshape(-1, 10)
    assert np.mean([min(paired.holm(list(family))) <= 0.05 for family in found]) <= 0.1


def test_resampling_by_counts_is_what_the_bootstrap_does():
    columns = [part[:1] for part in losses(default_rng(1), 40, 1)]
    rows = np.stack([column[0] for column in columns], axis=1)
    resampling = intervals.Resampling(0.95, SAMPLES, 11)
    found = intervals.bootstrap(rows, np.arange(40), resampling)
    ends = ends_of(columns, intervals.counts(default_rng(11), 40, SAMPLES))
    assert (ends.low[0], ends.high[0]) == pytest.approx((found.low, found.high))


def test_an_interval_without_room_is_its_figure():
    whole = Estimates(np.array([1.0]), np.array([0.0]))
    found = intervals.studentised(whole, Estimates(np.ones((1, 9)), np.zeros((1, 9))), 0.95)
    assert (found.low[0], found.high[0]) == (1.0, 1.0)
