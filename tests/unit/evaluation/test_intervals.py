"""Intervals: their properties, exact definitions, and whether they cover as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from llmops.evaluation import intervals
from llmops.evaluation.intervals import Resampling, bootstrap, fewest_groups, upper_bound, wilson

DRAWS = Resampling(confidence=0.95, samples=600, seed=7)


def rows_of(values, weights=None):
    values = np.asarray(values, dtype=float)
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=float)
    return np.stack([values, weights], axis=1)


def test_the_figure_is_the_ratio_of_sums_and_not_the_mean_of_ratios():
    rows = rows_of([1.0, 30.0] * 4, [1, 10] * 4)
    assert bootstrap(rows, np.arange(8), DRAWS).value == pytest.approx(31 / 11)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    rows, groups = rows_of(np.random.default_rng(0).gamma(2, 1, 30)), np.arange(30)
    again = Resampling(0.95, 600, 8)
    assert bootstrap(rows, groups, DRAWS) == bootstrap(rows, groups, DRAWS)
    assert bootstrap(rows, groups, DRAWS).low != bootstrap(rows, groups, again).low


def test_blocks_of_draws_give_the_interval_of_one_block(monkeypatch):
    rows, groups = rows_of(np.random.default_rng(0).gamma(2, 1, 30)), np.arange(30)
    whole = bootstrap(rows, groups, DRAWS)
    monkeypatch.setattr(intervals, "BLOCK_CELLS", 7 * 30)
    assert bootstrap(rows, groups, DRAWS) == whole


def test_copies_within_a_group_add_no_certainty():
    values = np.random.default_rng(1).gamma(2, 1, 25)
    once = bootstrap(rows_of(values), np.arange(25), DRAWS)
    copied = bootstrap(rows_of(np.repeat(values, 4)), np.repeat(np.arange(25), 4), DRAWS)
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    assert copied.n == 100


def test_the_order_of_rows_does_not_matter():
    generator = np.random.default_rng(2)
    rows, groups = rows_of(generator.gamma(2, 1, 40)), np.arange(40) // 2
    order = generator.permutation(40)
    straight = bootstrap(rows, groups, DRAWS)
    mixed = bootstrap(rows[order], groups[order], DRAWS)
    assert (mixed.value, mixed.low) == pytest.approx((straight.value, straight.low))


def test_too_few_groups_give_the_point_and_say_why_there_is_no_interval():
    found = bootstrap(rows_of([1.0, 2.0, 3.0]), np.arange(3), DRAWS)
    assert (found.value, found.low, found.high) == (2.0, None, None)
    assert found.why == "3 groups of rows; an interval needs 6"


@given(st.floats(0.5, 0.999))
def test_the_fewest_groups_are_those_whose_range_can_cover_the_median(confidence):
    fewest = fewest_groups(confidence)
    assert 1 - 2.0 ** (1 - fewest) >= confidence - 1e-12
    assert 1 - 2.0 ** (2 - fewest) < confidence + 1e-12


def test_a_figure_that_is_no_number_has_no_value():
    found = bootstrap(rows_of(np.zeros(9), np.zeros(9)), np.arange(9), DRAWS)
    assert found.value is None
    assert found.why


@settings(max_examples=40)
@given(st.lists(st.floats(-50, 50), min_size=6, max_size=40), st.integers(0, 5))
def test_the_figure_lies_within_its_interval(values, seed):
    found = bootstrap(rows_of(values), np.arange(len(values)), Resampling(0.9, 200, seed))
    assert found.low <= found.value <= found.high


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=6, max_size=30),
    st.lists(st.sampled_from([0.0, 1.0]), min_size=30, max_size=30),
)
def test_ends_stay_where_figures_can_be_even_where_most_rows_are_equal(values, others):
    rows = np.concatenate([rows_of(values), rows_of(others[: len(values)])], axis=1)
    alone, pair = (bootstrap(part, np.arange(len(values)), DRAWS) for part in (rows[:, :2], rows))
    assert 0 <= alone.low <= alone.value <= alone.high <= 1
    assert -1 <= pair.low <= pair.value <= pair.high <= 1


@settings(max_examples=40)
@given(
    st.lists(st.floats(0.1, 9), min_size=8, max_size=20), st.floats(0.01, 100), st.integers(0, 9)
)
def test_an_interval_moves_and_stretches_with_its_figure(values, scale, move):
    plain = bootstrap(rows_of(values), np.arange(len(values)), DRAWS)
    moved = bootstrap(rows_of(np.array(values) * scale + move), np.arange(len(values)), DRAWS)
    expected = (plain.low * scale + move, plain.high * scale + move)
    assert (moved.low, moved.high) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_a_difference_of_equals_is_nothing_and_surely_so():
    rows = rows_of(np.random.default_rng(0).gamma(2, 1, 30))
    found = bootstrap(np.concatenate([rows, rows], axis=1), np.arange(30), DRAWS)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_a_draws_error_is_that_of_the_linearised_figure():
    generator = np.random.default_rng(5)
    sums = generator.gamma(3, 1, (40, 4)) * [1, 2, 3, 4]
    products = (sums[:, :, None] * sums[:, None, :]).sum(axis=0)
    totals = sums.sum(axis=0)
    for exponential, take in ((False, float), (True, math.exp)):
        steps = 1e-6 * np.eye(4)
        sides = [[figure(totals + sign * step, take) for step in steps] for sign in (1, -1)]
        gradient = (np.array(sides[0]) - np.array(sides[1])) / 2e-6
        found = intervals.estimates(totals, products, np.zeros(2), exponential)
        assert found.values == pytest.approx(figure(totals, take))
        assert found.errors == pytest.approx(np.sqrt(((sums @ gradient) ** 2).sum()), rel=1e-4)


def figure(totals, take):
    return take(totals[0] / totals[1]) - take(totals[2] / totals[3])


def test_the_bootstrap_covers_a_skewed_weighted_clustered_mean():
    hits, repeats = 0, 300
    for repeat in range(repeats):
        generator = np.random.default_rng(repeat)
        groups = np.repeat(np.arange(48), generator.integers(1, 4, 48))
        effects = generator.gamma(2, 1, 48)[groups] + generator.gamma(1, 1, len(groups))
        weights = generator.integers(5, 100, len(groups)).astype(float)
        found = bootstrap(rows_of(effects * weights, weights), groups, DRAWS)
        hits += found.low <= 3.0 <= found.high
    assert 0.89 <= hits / repeats <= 0.985


def test_ignoring_groups_would_cover_too_seldom():
    hits, repeats = 0, 200
    for repeat in range(repeats):
        generator = np.random.default_rng(repeat)
        effects = np.repeat(generator.normal(0, 1, 12), 8)
        found = bootstrap(rows_of(effects), np.arange(96), DRAWS)
        hits += found.low <= 0 <= found.high
    assert hits / repeats < 0.75


def clustered_rate(seed, rate, count=40):
    generator = np.random.default_rng(seed)
    groups = np.repeat(np.arange(count), generator.integers(1, 4, count))
    whole = generator.random(count) < rate
    alone = generator.random(len(groups)) < rate
    return np.where(generator.random(len(groups)) < 0.5, whole[groups], alone).astype(float), groups


@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_wilson_covers_a_clustered_rate(rate):
    found = [wilson(*clustered_rate(seed, rate), 0.95) for seed in range(300)]
    assert np.mean([one.low <= rate <= one.high for one in found]) >= 0.915


@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_the_upper_bound_covers_a_clustered_rate(rate):
    found = [upper_bound(*clustered_rate(seed, rate), 0.95) for seed in range(300)]
    assert np.mean([bound >= rate for bound in found]) >= 0.92


@given(st.integers(0, 40), st.integers(1, 40), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_upper_bound_is_clopper_and_pearsons(ones, more, confidence):
    values = np.array([1.0] * ones + [0.0] * more)
    rows = np.arange(len(values))
    bound = intervals.clopper_pearson_upper(ones / len(values), len(values), confidence)
    assert binom.cdf(ones, len(values), bound) == pytest.approx(1 - confidence, abs=1e-6)
    assert upper_bound(values, rows, confidence) >= bound - 1e-9


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 9))
def test_no_bound_lies_below_the_rate(flags, groups):
    values, names = np.array(flags, dtype=float), np.arange(len(flags)) % groups
    assert upper_bound(values, names, 0.95) >= values.mean() - 1e-12
    found = wilson(values, names, 0.95)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_no_rows_have_the_worst_bound():
    assert upper_bound(np.array([]), np.array([]), 0.95) == 1.0


@given(st.integers(1, 30), st.integers(1, 30))
def test_wilsons_ends_are_the_rates_at_z_standard_errors(ones, zeros):
    values = np.array([1.0] * ones + [0.0] * zeros)
    size = intervals.effective_rows(values, np.arange(len(values)))
    found = wilson(values, np.arange(len(values)), 0.95)
    for end in (found.low, found.high):
        error = math.sqrt(end * (1 - end) / size)
        assert abs(end - values.mean()) == pytest.approx(1.959963985 * error, rel=1e-5)


def test_independent_rows_count_nearly_fully_and_copies_once():
    generator = np.random.default_rng(3)
    values = (generator.random(400) < 0.3).astype(float)
    assert intervals.effective_rows(values, np.arange(400)) == pytest.approx(400, rel=0.01)
    copies = intervals.effective_rows(np.repeat(values, 5), np.repeat(np.arange(400), 5))
    assert copies == pytest.approx(400, rel=0.01)


def test_a_seed_depends_on_the_metric_and_on_nothing_else():
    assert intervals.stable_seed(42, "loss") == intervals.stable_seed(42, "loss")
    assert intervals.stable_seed(42, "loss") != intervals.stable_seed(42, "chrf")
