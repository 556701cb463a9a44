"""A served alias is followed without a restart; what cannot be opened leaves the old in place."""

from __future__ import annotations

import asyncio
import threading
import time

from llmops.adapters import catalog
from llmops.config.compose import compose
from llmops.ports.model import Message, ModelReference
from llmops.prompts.prompt import check_prompt
from llmops.serving.models import open_models
from llmops.serving.settings import Batching, Share
from tests.fakes.serving import TOKEN, Echo, echoing, running

OPENAI = [
    "pipeline=dataset",
    "model=openai",
    "model.base=tiny",
    "model.endpoint=http://127.0.0.1:1/v1",
    "evaluation.metrics=[rouge_l]",
    "gate.rules=[]",
]


def test_an_alias_that_moves_is_followed_and_a_model_that_cannot_be_opened_is_not(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(tmp_path))
    config = compose(["+experiment=so_python", *OPENAI]).config
    registry = catalog.adapter("registry", config["deploy"]["registry"], tmp_path)
    prompt = check_prompt(config).digest()

    def champion(tuned, base="tiny"):
        reference = ModelReference("openai", base, tuned=tuned, prompt_sha256=prompt)
        labels = {"experiment": "so_python"}
        version = registry.register("so_python", reference, labels=labels, run_id="r").version
        registry.set_alias("so_python", "champion", version, reason="a test")

    async def follow():
        models = open_models([Share("champion", 1.0)], OPENAI, Batching(4, 0.0), lambda rows: None)
        seen = [models.choose("key").model.version]
        following = asyncio.create_task(models.follow(OPENAI, 0.01))
        champion("second")
        await _until(lambda: models.choose("key").model.version == 2)
        seen.append(models.choose("key", "so_python:2").model.version)
        champion("third", base="another base")
        await asyncio.sleep(0.3)
        seen.append(models.choose("key").model.version)
        following.cancel()
        models.close()
        return seen

    champion("first")
    assert asyncio.run(follow()) == [1, 2, 2]


def test_a_request_in_work_ends_with_the_model_that_it_began_with(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("PROVIDER_KEY", TOKEN)
    gate = threading.Event()
    with running(tmp_path / "provider", echoing(Echo(gate=gate))) as provider:
        chosen = [
            *OPENAI[:2],
            "model.base=so_python",
            f"model.endpoint={provider.address}/v1",
            "model.api_key='${secret:PROVIDER_KEY}'",
            *OPENAI[4:],
        ]
        config = compose(["+experiment=so_python", *chosen]).config
        registry = catalog.adapter("registry", config["deploy"]["registry"], tmp_path)

        def champion(dataset):
            reference = ModelReference("openai", "so_python", dataset_version=dataset)
            labels = {"experiment": "so_python"}
            made = registry.register("so_python", reference, labels=labels, run_id="r")
            registry.set_alias("so_python", "champion", made.version, reason="a test")

        async def moved():
            shares = [Share("champion", 1.0)]
            models = open_models(shares, chosen, Batching(4, 0.0), lambda rows: None)
            following = asyncio.create_task(models.follow(chosen, 0.01))
            before = models.choose("key")
            chat = (Message("user", "q"),)
            waiting = asyncio.create_task(before.batcher.ask(chat, before.model.settings, 30))
            await asyncio.sleep(0.1)
            champion("second")
            await _until(lambda: models.choose("key").model.version == 2)
            assert not waiting.done()
            gate.set()
            answer = await waiting
            following.cancel()
            models.close()
            return before.model.version, answer.text

        champion("first")
        assert asyncio.run(moved()) == (1, "echo: q")


async def _until(holds):
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
