"""The same stored answers, scored by rouge-score and sacrebleu; `tests/peers` has the harness."""

from __future__ import annotations

import pytest

from llmops.evaluation import metrics as ours
from tests.fakes.stored_answers import forty_answers, measured


@pytest.fixture(scope="module")
def stored():
    return forty_answers()


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
