"""What Gemini's generator makes of answers, blocks, refusals and outages."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from llmops.adapters import catalog
from llmops.adapters.model import gemini_batch
from llmops.errors import BackendError, ConfigError
from llmops.ports.model import GenerationSettings, Message, ModelReference
from tests.fakes.gemini import ratings
from tests.fakes.loopback import gemini_config

SETTINGS = GenerationSettings(max_new_tokens=20)
USAGE = {"promptTokenCount": 7, "candidatesTokenCount": 2, "thoughtsTokenCount": 3}


def generator(cloud, endpoint=None, **requests):
    reference = ModelReference("gemini", "gemini-3.5-flash", endpoint=endpoint)
    config = gemini_config(requests=requests)
    environment = cloud.environment
    return catalog.adapter("generator", config, reference, None, None, environment=environment)


def chats(*texts):
    return [(Message("user", text),) for text in texts]


def quiet(done, total, note=""):
    """Report progress to nobody."""


def answers(cloud, *texts, settings=SETTINGS, **requests):
    return list(generator(cloud, **requests).generate(chats(*texts), settings, quiet))


def candidate(**fields):
    return {"candidates": [{"finishReason": "STOP", **fields}], "usageMetadata": USAGE}


# ------------------------------------------------------------------- what is asked


def test_every_safety_filter_is_named_and_settings_win(cloud):
    answers(cloud, "hello", settings=replace(SETTINGS, filters={"harassment": "OFF"}))
    (asked,) = cloud.faults.found("generateContent")
    levels = {one["category"]: one["threshold"] for one in asked.body["safetySettings"]}
    assert levels == {
        "HARM_CATEGORY_DANGEROUS_CONTENT": "BLOCK_MEDIUM_AND_ABOVE",
        "HARM_CATEGORY_HARASSMENT": "OFF",
        "HARM_CATEGORY_HATE_SPEECH": "BLOCK_MEDIUM_AND_ABOVE",
        "HARM_CATEGORY_SEXUALLY_EXPLICIT": "BLOCK_MEDIUM_AND_ABOVE",
    }


@pytest.mark.parametrize("filters", [{"harrassment": "OFF"}, {"harassment": "BLOCK_ALL"}])
def test_a_filter_that_is_unknown_is_a_config_error(cloud, filters):
    with pytest.raises(ConfigError, match="filters"):
        answers(cloud, "hello", settings=replace(SETTINGS, filters=filters))


def test_a_tuned_model_is_asked_on_its_endpoint_in_its_own_place(cloud):
    endpoint = "projects/123/locations/europe-west4/endpoints/9"
    with pytest.raises(BackendError, match="is not found"):
        next(generator(cloud, endpoint).generate(chats("hello"), SETTINGS, quiet))
    (asked,) = cloud.faults.found("generateContent")
    assert asked.path.endswith("/locations/europe-west4/endpoints/9:generateContent")


def test_a_schema_goes_to_the_base_model_and_never_to_a_tuned_one(cloud):
    settings = replace(SETTINGS, output_schema={"type": "object"})
    answers(cloud, "hello", settings=settings)
    sent = cloud.faults.found("generateContent")[0].body["generationConfig"]
    assert sent["responseMimeType"] == "application/json"
    tuned = generator(cloud, "projects/123/locations/us-central1/endpoints/9")
    with pytest.raises(ConfigError, match="output schema"):
        next(tuned.generate(chats("hello"), settings, quiet))


# --------------------------------------------------------------- what is answered


def test_a_blocked_answer_has_no_text_and_says_why(cloud):
    blocked = {"safetyRatings": ratings(HARASSMENT=0.97), "finishReason": "SAFETY"}
    cloud.world.answers["insult"] = candidate(**blocked)
    (response,) = answers(cloud, "insult me")
    assert (response.text, response.blocked, response.finish_reason) == ("", True, "safety")
    assert response.block_reason == "SAFETY"
    assert response.safety["harassment"] == 0.97
    assert response.safety["harassment_severity"] == 0.485
    assert response.output_tokens == 5  # thoughts are paid for as well


def test_a_blocked_prompt_has_no_candidate_and_says_why(cloud):
    feedback = {"blockReason": "PROHIBITED_CONTENT", "safetyRatings": ratings()}
    cloud.world.answers["bomb"] = {"promptFeedback": feedback, "usageMetadata": USAGE}
    (response,) = answers(cloud, "a bomb")
    assert (response.blocked, response.block_reason) == (True, "PROHIBITED_CONTENT")
    assert response.finish_reason == "safety"


def test_a_recitation_is_told_apart(cloud):
    cloud.world.answers["poem"] = candidate(finishReason="RECITATION")
    (response,) = answers(cloud, "the poem")
    assert (response.finish_reason, response.blocked) == ("recitation", True)


def test_citations_are_read(cloud):
    cited = {"startIndex": 0, "endIndex": 5, "uri": "https://example.com", "license": "mit"}
    content = {"role": "model", "parts": [{"text": "as I read"}]}
    cloud.world.answers["cite"] = candidate(
        content=content, citationMetadata={"citations": [cited]}
    )
    (response,) = answers(cloud, "cite it")
    (citation,) = response.citations
    assert (citation.start, citation.end, citation.licence) == (0, 5, "mit")
    assert response.latency_s > 0


def test_an_answer_that_the_model_could_not_finish_is_an_error_row(cloud):
    cloud.world.answers["odd"] = candidate(finishReason="MALFORMED_FUNCTION_CALL")
    (response,) = answers(cloud, "odd")
    assert response.finish_reason == "error"
    assert "MALFORMED_FUNCTION_CALL" in response.error


def test_a_stream_whose_answer_is_withdrawn_ends_without_text(cloud):
    blocked = {"safetyRatings": ratings(HARASSMENT=0.97), "finishReason": "SAFETY"}
    content = {"role": "model", "parts": [{"text": "you are a "}]}
    cloud.world.answers["insult"] = candidate(content=content, **blocked)
    *pieces, last = generator(cloud).stream(chats("insult me")[0], SETTINGS)
    assert pieces
    assert (last.text, last.blocked) == ("", True)


# -------------------------------------------------------------- refusals, outages


def test_retry_after_is_honoured(cloud):
    cloud.faults.refuse(429, "generateContent", headers={"Retry-After": "1"})
    started = time.monotonic()
    (response,) = answers(cloud, "hello")
    assert response.text
    assert time.monotonic() - started >= 1
    assert cloud.faults.count("generateContent") == 2


def test_an_answer_that_breaks_off_is_asked_for_again(cloud, monkeypatch):
    monkeypatch.setattr("llmops.adapters.patience.FIRST_PAUSE_S", 0.001)
    cloud.faults.cut("generateContent", times=2)
    responses = answers(cloud, "a", "b", "c")
    assert [response.error for response in responses] == [None] * 3
    assert cloud.faults.count("generateContent") == 5


def test_a_storm_loses_no_row(cloud, monkeypatch):
    monkeypatch.setattr("llmops.adapters.patience.FIRST_PAUSE_S", 0.001)
    texts = [f"question number {number}" for number in range(12)]
    calm = [response.text for response in answers(cloud, *texts)]
    cloud.faults.refuse(503, "generateContent", times=7)
    cloud.faults.lose("generateContent", times=3)
    assert [response.text for response in answers(cloud, *texts)] == calm


def test_an_outage_past_the_deadline_stops_the_call_and_can_be_tried_again(cloud):
    cloud.faults.refuse(503, "generateContent", times=99)
    with pytest.raises(BackendError) as caught:
        answers(cloud, "hello", deadline_s=0)
    assert caught.value.retryable


def test_a_request_that_is_wrong_costs_its_own_row_only(cloud):
    good, bad, other = answers(cloud, "hello", "word " * 100_000, "bye")
    assert (good.error, other.error) == (None, None)
    assert "exceeds the maximum" in bad.error


def test_credentials_that_end_in_mid_run_are_made_anew(cloud):
    asked = generator(cloud, concurrent=1)
    seen = []
    for response in asked.generate(chats(*map(str, range(6))), SETTINGS, quiet):
        if not seen:
            cloud.identity.revoke()
        seen.append(response)
    assert [response.error for response in seen] == [None] * 6


def test_credentials_that_are_never_good_stop_the_call(cloud):
    cloud.faults.refuse(401, "generateContent", times=99)
    with pytest.raises(BackendError, match="401") as caught:
        answers(cloud, "hello")
    assert not caught.value.retryable
    assert "gcloud auth" in caught.value.hint


def test_requests_are_spaced(cloud):
    started = time.monotonic()
    answers(cloud, *"abcde", per_minute=1200)
    assert time.monotonic() - started >= 4 * 0.05


# ------------------------------------------------------------------------ batches


@pytest.fixture
def _impatient(monkeypatch):
    monkeypatch.setattr(gemini_batch, "POLL_S", 0.01)


@pytest.mark.usefixtures("_impatient")
class TestBatch:
    TEXTS = tuple(f"question number {number}" for number in range(6))

    def test_a_batch_gives_what_single_requests_give_in_order(self, cloud):
        one_by_one = [response.text for response in answers(cloud, *self.TEXTS)]
        together = answers(cloud, *self.TEXTS, batch_from_rows=6)
        assert [response.text for response in together] == one_by_one
        assert len(cloud.world.batches) == 1

    def test_fewer_rows_go_one_by_one(self, cloud):
        answers(cloud, *self.TEXTS, batch_from_rows=7)
        assert cloud.world.batches == {}

    def test_the_same_rows_are_never_paid_twice(self, cloud):
        cloud.faults.lose("batchPredictionJobs$", method="POST")
        first = answers(cloud, *self.TEXTS, batch_from_rows=1)
        assert answers(cloud, *self.TEXTS, batch_from_rows=1) == first
        assert len(cloud.world.batches) == 1

    def test_a_row_that_fails_is_an_error_row(self, cloud):
        cloud.world.batch_failures = {2}
        found = answers(cloud, *self.TEXTS, batch_from_rows=1)
        assert [response.error is None for response in found] == [True, True, False] + [True] * 3
        assert "told to fail" in found[2].error

    def test_a_batch_that_fails_says_why(self, cloud):
        cloud.world.batch_script = ("JOB_STATE_FAILED",)
        with pytest.raises(BackendError, match="the dataset could not be read"):
            answers(cloud, *self.TEXTS, batch_from_rows=1)
