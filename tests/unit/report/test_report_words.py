from __future__ import annotations

import pytest

from llmops.report import words
from llmops.report.results import (
    Difference,
    leakage_sentence,
    rows_sentences,
    source_sentence,
    tuned_on,
)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (2.7034, "", "2.70"),
        (0.3127, "", "0.313"),
        (213.44, "", "213.4"),
        (0.0, "share of rows", "0%"),
        (0.004, "share of rows", "0.40%"),
        (0.2083, "share of rows", "20.8%"),
        (None, "", "\N{EN DASH}"),
    ],
)
def test_a_figure_keeps_the_digits_that_matter(value, unit, text):
    assert words.figure(value, unit) == text


def test_a_contestant_is_named_in_words_and_a_prompt_by_a_model_as_the_config_names_them():
    assert words.plain_name("untuned_with_examples") == "untuned with examples"
    assert words.plain_name("so_python/smollm2") == "so_python/smollm2"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.42 s"), (9.6, "9.6 s"), (12.2, "12 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_a_duration_is_written_in_units_of_its_size(seconds, text):
    assert words.seconds(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(999, "999 bytes"), (98_400_000, "98.4 MB")])
def test_a_size_is_written_in_decimal_units(size, text):
    assert words.size(size) == text


def test_one_row_is_not_one_rows():
    assert words.count(1, "row") == "1 row"
    assert words.count(3177, "row") == "3,177 rows"


@pytest.mark.parametrize(
    ("low", "high", "better", "verdict"),
    [
        (-0.7, -0.5, "lower", "better"),
        (-0.7, -0.5, "higher", "worse"),
        (0.1, 0.2, "higher", "better"),
        (-0.1, 0.2, "lower", "not told apart"),
        (0.0, 0.2, "lower", "not told apart"),
        (0.1, 0.2, "", "differs"),
        (None, None, "lower", "unknown"),
    ],
)
def test_a_difference_is_shown_only_by_an_interval_that_leaves_zero_out(low, high, better, verdict):
    assert Difference("m", "tuned", 0.1, low, high, 9, "", better, "").verdict == verdict


def test_a_source_that_is_no_sample_is_not_called_one():
    source = {"title": "our tickets", "name": "bigquery://shop", "licence": "ours"}
    assert source_sentence(source) == "Data: our tickets (bigquery://shop), licence ours."


def test_the_tuning_says_how_many_examples_it_saw():
    facts = {"examples_seen": 320, "examples_used": 193, "steps": 40}
    assert tuned_on(facts).startswith("The tuning saw 320 examples in 40 optimiser steps")
    assert tuned_on({}) == ""


def test_a_source_whose_address_is_not_known_says_so():
    assert source_sentence({"title": "our tickets", "name": None, "licence": "ours"}) == (
        "Data: our tickets (no address), licence ours."
    )


LEAKED = {
    "exact": {"rows": 3, "share": 0.0375},
    "near": {"rows": None, "share": None, "threshold": None},
}
CLEANED = {"in": 1009, "good": 1000, "quarantined": 5, "duplicates": 4, "rules": {"empty": 5}}
SPLIT = {
    "dataset_version": "v1-0a",
    "rows": {"test": 80, "train": 900, "validation": 20},
    "leakage": LEAKED,
}


@pytest.mark.parametrize(
    "steps",
    [
        [{"kind": "prepare", "facts": CLEANED | SPLIT}],
        [{"kind": "validate", "facts": CLEANED}, {"kind": "split", "facts": SPLIT}],
    ],
)
def test_what_became_of_the_rows_is_said_for_separate_steps_and_for_one(steps):
    assert rows_sentences({"steps": steps}) == [
        "Dataset v1-0a: 1,009 rows in = 1,000 good + 5 quarantined + 4 duplicates;"
        " train 900, validation 20, test 80.",
        "Quarantined by rule: empty 5.",
        "",
        "Leakage: 3 test rows (3.8%) also in train exactly; near-duplicates were not looked for.",
    ]


def test_how_the_rows_differ_from_the_version_before_is_said():
    steps = [{"kind": "validate", "facts": CLEANED}, {"kind": "split", "facts": SPLIT}]
    changes = {"before": "v0-1b", "added": 1, "removed": 2_354, "kept": 999, "moved": 7}
    assert (
        "Against v0-1b: 1 row added, 2,354 removed, 999 kept, 7 of them on another side."
        in rows_sentences({"steps": steps, "dataset_changes": changes})
    )


def test_nothing_is_said_of_rows_before_they_are_split():
    assert rows_sentences({"steps": [{"kind": "validate", "facts": CLEANED}]}) == []
    assert rows_sentences({"steps": []}) == []


def test_leakage_is_told_with_rows_and_share():
    leakage = {"exact": {"rows": 3, "share": 0.0375}, "near": {"rows": 4, "share": 0.05}}
    assert "3 test rows (3.8%)" in leakage_sentence(leakage)
    assert "4 (5%)" in leakage_sentence(leakage)
