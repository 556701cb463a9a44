"""The routes of our own: predict, feedback, models, health and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llmops.answering import exchange
from llmops.answering.exchange import estimated_tokens
from llmops.api.answering import conversation
from llmops.serving import strict
from llmops.serving.answering import Answering, Kept, Wish
from llmops.serving.calls import Call, Reply, json_reply
from llmops.serving.faults import Fault
from llmops.serving.guard import Guard
from llmops.serving.shapes import FeedbackRequest, PredictRequest
from llmops.traffic.records import feedback_line, is_ours
from llmops.traffic.sessions import Turn

PREDICT = "/v1/predict"


@dataclass
class Routes:
    """The handlers; ``guard`` is set once the application stands."""

    parts: Answering
    guard: Guard | None = None

    async def predict(self, call: Call) -> Reply:
        """Answer a question; the whole response in our own shape."""
        asked = strict.parsed(call.body, PredictRequest)
        turns: Sequence[Turn] = ()
        if asked.session is not None:
            turns = await asyncio.to_thread(self.parts.sessions.history, call.client, asked.session)
        kept = await self.parts.ask(
            conversation(turns, asked.question),
            Wish(asked.max_new_tokens, asked.temperature, asked.top_p, asked.seed),
            route=PREDICT,
            client=call.client,
            model=asked.model,
            session=asked.session,
        )
        if asked.session is not None and not kept.answer.blocked:
            await self._remember(call.client, asked.session, kept)
        shown = exchange.as_json(kept.answer, kept.model, raw=asked.raw)
        return json_reply({"id": kept.id, "session": asked.session, **shown})

    async def feedback(self, call: Call) -> Reply:
        """Take a rating, a correction or a comment on an answer."""
        said = strict.parsed(call.body, FeedbackRequest)
        if said.rating is None and said.correction is None and said.comment is None:
            raise Fault(
                400, "one of rating, correction and comment must be given", code="empty_feedback"
            )
        log = self.parts.commit.log
        if not is_ours(said.id, log.keeping.key):
            raise Fault(404, "no answer has this id", code="unknown_answer", param="id")
        texts = (said.correction or "") + (said.comment or "")
        if len(texts) > self.parts.settings.limits.question_characters:
            raise Fault(413, "the texts are too long", code="text_too_long")
        line = await asyncio.to_thread(
            feedback_line,
            said.id,
            client=call.client,
            rating=said.rating,
            correction=said.correction,
            comment=said.comment,
            keeping=log.keeping,
        )
        await self.parts.commit.add(line)
        return json_reply({"id": said.id, "recorded": True}, 201)

    async def models(self, call: Call) -> Reply:
        """List who answers, in the shape that OpenAI's clients read."""
        del call
        return json_reply({"object": "list", "data": listed(self.parts)})

    async def healthz(self, call: Call) -> Reply:
        """Say that the process lives."""
        del call
        return json_reply({"status": "ok"})

    async def readyz(self, call: Call) -> Reply:
        """Say whether requests should be sent here: not while draining, nor without the log."""
        del call
        if self.guard is not None and self.guard.draining:
            return json_reply({"status": "draining"}, 503)
        if not self.parts.commit.works and self.parts.settings.log.on_failure == "refuse":
            return json_reply({"status": "the log cannot be written"}, 503)
        return json_reply({"status": "ready"})

    async def metrics(self, call: Call) -> Reply:
        """Return the page that Prometheus reads."""
        del call
        page = await asyncio.to_thread(self.parts.metrics.page)
        return Reply(page, content_type=b"text/plain; version=0.0.4; charset=utf-8")

    async def _remember(self, client: str, session: str, kept: Kept) -> None:
        answer = kept.answer
        tokens = estimated_tokens(answer.question) + max(1, answer.output_tokens)
        turn = Turn(answer.question, answer.text)
        await asyncio.to_thread(self.parts.sessions.add, client, session, turn, tokens=tokens)


def listed(parts: Answering) -> list[dict[str, Any]]:
    """Return the models as OpenAI lists them, each with what we know of it."""
    found: dict[str, dict[str, Any]] = {}
    for slot in parts.models.slots:
        model = slot.live.model
        for name in sorted(slot.names()):
            found.setdefault(
                name,
                {
                    "id": name,
                    "object": "model",
                    "created": 0,
                    "owned_by": "llmops",
                    "name": model.name,
                    "version": model.version,
                    "alias": model.alias,
                    "weight": slot.weight,
                    "prompt": {"name": model.prompt.name, "sha256": model.prompt_sha256},
                    "reference": asdict(model.reference),
                },
            )
    return list(found.values())
