"""text-bison through the client that the course's users know, over REST; tuned models too.

Google shut the model down on 2025-04-09: no project gets an answer any more, and the client itself
is to be removed. This adapter asks as ever and says so when it is refused. There is no tuning with
it, and none of its answers can be scored.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops.adapters.asking import Asking, RequestRefused, Requests
from llmops.adapters.google import credentials, endpoint, place
from llmops.adapters.model.concurrently import in_order
from llmops.errors import BackendError, ConfigError
from llmops.ports.model import (
    Chat,
    Citation,
    GenerationSettings,
    ModelReference,
    Response,
    TokenScore,
    TunedModel,
)
from llmops.ports.progress import Progress

SERVICE = "text-bison"
RETIRED = "Google retired text-bison on 2025-04-09"


def open_generator(
    config: Mapping[str, Any],
    reference: ModelReference,
    adapter: Path | None,
    cache: Path,
    *,
    environment: Mapping[str, Any],
) -> PalmGenerator:
    """Open the base model, or the tuned one that the reference or ``model.tuned_model`` names.

    Raises:
        BackendError: If there are no credentials, or the service does not know the model.
    """
    del adapter, cache
    client = PalmClient(config, environment)
    tuned = reference.tuned or config["tuned_model"]
    return PalmGenerator(client, client.tuned(tuned) if tuned else client.base(), config["top_k"])


class PalmClient:
    """Google's client, set up for one project and region."""

    def __init__(self, config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        self.name = config["base"]
        made = credentials(environment)
        self._asking = Asking(SERVICE, Requests(**config["requests"]), made)
        self.concurrent = int(config["requests"]["concurrent"])
        with _quietly():
            import vertexai

            vertexai.init(
                project=place(environment, "project"),
                location=config["region"],
                credentials=made,
                api_endpoint=endpoint(environment, "vertex"),
                api_transport="rest",
            )

    def base(self) -> Any:
        """Return the base model."""
        return self._ask(lambda model: model.from_pretrained(self.name))

    def tuned(self, name: str) -> Any:
        """Return a tuned model by its resource name."""
        return self._ask(lambda model: model.get_tuned_model(name))

    def tuned_names(self) -> Sequence[str]:
        """Return the resource names of the models that were tuned from this base, sorted."""
        return sorted(
            self._ask(lambda model: model.from_pretrained(self.name).list_tuned_model_names())
        )

    def predict(self, model: Any, prompt: str, options: Mapping[str, Any]) -> Any:
        """Return the client's response to one prompt.

        Raises:
            RequestRefused: If the service takes the prompt for wrong.
            BackendError: If the service fails; it says that the model was retired.
        """
        try:
            return self._asking.call(lambda: model.predict(prompt, **options))
        except BackendError as exc:
            raise _retired(exc) from exc

    def _ask(self, ask: Any) -> Any:
        from vertexai.language_models import TextGenerationModel

        try:
            with _quietly():
                return self._asking.call(lambda: ask(TextGenerationModel))
        except RequestRefused as exc:
            raise BackendError(f"{exc}; {RETIRED}", hint="choose model=gemini") from exc
        except BackendError as exc:
            raise _retired(exc) from exc
        except ValueError as exc:  # the client's own word for a model that it does not know
            raise ConfigError(f"{SERVICE}: {exc}", hint=f"{RETIRED}: choose model=gemini") from exc


def open_shelf(config: Mapping[str, Any], *, environment: Mapping[str, Any]) -> PalmShelf:
    """Open the list of tuned models; it raises as ``open_generator`` does."""
    return PalmShelf(PalmClient(config, environment))


@dataclass(frozen=True)
class PalmShelf:
    """The models that were tuned from text-bison; their age is not told."""

    client: PalmClient

    def tuned(self) -> Sequence[TunedModel]:
        """Return the tuned models by name."""
        return [
            TunedModel(name, ModelReference("palm", self.client.name, tuned=name))
            for name in self.client.tuned_names()
        ]


class PalmGenerator:
    """A generator over one text-bison model."""

    can_score = False

    def __init__(self, client: PalmClient, model: Any, top_k: int) -> None:
        self.client, self.model, self.top_k = client, model, top_k

    def generate(
        self, chats: Sequence[Chat], settings: GenerationSettings, progress: Progress
    ) -> Iterator[Response]:
        """Yield one response a chat, in order; see ``ports.model.Generator``."""
        return in_order(
            lambda chat: self._answer(chat, settings),
            chats,
            progress,
            concurrent=self.client.concurrent,
            note=f"answers; {RETIRED}",
        )

    def stream(self, chat: Chat, settings: GenerationSettings) -> Iterator[str | Response]:
        """Yield the answer in one piece, then the whole response: the model knows no streams."""
        response = self._answer(chat, settings)
        if response.text:
            yield response.text
        yield response

    def score(self, pairs: Iterable[tuple[Chat, str]], progress: Progress) -> Iterator[TokenScore]:
        """Refuse: text-bison does not tell the likelihood of a given text.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            "text-bison cannot score given texts",
            hint="leave loss and perplexity out of evaluation.metrics",
        )

    def _answer(self, chat: Chat, settings: GenerationSettings) -> Response:
        options = {
            "temperature": settings.temperature,
            "max_output_tokens": settings.max_new_tokens,
            "top_p": settings.top_p,
            "top_k": self.top_k,
            "seed": settings.seed,
        }
        started = time.monotonic()
        try:
            answer = self.client.predict(self.model, prompt_of(chat), options)
        except RequestRefused as exc:
            return Response("", "error", prompt_tokens=0, output_tokens=0, error=str(exc))
        return response_of(answer, settings.max_new_tokens, time.monotonic() - started)


def prompt_of(chat: Chat) -> str:
    """Return a chat as the one text that text-bison takes: the turns, the system's first."""
    if len([turn for turn in chat if turn.role != "system"]) == 1:
        return "\n\n".join(turn.text for turn in chat)
    return "\n\n".join(
        turn.text if turn.role == "system" else f"{turn.role}: {turn.text}" for turn in chat
    )


def response_of(answer: Any, max_new_tokens: int, latency_s: float) -> Response:
    """Return the client's answer in our shape.

    ``safetyAttributes`` gives categories with scores; where it has ``safetyRatings``, those give
    probability and severity. Why it stopped the model does not say: an answer of as many tokens as
    were allowed counts as cut.
    """
    raw = answer.raw_prediction_response
    said = dict(raw.predictions[0])
    counted = (raw.metadata or {}).get("tokenMetadata") or {}
    tokens = int((counted.get("outputTokenCount") or {}).get("totalTokens") or 0)
    attributes = said.get("safetyAttributes") or {}
    blocked = bool(attributes.get("blocked"))
    errors = ", ".join(str(int(code)) for code in attributes.get("errors") or ())
    stopped = "length" if tokens >= max_new_tokens else "stop"
    return Response(
        text="" if blocked else str(said.get("content") or ""),
        finish_reason="safety" if blocked else stopped,
        prompt_tokens=int((counted.get("inputTokenCount") or {}).get("totalTokens") or 0),
        output_tokens=tokens,
        blocked=blocked,
        safety=_scores(attributes) or None,
        citations=_citations(said),
        block_reason=(f"error {errors}" if errors else "blocked") if blocked else None,
        latency_s=latency_s,
        raw={name: value for name, value in said.items() if not (blocked and name == "content")},
    )


def _scores(attributes: Mapping[str, Any]) -> dict[str, float]:
    named = zip(attributes.get("categories") or (), attributes.get("scores") or (), strict=False)
    scores = {_category(name): float(score) for name, score in named}
    for rating in attributes.get("safetyRatings") or ():
        name = _category(rating["category"])
        for key, figure in ((name, "probabilityScore"), (f"{name}_severity", "severityScore")):
            if rating.get(figure) is not None:
                scores[key] = float(rating[figure])
    return scores


def _category(name: str) -> str:
    return "_".join(name.lower().replace("&", "and").split())


def _citations(said: Mapping[str, Any]) -> tuple[Citation, ...]:
    found = (said.get("citationMetadata") or {}).get("citations") or []
    return tuple(
        Citation(
            start=int(one.get("startIndex") or 0),
            end=int(one.get("endIndex") or 0),
            uri=one.get("url"),
            title=one.get("title"),
            licence=one.get("license"),
        )
        for one in found
    )


def _retired(exc: BackendError) -> BackendError:
    return BackendError(f"{exc.problem}; {RETIRED}", hint="choose model=gemini")


@contextmanager
def _quietly() -> Iterator[None]:
    """Leave out the client's own warning that it is deprecated: ours says it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
