"""What breaks around the server: the disk, the provider, the scorer, an alias that moves."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import openai
import pytest

from llmops.errors import BackendError
from llmops.traffic.segments import lines
from tests.fakes.serving import TOKEN, Echo, echoing, running


def ask(found, question="q", **more):
    return httpx.post(
        f"{found.address}/v1/predict",
        json={"question": question, **more},
        headers=found.headers,
        timeout=20,
    )


def no_room(lines):
    raise BackendError("No space left on device: logs", hint="make room")


@pytest.fixture
def full_disk(monkeypatch):
    """Let the log's disk be full until the test says otherwise."""
    full = threading.Event()
    full.set()
    from llmops.traffic.segments import Writer

    before = Writer.append

    def append(self, lines):
        return no_room(lines) if full.is_set() else before(self, lines)

    monkeypatch.setattr(Writer, "append", append)
    return full


def test_without_room_for_the_log_no_answer_is_given_until_there_is_room(tmp_path, full_disk):
    with running(tmp_path, echoing(Echo())) as found:
        refused = ask(found)
        unready = httpx.get(f"{found.address}/readyz")
        full_disk.clear()
        answered = ask(found)
        ready = httpx.get(f"{found.address}/readyz")
        page = httpx.get(f"{found.address}/metrics", headers=found.headers).text
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "log_failed")
    assert "retry-after" in refused.headers
    assert unready.status_code == 503
    assert (answered.status_code, ready.status_code) == (200, 200)
    assert "llmops_log_failures_total 1.0" in page
    assert len(list(lines(found.logs))) == 1


def test_a_config_may_want_answers_without_a_log(tmp_path, full_disk):
    with running(tmp_path, echoing(Echo()), overrides=["serve.log.on_failure=answer"]) as found:
        assert ask(found).status_code == 200
        assert httpx.get(f"{found.address}/readyz").status_code == 200


def test_a_provider_that_is_down_is_told_to_be_tried_again_and_is_recorded(tmp_path):
    echo = Echo(down=True)
    with running(tmp_path, echoing(echo, batches=False)) as found:
        down = ask(found)
        with (
            openai.OpenAI(base_url=f"{found.address}/v1", api_key=TOKEN, max_retries=0) as client,
            pytest.raises(openai.InternalServerError) as streamed,
        ):
            client.chat.completions.create(
                model="so_python", messages=[{"role": "user", "content": "q"}], stream=True
            )
        echo.down = False
        up = ask(found)
    assert (down.status_code, down.headers["retry-after"]) == (503, "5")
    assert "503 from the service" not in down.text
    assert streamed.value.status_code == 503
    assert up.status_code == 200
    errors = [json.loads(line)["error"] for line in lines(found.logs)]
    assert errors == ["503 from the service", "503 from the service", None]


def stream(found, question):
    body = {
        "model": "so_python",
        "messages": [{"role": "user", "content": question}],
        "stream": True,
    }
    return httpx.stream(
        "POST",
        f"{found.address}/v1/chat/completions",
        json=body,
        headers=found.headers,
        timeout=20,
    )


class Halting(Echo):
    """Streams some words, and the rest when it is let."""

    def stream(self, chat, settings):
        yield "these words are said before anything goes wrong, and then "
        self.gate.wait(20)
        if self.down:
            raise BackendError("503 in the middle", retryable=True)
        yield from super().stream(chat, settings)


def record_of_one(found):
    _until(lambda: len(list(lines(found.logs))) == 1)
    return json.loads(next(lines(found.logs)))


def test_a_client_that_goes_in_the_middle_of_a_stream_leaves_a_record_of_what_it_was_told(tmp_path):
    gate = threading.Event()
    with running(tmp_path, echoing(Halting(gate=gate))) as found:
        with stream(found, "q") as answer:
            next(one for one in answer.iter_lines() if "these words" in one)
        record = record_of_one(found)
        gate.set()
    assert record["answer"].startswith("these words are said")
    assert record["error"] == "the client went before the answer was whole"


@pytest.mark.parametrize("way", ["down", "late"])
def test_a_provider_that_fails_in_the_middle_of_a_stream_is_told_in_it_and_recorded(tmp_path, way):
    gate = threading.Event()
    echo = Halting(gate=gate, down=way == "down")
    if way == "down":
        gate.set()
    overrides = ["serve.timeouts.answer_s=0.5"]
    with running(tmp_path, echoing(echo), overrides=overrides) as found:
        with stream(found, "q") as answer:
            events = [one for one in answer.iter_lines() if one]
        gate.set()
        record = record_of_one(found)
    assert "these words" in "".join(events)
    assert '"error"' in events[-1]
    assert record["finish_reason"] == "error"


