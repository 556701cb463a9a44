"""The paired test: its definition, its correction, and what it can show."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops.evaluation import paired
from llmops.evaluation.intervals import Resampling, bootstrap
from llmops.plan.power import standard_errors_needed


def one_p(differences, flips=20_000):
    return float(paired.p_values(np.array([differences], dtype=float), 7, flips)[0])


@given(st.lists(st.integers(-5, 5).map(float), min_size=3, max_size=8))
def test_the_p_value_is_the_share_of_all_sign_patterns(differences):
    seen = abs(sum(differences))
    patterns = itertools.product([-1, 1], repeat=len(differences))
    sums = [abs(sum(s * d for s, d in zip(p, differences, strict=True))) for p in patterns]
    share = np.mean([total >= seen - 1e-9 for total in sums])
    assert one_p(differences) == pytest.approx(share, abs=0.02)


def test_no_difference_at_all_is_no_evidence():
    assert one_p([0.0] * 12) == 1.0


def test_a_difference_that_every_group_shows_is_evidence():
    assert one_p([0.1 + 0.01 * i for i in range(30)]) < 0.001


def test_copies_within_a_group_add_no_evidence():
    generator = np.random.default_rng(1)
    one = np.stack([generator.normal(0.4, 1, 20), np.ones(20)], axis=1)
    other = np.stack([np.zeros(20), np.ones(20)], axis=1)
    groups = np.arange(20)
    once = paired.group_differences(one, other, groups)
    copied = paired.group_differences(
        np.repeat(one, 5, axis=0), np.repeat(other, 5, axis=0), np.repeat(groups, 5)
    )
    assert copied == pytest.approx(once)


def test_the_groups_differences_add_up_to_the_difference_of_the_ratios():
    generator = np.random.default_rng(2)
    weights = generator.integers(5, 50, 30).astype(float)
    one, other = (np.stack([generator.gamma(2, weights), weights], axis=1) for _ in range(2))
    found = paired.group_differences(one, other, np.arange(30) // 2)
    ratios = [part[:, 0].sum() / part[:, 1].sum() for part in (one, other)]
    assert found.sum() == pytest.approx(ratios[0] - ratios[1])


def test_errors_sum_to_nothing_and_spread_as_the_interval_says():
    generator = np.random.default_rng(2)
    weights = generator.gamma(0.7, 60, 200) + 5  # some groups weigh a hundred times others
    ours, theirs = (np.stack([part, weights], axis=1) for part in (weights * 2, weights * 2 + 30))
    errors = paired.group_errors(ours, theirs, np.arange(200))
    assert errors.sum() == pytest.approx(0)
    found = bootstrap(
        np.concatenate([ours, theirs], axis=1), np.arange(200), Resampling(0.95, 2000, 1)
    )
    reach = (found.high - found.low) / 2
    assert 1.96 * paired.standard_error(errors) == pytest.approx(reach, rel=0.15)


def test_without_a_difference_errors_are_the_differences():
    generator = np.random.default_rng(3)
    weights = generator.integers(5, 50, 30).astype(float)
    ours = np.stack([generator.gamma(2, weights), weights], axis=1)
    theirs = ours[::-1].copy()
    groups = np.arange(30)
    errors = paired.group_errors(ours, theirs, groups)
    assert errors == pytest.approx(paired.group_differences(ours, theirs, groups))


def test_the_smallest_detectable_difference_is_seen_four_times_in_five():
    generator = np.random.default_rng(3)
    spread = generator.normal(0, 1, (2000, 60))
    size = standard_errors_needed(0.95) / np.sqrt(60)
    seen = paired.p_values(spread + size, 5, 999) <= 0.05
    assert 0.76 <= seen.mean() <= 0.84


def test_four_times_the_rows_show_half_the_difference():
    generator = np.random.default_rng(4)
    few, many = generator.normal(0, 1, 400) / 400, generator.normal(0, 1, 1600) / 1600
    assert paired.detectable(few, 0.95) / paired.detectable(many, 0.95) == pytest.approx(2, 0.1)


def test_holm_multiplies_the_least_by_their_number_and_never_falls():
    assert paired.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert paired.holm([0.5, 0.9]) == [1.0, 1.0]
    assert paired.holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_a_corrected_value_is_never_below_the_plain_one(values):
    corrected = paired.holm(values)
    assert all(a >= b for a, b in zip(corrected, values, strict=True))
    by_plain = sorted(zip(values, corrected, strict=True))
    assert [c for _, c in by_plain] == sorted(corrected)
