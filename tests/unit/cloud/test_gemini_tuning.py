"""One tuning job a step key, whatever happens between us and the service."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace

import pytest

from llmops.adapters import catalog
from llmops.adapters.model import gemini_jobs
from llmops.errors import BackendError, ConfigError, DataError, Pending
from llmops.ports.model import TuningRequest
from tests.fakes.loopback import gemini_config
from tests.unit.model import tiny_llama

KEY = "ab" * 32
STILL_AT_WORK = (("JOB_STATE_PENDING", "TUNING_JOB_STATE_WAITING_FOR_QUOTA"),)


@pytest.fixture
def request_(tmp_path):
    return make_request(tmp_path)


def make_request(folder, key=KEY):
    for name in ("out", "scratch"):
        (folder / name).mkdir(parents=True)
    return TuningRequest(
        train=tiny_llama.write_examples(folder / "train.parquet", 30, system="be short"),
        validation=tiny_llama.write_examples(folder / "validation.parquet", 8, 100),
        system=None,
        max_steps=None,
        epochs=2,
        max_examples=None,
        seed=42,
        output=folder / "out",
        scratch=folder / "scratch",
        key=key,
    )


def tuner(cloud, **settings):
    config = gemini_config(**settings)
    return catalog.adapter("tuner", config, None, environment=cloud.environment)


def quiet(done, total, note=""):
    """Report progress to nobody."""


def submissions(cloud):
    return [
        found for found in cloud.faults.found("tuningJobs$", method="POST") if found.fault is None
    ]


def intent(cloud, attempt=1):
    return f"gs://{cloud.bucket}/above/gemini/tuning/{KEY}/intent-{attempt}.json"


def record(cloud, attempt=1):
    return f"gs://{cloud.bucket}/above/gemini/tuning/{KEY}/job-{attempt}.json"


# ------------------------------------------------------------------ what is sent


def test_all_settings_reach_the_service(cloud, request_):
    settings = {"display_name": "answers", "last_checkpoint_only": True, "adapter_size": 8}
    tuner(cloud, **settings).tune(request_, quiet)
    body = submissions(cloud)[0].body
    spec = body["supervisedTuningSpec"]
    assert spec["hyperParameters"] == {
        "epochCount": 2,
        "learningRateMultiplier": 1.5,
        "adapterSize": "ADAPTER_SIZE_EIGHT",
    }
    assert spec["exportLastCheckpointOnly"] is True
    assert body["tunedModelDisplayName"] == "answers"
    assert body["labels"] == {"team": "search", "llmops_key": KEY[:63], "llmops_attempt": "1"}
    lines = cloud.world.files[spec["trainingDatasetUri"]].decode().splitlines()
    assert len(lines) == 30
    assert json.loads(lines[0])["systemInstruction"] == {"parts": [{"text": "be short"}]}
    assert len(cloud.world.files[spec["validationDatasetUri"]].decode().splitlines()) == 8


def test_steps_alone_mean_one_epoch(cloud, request_):
    tuned = tuner(cloud).tune(replace(request_, max_steps=40, epochs=None), quiet)
    assert tuned.facts["epochs"] == 1


def test_progress_says_that_it_waits_for_quota(cloud, request_):
    notes = []
    tuner(cloud).tune(request_, lambda done, total, note="": notes.append(note))
    assert "queued: waiting for quota" in notes


def test_what_the_provider_dropped_is_recorded(cloud, request_):
    reasons = ["line 3: empty answer"]
    cloud.world.stats = {
        "droppedExampleReasons": reasons,
        "totalTruncatedExampleCount": "1",
        "truncatedExampleIndices": ["7"],
    }
    facts = tuner(cloud).tune(request_, quiet).facts
    assert facts["dropped_by_provider"] == reasons
    assert (facts["truncated"], facts["truncated_rows"]) == (1, [7])


def test_a_row_over_the_limit_is_left_out_with_its_reason(cloud, request_, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(request_.train)
    long = {"row_key": ["long"], "input_text_instruct": ["word " * 140_000], "output_text": ["a"]}
    row = pa.table({**long, "system": pa.array([None], pa.string())}).select(table.column_names)
    pq.write_table(pa.concat_tables([row, table]), tmp_path / "with_long.parquet")
    facts = tuner(cloud).tune(replace(request_, train=tmp_path / "with_long.parquet"), quiet).facts
    assert facts["left_out"] == 1
    assert facts["left_out_rows"][0]["row_key"] == "long"
    assert "140,001 tokens, the provider accepts 131,072" in facts["left_out_rows"][0]["reason"]
    assert facts["examples_used"] == 30


@pytest.mark.parametrize(
    ("settings", "key"), [({"adapter_size": 32}, "adapter_size"), ({"region": "mars"}, "region")]
)
def test_a_setting_out_of_bounds_is_refused_before_anything_is_sent(cloud, request_, settings, key):
    with pytest.raises(ConfigError, match=key):
        tuner(cloud, **settings).tune(request_, quiet)
    assert len(cloud.world.files) == 0


def test_more_rows_than_the_provider_accepts_are_refused_before_anything_is_sent(
    cloud, request_, monkeypatch
):
    few = {"quantity": "train_rows", "at_most": 10, "source": "a page", "dated": "2026-09-25"}
    monkeypatch.setattr(
        "llmops.adapters.model.gemini_tuner.limits_of", lambda base: gemini_limits(few)
    )
    with pytest.raises(DataError, match=r"30 train rows, the provider accepts 10 \(a page"):
        tuner(cloud).tune(request_, quiet)
    assert submissions(cloud) == []


def gemini_limits(*entries):
    from llmops.adapters.model.gemini_limits import Limits

    return Limits(entries)


# ------------------------------------------------------------------- checkpoints


def test_the_checkpoint_that_answers_best_is_chosen(cloud, tmp_path):
    request_ = make_request(tmp_path)
    same = replace(request_, validation=request_.train)  # a perfect memory answers it perfectly
    cloud.world.knows = {1: 0.1, 2: 1.0, 3: 0.1}
    tuned = tuner(cloud, choose_checkpoint_on_rows=30).tune(same, quiet)
    assert tuned.facts["checkpoint"] == "2"
    assert tuned.endpoint.endswith("/endpoints/10002")
    best = max(point["chrf"] for point in tuned.facts["checkpoints"])
    assert best == tuned.facts["checkpoints"][1]["chrf"]


def test_what_was_measured_of_checkpoints_is_not_asked_again(cloud, request_):
    first = tuner(cloud).tune(request_, quiet)
    asked = cloud.faults.count("generateContent")
    assert tuner(cloud).tune(request_, quiet) == first
    assert cloud.faults.count("generateContent") == asked


def test_without_rows_to_choose_on_the_last_checkpoint_counts(cloud, request_):
    tuned = tuner(cloud, choose_checkpoint_on_rows=0).tune(request_, quiet)
    assert tuned.facts["checkpoint"] == "3"
    assert cloud.faults.count("generateContent") == 0


# ------------------------------------------------------------ never paid a second time


def test_a_lost_answer_is_looked_for_and_never_repeated(cloud, request_):
    cloud.faults.lose("tuningJobs$", method="POST")
    tuned = tuner(cloud).tune(request_, quiet)
    assert len(cloud.world.jobs) == 1
    assert tuned.facts["job"] in cloud.world.jobs


@pytest.mark.parametrize("status", [500, 503])
def test_a_submission_that_the_service_failed_is_not_repeated_until_it_is_clear(
    cloud, request_, status, monkeypatch
):
    monkeypatch.setattr(gemini_jobs, "LOOK_AGAIN_S", 0.05)
    cloud.faults.refuse(status, "tuningJobs$", method="POST")
    with pytest.raises(BackendError, match="may have been submitted") as caught:
        tuner(cloud).tune(request_, quiet)
    assert caught.value.retryable
    assert cloud.faults.count("tuningJobs$", method="POST") == 1
    monkeypatch.setattr(gemini_jobs, "SETTLE_S", 0.0)  # ten minutes later
    tuner(cloud).tune(request_, quiet)
    assert len(cloud.world.jobs) == 1


def test_a_refused_quota_is_asked_again_after_the_time_that_was_told(cloud, request_):
    cloud.faults.refuse(429, "tuningJobs$", method="POST", headers={"Retry-After": "0"}, times=2)
    tuner(cloud).tune(request_, quiet)
    assert len(submissions(cloud)) == 1


def test_a_crash_between_submitting_and_recording_is_taken_over(cloud, request_):
    tuner(cloud).tune(request_, quiet)
    del cloud.world.files[record(cloud)]
    tuner(cloud).tune(request_, quiet)
    assert len(cloud.world.jobs) == 1
    assert record(cloud) in cloud.world.files


def test_a_crash_before_submitting_waits_until_it_is_clear_and_then_submits(
    cloud, request_, monkeypatch
):
    cloud.world.files[intent(cloud)] = b"{}"
    impatient = tuner(cloud, waiting={"max_wait_s": 0})
    with pytest.raises(BackendError, match="may have been submitted"):
        impatient.tune(request_, quiet)
    assert cloud.world.jobs == {}
    monkeypatch.setattr(gemini_jobs, "SETTLE_S", 0.0)
    tuner(cloud).tune(request_, quiet)
    assert len(cloud.world.jobs) == 1


def test_two_runs_with_one_key_share_one_job(cloud, tmp_path):
    done, wrong = [], []

    def work(name):
        try:
            done.append(tuner(cloud).tune(make_request(tmp_path / name), quiet))
        except Exception as exc:  # noqa: BLE001
            wrong.append(exc)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(cloud.world.jobs) == 1
    assert len({tuned.tuned for tuned in done}) == 1


def test_a_job_that_the_list_does_not_show_yet_is_known_by_its_record(cloud, request_):
    tuner(cloud).tune(request_, quiet)
    cloud.world.hidden = True
    tuner(cloud).tune(request_, quiet)
    assert len(cloud.world.jobs) == 1


def test_two_jobs_under_one_key_are_for_a_person_to_judge(cloud, request_):
    cloud.world.script = STILL_AT_WORK
    with pytest.raises(Pending):
        tuner(cloud, waiting={"max_wait_s": 0}).tune(request_, quiet)
    (name, job) = next(iter(cloud.world.jobs.items()))
    twin = replace(job, shown={**job.shown, "name": name + "9"})
    cloud.world.jobs[name + "9"] = twin
    with pytest.raises(BackendError, match="2 tuning jobs carry this step's key"):
        tuner(cloud).tune(request_, quiet)


def test_a_job_that_vanished_is_for_a_person_to_judge(cloud, request_):
    tuner(cloud).tune(request_, quiet)
    cloud.world.jobs.clear()
    with pytest.raises(BackendError, match="is gone") as caught:
        tuner(cloud).tune(request_, quiet)
    assert "job-1.json" in caught.value.hint
    assert cloud.world.jobs == {}


# ------------------------------------------------------------------------ waiting


def test_a_step_may_end_early_and_go_on_waiting_for_the_same_job(cloud, request_):
    cloud.world.script = STILL_AT_WORK
    with pytest.raises(Pending, match="waiting for quota") as caught:
        tuner(cloud, waiting={"max_wait_s": 0}).tune(request_, quiet)
    assert caught.value.job in cloud.world.jobs
    cloud.world.jobs[caught.value.job].script = [("JOB_STATE_SUCCEEDED", None)]
    while not tuner(cloud).has_ended(caught.value.job):
        time.sleep(0.01)
    tuner(cloud, waiting={"max_wait_s": 0}).tune(request_, quiet)
    assert len(cloud.world.jobs) == 1


def test_waiting_outlives_a_storm(cloud, request_, monkeypatch):
    monkeypatch.setattr("llmops.adapters.patience.FIRST_PAUSE_S", 0.001)
    cloud.faults.refuse(503, "tuningJobs/", times=5)
    cloud.faults.lose("tuningJobs/", times=2)
    tuner(cloud).tune(request_, quiet)
    assert len(cloud.world.jobs) == 1


def test_a_job_past_its_deadline_is_left_as_it_is(cloud, request_):
    cloud.world.script = STILL_AT_WORK
    cloud.world.now = "2026-01-01T00:00:00Z"
    with pytest.raises(BackendError, match=r"past model\.tuner\.waiting\.deadline_s") as caught:
        tuner(cloud).tune(request_, quiet)
    assert not isinstance(caught.value, Pending)
    assert next(iter(cloud.world.jobs.values())).shown["state"] == "JOB_STATE_PENDING"


def test_a_job_cancelled_from_outside_is_told_and_the_next_run_submits_anew(cloud, request_):
    cloud.world.script = (("JOB_STATE_PENDING", None), ("JOB_STATE_CANCELLED", None))
    with pytest.raises(BackendError, match="was cancelled, not by llmops"):
        tuner(cloud).tune(request_, quiet)
    cloud.world.script = (("JOB_STATE_SUCCEEDED", None),)
    tuner(cloud).tune(request_, quiet)
    attempts = [one.body["labels"]["llmops_attempt"] for one in submissions(cloud)]
    assert attempts == ["1", "2"]


def test_a_job_that_fails_says_why(cloud, request_):
    cloud.world.script = (("JOB_STATE_FAILED", None),)
    with pytest.raises(BackendError, match="the dataset could not be read"):
        tuner(cloud).tune(request_, quiet)


def test_a_refused_job_is_a_config_error_and_leaves_no_intent(cloud, request_):
    refusing = gemini_config(labels={"Team": "UPPER"})
    adapter = catalog.adapter("tuner", refusing, None, environment=cloud.environment)
    with pytest.raises(ConfigError, match="label Team=UPPER is not valid"):
        adapter.tune(request_, quiet)
    assert intent(cloud) not in cloud.world.files


def test_credentials_that_end_while_waiting_are_made_anew(cloud, request_):
    cloud.world.script = (("JOB_STATE_PENDING", None),) * 3 + (("JOB_STATE_SUCCEEDED", None),)
    looks = []

    def revoking(done, total, note=""):
        if note.startswith("pending") and not looks:
            looks.append(note)
            cloud.identity.revoke()

    tuner(cloud).tune(request_, revoking)
    assert looks
    assert len(cloud.world.jobs) == 1
