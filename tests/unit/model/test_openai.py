"""The OpenAI-compatible generator against an endpoint on loopback that has bad days."""

from __future__ import annotations

import socket

import openai
import pytest

from llmops.adapters import catalog
from llmops.adapters.model import openai as adapter
from llmops.errors import BackendError, ConfigError
from llmops.ports.model import GenerationSettings, Message, ModelReference
from tests.fakes.openai_server import openai_server

SETTINGS = GenerationSettings(max_new_tokens=50)


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setattr(adapter.random, "uniform", lambda low, high: 0.0)
    with openai_server() as server:
        yield server


def quiet(done, total, note=""):
    """Report progress to nobody."""


def ask(server, *questions, settings=SETTINGS, reference=None, **changes):
    config = server.config(**changes)
    model = reference or ModelReference(provider="openai", base=config["base"])
    generator = catalog.adapter("generator", config, model, None, None)
    chats = [(Message("system", "Be brief."), Message("user", text)) for text in questions]
    return list(generator.generate(chats, settings, quiet))


def test_the_request_is_what_the_official_client_sends(endpoint):
    ask(endpoint, "Why?")
    with openai.OpenAI(base_url=endpoint.url, api_key="none") as client:
        messages = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Why?"},
        ]
        found = client.chat.completions.create(
            model="some-model",
            messages=messages,
            max_tokens=50,
            temperature=0.0,
            top_p=1.0,
            seed=0,
        )
    mine, theirs = endpoint.bodies
    assert mine == theirs
    assert found.choices[0].message.content == ask(endpoint, "Why?")[0].text


def test_a_schema_is_asked_for_in_the_interfaces_own_words(endpoint):
    schema = {"type": "object", "properties": {"score": {"type": "integer"}}}
    ask(endpoint, "Why?", settings=GenerationSettings(50, output_schema=schema))
    asked = endpoint.bodies[0]["response_format"]
    assert (asked["type"], asked["json_schema"]["schema"]) == ("json_schema", schema)


def test_requests_go_out_together_and_come_back_in_order(endpoint):
    endpoint.delay_s = 0.05
    endpoint.answer = lambda body: body["messages"][-1]["content"]
    questions = [f"q{number}" for number in range(12)]
    assert [one.text for one in ask(endpoint, *questions)] == questions
    assert 2 <= endpoint.most_at_once <= 4


@pytest.mark.parametrize("failures", [[429, 503], [0, 500], [408], [409, 504]])
def test_a_bad_day_is_waited_out(endpoint, failures):
    endpoint.failures = list(failures)
    (found,) = ask(endpoint, "Why?")
    assert found.finish_reason == "stop"
    assert len(endpoint.bodies) == len(failures) + 1


def test_a_request_that_stays_refused_is_an_answer_with_its_error(endpoint):
    endpoint.failures = [503, 503, 503]
    found = ask(endpoint, "Why?", "How?", parallel_requests=1)
    assert [one.finish_reason for one in found] == ["error", "stop"]
    assert found[0].error == "503: a bad day"


def test_what_is_no_json_is_an_answer_with_its_error(endpoint):
    endpoint.failures = [-1]
    (found,) = ask(endpoint, "Why?")
    assert found.finish_reason == "error"
    assert "JSONDecodeError" in found.error


def test_an_endpoint_that_nobody_serves_is_an_error_of_each_request(endpoint):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (found,) = ask(endpoint, "Why?", endpoint=f"http://127.0.0.1:{port}/v1")
    assert found.error.startswith("ConnectError")


def test_a_slow_answer_ends_at_the_timeout(endpoint):
    endpoint.delay_s = 0.3
    (found,) = ask(endpoint, "Why?", timeout_s=0.05, attempts=1)
    assert found.error.startswith("ReadTimeout")


@pytest.mark.parametrize("question", ["REFUSE-PROMPT", "FILTER-ANSWER"])
def test_what_a_filter_withholds_is_blocked_and_no_error(endpoint, question):
    (found,) = ask(endpoint, question)
    assert (found.blocked, found.finish_reason, found.text) == (True, "safety", "")
    assert found.block_reason == "content_filter"


def test_a_prompt_that_is_too_long_fails_alone(endpoint):
    found = ask(endpoint, "word " * 5000, "short")
    assert [one.finish_reason for one in found] == ["error", "stop"]
    assert len(endpoint.bodies) == 2


def test_a_wrong_model_stops_everything(endpoint):
    with pytest.raises(BackendError, match="refuses model 'other'") as caught:
        ask(endpoint, "Why?", base="other")
    assert not caught.value.retryable


def test_the_key_comes_from_the_environment_and_a_wrong_one_stops_everything(endpoint, monkeypatch):
    endpoint.key = "right"
    monkeypatch.setenv("SOME_KEY", "right")
    assert ask(endpoint, "Why?", api_key="${secret:SOME_KEY}")[0].finish_reason == "stop"
    monkeypatch.setenv("SOME_KEY", "wrong")
    with pytest.raises(BackendError, match="Incorrect API key"):
        ask(endpoint, "Why?", api_key="${secret:SOME_KEY}")


def test_a_key_that_is_not_set_is_a_config_error_before_anything_is_sent(endpoint, monkeypatch):
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(ConfigError, match="SOME_KEY is not set"):
        ask(endpoint, "Why?", api_key="${secret:SOME_KEY}")
    assert endpoint.bodies == []


def test_tokens_and_seconds_are_told(endpoint):
    (found,) = ask(endpoint, "Why?")
    assert (found.prompt_tokens, found.output_tokens) == (6, 20)
    assert 0 < found.latency_s < 5


def test_what_is_filtered_in_a_stream_is_withdrawn(endpoint):
    config = endpoint.config()
    model = ModelReference(provider="openai", base="some-model")
    generator = catalog.adapter("generator", config, model, None, None)
    *_, last = generator.stream((Message("user", "FILTER-ANSWER"),), SETTINGS)
    assert (last.blocked, last.text) == (True, "")


def test_a_wait_follows_the_service_and_grows_without_its_word():
    assert adapter._wait(1, "7") == 7.0
    assert adapter._wait(1, "900") == 30.0
    assert adapter._wait(1, "Wed, 21 Oct 2026 07:28:00 GMT") <= 0.5
    assert adapter._wait(4, None) > adapter._wait(1, None)
