"""A served alias is followed without a restart; what cannot be opened leaves the old in place."""

from __future__ import annotations

import asyncio
import time

from llmops.adapters import catalog
from llmops.config.compose import compose
from llmops.ports import ModelReference
from llmops.prompts.prompt import check_prompt
from llmops.serving.models import open_models
from llmops.serving.settings import Batching, Share

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


async def _until(holds):
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
