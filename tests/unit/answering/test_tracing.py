"""Traces follow the GenAI conventions and carry no text unless they are told to."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from llmops.answering.asking import answers
from llmops.answering.tracing import OpenTelemetryTracer, open_tracer
from llmops.ports.model import Message
from tests.fakes.serving import Echo, echoing


def traced(question, *, content):
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = OpenTelemetryTracer(provider, content=content)
    model = echoing(Echo())
    messages = (Message("user", question),)
    span = tracer.begin(model, model.settings, messages)
    span.tell(next(answers(model, [messages])))
    tracer.close()
    (found,) = exporter.get_finished_spans()
    return found


def test_a_span_says_which_model_answered_and_what_it_took():
    span = traced("What is a tuple?", content=False)
    assert span.name == "chat so_python:1"
    told = dict(span.attributes)
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.request.model"] == "echo"
    assert told["gen_ai.usage.input_tokens"] == 5
    assert told["gen_ai.usage.output_tokens"] == 4
    assert told["gen_ai.response.finish_reasons"] == ("stop",)
    assert told["llmops.policy.action"] == "allow"


@pytest.mark.parametrize("content", [False, True])
def test_texts_are_in_a_span_only_if_the_config_says_so(content):
    told = str(dict(traced("a secret plan", content=content).attributes))
    assert ("a secret plan" in told) is content


def test_an_answer_that_the_model_did_not_give_is_an_error():
    span = traced("BROKEN", content=False)
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "model_failed"


def test_without_an_address_nothing_is_traced():
    tracer = open_tracer(None, content=True)
    model = echoing(Echo())
    span = tracer.begin(model, model.settings, ())
    span.tell(next(answers(model, [(Message("user", "q"),)])))
    tracer.close()
