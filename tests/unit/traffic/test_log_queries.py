"""SQL over the log, and tuning rows out of reviewed answers."""

from __future__ import annotations

import json

import pytest

from llmops.data.own_files import read_files
from llmops.errors import ConfigError, DataError
from llmops.traffic.log import LogSettings, TrafficLog
from llmops.traffic.query import rows
from llmops.traffic.records import AnswerRecord, is_ours
from llmops.traffic.reviewed import write_reviewed

KINDS = ("keys", "iban", "card", "email", "ip", "phone")


def log_at(folder, privacy="content"):
    return TrafficLog(LogSettings("logs", privacy, KINDS, "US", 90, 10**6, False, "refuse"), folder)


def record(log, question="q", answer="a", **changes):
    fields = {
        "id": log.new_id(),
        "route": "/v1/predict",
        "client": "ops",
        "session": None,
        "model": "so_python",
        "version": 1,
        "model_digest": "ab",
        "prompt_sha256": "cd",
        "question": question,
        "answer": answer,
        "finish_reason": "stop",
        "blocked": False,
        "action": "allow",
        "blocked_by": (),
        "scores": {"profanity": 0.25},
        "latency_s": 0.5,
        "prompt_tokens": 3,
        "output_tokens": 4,
        "cost": None,
        "currency": "USD",
    }
    made = AnswerRecord(**{**fields, **changes})
    log.answers([made])
    return made.id


def say(log, identity, **said):
    silent = {"rating": None, "correction": None, "comment": None}
    log.feedback(identity, client="ops", **{**silent, **said})


def found(log, sql):
    return list(rows(log.folder, sql)[1])


def test_answers_are_rows_while_the_log_is_written(tmp_path):
    log = log_at(tmp_path)
    record(log, "How?", "So.", version=2)
    sql = "SELECT version, question, answer, scores['profanity'] AS score, time FROM answers"
    (row,) = found(log, sql)
    assert (row["version"], row["question"], row["answer"], row["score"]) == (
        2,
        "How?",
        "So.",
        0.25,
    )
    assert row["time"].year >= 2026


def test_a_torn_end_disturbs_no_query(tmp_path):
    log = log_at(tmp_path)
    record(log)
    log.close()
    (segment,) = log.folder.glob("*.jsonl")
    segment.write_bytes(segment.read_bytes() + b'{"kind": "answer", "id": "ans')
    assert found(log, "SELECT count(*) AS n FROM answers") == [{"n": 1}]


def test_an_empty_log_has_its_columns(tmp_path):
    assert found(log_at(tmp_path), "SELECT id, rating FROM reviewed") == []


@pytest.mark.parametrize(
    "sql",
    [
        "DROP VIEW answers",
        "SELECT 1; SELECT 2",
        "COPY answers TO 'x.csv'",
        "SELECT * FROM read_text('/etc/passwd')",
        "ATTACH 'x.db'",
        "SELECT nothing FROM answers",
        "INSTALL httpfs",
        "not sql",
        "",
    ],
)
def test_a_query_reads_the_log_and_nothing_else(tmp_path, sql):
    log = log_at(tmp_path)
    record(log)
    with pytest.raises(ConfigError):
        found(log, sql)


def test_personal_data_never_reaches_the_disk(tmp_path):
    log = log_at(tmp_path)
    identity = record(log, "I am bob@example.org", "Call +41 44 668 18 00, card 4111111111111111")
    say(log, identity, correction="Write to ann@example.org")
    (segment,) = log.folder.glob("*.jsonl")
    written = segment.read_text()
    for secret in ("bob@", "668 18", "4111111111111111", "ann@"):
        assert secret not in written
    assert "[email]" in written


def test_the_newest_feedback_on_an_answer_counts(tmp_path):
    log = log_at(tmp_path)
    identity = record(log)
    say(log, identity, rating="up")
    say(log, identity, rating="down")
    assert found(log, "SELECT rating FROM reviewed") == [{"rating": "down"}]


def test_an_id_is_known_to_the_log_that_gave_it_alone(tmp_path):
    log, other = log_at(tmp_path / "one"), log_at(tmp_path / "two")
    identity = log.new_id()
    assert is_ours(identity, log.keeping.key)
    assert not is_ours(identity, other.keeping.key)
    assert not is_ours(identity[:-1] + "x", log.keeping.key)


def test_equal_texts_have_equal_digests_that_nobody_can_make_without_the_key(tmp_path):
    log = log_at(tmp_path, "digests")
    record(log, "same")
    record(log, "same")
    digests = {row["question_digest"] for row in found(log, "SELECT question_digest FROM answers")}
    assert len(digests) == 1


def test_reviewed_answers_become_rows_that_dataset_jsonl_reads(tmp_path):
    log = log_at(tmp_path)
    liked = record(log, "liked?", "Yes.")
    corrected = record(log, "wrong?", "Nonsense.")
    disliked = record(log, "bad?", "Bad.")
    blocked = record(log, "rude?", "withheld", blocked=True)
    repeated = record(log, "liked?", "Yes.")
    record(log, "unseen?", "Nobody said anything.")
    for identity in (liked, blocked, repeated):
        say(log, identity, rating="up")
    say(log, corrected, rating="down", correction="The truth.")
    say(log, disliked, rating="down")
    target = tmp_path / "reviewed.jsonl"
    done = write_reviewed(log.folder, target)
    assert vars(done) == {
        "written": 2,
        "corrected": 1,
        "disliked": 1,
        "blocked": 1,
        "without_content": 0,
        "repeated": 1,
    }
    written = [json.loads(line) for line in target.read_text().splitlines()]
    assert {(row["question"], row["answer"]) for row in written} == {
        ("liked?", "Yes."),
        ("wrong?", "The truth."),
    }
    assert sum(batch.num_rows for batch in read_files([target])) == 2


def test_a_log_without_texts_gives_no_tuning_rows_and_says_why(tmp_path):
    log = log_at(tmp_path, "digests")
    say(log, record(log), rating="up")
    with pytest.raises(DataError, match="without_content 1"):
        write_reviewed(log.folder, tmp_path / "reviewed.jsonl")
    assert not (tmp_path / "reviewed.jsonl").exists()
