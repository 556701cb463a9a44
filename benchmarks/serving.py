"""Serve: requests a second, their slowest, overload and memory, against a bare FastAPI app.

    .venv/bin/python benchmarks/serving.py             # two minutes: 60 s each
    .venv/bin/python benchmarks/serving.py --overload  # eleven minutes, ten of them of overload
    .venv/bin/python benchmarks/serving.py --model     # the local model, 8 clients against 1
    .venv/bin/python benchmarks/serving.py --short     # any of them in seconds, to try it

Ours: validation, policy, offline scorer and log on, over a model that answers at once; the peer is
a FastAPI app that validates the same body with pydantic and returns the same size of answer. Both
run in uvicorn, one process each, and are asked by the same 16 connections in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import publish

CONNECTIONS = 16
TOKEN = "llmops_of-the-benchmark"
QUESTION = "How can I load a csv file using Pandas and keep only the rows of this year?"
ANSWER = (
    "Use pandas.read_csv with parse_dates, then filter: rows = rows[rows['when'].dt.year == year]."
)
ROUNDS = 1
GOAL_SHARE, AIM_SHARE, GOAL_P99, GOAL_OVERLOAD_P99 = 0.4, 0.6, 2.5, 2.0


@dataclass(frozen=True)
class Load:
    """What a load saw; seconds are those of accepted requests."""

    seconds: float
    accepted: int
    refused: int
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        return self.accepted / self.seconds


# ------------------------------------------------------------------ the two servers


class NoModel:
    """Answers at once with the same text."""

    can_score = False

    def generate(self, chats, settings, progress):
        from llmops.ports.model import Response

        for _ in chats:
            yield Response(ANSWER, "stop", 20, 24)

    def stream(self, chat, settings):
        from llmops.ports.model import Response

        yield Response(ANSWER, "stop", 20, 24)

    def score(self, pairs, progress):
        raise NotImplementedError


def serve_ours(folder: str, seconds: float, answering: int) -> None:
    """Serve until ended; the address goes to stdout."""
    from llmops.adapters.scorer.profanity import open_scorer
    from llmops.answering.model import OpenModel
    from llmops.api.answering import serve_config
    from llmops.config.compose import group
    from llmops.plan.cost import AnswerPrice
    from llmops.ports.model import GenerationSettings, ModelReference
    from llmops.prompts.prompt import Prompt
    from llmops.safety.policy import read_policy
    from llmops.serving.batcher import Batcher
    from llmops.serving.clients import token_digest
    from llmops.serving.models import Live, Models, Slot
    from llmops.serving.server import serve

    model = OpenModel(
        "none", 1, "champion", "0" * 64, ModelReference("none", "none"),
        Prompt("plain", "Answer.", "{{ instruction }}\n{{ question }}"), "ab" * 32,
        NoModel() if not seconds else Slow(seconds), open_scorer({}), "profanity",
        read_policy(group("safety")), GenerationSettings(64), AnswerPrice(0.0, 0.0, "USD"), True,
    )  # fmt: skip

    def opening(settings, overrides, metrics):
        batcher = Batcher(model, settings.batching, metrics.batch_rows.observe)
        return Models([Slot("champion", 1.0, Live(model, batcher), None)], lambda m: None, None)

    config = serve_config(
        [
            "serve.port=0",
            f"serve.log.path={folder}/logs",
            f"serve.limits.answering={answering}",
            f"serve.limits.answering_each={answering}",
        ]
    )
    config["tokens"] = [{"name": "bench", "sha256": token_digest(TOKEN)}]
    serve(config, [], on_start=lambda address: print(address, flush=True), opening=opening)


class Slow(NoModel):
    """Takes a while for a batch, as a model does; so that capacity is known."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def generate(self, chats, settings, progress):
        time.sleep(self.seconds)
        yield from super().generate(chats, settings, progress)


def serve_bare() -> None:
    """Serve the peer: what a FastAPI tutorial writes."""
    import socket

    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Question(BaseModel):
        question: str
        temperature: float | None = None

    class Answer(BaseModel):
        text: str

    app = FastAPI()

    async def predict(asked: Question) -> Answer:
        return Answer(text=ANSWER)

    predict.__annotations__ = {"asked": Question, "return": Answer}  # local, so not found by name
    app.post("/v1/predict")(predict)
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        app, http="httptools", loop="uvloop", log_level="warning", access_log=False
    )
    uvicorn.Server(config).run(sockets=[listening])


# -------------------------------------------------------------------- the clients


async def load(port: int, connections: int, seconds: float, body: bytes) -> Load:
    """Ask over so many connections for so long, each its next as soon as it is answered."""
    head = (
        b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer " + TOKEN.encode() + b"\r\nContent-Length: "
    )
    asked = head + str(len(body)).encode() + b"\r\n\r\n" + body
    end = time.perf_counter() + seconds
    taken: list[float] = []
    refused = 0

    async def client() -> None:
        nonlocal refused
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (started := time.perf_counter()) < end:
            writer.write(asked)
            header = await reader.readuntil(b"\r\n\r\n")
            length = int(header.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            if header.startswith(b"HTTP/1.1 200"):
                taken.append(time.perf_counter() - started)
            else:
                refused += 1
                await asyncio.sleep(0.05)  # as Retry-After would have it, in small
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(connections)))
    spent = time.perf_counter() - started
    taken.sort()
    return Load(spent, len(taken), refused, _quantile(taken, 0.5), _quantile(taken, 0.99))


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, math.floor(share * len(ordered)))] if ordered else math.nan


