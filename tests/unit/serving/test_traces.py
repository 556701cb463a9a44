"""What a collector gets of a server's answers, over OTLP: whole ones, streams, chains, failures."""

from __future__ import annotations

from dataclasses import replace

import httpx
import openai
import pytest

from tests.fakes.collector import collecting
from tests.fakes.serving import TOKEN, Echo, echoing, running

CLIENT = 3  # SpanKind of the wire


class Chained(Echo):
    """An echo whose answers went through two steps."""

    def _response(self, chat, settings):
        found = super()._response(chat, settings)
        steps = (
            {"step": "classify", "use": "classify", "seconds": 0.1, "text": "yes", "choice": "yes"},
            {"step": "answer", "use": "answer", "seconds": 0.2, "text": found.text, "tokens": 9},
        )
        return replace(found, trace=steps)


@pytest.fixture
def collector():
    with collecting() as found:
        yield found


def asked(collector, folder, *questions, stream=False, content=False, echo=None):
    """Ask the questions of a server that traces, and return the spans."""
    overrides = [
        f"serve.tracing.endpoint={collector.endpoint}",
        f"serve.tracing.content={str(content).lower()}",
    ]
    with running(folder, echoing(echo or Echo()), overrides=overrides) as found:
        for question in questions:
            if stream:
                _streamed(found, question)
            else:
                _whole(found, question)
    return collector.wait_for(len(questions))


def _whole(found, question):
    httpx.post(
        f"{found.address}/v1/predict", json={"question": question}, headers=found.headers, timeout=9
    )


def _streamed(found, question):
    with openai.OpenAI(base_url=f"{found.address}/v1", api_key=TOKEN, max_retries=0) as client:
        try:
            for _ in client.chat.completions.create(
                model="so_python", messages=[{"role": "user", "content": question}], stream=True
            ):
                pass
        except openai.APIError:
            pass  # a question of these tests wants its model broken


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_collector_gets_a_span_an_answer_by_the_genai_conventions(collector, tmp_path, stream):
    first, second = asked(collector, tmp_path, "one?", "two?", stream=stream)
    assert (first.service, first.name, first.kind) == ("llmops", "chat so_python:1", CLIENT)
    told = first.attributes
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.request.model"] == "echo"
    assert told["gen_ai.usage.input_tokens"] == 5
    assert told["gen_ai.response.finish_reasons"] == ["stop"]
    assert told["llmops.policy.action"] == "allow"
    assert 0 < first.seconds < 20
    assert not second.is_error


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("content", [False, True])
def test_no_text_leaves_the_server_unless_the_config_says_so(collector, tmp_path, stream, content):
    echo = Chained()
    asked(collector, tmp_path, "my secret plan", stream=stream, content=content, echo=echo)
    assert (b"secret plan" in b"".join(collector.bodies)) is content


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_model_that_fails_is_an_error_of_its_span(collector, tmp_path, stream):
    (span,) = asked(collector, tmp_path, "BROKEN", stream=stream)
    assert span.is_error
    assert span.attributes["error.type"] == "model_failed"


def test_the_steps_of_a_chain_are_events_of_its_span(collector, tmp_path):
    (span,) = asked(collector, tmp_path, "one?", echo=Chained())
    assert [name for name, _ in span.events] == ["llmops.chain.step"] * 2
    steps = [told for _, told in span.events]
    assert steps[0]["llmops.chain.choice"] == "yes"
    assert [told["llmops.chain.seconds"] for told in steps] == [0.1, 0.2]


def test_a_collector_that_refuses_costs_no_answer(collector, tmp_path):
    collector.refuses = 400
    overrides = [f"serve.tracing.endpoint={collector.endpoint}"]
    with running(tmp_path, echoing(Echo()), overrides=overrides) as found:
        answer = httpx.post(
            f"{found.address}/v1/predict", json={"question": "q"}, headers=found.headers, timeout=9
        )
    assert answer.status_code == 200
    assert collector.spans == []
