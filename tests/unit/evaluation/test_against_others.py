"""The same stored answers, scored by lm-evaluation-harness, rouge-score and sacrebleu."""

from __future__ import annotations

import random
import warnings

import pytest

from llmops.evaluation import metrics as ours
from llmops.evaluation.metrics import find
from llmops.evaluation.summary import Settings, summarise
from llmops.evaluation.table import contestants

WORDS = [*("open", "the", "file", "with", "a", "manager", "and", "read"), "its", "naïvely", "42"]
SETTINGS = Settings("untuned", 0.95, 200, 1)


@pytest.fixture(scope="module")
def stored():
    """Forty answers with references and likelihoods, as a batch of a responses file."""
    dice = random.Random(7)

    def said(least):
        return " ".join(dice.choices(WORDS, k=dice.randint(least, 14)))

    references = [said(1) for _ in range(40)]
    texts = [one if i % 8 == 0 else said(0) for i, one in enumerate(references)]
    return {
        "contestant": ["untuned"] * 40,
        "row_key": [f"{i:04}" for i in range(40)],
        "group": [f"{i:04}" for i in range(40)],
        "text": texts,
        "reference": references,
        "nll": [dice.uniform(1, 40) for _ in range(40)],
        "nll_tokens": [dice.randint(1, 20) for _ in range(40)],
    }


def measured(stored, *names):
    chosen = [find(name) for name in names]
    document = summarise(contestants([stored], chosen), chosen, SETTINGS)
    return {name: document["contestants"]["untuned"][name]["value"] for name in names}


@pytest.fixture(scope="module")
def harness():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it imports is its own business
        return pytest.importorskip("lm_eval.api.metrics")


def test_perplexity_is_the_harnesss_over_tokens(stored, harness):
    items = [(-nll, n) for nll, n in zip(stored["nll"], stored["nll_tokens"], strict=True)]
    assert measured(stored, "perplexity")["perplexity"] == pytest.approx(
        harness.weighted_perplexity(items)
    )


def test_exact_match_is_the_harnesss_where_white_space_is_plain(stored, harness):
    theirs = harness.exact_match_fn(predictions=stored["text"], references=stored["reference"])
    assert measured(stored, "exact_match")["exact_match"] == pytest.approx(theirs["exact_match"])


def test_chrf_of_one_answer_is_the_harnesss(stored, harness):
    for text, reference in zip(stored["text"], stored["reference"], strict=True):
        assert ours.chrf(text, reference) == pytest.approx(harness.chrf([(reference, text)]))


def test_rouge_l_is_that_of_rouge_score(stored):
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(["rougeL"])
    pairs = list(zip(stored["text"], stored["reference"], strict=True))
    theirs = [scorer.score(reference, text)["rougeL"].fmeasure for text, reference in pairs]
    assert [ours.rouge_l(text, reference) for text, reference in pairs] == pytest.approx(theirs)
    assert measured(stored, "rouge_l")["rouge_l"] == pytest.approx(sum(theirs) / len(theirs))


def test_bleu_and_chrf_are_the_means_of_sacrebleus_sentences(stored):
    import sacrebleu

    pairs = list(zip(stored["text"], stored["reference"], strict=True))
    bleu = [sacrebleu.sentence_bleu(text, [reference]).score for text, reference in pairs]
    chrf = [sacrebleu.sentence_chrf(text, [reference]).score for text, reference in pairs]
    found = measured(stored, "bleu", "chrf")
    assert found["bleu"] == pytest.approx(sum(bleu) / len(bleu))
    assert found["chrf"] == pytest.approx(sum(chrf) / len(chrf))
