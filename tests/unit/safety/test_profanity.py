"""The quick way to rate a text gives what the package gives."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops.adapters.scorer.profanity import open_scorer

WORDS = st.sampled_from(
    ["fuck", "shit", "damn", "you", "are", "a", "Stupid", "file", "the", "pandas", "hell", "x_y"]
)


@settings(max_examples=40)
@given(st.lists(st.one_of(st.text(max_size=200), st.lists(WORDS).map(" ".join)), min_size=1))
def test_a_score_is_the_packages_own(texts):
    from profanity_check import predict_prob

    readable = [text.encode("utf-8", "ignore").decode() for text in texts]
    ours = [scores["profanity"] for scores in open_scorer({}).score(readable)]
    assert ours == pytest.approx(list(predict_prob(readable)), abs=1e-9)
