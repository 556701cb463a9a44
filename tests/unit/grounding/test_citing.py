"""Passages in a prompt, and citations held against them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops.grounding.citing import Style, cited, grounded, question_of
from llmops.ports.model import Message, Passage, Response
from llmops.prompts.prompt import Prompt
from llmops.safety.decide import decide_output
from tests.fakes.safety_policies import policy

PASSAGES = (Passage("a", "Use\n sorted().", "Sorting", "doc://a"), Passage("b", "x " * 100))
STYLE = Style("Cite the passages.", 40)
PROMPT = Prompt("p", "Answer this.", "{{ instruction }}\n{{ question }}\nBe short.")


def said(text):
    return cited(Response(text, "stop", 1, 1), PASSAGES)


def test_the_question_is_found_again_in_what_the_prompt_rendered():
    assert question_of(PROMPT, PROMPT.render("How? {{ 1 }}")) == "How? {{ 1 }}"
    assert question_of(PROMPT, "something else") == "something else"


@given(st.text(max_size=80))
def test_any_question_is_found_again(question):
    assert question_of(PROMPT, PROMPT.render(question)) == question


def test_passages_stand_numbered_before_the_question_and_are_cut_at_a_word():
    chat = (Message("system", "s"), Message("user", "How?"))
    system, user = grounded(chat, PASSAGES, STYLE)
    assert system.text == "s"
    assert user.text == (
        "Cite the passages.\n\n[1] Sorting\nUse sorted().\n\n[2] " + "x " * 18 + "x…\n\nHow?"
    )


def test_without_passages_a_chat_stays_as_it_is():
    chat = (Message("user", "How?"),)
    assert grounded(chat, (), STYLE) == chat


def test_citations_are_resolved_with_their_places():
    found = said("Use sorted [1].")
    assert found.grounding.cited == (1,)
    assert found.grounding.unknown == ()
    (one,) = found.citations
    assert (found.text[one.start : one.end], one.uri, one.title) == ("[1]", "doc://a", "Sorting")


def test_a_citation_of_what_was_not_retrieved_is_unknown():
    found = said("As [3] and [1, 7] say, and [0].")
    assert found.grounding.cited == (1,)
    assert found.grounding.unknown == (0, 3, 7)


@pytest.mark.parametrize("text", ["rows[1]", "f()[2]", "x = [1][0]", "[1](link)", "[1, 'a']", "[]"])
def test_code_is_no_citation(text):
    assert said(text).grounding.cited == ()
    assert said(text).grounding.unknown == ()


@pytest.mark.parametrize(
    ("text", "rules"),
    [("See [1].", []), ("See [9].", ["unknown_citation"]), ("I know it.", ["no_citation"])],
)
def test_the_policy_holds_citations_against_passages(text, rules):
    verdict = decide_output(said(text), {"profanity": 0.0}, policy(output__ungrounded="block"))
    assert [one.rule for one in verdict.layer("rules")] == rules
    assert verdict.blocked == bool(rules)


def test_an_answer_without_retrieval_need_not_cite():
    plain = Response("I know it.", "stop", 1, 1)
    assert decide_output(plain, {"profanity": 0.0}, policy()).action == "allow"
