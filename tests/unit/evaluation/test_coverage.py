"""2,000 repetitions each: how often intervals hold the truth, and how often the test errs.

All repetitions are computed together: the same resampling for each, by one matrix product.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.random import default_rng

from llmops.evaluation import intervals, paired

REPETITIONS = 2_000
SAMPLES = 1_000
LOSS = 2.5  # nats per token
SIZES = (30, 64, 500)


def losses(generator, groups):
    """Nats and tokens of (repetitions, groups): skewed, and groups of unlike length."""
    shape = (REPETITIONS, groups)
    tokens = 10.0 + generator.gamma(3.0, 12.0, shape)
    return tokens * (LOSS + 0.3 * (generator.gamma(4.0, 1.0, shape) - 4.0)), tokens


def ends_of(nats, tokens):
    groups = nats.shape[1]
    counts = intervals.resampled_counts(groups, SAMPLES, seed=11).astype(float)
    draws = (counts @ nats.T) / (counts @ tokens.T)
    whole = nats.sum(axis=1), tokens.sum(axis=1)
    without = (whole[0][:, None] - nats) / (whole[1][:, None] - tokens)
    return intervals.bca(whole[0] / whole[1], draws.T, without, 0.95)


@pytest.mark.parametrize("groups", SIZES)
def test_a_95_percent_interval_of_the_loss_holds_it_93_to_97_times_in_100(groups):
    found = ends_of(*losses(default_rng(1), groups))
    assert 0.93 <= np.mean((found.low <= LOSS) & (found.high >= LOSS)) <= 0.97


@pytest.mark.parametrize("rate", [0.2, 0.5])
@pytest.mark.parametrize("rows", SIZES)
def test_a_95_percent_interval_of_a_rate_holds_it_93_to_97_times_in_100(rows, rate):
    rates = default_rng(1).binomial(rows, rate, REPETITIONS) / rows
    found = intervals.wilson_ends(rates, np.full(REPETITIONS, float(rows)), 0.95)
    assert 0.93 <= np.mean((found.low <= rate) & (found.high >= rate)) <= 0.97


@pytest.mark.parametrize("groups", SIZES)
def test_the_paired_test_calls_5_in_100_equal_pairs_different(groups):
    generator = default_rng(1)
    ours, tokens = losses(generator, groups)
    theirs = tokens * (LOSS + 0.3 * (generator.gamma(4.0, 1.0, ours.shape) - 4.0))
    found = paired.p_values((ours - theirs) / tokens.sum(axis=1)[:, None], seed=3, flips=999)
    assert 0.035 <= np.mean(found <= 0.05) <= 0.065


@pytest.mark.parametrize("groups", SIZES)
def test_holm_over_many_equal_pairs_errs_in_any_of_them_at_most_5_times_in_100(groups):
    families = default_rng(1).normal(0, 1, (REPETITIONS, groups))
    found = paired.p_values(families, seed=5, flips=999).reshape(-1, 10)
    assert np.mean([min(paired.holm(list(family))) <= 0.05 for family in found]) <= 0.1


def test_resampling_by_counts_is_drawing_groups_with_replacement():
    nats, tokens = (part[0] for part in losses(default_rng(1), 40))
    rows = np.stack([nats, tokens], axis=1)
    drawn = intervals.bootstrap(
        rows,
        np.arange(40),
        lambda sums: sums[:, 0] / sums[:, 1],
        intervals.Resampling(0.95, SAMPLES, 11),
    )
    counted = ends_of(nats[None, :], tokens[None, :])
    assert (counted.low[0], counted.high[0]) == pytest.approx((drawn.low, drawn.high))
