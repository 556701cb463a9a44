"""What every scorer must do. A scorer joins by adding itself to ADAPTERS."""

from __future__ import annotations

import pytest

from llmops.adapters import catalog
from llmops.config.knowledge import SCORER_CATEGORIES, SCORERS_OF_RATINGS
from tests.fakes.openai_server import openai_server

ADAPTERS = [
    pytest.param(kind, id=kind) for kind in ("profanity", "llama_guard", "shieldgemma", "gemini")
]
MORE_THAN_A_BATCH = {"profanity": 2500, "llama_guard": 40, "shieldgemma": 20, "gemini": 100}
TEXTS = ["Use a context manager.", "", "naïve 中文 \x00 \U0001f600", "x" * 100_000]


def guard(body):
    """Answer as a guard of either family would who minds the word "weapon" only."""
    asked = body["messages"][0]["content"]
    minds = "weapon" in asked.split("The policy:")[0]
    if "The policy:" in asked:
        return "Yes" if minds and "making weapons" in asked else "No"
    return "unsafe\nS9" if minds else "safe"


@pytest.fixture(scope="module")
def endpoint():
    with openai_server() as server:
        server.answer = guard
        yield server


@pytest.fixture(scope="module", params=ADAPTERS)
def config(request, endpoint):
    if request.param in ("profanity", "gemini"):
        return {"kind": request.param}
    return {"kind": request.param, "model": endpoint.config()}


@pytest.fixture(scope="module")
def scorer(config):
    return catalog.adapter("scorer", config)


def test_the_suite_covers_every_scorer_of_the_catalog():
    assert {one.values[0] for one in ADAPTERS} == set(catalog.ADAPTERS["scorer"])


def test_the_config_floor_knows_the_same_categories(config, scorer):
    assert scorer.categories == SCORER_CATEGORIES[config["kind"]]


def test_every_text_gets_a_score_in_every_category_that_no_rating_gives(config, scorer):
    expected = set() if config["kind"] in SCORERS_OF_RATINGS else set(scorer.categories)
    for scores in scorer.score(TEXTS):
        assert set(scores) == expected
        assert all(0 <= score <= 1 for score in scores.values())


def test_scores_come_in_the_order_of_the_texts(scorer):
    together = scorer.score([*TEXTS, *reversed(TEXTS)])
    assert list(together[: len(TEXTS)]) == list(reversed(together[len(TEXTS) :]))


def test_a_batch_scores_as_its_texts_do_alone(scorer):
    alone = [scorer.score([text])[0] for text in TEXTS]
    assert scorer.score(TEXTS) == [pytest.approx(scores) for scores in alone]


def test_more_texts_than_a_batch_holds_are_all_scored(config, scorer):
    many = MORE_THAN_A_BATCH[config["kind"]]
    scores = scorer.score(["a text"] * many)
    assert len(scores) == many
    assert None not in scores


def test_no_texts_give_no_scores(scorer):
    assert list(scorer.score([])) == []


@pytest.mark.parametrize("unreadable", ["lone \ud800 surrogate", None, float("nan")])
def test_what_is_no_readable_text_is_unscored_and_spoils_no_other(scorer, unreadable):
    scores = scorer.score(["before", unreadable, "after"])
    assert scores[1] is None
    assert scores[0] is not None
    assert scores[2] is not None


def test_a_scorer_says_what_it_is(scorer):
    assert len(scorer.description) > 20
    assert isinstance(scorer.is_safety_evaluation, bool)


def test_the_profanity_scorer_knows_swear_words_and_says_that_it_knows_nothing_else():
    scorer = catalog.adapter("scorer", {"kind": "profanity"})
    swearing, harmful = scorer.score(["fuck this shit", "To hurt your neighbour, wait outside."])
    assert swearing["profanity"] > 0.9
    assert harmful["profanity"] < 0.5
    assert not scorer.is_safety_evaluation
    assert "no safety evaluation" in scorer.description


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("llama_guard", {"unsafe", "indiscriminate_weapons"}),
        ("shieldgemma", {"dangerous_content"}),
    ],
)
def test_a_guard_behind_an_endpoint_names_what_it_finds(endpoint, kind, named):
    scorer = catalog.adapter("scorer", {"kind": kind, "model": endpoint.config()})
    harmful, harmless = scorer.score(["make me a weapon", "sort me a list"])
    assert {name for name, score in harmful.items() if score == 1} == named
    assert set(harmless.values()) == {0.0}
    assert scorer.is_safety_evaluation


@pytest.mark.parametrize("kind", ["llama_guard", "shieldgemma"])
def test_a_guard_whose_endpoint_fails_or_talks_nonsense_scores_nothing(kind):
    with openai_server() as server:
        scorer = catalog.adapter("scorer", {"kind": kind, "model": server.config(attempts=1)})
        server.failures = [500] * 4
        assert scorer.score(["a text"]) == [None]
        assert scorer.score(["a text"]) == [None]  # made-up words are no verdict
