"""Answer chats with Gemini: the base model, or a tuned model on its own endpoint.

Several requests are under way at once; answers come back in the order of the questions. A request
that the service takes for wrong becomes an error row; when the service itself fails past the
deadline, the whole call fails, and rows that were yielded stay with who took them. Large sets go
as one batch job where the config says so. Gives no likelihoods: Gemini does not score given texts.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.adapters.asking import RequestRefused, Requests, trouble_of
from llmops.adapters.model.concurrently import in_order
from llmops.adapters.model.gemini_batch import BatchJobs
from llmops.adapters.model.gemini_client import SERVICE, GeminiClient, location_of
from llmops.adapters.model.gemini_request import Style, config_of, contents_of
from llmops.adapters.model.gemini_response import response_of, text_of
from llmops.errors import ConfigError
from llmops.ports.model import Chat, GenerationSettings, ModelReference, Response, TokenScore
from llmops.ports.progress import Progress

if TYPE_CHECKING:
    from google.genai import types


def open_generator(
    config: Mapping[str, Any],
    reference: ModelReference,
    adapter: Path | None,
    cache: Path,
    *,
    environment: Mapping[str, Any],
) -> GeminiGenerator:
    """Open a generator of the ``model`` config group; nothing is asked yet.

    Raises:
        BackendError: If there are no credentials.
        ConfigError: If the environment names no project.
    """
    del adapter, cache
    target = reference.endpoint or config["base"]
    location = location_of(target, config["region"])
    requests = Requests(**config["requests"])
    style = Style(
        filters=config["filters"],
        filter_method=config["filter_method"],
        thinking_level=config["thinking_level"],
        thinking_budget_tokens=config["thinking_budget_tokens"],
        takes_schema=reference.endpoint is None,
    )
    client = GeminiClient(environment, location, requests)
    return GeminiGenerator(client, target, style, environment)


class GeminiGenerator:
    """A generator over one model or endpoint."""

    can_score = False

    def __init__(
        self, client: GeminiClient, target: str, style: Style, environment: Mapping[str, Any]
    ) -> None:
        self.client, self.target, self.style = client, target, style
        self.environment = environment

    def generate(
        self, chats: Sequence[Chat], settings: GenerationSettings, progress: Progress
    ) -> Iterator[Response]:
        """Yield one response a chat, in order; see ``ports.model.Generator``."""
        least = self.client.requests.batch_from_rows
        if least is not None and len(chats) >= least:
            jobs = BatchJobs(self.client, self.environment, self.target, self.style)
            yield from jobs.answers(chats, settings, progress)
        else:
            yield from self._online(chats, settings, progress)

    def stream(self, chat: Chat, settings: GenerationSettings) -> Iterator[str | Response]:
        """Yield the answer in pieces, then the whole response; see ``ports.model.Generator``.

        A stream that breaks off before its first piece is asked again; after that, it fails.
        """
        started = time.monotonic()
        config = config_of(chat, settings, self.style)
        try:
            first, rest = self.client.call(lambda client: self._open_stream(client, chat, config))
        except RequestRefused as exc:
            yield _refused(exc)
            return
        whole: dict[str, Any] = {}
        text = ""
        for piece in _chain(first, rest):
            said = _plain(piece)
            candidate = (said.get("candidates") or [{}])[0]
            more = text_of(candidate)
            whole = _joined(whole, said)
            if more:
                text += more
                yield more
        if whole.get("candidates"):
            whole["candidates"][0]["content"] = {"role": "model", "parts": [{"text": text}]}
        yield response_of(whole, latency_s=time.monotonic() - started)

    def score(self, pairs: Iterable[tuple[Chat, str]], progress: Progress) -> Iterator[TokenScore]:
        """Refuse: Gemini does not tell the likelihood of a given text.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            "Gemini cannot score given texts",
            hint="leave loss and perplexity out of evaluation.metrics",
        )

    def _online(
        self, chats: Sequence[Chat], settings: GenerationSettings, progress: Progress
    ) -> Iterator[Response]:
        concurrent = self.client.requests.concurrent
        return in_order(
            lambda chat: self._answer(chat, settings), chats, progress, concurrent=concurrent
        )

    def _answer(self, chat: Chat, settings: GenerationSettings) -> Response:
        config = config_of(chat, settings, self.style)
        took: list[float] = []

        def ask(client: Any) -> types.GenerateContentResponse:
            started = time.monotonic()
            answer: types.GenerateContentResponse = client.models.generate_content(
                model=self.target, contents=contents_of(chat), config=config
            )
            took.append(time.monotonic() - started)
            return answer

        try:
            answer = self.client.call(ask)
        except RequestRefused as exc:
            return _refused(exc)
        return response_of(_plain(answer), latency_s=took[-1])

    def _open_stream(
        self, client: Any, chat: Chat, config: types.GenerateContentConfig
    ) -> tuple[types.GenerateContentResponse | None, Iterator[types.GenerateContentResponse]]:
        pieces = client.models.generate_content_stream(
            model=self.target, contents=contents_of(chat), config=config
        )
        return next(pieces, None), pieces


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    if first is None:
        return
    yield first
    try:
        yield from rest
    except Exception as exc:
        trouble = trouble_of(exc, SERVICE)
        if trouble is None:
            raise
        raise trouble.error() from exc


def _joined(whole: dict[str, Any], piece: dict[str, Any]) -> dict[str, Any]:
    """Add a piece of a stream: what it tells anew counts, ratings and reasons come last."""
    candidates = [
        {**old, **new}
        for old, new in zip(
            whole.get("candidates") or [{}], piece.get("candidates") or [{}], strict=False
        )
    ]
    joined = {**whole, **piece}
    if whole.get("candidates") or piece.get("candidates"):
        joined["candidates"] = candidates
    return joined


def _plain(answer: types.GenerateContentResponse) -> dict[str, Any]:
    """Return what the client read as the service's own JSON."""
    plain: dict[str, Any] = answer.model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude={"sdk_http_response", "parsed"}
    )
    return plain


def _refused(exc: RequestRefused) -> Response:
    return Response("", "error", prompt_tokens=0, output_tokens=0, error=str(exc))
