"""Every row of a file is answered once, whatever ends the work in between."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmops.answering import batch
from llmops.answering.batch import FIELDS, Job, answer_file, write_rows
from llmops.errors import BackendError, ConfigError, DataError

ROWS = [{"id": str(n), "question": f"q{n}"} for n in range(10)]


def fields(question, **changes):
    made = dict.fromkeys(FIELDS) | {
        "response": f"to {question}",
        "response_id": f"ans_{question}",
        "response_blocked": False,
        "response_blocked_by": [],
        "response_finish_reason": "stop",
        "response_safety": {"profanity": 0.1},
        "response_citations": [],
        "response_prompt_tokens": 3,
        "response_output_tokens": 2,
        "response_latency_s": 0.1,
    }
    return made | changes


class Answering:
    """Answers, counts, and may die at a call."""

    def __init__(self, dies_at: int | None = None, error: str | None = None) -> None:
        self.calls: list[list[str]] = []
        self.dies_at = dies_at
        self.error = error

    def __call__(self, questions):
        if len(self.calls) == self.dies_at:
            raise KeyboardInterrupt
        self.calls.append(list(questions))
        return [fields(one, response_error=self.error) for one in questions]


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)


def read_jsonl(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


WRITE: dict[str, Callable] = {".jsonl": write_jsonl, ".csv": write_csv, ".parquet": write_parquet}
READ: dict[str, Callable] = {
    ".jsonl": read_jsonl,
    ".csv": read_csv,
    ".parquet": lambda path: pq.read_table(path).to_pylist(),
}


def job(tmp_path, source=".jsonl", target=".jsonl", rows=ROWS, **changes):
    place = tmp_path / f"rows{source}"
    if not place.exists():
        WRITE[source](place, rows)
    asks = {"model": "ab"}
    options = {"column": "question", "part_rows": 3, "asks": asks, **changes}
    return Job(place, tmp_path / f"answers{target}", **options)


def quiet(done, total, note=""):
    pass


@pytest.mark.parametrize("source", WRITE)
@pytest.mark.parametrize("target", READ)
def test_rows_and_answers_come_out_together_in_any_format(tmp_path, source, target):
    one = job(tmp_path, source, target)
    done = answer_file(one, Answering(), quiet)
    assert (done.rows, done.failed, done.output_tokens) == (10, 0, 20)
    written = READ[target](one.target)
    assert [row["response"] for row in written] == [f"to q{n}" for n in range(10)]
    assert [row["id"] for row in written] == [str(n) for n in range(10)]
    assert not one.parts.exists()


def test_a_run_that_was_ended_is_gone_on_with_and_asks_nothing_twice(tmp_path):
    first, second = Answering(dies_at=2), Answering()
    with pytest.raises(KeyboardInterrupt):
        answer_file(job(tmp_path), first, quiet)
    assert not job(tmp_path).target.exists()
    done = answer_file(job(tmp_path), second, quiet)
    assert done.resumed == 6
    asked = [one for call in [*first.calls, *second.calls] for one in call]
    assert asked == [f"q{n}" for n in range(10)]


def test_parts_of_another_job_are_not_gone_on_with(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        answer_file(job(tmp_path), Answering(dies_at=1), quiet)
    with pytest.raises(ConfigError, match="another job"):
        answer_file(job(tmp_path, asks={"model": "cd"}), Answering(), quiet)


def test_types_of_parquet_stay_as_they_were(tmp_path):
    moment = datetime(2026, 11, 25, tzinfo=UTC)
    rows = [{"question": "q", "score": 7, "at": moment, "tags": ["a", "b"]}]
    one = job(tmp_path, ".parquet", ".parquet", rows)
    answer_file(one, Answering(), quiet)
    (row,) = pq.read_table(one.target).to_pylist()
    assert (row["score"], row["at"], row["tags"]) == (7, moment, ["a", "b"])
    assert json.loads(row["response_safety"]) == {"profanity": 0.1}


def test_a_row_without_a_question_is_kept_and_says_so(tmp_path):
    rows = [{"question": "q"}, {"question": ""}, {"question": None}, {"question": "r"}]
    one = job(tmp_path, rows=rows)
    done = answer_file(one, Answering(), quiet)
    assert (done.rows, done.failed) == (4, 2)
    errors = [row["response_error"] for row in read_jsonl(one.target)]
    assert errors == [None, "the row has no question", "the row has no question", None]


def test_when_every_request_of_a_part_fails_the_work_stops_and_can_go_on(tmp_path):
    with pytest.raises(BackendError, match="every one of 3 requests failed: 503"):
        answer_file(job(tmp_path), Answering(error="503"), quiet)
    assert answer_file(job(tmp_path), Answering(), quiet).rows == 10


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"column": "qestion"}, ConfigError, "no column 'qestion'"),
        ({"rows": [{"question": "q", "response": "r"}]}, ConfigError, "columns response"),
        ({"target": ".txt"}, ConfigError, "no format '.txt'"),
    ],
)
def test_what_cannot_be_answered_is_told_before_anything_is_asked(tmp_path, change, error, words):
    answering = Answering()
    with pytest.raises(error, match=words):
        answer_file(job(tmp_path, **change), answering, quiet)
    assert answering.calls == []


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.jsonl", b'{"question": "q"}\n{"question"', "line 2: no JSON"),
        ("rows.jsonl", b"[1]\n", "line 1: no JSON object"),
        ("rows.csv", b"question,b\nq,1,2\n", "row 2"),
        ("rows.csv", b"question\n\xff\xfe\n", "cannot be read"),
        ("rows.parquet", b"PAR0 not at all", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_its_place(tmp_path, name, content, words):
    place = tmp_path / name
    place.write_bytes(content)
    with pytest.raises(DataError, match=words):
        answer_file(job(tmp_path, place.suffix), Answering(), quiet)


def test_a_missing_file_and_a_target_that_exists_are_refused(tmp_path):
    missing = Job(tmp_path / "no.csv", tmp_path / "out.csv", "question", 3, {})
    with pytest.raises(ConfigError, match="cannot be read"):
        answer_file(missing, Answering(), quiet)
    one = job(tmp_path)
    answer_file(one, Answering(), quiet)
    with pytest.raises(ConfigError, match="exists"):
        answer_file(one, Answering(), quiet)
    assert answer_file(job(tmp_path, replace=True), Answering(), quiet).rows == 10


def test_the_rows_of_a_query_are_kept_and_not_asked_for_again(tmp_path):
    target = tmp_path / "answers.parquet"
    batch = pa.record_batch({"question": ["a", "b"]})
    kept = write_rows(iter([batch]), target)
    assert write_rows(iter([]), target) == kept
    done = answer_file(Job(kept, target, "question", 1, {}), Answering(), quiet)
    assert done.rows == 2
    with pytest.raises(DataError, match="no row"):
        write_rows(iter([]), target)


@pytest.mark.parametrize("source", WRITE)
def test_a_file_without_a_row_is_one_clear_error(tmp_path, source):
    place = tmp_path / f"rows{source}"
    if source == ".parquet":
        pq.write_table(pa.table({"question": pa.array([], pa.string())}), place)
    else:
        place.write_text("question\n" if source == ".csv" else "\n\n")
    with pytest.raises(DataError, match="has no row"):
        answer_file(job(tmp_path, source), Answering(), quiet)
    assert list(tmp_path.iterdir()) == [place]


def test_a_file_of_another_format_is_refused_with_the_known_ones(tmp_path):
    (tmp_path / "rows.txt").write_text("question\nq0\n")
    with pytest.raises(ConfigError, match=r"there is no format '\.txt'"):
        answer_file(job(tmp_path, ".txt"), Answering(), quiet)


def test_more_rows_than_are_read_at_once_come_out_in_one_parquet_file(tmp_path):
    rows = [{"id": str(n), "question": f"q{n}"} for n in range(2500)]
    one = job(tmp_path, ".jsonl", ".parquet", rows=rows, part_rows=2000)
    answer_file(one, Answering(), quiet)
    written = pq.read_table(one.target).to_pylist()
    assert [row["response"] for row in written] == [f"to q{n}" for n in range(2500)]


def test_a_join_that_fails_before_its_first_row_leaves_no_target(tmp_path, monkeypatch):
    one = job(tmp_path, ".jsonl", ".parquet")

    def refuse(source):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(batch, "_as_batches", refuse)
    with pytest.raises(BackendError, match="Input/output error"):
        answer_file(one, Answering(), quiet)
    assert not one.target.exists()
    assert (one.parts / "000003.jsonl").exists()


def test_cells_that_json_has_no_word_for_are_written_as_text(tmp_path):
    moment = datetime(2026, 11, 25, tzinfo=UTC)
    rows = [{"question": "q0", "raw": b"\x00\xff", "list": [1], "part": {"moment": moment}}]
    one = job(tmp_path, ".parquet", ".jsonl", rows=rows)
    answer_file(one, Answering(), quiet)
    (written,) = read_jsonl(one.target)
    assert (written["raw"], written["list"]) == ("00ff", [1])
    assert written["part"]["moment"].startswith("2026-11-25")


def test_rows_of_a_query_in_several_batches_are_kept_once(tmp_path):
    batches = [pa.RecordBatch.from_pylist([{"question": f"q{n}"}]) for n in range(3)]
    kept = write_rows(iter(batches), tmp_path / "answers.jsonl")
    assert [row["question"] for row in pq.read_table(kept).to_pylist()] == ["q0", "q1", "q2"]
    assert write_rows(iter(()), tmp_path / "answers.jsonl") == kept
