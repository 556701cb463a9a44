"""OpenTelemetry traces of answers by the GenAI conventions; the one place that knows them.

Attribute names are those of opentelemetry.io/docs/specs/semconv/gen-ai (in development there, so
they may change). Texts are left out unless the config asks for them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from llmops.answering.exchange import Answer
from llmops.answering.model import OpenModel
from llmops.ports.model import GenerationSettings, Message

SERVICE = "llmops"
PROVIDERS: Mapping[str, str] = {"gemini": "gcp.vertex_ai", "openai": "openai"}


class Span(Protocol):
    """One answer on its way."""

    def tell(self, answer: Answer) -> None:
        """Say what came of it; the span ends with it."""
        ...


class Tracer:
    """Traces nothing: no endpoint is configured."""

    def begin(
        self, model: OpenModel, settings: GenerationSettings, messages: Sequence[Message]
    ) -> Span:
        """Return a span that lasts until it is told the answer."""
        del model, settings, messages
        return _NOTHING

    def close(self) -> None:
        """Send what is left."""


class _Nothing:
    def tell(self, answer: Answer) -> None:
        del answer


_NOTHING = _Nothing()


class _Telling:
    def __init__(self, span: Any, content: bool) -> None:
        self.span = span
        self.content = content

    def tell(self, answer: Answer) -> None:
        self.span.set_attributes(
            {
                "gen_ai.usage.input_tokens": answer.prompt_tokens,
                "gen_ai.usage.output_tokens": answer.output_tokens,
                "gen_ai.response.finish_reasons": [answer.finish_reason],
                "llmops.policy.action": answer.action,
                "llmops.policy.blocked_by": list(answer.blocked_by),
            }
        )
        for step in answer.trace:
            self.span.add_event("llmops.chain.step", _step_attributes(step, self.content))
        if answer.error is not None:
            from opentelemetry.trace import Status, StatusCode

            self.span.set_attribute("error.type", "model_failed")
            self.span.set_status(Status(StatusCode.ERROR))
        if self.content:
            part = {"type": "text", "content": answer.text}
            said = [{"role": "assistant", "parts": [part], "finish_reason": answer.finish_reason}]
            self.span.set_attribute("gen_ai.output.messages", json.dumps(said))
        self.span.end()


def _step_attributes(step: Mapping[str, Any], content: bool) -> dict[str, Any]:
    """Return what a chain's step did; what its model said, only with the texts."""
    return {
        f"llmops.chain.{name}": value
        for name, value in step.items()
        if value is not None and (content or name not in ("text", "error"))
    }


class OpenTelemetryTracer(Tracer):
    """Hands spans to an OpenTelemetry provider."""

    def __init__(self, provider: Any, *, content: bool) -> None:
        self.provider = provider
        self.content = content
        self._tracer = provider.get_tracer(SERVICE)

    def begin(
        self, model: OpenModel, settings: GenerationSettings, messages: Sequence[Message]
    ) -> Span:
        """Return a span named ``chat <model>`` that lasts until it is told the answer."""
        from opentelemetry.trace import SpanKind

        kind = model.reference.provider
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": PROVIDERS.get(kind, kind),
            "gen_ai.request.model": model.reference.base,
            "gen_ai.response.model": model.label,
            "gen_ai.request.max_tokens": settings.max_new_tokens,
            "gen_ai.request.temperature": float(settings.temperature),
            "gen_ai.request.top_p": float(settings.top_p),
            "gen_ai.request.seed": settings.seed,
            "llmops.prompt.sha256": model.prompt_sha256,
        }
        if self.content:
            parts = [
                {"role": one.role, "parts": [{"type": "text", "content": one.text}]}
                for one in messages
            ]
            attributes["gen_ai.input.messages"] = json.dumps(parts)
        span = self._tracer.start_span(
            f"chat {model.label}", kind=SpanKind.CLIENT, attributes=attributes
        )
        return _Telling(span, self.content)

    def close(self) -> None:
        """Send what is left."""
        self.provider.shutdown()


def open_tracer(endpoint: str | None, *, content: bool) -> Tracer:
    """Return a tracer that exports to an OTLP/HTTP address, or one that traces nothing.

    Raises:
        MissingExtra: If the packages are not installed.
    """
    if endpoint is None:
        return Tracer()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as exc:
        from llmops.errors import MissingExtra

        raise MissingExtra(
            f"serve.tracing needs the package '{exc.name}'", hint="pip install 'llmops[serve]'"
        ) from exc
    provider = TracerProvider(resource=Resource.create({"service.name": SERVICE}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    return OpenTelemetryTracer(provider, content=content)
