"""The official ``openai`` client works unchanged."""

from __future__ import annotations

import openai
import pytest

from tests.fakes.serving import TOKEN, Echo, echoing, running


@pytest.fixture
def client(server):
    with openai.OpenAI(
        base_url=f"{server.address}/v1", api_key=TOKEN, max_retries=0, timeout=20
    ) as found:
        yield found


def test_a_chat_is_answered(client):
    found = client.chat.completions.create(
        model="so_python", messages=[{"role": "user", "content": "How do I sort a list?"}]
    )
    assert found.choices[0].message.content == "echo: How do I sort a list?"
    assert found.choices[0].finish_reason == "stop"
    assert found.usage.total_tokens == 9
    assert found.model == "so_python:1"


def test_a_chat_is_streamed_word_by_word_and_ends_with_its_usage(client):
    question = "tell me slowly " + "word " * 30
    chunks = list(
        client.chat.completions.create(
            model="so_python",
            messages=[{"role": "user", "content": question}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(pieces).strip() == f"echo: {question}".strip()
    assert len([piece for piece in pieces if piece]) > 3
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens == 4


def test_a_blocked_answer_is_a_content_filter(client):
    found = client.chat.completions.create(
        model="so_python", messages=[{"role": "user", "content": "fuck this shit"}]
    )
    assert found.choices[0].finish_reason == "content_filter"
    assert "withheld" in found.choices[0].message.content


def test_a_stream_stops_before_what_the_policy_blocks(client):
    question = "a clean beginning of some thirty characters, then fuck you shit fuck and more"
    chunks = client.chat.completions.create(
        model="so_python", messages=[{"role": "user", "content": question}], stream=True
    )
    found = [c.choices[0] for c in chunks]
    said = "".join(choice.delta.content or "" for choice in found)
    assert "fuck" not in said
    assert found[-1].finish_reason == "content_filter"


def test_the_models_are_listed(client):
    names = {model.id for model in client.models.list()}
    assert {"so_python", "so_python:1", "so_python@champion"} <= names


def test_history_goes_through_the_prompts_template(client, server):
    client.chat.completions.create(
        model="so_python",
        messages=[
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": [{"type": "text", "text": "three"}]},
        ],
    )


def test_another_prompt_is_refused_unless_asked_for(client, tmp_path):
    messages = [{"role": "system", "content": "Be rude."}, {"role": "user", "content": "hi"}]
    with pytest.raises(openai.BadRequestError, match="tuned with"):
        client.chat.completions.create(model="so_python", messages=messages)
    echo = Echo()
    with (
        running(tmp_path, echoing(echo), overrides=["serve.system_messages=use"]) as found,
        openai.OpenAI(base_url=f"{found.address}/v1", api_key=TOKEN) as lenient,
    ):
        lenient.chat.completions.create(model="so_python", messages=messages)
    assert [turn.text for turn in echo.asked[0][0]] == ["Be rude.", "Answer.\nhi"]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("n", 2), ("tools", [{"type": "function"}]), ("stop", "x"), ("logprobs", True)],
)
def test_what_is_not_served_is_refused_by_name(client, parameter, value):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model="so_python",
            messages=[{"role": "user", "content": "hi"}],
            **{parameter: value},
        )
    assert caught.value.param == parameter


def test_a_wrong_token_is_an_authentication_error(server):
    with (
        openai.OpenAI(base_url=f"{server.address}/v1", api_key="no", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-4", messages=[{"role": "user", "content": "hi"}])
