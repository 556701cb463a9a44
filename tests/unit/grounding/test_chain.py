"""Chains and grounded answers: each step's part, and what ends a chain early."""

from __future__ import annotations

import time

import pytest

from llmops.adapters.model.chained import ChainedGenerator, Parts
from llmops.adapters.model.grounded import GroundedGenerator
from llmops.errors import BackendError, ConfigError
from llmops.grounding.chain import choice_of, read_chain
from llmops.grounding.citing import Style
from llmops.ports.model import GenerationSettings, Passage, Response, TokenScore
from llmops.prompts.prompt import Prompt
from llmops.safety.decide import decide_output
from tests.fakes.safety_policies import policy

PROMPT = Prompt("p", "Answer.", "{{ instruction }} {{ question }}")
SETTINGS = GenerationSettings(max_new_tokens=32)
STYLE = Style("Cite.", 100)


def own(text):
    return {
        "name": text,
        "instruction": text,
        "template": "{{ instruction }}: {{ question }}",
        "system": None,
        "examples": [],
    }


CLASSIFY = {
    "name": "classify",
    "use": "classify",
    "prompt": own("class"),
    "choices": ["code", "other"],
    "go_on": ["code"],
    "message": "Code only.",
}
RETRIEVE = {"name": "retrieve", "use": "retrieve", "passages": 1}
ANSWER = {"name": "answer", "use": "answer"}
CHECK = {
    "name": "check",
    "use": "check",
    "prompt": own("check"),
    "choices": ["yes", "no"],
    "go_on": ["yes"],
    "message": "Not sure.",
}
ALL = [CLASSIFY, RETRIEVE, ANSWER, CHECK]


class Model:
    """Answers by the question; what it was asked is kept."""

    can_score = True

    def __init__(self, name="m", delay_s=0.0):
        self.name, self.delay_s, self.asked = name, delay_s, []

    def generate(self, chats, settings, progress):
        time.sleep(self.delay_s)
        for chat in chats:
            text = chat[-1].text
            self.asked.append((text, settings.max_new_tokens))
            yield self._answer(text)

    def stream(self, chat, settings):
        (response,) = self.generate([chat], settings, None)
        yield response.text
        yield response

    def score(self, pairs, progress):
        for chat, _ in pairs:
            yield TokenScore(float(len(chat[-1].text)), 1)

    def _answer(self, text):
        if "BROKEN" in text:
            return Response("", "error", 0, 0, error="503")
        if "FILTERED" in text:
            return Response("", "safety", 1, 0, blocked=True, block_reason="SAFETY")
        if text.startswith("class"):
            return Response("other." if "weather" in text else "It is code.", "stop", 3, 1)
        if text.startswith("check"):
            return Response("No" if "wrong" in text else "Yes", "stop", 3, 1)
        return Response("rude" if "rude" in text else f"{self.name} says so [1]", "stop", 3, 2)


class Words:
    categories = ("profanity",)
    is_safety_evaluation = False
    description = "minds the word rude"

    def score(self, texts):
        return [{"profanity": float("rude" in text)} for text in texts]


def retrieve(question, most):
    return (Passage(f"about {question}", "a passage", "A title", "doc://1"),)[:most]


def chained(steps=ALL, models=None):
    read = read_chain({"steps": steps})
    model = Model()
    found = {step.name: (models or {}).get(step.name, model) for step in read}
    parts = Parts(found, retrieve, Words, policy(), STYLE)
    return ChainedGenerator(read, PROMPT, parts)


def ask(chain, *questions):
    chats = [PROMPT.chat(question) for question in questions]
    return list(chain.generate(chats, SETTINGS, lambda *_: None))


def steps_of(response):
    return [one["step"] for one in response.trace]


def test_a_question_goes_through_every_step_and_leaves_a_trace_of_each():
    (response,) = ask(chained(), "sort a list?")
    assert response.text == "m says so [1]"
    assert steps_of(response) == ["classify", "retrieve", "answer", "check"]
    classify, found, answer, check = response.trace
    assert classify["choice"] == "code"
    assert found["passages"] == ["about sort a list?"]
    assert answer["text"] == "m says so [1]"
    assert check["choice"] == "yes"
    assert all(one["seconds"] >= 0 for one in response.trace)
    assert (response.prompt_tokens, response.output_tokens) == (9, 4)
    assert [one.uri for one in response.citations] == ["doc://1"]


def test_a_class_that_does_not_go_on_ends_the_chain_with_its_message():
    away, on = ask(chained(), "the weather?", "sort a list?")
    assert (away.text, steps_of(away)) == ("Code only.", ["classify"])
    assert on.text == "m says so [1]"


def test_a_check_that_fails_withholds_the_answer():
    (response,) = ask(chained(), "something wrong?")
    assert response.text == "Not sure."
    assert response.trace[-1]["choice"] == "no"


