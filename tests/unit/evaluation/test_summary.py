"""The evaluation document: weights, transforms, pairs, and rows that do not fit together."""

from __future__ import annotations

import math
import random

import pytest

from llmops.errors import ConfigError, DataError
from llmops.evaluation.metrics import find
from llmops.evaluation.summary import Settings, summarise
from llmops.evaluation.table import contestants

SETTINGS = Settings(baseline="untuned", confidence=0.95, bootstrap_samples=400, seed=42)


def row(key, contestant, nll=10.0, tokens=5, truncated=False, group=None):
    return {
        "row_key": f"{key:04}",
        "contestant": contestant,
        "group": f"{key if group is None else group:04}",
        "nll": nll,
        "nll_tokens": tokens,
        "truncated": truncated,
    }


def batch(rows):
    return {name: [one[name] for one in rows] for name in rows[0]}


def sides(count=12):
    rows = [row(i, "untuned", nll=10.0 + i, tokens=4 + i) for i in range(count)]
    return rows + [row(i, "tuned", nll=6.0 + i, tokens=4 + i) for i in range(count)]


def evaluate(rows, names=("loss", "perplexity", "truncated"), settings=SETTINGS):
    chosen = [find(name) for name in names]
    return summarise(contestants([batch(rows)], chosen), chosen, settings)


def test_the_loss_is_weighted_by_tokens():
    rows = sides()
    mine = [one for one in rows if one["contestant"] == "tuned"]
    expected = sum(one["nll"] for one in mine) / sum(one["nll_tokens"] for one in mine)
    assert evaluate(rows)["contestants"]["tuned"]["loss"]["value"] == pytest.approx(expected)


@pytest.mark.parametrize("end", ["value", "low", "high"])
def test_perplexity_and_its_ends_are_the_exponentials_of_the_loss(end):
    figures = evaluate(sides())["contestants"]["tuned"]
    assert figures["perplexity"][end] == pytest.approx(math.exp(figures["loss"][end]))


def test_a_paired_difference_is_contestant_less_baseline():
    document = evaluate(sides())
    figures = document["contestants"]
    paired = document["paired"]["loss"]["tuned"]
    points = figures["tuned"]["loss"]["value"] - figures["untuned"]["loss"]["value"]
    assert paired["difference"] == pytest.approx(points)
    assert paired["low"] <= paired["difference"] <= paired["high"] < 0


def test_pairing_is_sharper_than_two_intervals_side_by_side():
    rows = [row(i, "untuned", nll=10.0 + i) for i in range(30)]
    rows += [row(i, "tuned", nll=6.0 + i + (i % 3)) for i in range(30)]
    document = evaluate(rows)
    own = document["contestants"]["tuned"]["loss"]
    paired = document["paired"]["loss"]["tuned"]
    assert paired["high"] - paired["low"] < own["high"] - own["low"]


def test_the_baseline_is_not_paired_with_itself():
    assert set(evaluate(sides())["paired"]["loss"]) == {"tuned"}


def test_a_generator_that_cannot_score_leaves_the_loss_null_and_says_why():
    rows = [one | {"nll": None, "nll_tokens": None} for one in sides()]
    document = evaluate(rows)
    found = document["contestants"]["tuned"]["loss"]
    assert (found["value"], found["low"], found["n"]) == (None, None, 12)
    assert found["why"] == "the generator gives no figure for this metric"
    assert document["paired"]["loss"]["tuned"]["difference"] is None


def test_one_row_without_a_likelihood_leaves_the_loss_null():
    rows = sides()
    rows[-1] |= {"nll": math.nan}
    document = evaluate(rows)
    assert document["contestants"]["tuned"]["loss"]["why"] == "1 of 12 rows have no figure"
    assert document["contestants"]["untuned"]["loss"]["value"] is not None
    assert document["paired"]["loss"]["tuned"]["difference"] is None


def test_batches_in_any_cut_and_order_give_the_same_document():
    rows, chosen = sides(), [find("loss"), find("truncated")]
    mixed = rows[:]
    random.Random(1).shuffle(mixed)
    mixed.sort(key=lambda one: one["contestant"], reverse=True)
    pieces = [batch(mixed[i : i + 5]) for i in range(0, len(mixed), 5)]
    straight = evaluate(rows, ("loss", "truncated"))
    assert summarise(contestants(pieces, chosen), chosen, SETTINGS) == straight


def test_rows_and_groups_are_counted():
    rows = [row(i, name, group=i // 2) for name in ("untuned", "tuned") for i in range(12)]
    document = evaluate(rows)
    assert (document["rows"], document["groups"]) == (12, 6)


def test_a_row_that_one_contestant_lacks_is_refused():
    with pytest.raises(DataError, match="tuned and untuned did not answer the same rows"):
        evaluate(sides()[:-1])


def test_a_row_that_stands_twice_is_refused():
    rows = sides()
    with pytest.raises(DataError, match="the responses of tuned hold row 0011 twice"):
        evaluate([*rows, rows[-1]])


def test_no_responses_are_refused():
    with pytest.raises(DataError, match="no responses"):
        contestants([], [find("loss")])


def test_an_unknown_baseline_is_told_with_the_nearest_name():
    with pytest.raises(ConfigError) as caught:
        evaluate(sides(), settings=Settings("untunde", 0.95, 400, 1))
    assert "did you mean 'untuned'?" in caught.value.hint
