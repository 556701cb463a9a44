"""Gemini behind our own server: asked by Google's client, streamed, searching, down."""

from __future__ import annotations

import httpx
import openai
import pytest

from llmops.api.answering import open_model
from tests.fakes.serving import TOKEN, running
from tests.unit.cloud.test_gemini_search import ANSWER, TEXT

QUESTION = "Who wrote Python?"


@pytest.fixture
def served(cloud, tmp_path, monkeypatch):
    """Return a server over the untuned Gemini that searches for itself."""
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(tmp_path))
    where = [
        "+experiment=so_python",
        "pipeline=dataset",
        "model=gemini",
        "safety=gemini",
        "grounding=provider",
        "evaluation.metrics=[rouge_l]",
        "gate.rules=[]",
        "env=prod",
        "env.project=shop-project",
        f"env.bucket=gs://{cloud.bucket}",
        "env.credentials.kind=service_account_file",
        f"+env.credentials.file={cloud.key}",
        f"+env.endpoints.vertex={cloud.url}",
        f"+env.endpoints.storage={cloud.storage_url}",
        "store=folder",
        "deploy=files",
        "model.requests.deadline_s=1",
    ]
    model = open_model("untuned", where)
    with running(tmp_path, model) as found:
        yield found


def ask(found):
    return httpx.post(
        f"{found.address}/v1/predict",
        json={"question": QUESTION, "raw": True},
        headers=found.headers,
        timeout=20,
    )


def test_gemini_answers_and_says_what_its_search_found(cloud, served):
    rated = {**ANSWER["candidates"][0], "safetyRatings": cloud_ratings()}
    cloud.world.answers[QUESTION] = {"candidates": [rated]}
    answer = ask(served).json()
    assert (answer["text"], answer["blocked"]) == (TEXT, False)
    assert [one["uri"] for one in answer["grounding"]["passages"]] == [
        "https://a.example",
        "https://b.example",
    ]
    assert answer["citations"][0]["title"] == "B"
    assert answer["safety"]["harassment"]["threshold"] == 0.5
    assert answer["raw"]["candidates"][0]["content"]["parts"][0]["text"] == TEXT
    (asked,) = cloud.faults.found("generateContent")
    assert asked.body["tools"] == [{"googleSearch": {}}]


def cloud_ratings(**high):
    from tests.fakes.gemini import ratings

    return ratings(**high)


def test_an_answer_over_our_threshold_is_withheld_by_us_and_not_by_the_provider(cloud, served):
    rated = {**ANSWER["candidates"][0], "safetyRatings": cloud_ratings(HARASSMENT=0.7)}
    cloud.world.answers[QUESTION] = {"candidates": [rated]}
    answer = ask(served).json()
    assert (answer["blocked"], answer["blocked_by"]) == (True, ["thresholds"])
    assert answer["raw"] is None  # it has the text
    assert TEXT not in str(answer)


def test_openais_client_streams_from_gemini(cloud, served):
    with openai.OpenAI(base_url=f"{served.address}/v1", api_key=TOKEN) as client:
        chunks = client.chat.completions.create(
            model="gemini-3.5-flash",
            messages=[{"role": "user", "content": QUESTION}],
            stream=True,
        )
        said = "".join(one.choices[0].delta.content or "" for one in chunks)
    assert said.startswith("I would look that up")


def test_a_gemini_that_is_down_is_told_to_be_tried_again(cloud, served):
    cloud.faults.refuse(503, "generateContent", times=50)
    answer = ask(served)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
