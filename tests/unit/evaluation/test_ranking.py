"""Which setting is best, and whether that is more than noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops.evaluation.ranking import Measured, rank, sentence

ROWS = 60


def measured(setting, values, *, member="", keys=None, groups=None):
    values = np.asarray(values, dtype=float)
    keys = [f"k{i}" for i in range(len(values))] if keys is None else keys
    rows = np.stack([values, np.ones(len(values))], axis=1)
    return Measured(member or setting, setting, keys, np.array(groups or keys), rows)


def ranked(models, **options):
    chosen = {"lower_is_better": True, "exponential": False, "confidence": 0.95} | options
    return rank(models, **chosen)


def noisy(generator, mean, *, rows, seed_deviation=0.0):
    return (
        rows
        + mean
        + seed_deviation * generator.standard_normal()
        + (0.3 * generator.standard_normal(len(rows)))
    )


def test_the_order_follows_the_direction_of_the_metric():
    models = [measured("a", [1.0, 2.0]), measured("b", [3.0, 4.0])]
    assert [one.setting for one in ranked(models).standings] == ["a", "b"]
    assert ranked(models, lower_is_better=False).best.setting == "b"


def test_a_large_difference_on_the_same_rows_is_told_apart_though_rows_vary_more():
    rows = np.random.default_rng(1).normal(0, 5, ROWS)
    worse = ranked([measured("a", rows), measured("b", rows + 0.5 + rows * 0.001)]).standings[1]
    assert worse.told_apart
    assert worse.low < worse.difference < worse.high
    assert worse.low > 0


def test_equal_figures_are_not_told_apart():
    rows = np.linspace(0, 1, ROWS)
    standing = ranked([measured("a", rows), measured("b", rows)]).standings[1]
    assert not standing.told_apart
    assert standing.p == 1.0


def test_copies_of_rows_in_one_group_add_no_certainty():
    generator = np.random.default_rng(3)
    one, other = generator.normal(0, 1, 12), generator.normal(0.6, 1, 12)
    groups = [f"g{i}" for i in range(12)] * 20
    single = ranked([measured("a", one), measured("b", other)]).standings[1]
    copied = ranked(
        [
            measured("a", np.tile(one, 20), groups=groups),
            measured("b", np.tile(other, 20), groups=groups),
        ]
    ).standings[1]
    assert copied.p == pytest.approx(single.p)


def test_models_that_were_scored_on_other_rows_are_not_compared():
    models = [measured("a", [1.0, 2.0]), measured("b", [3.0, 4.0], keys=["x", "y"])]
    found = ranked(models)
    assert found.standings[1].p is None
    assert sentence(found, {}) == "No setting can be compared with a: it was scored on other rows."


def test_a_row_without_a_figure_is_told_and_not_compared():
    found = ranked([measured("a", [1.0, 2.0]), measured("b", [3.0, np.nan])]).standings
    assert "no figure" in next(one for one in found if one.setting == "b").why


def test_with_one_seed_each_the_sentence_says_what_is_not_known():
    said = sentence(ranked([measured("a", [1.0, 1.1]), measured("b", [9.0, 9.1])]), {"a": "20"})
    assert said.startswith("20 is better than the other setting by more than the noise of rows. ")
    assert "tuning.seed=1,2,3" in said


def test_noise_of_seeds_hides_a_difference_that_rows_alone_would_show():
    rows = np.random.default_rng(5).normal(0, 1, ROWS)

    def seeds(setting, mean):
        return [
            measured(setting, rows + mean + shift, member=f"{setting}{shift}")
            for shift in (-0.5, 0.0, 0.5)
        ]

    alone = ranked([measured("a", rows), measured("b", rows + 0.1)])
    several = ranked([*seeds("a", 0.0), *seeds("b", 0.1)])
    assert alone.standings[1].told_apart
    assert not several.standings[1].told_apart
    assert several.seed_deviation == pytest.approx(0.5)
    assert "rows and of tuning seeds" in sentence(several, {})


def test_more_comparisons_ask_for_more_evidence():
    generator = np.random.default_rng(7)
    rows = generator.normal(0, 1, ROWS)
    two = [measured("a", rows), measured("b", noisy(generator, 0.1, rows=rows))]
    many = two + [measured(f"c{i}", noisy(generator, 0.1, rows=rows)) for i in range(10)]
    p = {one.setting: one.p for one in ranked(many).standings}
    assert p["b"] == pytest.approx(min(1.0, ranked(two).standings[1].p * 66))


@given(scale=st.floats(0.01, 100), shift=st.floats(-50, 50))
@settings(max_examples=25)
def test_units_do_not_matter(scale, shift):
    generator = np.random.default_rng(11)
    one, other = generator.normal(0, 1, 20), generator.normal(0.5, 1, 20)
    plain = ranked([measured("a", one), measured("b", other)]).standings[1]
    other_unit = ranked(
        [measured("a", one * scale + shift), measured("b", other * scale + shift)]
    ).standings[1]
    assert other_unit.p == pytest.approx(plain.p, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("settings_count", [2, 5])
def test_where_nothing_differs_few_sweeps_find_a_difference(settings_count):
    """Both noises are there; at 95 % confidence at most one sweep in twenty may be fooled."""
    generator = np.random.default_rng(13)
    fooled = 0
    for _ in range(200):
        rows = generator.normal(0, 1, 30)
        models = [
            measured(f"s{i}", noisy(generator, 0, rows=rows, seed_deviation=0.2), member=f"{i}.{j}")
            for i in range(settings_count)
            for j in range(3)
        ]
        fooled += any(one.told_apart for one in ranked(models).standings)
    assert fooled <= 20


def test_a_real_difference_is_found():
    generator = np.random.default_rng(17)
    rows = generator.normal(0, 1, 60)
    models = [
        measured(
            f"s{i}", noisy(generator, i * 0.6, rows=rows, seed_deviation=0.1), member=f"{i}{j}"
        )
        for i in range(3)
        for j in range(3)
    ]
    assert [one.told_apart for one in ranked(models).standings] == [False, True, True]