def test_a_step_asks_its_own_model_with_its_own_prompt_and_tokens():
    small, large = Model("small"), Model("large")
    steps = [CLASSIFY | {"max_new_tokens": 4}, ANSWER]
    (response,) = ask(chained(steps, {"classify": small, "answer": large}), "sort?")
    assert small.asked == [("class: sort?", 4)]
    assert large.asked == [("Answer. sort?", 32)]
    assert response.text == "large says so [1]"


def test_the_answering_step_sees_the_passages_and_the_check_sees_the_answer():
    model = Model()
    ask(chained(ALL, dict.fromkeys(["answer", "check"], model)), "sort?")
    answer, check = (text for text, _ in model.asked)
    assert answer == "Cite.\n\n[1] A title\na passage\n\nAnswer. sort?"
    assert check == "check: sort?\n\n[1] a passage\n\nAnswer: m says so [1]"


def test_a_failing_step_is_an_error_of_its_question_only():
    bad, good = ask(chained(), "BROKEN", "sort?")
    assert (bad.finish_reason, bad.error) == ("error", "step classify: 503")
    assert good.finish_reason == "stop"


def test_what_a_provider_blocks_in_a_step_stays_blocked():
    (response,) = ask(chained([ANSWER]), "FILTERED")
    assert response.blocked
    assert response.blocked_by == "provider"


def test_a_step_that_takes_too_long_is_an_error():
    steps = [ANSWER | {"timeout_s": 0.05}]
    (response,) = ask(chained(steps, {"answer": Model(delay_s=0.5)}), "sort?")
    assert "took over 0.05 s" in response.error


def test_a_step_has_thresholds_of_its_own_and_the_layer_is_told():
    strict = ANSWER | {"safety": {"thresholds": {"profanity": 0.5}}}
    (response,) = ask(chained([strict]), "be rude")
    assert (response.text, response.blocked, response.blocked_by) == ("", True, "thresholds")
    verdict = decide_output(response, {"profanity": 0.0}, policy())
    assert [(one.layer, one.action) for one in verdict.findings] == [("thresholds", "block")]
    assert "step answer" in verdict.findings[0].detail
    (loose,) = ask(chained([ANSWER]), "be rude")
    assert loose.text == "rude"


def test_a_chain_streams_its_answer_in_one_piece():
    text, response = chained().stream(PROMPT.chat("sort?"), SETTINGS)
    assert text == response.text == "m says so [1]"


def test_a_chain_gives_no_likelihood():
    assert not chained().can_score
    with pytest.raises(BackendError, match="no probability"):
        chained().score([], lambda *_: None)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([RETRIEVE], "exactly one step answers"),
        ([ANSWER, ANSWER], "already"),
        ([CHECK, ANSWER], "nothing to check"),
        ([ANSWER, RETRIEVE], "retrieves after"),
        ([CLASSIFY | {"prompt": None}, ANSWER], "needs a prompt"),
        ([CLASSIFY | {"go_on": ["maybe"]}, ANSWER], "two choices"),
        ([CLASSIFY | {"choices": ["code"]}, ANSWER], "two choices"),
        ([CLASSIFY | {"message": ""}, ANSWER], "needs the message"),
        ([{"name": "x", "use": "guess"}], "chain:"),
    ],
)
def test_a_chain_that_cannot_be_is_a_config_error(steps, said):
    with pytest.raises(ConfigError, match=said):
        read_chain({"steps": steps})


@pytest.mark.parametrize(
    ("text", "choice"),
    [("Yes.", "yes"), ("no, yes", "no"), ("yesterday", None), ("", None), ("I say NO", "no")],
)
def test_the_first_choice_that_a_text_names_counts(text, choice):
    assert choice_of(text, ["yes", "no"]) == choice


# ------------------------------------------------------------------ grounded answers


def grounded():
    return GroundedGenerator(Model(), PROMPT, lambda question: retrieve(question, 1), STYLE)


def test_a_grounded_answer_is_asked_with_passages_and_cites_them():
    generator = grounded()
    (response,) = generator.generate([PROMPT.chat("sort?")], SETTINGS, None)
    assert generator.inner.asked[0][0].startswith("Cite.\n\n[1] A title\na passage\n\n")
    assert response.grounding.passages[0].id == "about sort?"
    assert response.grounding.cited == (1,)


def test_a_grounded_answer_can_be_streamed_and_scored():
    generator = grounded()
    *pieces, response = generator.stream(PROMPT.chat("sort?"), SETTINGS)
    assert "".join(pieces) == response.text
    assert response.grounding.cited == (1,)
    (score,) = generator.score([(PROMPT.chat("sort?"), "x")], None)
    assert score.nll == len(generator.inner.asked[0][0])
