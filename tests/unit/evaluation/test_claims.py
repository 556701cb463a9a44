"""Learning is claimed beyond the control only; slices; corrected comparisons; derived columns."""

from __future__ import annotations

import numpy as np
import pytest

from llmops.evaluation import metrics as metric_table
from llmops.evaluation.claims import learned
from llmops.evaluation.metrics import find
from llmops.evaluation.slices import Row, slices
from llmops.evaluation.summary import Settings, summarise
from llmops.evaluation.table import Contestant

SETTINGS = Settings("untuned", 0.95, 500, 42)
LOSS = [find("loss")]


def contestant(name, shift, seed=0, count=40):
    generator = np.random.default_rng(5)
    tokens = generator.integers(10, 60, count).astype(float)
    losses = 3 + 0.4 * generator.normal(size=count) + shift
    losses += 0.05 * np.random.default_rng(seed).normal(size=count)
    rows = {"loss": np.stack([losses * tokens, tokens], axis=1)}
    return Contestant(name, [f"{i:04}" for i in range(count)], np.arange(count), rows)


def claim(*others):
    (found,) = learned([contestant("untuned", 0), *others], LOSS, SETTINGS)
    return found


def test_without_a_control_nothing_is_claimed():
    assert learned([contestant("untuned", 0), contestant("tuned", -1)], LOSS, SETTINGS) == ()


def test_what_the_control_gains_as_well_is_no_learning():
    found = claim(contestant("tuned", -0.5, 1), contestant("tuned_on_shuffled@42", -0.5, 2))
    assert not found.holds
    assert "nothing beyond the control is shown" in found.text


def test_what_goes_beyond_the_control_is_learning_by_the_bound():
    found = claim(contestant("tuned", -0.5, 1), contestant("tuned_on_shuffled@42", -0.3, 2))
    assert found.holds
    assert found.low < found.difference < found.high < 0
    assert "one tuning seed" in found.text


def test_tuning_seeds_that_disagree_widen_the_claim():
    control = [contestant(f"tuned_on_shuffled@{s}", -0.3, s) for s in (42, 43)]
    alike = claim(contestant("tuned", -0.5, 1), contestant("tuned@43", -0.5, 2), *control)
    unlike = claim(contestant("tuned", -0.9, 1), contestant("tuned@43", -0.1, 2), *control)
    assert alike.seeds == unlike.seeds == 2
    assert alike.holds
    assert not unlike.holds
    assert unlike.high - unlike.low > 3 * (alike.high - alike.low)


def test_comparisons_are_corrected_for_their_number():
    names = [f"tuned@{i}" for i in range(8)]
    table = [contestant("untuned", 0), *(contestant(n, -0.01, i) for i, n in enumerate(names))]
    document = summarise(table, LOSS, SETTINGS)
    found = list(document["paired"]["loss"].values())
    assert document["comparisons"] == {
        "tested": 8,
        "test": "sign flips by group",
        "correction": "Holm",
    }
    assert min(one["p_corrected"] for one in found) >= min(8 * min(o["p"] for o in found), 1)
    assert all(one["detectable"] > 0 for one in found)


# ----------------------------------------------------------------------- slices


def rows(count=40):
    tags = ["<python><list>" if i % 2 else "python" for i in range(count)]
    return [
        Row(f"{i:04}", "x" * (i + 1), tags[i], f"20{10 + i % 3}-01-02T00:00:00Z")
        for i in range(count)
    ]


def sliced(kind):
    table = [contestant("untuned", 0), contestant("tuned", -0.5)]
    return slices(table, rows(), [kind], LOSS, SETTINGS)


def test_a_row_with_two_tags_stands_in_both_slices():
    found = {one["value"]: one["rows"] for one in sliced("tag")}
    assert found == {"python": 40, "list": 20}


def test_thirds_by_length_share_out_all_rows():
    found = sliced("length")
    assert [one["rows"] for one in found] == [13, 13, 14]
    assert found[0]["value"] == "under 14 characters"


def test_years_are_in_order():
    assert [one["value"] for one in sliced("date")] == ["2010", "2011", "2012"]


def test_a_small_slice_carries_a_warning():
    assert {one["warning"] for one in sliced("date")} == {
        "only 14 groups of rows: read it as a hint",
        "only 13 groups of rows: read it as a hint",
    }
    assert [one["warning"] for one in sliced("tag")] == ["", ""]


def test_a_slices_difference_is_that_of_its_rows():
    table = [contestant("untuned", 0), contestant("tuned", -0.5)]
    (whole, *_), document = sliced("tag"), summarise(table, LOSS, SETTINGS)
    assert whole["paired"]["loss"]["tuned"] == document["paired"]["loss"]["tuned"]


# ---------------------------------------------------------------- further metrics


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("```python\nx = 1\n```", [1, 1]),
        ("a\n```\nfor x in\n```\nb\n```py\nprint(1)\n```", [1, 2]),
        ("```pycon\n>>> x\n```", [0, 0]),
        ("```\n>>> x = 1\n>>> x\n1\n```", [1, 1]),
        ("no code", [0, 0]),
    ],
)
def test_python_blocks_are_counted_and_parsed(text, found):
    metric, columns = find("code_parses"), {"text": [text]}
    assert [metric.numerators(columns)[0], metric.weights(columns)[0]] == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("I'm sorry, but I cannot help with that.", 1.0),
        ("I can\u2019t assist with this request.", 1.0),
        ("As an AI language model, I", 1.0),
        ("The function cannot return None.", 0.0),
        ("x" * 300 + " I'm sorry, but I cannot", 0.0),
    ],
)
def test_a_refusal_is_told_by_how_it_begins(text, found):
    assert metric_table.refusal(text) == found