def measured(
    kind: str, connections: int, seconds: float, *options: str
) -> tuple[Load, list[float]]:
    """Start a server, load it, end it; return the load and its memory in megabytes by time."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", kind, *options], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().strip().rpartition(":")[2])
        body = json.dumps({"question": QUESTION}).encode()
        asyncio.run(load(port, 4, min(1.0, seconds), body))  # warm
        return asyncio.run(_watched(process.pid, port, connections, seconds, body))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


async def _watched(
    pid: int, port: int, connections: int, seconds: float, body: bytes
) -> tuple[Load, list[float]]:
    megabytes: list[float] = []

    async def watch() -> None:
        while True:
            megabytes.append(psutil.Process(pid).memory_info().rss / 1e6)
            await asyncio.sleep(max(0.2, seconds / 60))

    watching = asyncio.create_task(watch())
    found = await load(port, connections, seconds, body)
    watching.cancel()
    return found, megabytes


# ------------------------------------------------------------------------ measures


def against_bare(seconds: float, rounds: int) -> dict[str, Any]:
    ours: list[Load] = []
    bare: list[Load] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            order = [("ours", ours), ("bare", bare)]
            for kind, found in order if number % 2 == 0 else order[::-1]:
                found.append(measured(kind, CONNECTIONS, seconds, "--folder", folder)[0])
    middle = [sorted(found, key=lambda one: one.rate)[len(found) // 2] for found in (ours, bare)]
    share, slow = middle[0].rate / middle[1].rate, middle[0].p99 / middle[1].p99
    print(f"bare  {middle[1].rate:8,.0f} requests/s  p99 {middle[1].p99 * 1e3:6.1f} ms")
    print(f"ours  {middle[0].rate:8,.0f} requests/s  p99 {middle[0].p99 * 1e3:6.1f} ms")
    print(f"share {share:.2f} (at least {GOAL_SHARE}, aim {AIM_SHARE}); p99 {slow:.2f} times")
    print(f"      (at most {GOAL_P99} times)")
    return {
        "ours": [asdict(one) for one in ours],
        "bare": [asdict(one) for one in bare],
        "share": share,
        "p99_ratio": slow,
    }


def overload(seconds: float) -> dict[str, Any]:
    """Ask a model of known speed by as many as it takes at once, then by three times as many."""
    with tempfile.TemporaryDirectory() as folder:
        options = ("--folder", folder, "--seconds", "0.02", "--answering", str(CONNECTIONS))
        usual, _ = measured("ours", CONNECTIONS, min(seconds, 60), *options)
        crowded, megabytes = measured("ours", 3 * CONNECTIONS, seconds, *options)
    ratio = crowded.p99 / usual.p99
    settled = megabytes[len(megabytes) // 5 :]
    growth = settled[-1] - settled[0]
    print(f"at capacity       {usual.rate:7,.0f} requests/s  p99 {usual.p99 * 1e3:6.1f} ms")
    print(f"three times that  {crowded.rate:7,.0f} requests/s  p99 {crowded.p99 * 1e3:6.1f} ms")
    print(f"p99 {ratio:.2f} times (at most {GOAL_OVERLOAD_P99}); {crowded.refused:,} turned away")
    print(f"memory over {seconds:.0f} s: {settled[0]:.0f} -> {settled[-1]:.0f} MB, {growth:+.1f}")
    return {
        "usual": asdict(usual),
        "crowded": asdict(crowded),
        "p99_ratio": ratio,
        "megabytes": megabytes,
    }


def local_model(questions: int, experiment: str) -> dict[str, Any]:
    """Ask the small model one by one, then by eight clients at once."""
    from llmops.answering.asking import answers
    from llmops.api.answering import open_model
    from llmops.ports.model import Message
    from llmops.serving.batcher import Batcher
    from llmops.serving.settings import Batching

    model = open_model("untuned", [f"+experiment={experiment}", "predict.max_new_tokens=48"])
    texts = [f"How do I use the function number {n} of a module?" for n in range(questions)]
    list(answers(model, [(Message("user", texts[0]),)]))  # warm

    async def ask(clients: int) -> float:
        from llmops.answering import exchange

        batcher = Batcher(model, Batching(16, 0.0), lambda rows: None)
        left = list(texts)

        async def client() -> int:
            tokens = 0
            while left:
                chat = exchange.ask(model, (Message("user", left.pop()),)).chat
                assert chat is not None
                tokens += (await batcher.ask(chat, model.settings, 600)).output_tokens
            return tokens

        started = time.perf_counter()
        tokens = sum(await asyncio.gather(*(client() for _ in range(clients))))
        batcher.close()
        return tokens / (time.perf_counter() - started)

    one, eight = asyncio.run(ask(1)), asyncio.run(ask(8))
    print(f"one by one {one:.1f} tokens/s, 8 clients {eight:.1f}: {eight / one:.1f} times")
    return {"one": one, "eight": eight, "ratio": eight / one}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="seconds instead of minutes")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--overload", action="store_true", help="three times capacity")
    which.add_argument("--model", action="store_true", help="the local model")
    parser.add_argument("--serve", choices=["ours", "bare"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--answering", type=int, default=64, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve == "ours":
        serve_ours(given.folder, given.seconds, given.answering)
    elif given.serve == "bare":
        serve_bare()
    else:
        measure_all(given)


def measure_all(given: argparse.Namespace) -> None:
    if given.model:
        name, result = "serving_model", local_model(16 if given.short else 64, "so_python")
    elif given.overload:
        name, result = "serving_overload", overload(6.0 if given.short else 600.0)
    else:
        name = "serving"
        result = against_bare(3.0 if given.short else 60.0, 1 if given.short else ROUNDS)
    publish(name, {"short": given.short, **result}, ["fastapi", "uvicorn", "uvloop"])


if __name__ == "__main__":
    os.environ.setdefault("LLMOPS_WORKSPACE", tempfile.mkdtemp())
    main()
