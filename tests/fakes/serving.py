"""A server over a provider that only echoes: everything but the provider is the real thing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llmops.adapters.scorer.profanity import open_scorer
from llmops.answering.model import OpenModel
from llmops.api.answering import serve_config
from llmops.config.compose import group
from llmops.errors import BackendError
from llmops.plan.cost import AnswerPrice
from llmops.ports.model import GenerationSettings, ModelReference, Response
from llmops.prompts.prompt import Prompt
from llmops.safety.policy import read_policy
from llmops.serving.application import made
from llmops.serving.batcher import Batcher
from llmops.serving.clients import token_digest
from llmops.serving.guard import Guard
from llmops.serving.models import Live, Models, Slot
from llmops.serving.server import Server, server_config
from llmops.serving.settings import read_settings

TOKEN = "llmops_of-the-tests"
OTHER_TOKEN = "llmops_of-another-client"


@dataclass
class Echo:
    """Answers with the last line of the question; words in it ask for trouble."""

    name: str = "echo"
    can_score: bool = False
    seconds: float = 0.0
    down: bool = False
    batches: list[int] = field(default_factory=list)
    asked: list[Any] = field(default_factory=list)
    gate: threading.Event | None = None  # answers wait for it

    def generate(self, chats, settings, progress):
        self.batches.append(len(chats))
        for chat in chats:
            yield self._response(chat, settings)

    def stream(self, chat, settings):
        response = self._response(chat, settings)
        for word in response.text.split(" "):
            yield word + " "
        yield replace(response, text=response.text + " ")

    def score(self, pairs, progress):
        raise NotImplementedError

    def _response(self, chat, settings):
        self.asked.append((chat, settings))
        if self.seconds:
            time.sleep(self.seconds)
        if self.gate is not None:
            self.gate.wait(20)
        if self.down:
            raise BackendError("503 from the service", retryable=True)
        text = chat[-1].text.rsplit("\n", 1)[-1]
        if "BROKEN" in text:
            return Response("", "error", 0, 0, error="the service said no")
        if "TOO LONG" in text:
            return Response("", "error", 9000, 0, error="the prompt has 9000 tokens")
        if "BLOCK" in text:
            return Response("", "safety", 5, 0, blocked=True, block_reason="SAFETY")
        return Response(f"{self.name}: {text}", "stop", 5, 4, raw={"said": text})


def echoing(echo: Echo, *, version: int = 1, batches: bool = True, **policy: Any) -> OpenModel:
    """Return an open model that echoes, under the shipped policy but for ``policy``."""
    section = group("safety")
    return OpenModel(
        name="so_python",
        version=version,
        alias="champion" if version == 1 else "candidate",
        digest=f"{version:064}",
        reference=ModelReference("echo", "echo"),
        prompt=Prompt("plain", "Answer.", "{{ instruction }}\n{{ question }}"),
        prompt_sha256="ab" * 32,
        generator=echo,
        scorer=open_scorer({}),
        scorer_kind="profanity",
        policy=read_policy({**section, **policy}),
        settings=GenerationSettings(max_new_tokens=64),
        price=AnswerPrice(0.001, 0.002, "USD"),
        batches=batches,
    )


def opening_of(*models: OpenModel, weights: tuple[float, ...] = ()):
    """Return what opens these models for the application."""

    def opening(settings, overrides, metrics):
        shares = weights or (1.0,) * len(models)
        slots = [
            Slot(
                f"so_python@{model.alias}",
                weight,
                Live(model, Batcher(model, settings.batching, metrics.batch_rows.observe)),
                None,
            )
            for model, weight in zip(models, shares, strict=True)
        ]
        return Models(slots, lambda model: None, None)

    return opening


def settings_of(folder: Path, *overrides: str):
    """Return the shipped settings with the tests' tokens and folders, and ``overrides``."""
    config = serve_config(
        [
            f"serve.log.path={folder}/logs",
            f"serve.sessions.path={folder}/sessions.sqlite",
            *overrides,
        ]
    )
    config["tokens"] = [
        {"name": "tests", "sha256": token_digest(TOKEN)},
        {"name": "another", "sha256": token_digest(OTHER_TOKEN)},
    ]
    return read_settings(config)


@dataclass(frozen=True)
class Running:
    """A server in a thread of this process."""

    port: int
    guard: Guard
    logs: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {TOKEN}"}


@contextmanager
def running(folder: Path, *models: OpenModel, overrides=(), weights=()) -> Iterator[Running]:
    """Serve the models on a free port until the block ends."""
    settings = settings_of(folder, *overrides)
    guard = made(settings, (), opening_of(*models, weights=weights))
    started = threading.Event()
    server = Server(server_config(guard, settings, host="127.0.0.1", port=0), started.set)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        assert started.wait(20), "the server did not start"
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Running(port, guard, Path(settings.log.path))
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
