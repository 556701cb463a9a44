"""``POST /v1/predict``: the whole response, the record, sessions, feedback, the split."""

from __future__ import annotations

import json
from collections import Counter

import httpx
import pytest

from llmops.traffic.query import rows
from llmops.traffic.segments import lines
from tests.fakes.serving import OTHER_TOKEN, TOKEN, Echo, echoing, running


def ask(http, question, **more):
    return http.post("/v1/predict", json={"question": question, **more})


def kept(server, identity):
    found = [json.loads(line) for line in lines(server.logs)]
    return next(one for one in found if one.get("id") == identity)


def test_an_answer_tells_everything(http):
    answer = ask(http, "How do I open a file?", raw=True).json()
    assert answer["text"] == "echo: How do I open a file?"
    assert answer["blocked"] is False
    assert answer["blocked_by"] == []
    assert answer["safety"]["profanity"]["threshold"] == 0.8
    assert answer["safety"]["profanity"]["violated"] is False
    assert answer["tokens"] == {"prompt": 5, "output": 4}
    assert answer["cost"] == pytest.approx(5 * 0.001 + 4 * 0.002)
    assert answer["model"]["version"] == 1
    assert answer["raw"] == {"said": "How do I open a file?"}
    assert answer["latency_s"] > 0


def test_every_answer_has_one_record_with_its_personal_data_masked(http, server):
    answer = ask(http, "Mail bob.smith@example.org the key").json()
    record = kept(server, answer["id"])
    assert record["question"] == "Mail [email] the key"
    assert record["answer"] == "echo: Mail [email] the key"
    assert record["client"] == "tests"
    assert (record["model"], record["version"]) == ("so_python", 1)
    assert record["scores"].keys() == {"profanity"}


def test_three_layers_are_told_apart(http):
    by_provider = ask(http, "BLOCK this").json()
    by_threshold = ask(http, "fuck this shit").json()
    assert by_provider["blocked_by"][0] == "provider"
    assert by_threshold["blocked_by"] == ["thresholds"]
    assert by_threshold["text"] == "This was withheld by the safety policy."
    assert by_threshold["finish_reason"] == "safety"
    assert by_threshold["safety"]["profanity"]["violated"] is True


def test_a_rule_on_the_way_in_blocks_before_the_model_is_asked(tmp_path):
    echo = Echo()
    policy = {
        "input": {
            "score": False,
            "block_list": ["launch codes"],
            "on_block_list": "block",
            "prompt_injection": "flag",
            "personal_data": "flag",
        }
    }
    with running(tmp_path, echoing(echo, **policy)) as found:
        answer = httpx.post(
            f"{found.address}/v1/predict",
            json={"question": "Tell me the launch codes"},
            headers=found.headers,
        ).json()
    assert answer["blocked_by"] == ["rules"]
    assert answer["policy"]["output"] is None
    assert echo.asked == []


@pytest.mark.parametrize(
    ("question", "status", "code"),
    [("BROKEN", 502, "model_failed"), ("TOO LONG", 400, "prompt_refused")],
)
def test_a_model_that_gives_no_answer_is_told_and_recorded(http, server, question, status, code):
    answer = ask(http, question)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    newest = json.loads(list(lines(server.logs))[-1])
    assert newest["finish_reason"] == "error"
    assert newest["error"]


def test_a_session_remembers_what_was_said_for_its_own_client_only(tmp_path):
    echo = Echo()
    with running(tmp_path, echoing(echo)) as found:
        url = f"{found.address}/v1/predict"
        for token, question in ((TOKEN, "one"), (TOKEN, "two"), (OTHER_TOKEN, "three")):
            httpx.post(
                url,
                json={"question": question, "session": "s"},
                headers={"Authorization": f"Bearer {token}"},
            ).raise_for_status()
    roles = [[turn.role for turn in chat] for chat, _ in echo.asked]
    assert roles == [["user"], ["user", "assistant", "user"], ["user"]]
    assert echo.asked[1][0][0].text == "Answer.\none"
    assert echo.asked[1][0][1].text == "echo: one"


def test_feedback_joins_the_answer(http, server):
    answer = ask(http, "What is a tuple?").json()
    said = {"id": answer["id"], "rating": "down", "correction": "An immutable sequence."}
    assert http.post("/v1/feedback", json=said).status_code == 201
    sql = f"SELECT question, rating, correction FROM reviewed WHERE id = '{answer['id']}'"
    _, found = rows(server.logs, sql)
    assert list(found) == [
        {
            "question": "What is a tuple?",
            "rating": "down",
            "correction": "An immutable sequence.",
        }
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"id": "ans_000000000000000000000000_00000000", "rating": "up"}, 404),
        ({"id": "x", "rating": "up"}, 404),
        ({"id": "x"}, 400),
        ({"id": "x", "rating": "meh"}, 400),
    ],
)
def test_feedback_on_nothing_is_refused(http, body, status):
    assert http.post("/v1/feedback", json=body).status_code == status


def test_traffic_is_shared_out_by_weights_and_a_session_stays_with_its_model(tmp_path):
    models = (echoing(Echo("one"), version=1), echoing(Echo("two"), version=2))
    with (
        running(tmp_path, *models, weights=(0.75, 0.25)) as found,
        httpx.Client(base_url=found.address, headers=found.headers) as http,
    ):
        versions = Counter(ask(http, "q").json()["model"]["version"] for _ in range(400))
        of_a_session = {ask(http, "q", session="mine").json()["model"]["version"] for _ in range(8)}
        pinned = ask(http, "q", model="so_python@candidate").json()["model"]["version"]
        unknown = ask(http, "q", model="nobody")
    assert 250 < versions[1] < 350
    assert versions[1] + versions[2] == 400
    assert len(of_a_session) == 1
    assert pinned == 2
    assert unknown.status_code == 404
    assert unknown.json()["error"]["code"] == "model_not_found"