def test_a_provider_that_is_slow_is_given_up_and_what_waits_behind_it_is_not_asked(tmp_path):
    gate = threading.Event()
    echo = Echo(gate=gate)
    overrides = ["serve.timeouts.answer_s=0.3", "serve.batching.max_rows=1"]
    with running(tmp_path, echoing(echo), overrides=overrides) as found:
        with ThreadPoolExecutor(3) as pool:
            late = list(pool.map(lambda _: ask(found), range(3)))
        gate.set()
        time.sleep(0.1)
        after = ask(found)
    assert [one.status_code for one in late] == [504] * 3
    assert late[0].json()["error"]["code"] == "timeout"
    assert after.status_code == 200
    assert len(echo.asked) == 2


@pytest.mark.parametrize("fails", ["raises", "gives nothing"])
def test_a_scorer_that_fails_blocks(tmp_path, fails):
    class Failing:
        categories = ("profanity",)
        is_safety_evaluation = False
        description = "fails"

        def score(self, texts):
            if fails == "raises":
                raise RuntimeError("the scorer's model is gone")
            return [None for _ in texts]

    with running(tmp_path, replace(echoing(Echo()), scorer=Failing())) as found:
        answer = ask(found).json()
    assert answer["blocked"] is True
    assert answer["blocked_by"] == ["thresholds"]
    assert "q" not in answer["text"].split()


def test_an_alias_that_moves_changes_who_answers_and_no_request_in_work(tmp_path):
    from llmops.serving.models import Live

    gate = threading.Event()
    before = echoing(Echo("before", gate=gate), version=1)
    after = echoing(Echo("after"), version=2)
    with running(tmp_path, before) as found, ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(ask, found)
        _until(lambda: found.guard.in_work == 1)
        slot = found.guard.models.slots[0]
        old, slot.live = slot.live, Live(after, _batcher_for(after, slot.live.batcher))
        old.batcher.close()
        second = ask(found).json()
        gate.set()
        first = waiting.result().json()
    assert (first["model"]["version"], first["text"]) == (1, "before: q")
    assert (second["model"]["version"], second["text"]) == (2, "after: q")


def _batcher_for(model, like):
    """Make a batcher in the loop of another."""
    from llmops.serving.batcher import Batcher
    from llmops.serving.settings import Batching

    made = Batcher.__new__(Batcher)
    done = threading.Event()

    def make():
        made.__init__(model, Batching(8, 0.0), lambda rows: None)
        done.set()

    like._loop.call_soon_threadsafe(make)
    assert done.wait(10)
    return made


def test_a_request_in_work_is_finished_when_the_server_is_asked_to_stop(tmp_path):
    gate = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with running(tmp_path, echoing(Echo(gate=gate))) as found:
            waiting = pool.submit(ask, found)
            _until(lambda: found.guard.in_work == 1)
            threading.Timer(0.3, gate.set).start()
        assert waiting.result().status_code == 200
    assert len(list(lines(found.logs))) == 1


def test_the_log_may_wait_for_the_disk(tmp_path):
    overrides = ["serve.log.fsync=true"]
    with (
        running(tmp_path, echoing(Echo()), overrides=overrides) as found,
        ThreadPoolExecutor(8) as pool,
    ):
        answers = list(pool.map(lambda n: ask(found, f"q{n}"), range(24)))
    assert {one.status_code for one in answers} == {200}
    assert len(list(lines(found.logs))) == 24


@pytest.mark.parametrize(("privacy", "texts"), [("digests", 2), ("none", 0)])
def test_texts_are_kept_as_the_config_says(tmp_path, privacy, texts):
    with running(tmp_path, echoing(Echo()), overrides=[f"serve.log.privacy={privacy}"]) as found:
        ask(found, "my secret plan")
    (line,) = lines(found.logs)
    record = json.loads(line)
    assert b"secret plan" not in line
    assert sum(name in record for name in ("question_digest", "answer_digest")) == texts
    assert record["question_characters"] == len("my secret plan")


def _until(holds, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
