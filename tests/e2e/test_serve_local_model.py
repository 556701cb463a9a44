"""The small model behind the server: asked together and streamed, it says what it says alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from llmops.api.answering import open_model
from tests.fakes.serving import TOKEN, running

pytestmark = [pytest.mark.model, pytest.mark.slow]
QUESTIONS = ["What is a tuple?", "How do I sort a list?", "What does zip do?"]


def test_the_local_model_answers_alike_alone_together_and_streamed(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(tmp_path))
    model = open_model("untuned", ["+experiment=so_python", "predict.max_new_tokens=8"])
    overrides = ["serve.batching.wait_s=0.5", "serve.timeouts.answer_s=250"]
    with running(tmp_path, model, overrides=overrides) as found:

        def ask(question):
            answer = httpx.post(
                f"{found.address}/v1/predict",
                json={"question": question},
                headers=found.headers,
                timeout=280,
            )
            return answer.json()["text"]

        with ThreadPoolExecutor(3) as pool:
            together = list(pool.map(ask, QUESTIONS))
        alone = ask(QUESTIONS[0])
        page = httpx.get(f"{found.address}/metrics", headers=found.headers).text
        with openai.OpenAI(base_url=f"{found.address}/v1", api_key=TOKEN) as client:
            chunks = client.chat.completions.create(
                model=model.name,
                messages=[{"role": "user", "content": QUESTIONS[0]}],
                stream=True,
            )
            streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert all(together)
    assert alone == together[0] == streamed
    assert 'llmops_batch_rows_bucket{le="1.0"} 1.0' in page
    assert 'llmops_batch_rows_bucket{le="4.0"} 2.0' in page
