"""Per-row metrics against the libraries they come from and against brute force."""

from __future__ import annotations

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops.errors import ConfigError
from llmops.evaluation import metrics

PAIRS = [
    ("Use a context manager.", "Use a context manager to close the file."),
    ("import os\nos.listdir('.')", "Call os.listdir, or pathlib.Path.iterdir."),
    ("", "An answer."),
    ("naïve 中文", "naïve 中文"),
]
words = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=8).map(" ".join)


def longest_common(left: list[str], right: list[str]) -> int:
    if not left or not right:
        return 0
    if left[0] == right[0]:
        return 1 + longest_common(left[1:], right[1:])
    return max(longest_common(left[1:], right), longest_common(left, right[1:]))


@pytest.mark.parametrize(("text", "reference"), PAIRS)
def test_chrf_is_sacrebleus_own_sentence_figure(text, reference):
    assert metrics.chrf(text, reference) == sacrebleu.sentence_chrf(text, [reference]).score


@pytest.mark.parametrize(("text", "reference"), PAIRS)
def test_bleu_is_sacrebleus_own_sentence_figure(text, reference):
    assert metrics.bleu(text, reference) == sacrebleu.sentence_bleu(text, [reference]).score


@settings(max_examples=60)
@given(words, words)
def test_rouge_l_is_the_f_of_the_longest_common_subsequence(text, reference):
    left, right = text.split(), reference.split()
    common = longest_common(left, right)
    expected = 2 * common / (len(left) + len(right)) if common else 0.0
    assert metrics.rouge_l(text, reference) == pytest.approx(expected)


def test_rouge_l_takes_words_and_not_their_case_or_punctuation():
    assert metrics.rouge_l("Close the FILE!", "close the file") == 1.0


def test_exact_match_looks_past_white_space_only():
    assert metrics.exact_match(" a  b\n", "a b") == 1.0
    assert metrics.exact_match("A b", "a b") == 0.0


def test_an_unknown_metric_is_told_with_the_nearest_name():
    with pytest.raises(ConfigError) as caught:
        metrics.find("rouge")
    assert "rouge_l" in caught.value.hint


def test_a_missing_figure_stays_missing():
    assert metrics.find("loss").numerators({"nll": [1.5, None]}) == [1.5, None]


def test_every_metric_names_each_column_that_it_reads():
    columns = {
        "text": ["a b"],
        "reference": ["a c"],
        "nll": [2.0],
        "nll_tokens": [2],
        "output_tokens": [2],
        "truncated": [True],
        "blocked": [False],
        "similarity": [0.5],
        "valid": [True],
        "latency_s": [0.1],
        "cost": [0.01],
        "judged": [0.5],
        "passes": [1.0],
    }
    for metric in metrics.METRICS.values():
        read = {name: columns[name] for name in metric.columns}
        assert len(metric.numerators(read)) == 1, metric.name
