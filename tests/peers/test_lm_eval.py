"""The same stored answers, scored by lm-evaluation-harness in an environment of its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from llmops.evaluation import metrics as ours
from tests.fakes.stored_answers import forty_answers, measured

PYTHON = Path(__file__).parents[2] / ".venv-peers" / "lm_eval" / "bin" / "python"
SCORES = """
import json, sys
from lm_eval.api import metrics

stored = json.load(sys.stdin)
pairs = list(zip(stored["reference"], stored["text"]))
print(json.dumps({
    "perplexity": metrics.weighted_perplexity(
        [(-nll, tokens) for nll, tokens in zip(stored["nll"], stored["nll_tokens"])]
    ),
    "exact_match": float(metrics.exact_match_fn(
        predictions=stored["text"], references=stored["reference"]
    )["exact_match"]),
    "chrf": [metrics.chrf([pair]) for pair in pairs],
}))
"""

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(),
    reason="lm-evaluation-harness is not installed: `make peers` does so, where it can be had",
)


@pytest.fixture(scope="module")
def stored():
    return forty_answers()


@pytest.fixture(scope="module")
def theirs(stored):
    done = subprocess.run(
        [str(PYTHON), "-c", SCORES],
        input=json.dumps(stored),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_perplexity_is_the_harnesss_over_tokens(stored, theirs):
    assert measured(stored, "perplexity")["perplexity"] == pytest.approx(theirs["perplexity"])


def test_exact_match_is_the_harnesss_where_white_space_is_plain(stored, theirs):
    assert measured(stored, "exact_match")["exact_match"] == pytest.approx(theirs["exact_match"])


def test_chrf_of_one_answer_is_the_harnesss(stored, theirs):
    pairs = zip(stored["text"], stored["reference"], strict=True)
    assert [ours.chrf(text, reference) for text, reference in pairs] == pytest.approx(
        theirs["chrf"]
    )
