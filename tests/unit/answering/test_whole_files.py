"""Every row of a file is answered once, whatever ends the work in between."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import locale
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmops.answering import batch
from llmops.answering.batch import FIELDS, Done, Job, answer_file, write_rows
from llmops.errors import BackendError, ConfigError, DataError

ROWS = [{"id": str(n), "question": f"q{n}"} for n in range(10)]
VALID_FORMATS = "valid: .csv, .jsonl, .parquet"


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
        return [
            fields(one, response_error=self.error and f"{self.error} for {one}")
            for one in questions
        ]


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
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


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


@pytest.fixture
def three_mb_free(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=3_000_000))


@pytest.fixture
def ascii_locale():
    before = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, "C")
    yield
    locale.setlocale(locale.LC_CTYPE, before)


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


def test_what_is_done_so_far_lies_beside_the_target_with_what_was_asked(tmp_path):
    one = job(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        answer_file(one, Answering(dies_at=1), quiet)
    assert sorted(path.name for path in one.parts.iterdir()) == ["000000.jsonl", "job.json"]
    assert read_jsonl(one.parts / "000000.jsonl") == [
        fields(f"q{n}", response_error=None) for n in range(3)
    ]
    assert (one.parts / "job.json").read_text() == (
        "{\n"
        f' "source_sha256": "{hashlib.sha256(one.source.read_bytes()).hexdigest()}",\n'
        ' "column": "question",\n'
        ' "part_rows": 3,\n'
        ' "asks": {\n'
        '  "model": "ab"\n'
        " }\n"
        "}\n"
    )


@pytest.mark.parametrize(
    "change", [{"asks": {"model": "cd"}}, {"column": "id"}, {"part_rows": 4}, {"rows": ROWS[1:]}]
)
def test_parts_of_another_job_are_not_gone_on_with(tmp_path, change):
    with pytest.raises(KeyboardInterrupt):
        answer_file(job(tmp_path), Answering(dies_at=1), quiet)
    (tmp_path / "rows.jsonl").unlink()
    other = job(tmp_path, **change)
    with pytest.raises(ConfigError) as told:
        answer_file(other, Answering(), quiet)
    assert told.value.problem == (
        f"{other.parts} holds answers of another job: other rows, model or settings"
    )
    assert told.value.hint == (
        f"remove that folder to begin anew, or name another --out than {other.target}"
    )


def test_the_folder_of_the_target_is_made(tmp_path):
    source = job(tmp_path).source
    one = Job(source, tmp_path / "new" / "folder" / "answers.jsonl", "question", 3, {})
    assert answer_file(one, Answering(), quiet).rows == 10
    assert list(one.target.parent.iterdir()) == [one.target]


def test_rows_are_counted_as_they_are_answered(tmp_path):
    told = []
    answer_file(job(tmp_path), Answering(), lambda *said: told.append(said))
    assert told == [(rows, None, "rows answered") for rows in (3, 6, 9, 10)]


def test_what_became_of_the_rows_is_counted(tmp_path):
    became = {
        "q0": {"response_blocked": True, "response_output_tokens": None},
        "q1": {"response_blocked": True},
        "q2": {"response_error": "503", "response_output_tokens": None},
        "q3": {},
    }
    one = job(tmp_path, rows=ROWS[:4])
    done = answer_file(one, lambda asked: [fields(each, **became[each]) for each in asked], quiet)
    assert done == Done(rows=4, resumed=0, blocked=2, failed=1, output_tokens=4)


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
    written = read_jsonl(one.target)
    assert [row["response"] for row in written] == ["to q", None, None, "to r"]
    assert written[1] == {
        "question": "",
        **dict.fromkeys(FIELDS),
        "response_blocked": False,
        "response_finish_reason": "error",
        "response_error": "the row has no question",
    }


def test_a_part_without_a_question_asks_nothing(tmp_path):
    rows = [{"question": " "}, {"question": None}, {"question": "q"}]
    answering = Answering()
    answer_file(job(tmp_path, rows=rows, part_rows=2), answering, quiet)
    assert answering.calls == [["q"]]


def test_when_every_request_of_a_part_fails_the_work_stops_and_can_go_on(tmp_path):
    with pytest.raises(BackendError) as told:
        answer_file(job(tmp_path), Answering(error="503"), quiet)
    assert told.value.problem == "every one of 3 requests failed: 503 for q0"
    assert told.value.hint == "the same command goes on from the answers already there"
    assert told.value.retryable is True
    assert answer_file(job(tmp_path), Answering(), quiet).rows == 10


def test_what_failed_is_told_by_a_row_that_was_asked(tmp_path):
    rows = [{"question": " "}, {"question": "q"}]
    with pytest.raises(BackendError) as told:
        answer_file(job(tmp_path, rows=rows), Answering(error="503"), quiet)
    assert told.value.problem == "every one of 1 requests failed: 503 for q"


@pytest.mark.parametrize(
    ("change", "problem", "hint"),
    [
        (
            {"column": "qestion"},
            "rows.jsonl: there is no column 'qestion'",
            "did you mean 'question'? valid: id, question",
        ),
        (
            {"rows": [{"question": "q", "response_error": "e", "response": "r"}]},
            "rows.jsonl has the columns response, response_error, which the answers would take",
            "rename them in the source",
        ),
        ({"target": ".txt"}, "answers.txt: there is no format '.txt'", VALID_FORMATS),
    ],
)
def test_what_cannot_be_answered_is_told_before_anything_is_asked(tmp_path, change, problem, hint):
    answering = Answering()
    with pytest.raises(ConfigError) as told:
        answer_file(job(tmp_path, **change), answering, quiet)
    assert (told.value.problem, told.value.hint) == (f"{tmp_path}/{problem}", hint)
    assert answering.calls == []


@pytest.mark.parametrize(
    ("name", "content", "told_first", "hint"),
    [
        ("rows.jsonl", b'{"question": "q"}\n{"question"', ", line 2: no JSON (", ""),
        ("rows.jsonl", b"\n[1]\n", ", line 2: no JSON object", ""),
        (
            "rows.csv",
            b"question,b\nq,1\nq,1,2\n",
            ", row 3: 2 columns are named, this row has another number of them",
            "quote cells that hold commas or line ends",
        ),
        (
            "rows.csv",
            b"question,b\nq\n",
            ", row 2: 2 columns are named, this row has another number of them",
            "quote cells that hold commas or line ends",
        ),
        ("rows.csv", b'question\n"q"0\n', " cannot be read: ',' expected after '\"'", ""),
        ("rows.csv", b"question\n\xff\xfe\n", " cannot be read: 'utf-8' codec can't decode", ""),
        ("rows.parquet", b"PAR0 not at all", " cannot be read: ", ""),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_its_place(
    tmp_path, name, content, told_first, hint
):
    place = tmp_path / name
    place.write_bytes(content)
    with pytest.raises(DataError) as told:
        answer_file(job(tmp_path, place.suffix), Answering(), quiet)
    assert told.value.problem.startswith(f"{place}{told_first}")
    assert told.value.hint == hint


def test_a_missing_file_is_refused(tmp_path):
    missing = Job(tmp_path / "no.csv", tmp_path / "out.csv", "question", 3, {})
    with pytest.raises(ConfigError) as told:
        answer_file(missing, Answering(), quiet)
    assert told.value.problem == f"{missing.source} cannot be read (No such file or directory)"


def test_a_target_that_exists_is_replaced_only_if_that_is_asked_for(tmp_path):
    one = job(tmp_path)
    answer_file(one, Answering(), quiet)
    with pytest.raises(ConfigError) as told:
        answer_file(one, Answering(), quiet)
    assert told.value.problem == f"{one.target} exists"
    assert told.value.hint == "name another file, or give --replace"
    assert answer_file(job(tmp_path, replace=True), Answering(), quiet).rows == 10


def test_the_rows_of_a_query_are_kept_and_not_asked_for_again(tmp_path):
    target = tmp_path / "answers.parquet"
    batch = pa.record_batch({"question": ["a", "b"]})
    kept = write_rows(iter([batch]), target)
    assert write_rows(iter([]), target) == kept
    done = answer_file(Job(kept, target, "question", 1, {}), Answering(), quiet)
    assert done.rows == 2
    with pytest.raises(DataError) as told:
        write_rows(iter([]), target)
    assert told.value.problem == "the query gives no row"
    assert told.value.hint == "llmops warehouse query shows its rows"
    assert list(tmp_path.iterdir()) == [target]


def test_a_query_that_is_ended_halfway_keeps_no_row_and_is_asked_again(tmp_path):
    batch = pa.record_batch({"question": ["a", "b"]})

    def ended():
        yield batch
        raise KeyboardInterrupt

    target = tmp_path / "new" / "folder" / "answers.parquet"
    with pytest.raises(KeyboardInterrupt):
        write_rows(ended(), target)
    parts = target.with_name("answers.parquet.parts")
    assert [path.name for path in parts.iterdir()] == [".rows.half"]
    kept = write_rows(iter([batch, batch]), target)
    assert list(parts.iterdir()) == [kept] == [parts / "rows.parquet"]
    assert pq.read_table(kept)["question"].to_pylist() == ["a", "b", "a", "b"]


@pytest.mark.usefixtures("three_mb_free")
def test_a_disk_that_refuses_the_rows_of_a_query_is_told_with_what_to_do(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BackendError) as told:
        write_rows(iter([]), tmp_path / "file" / "answers.jsonl")
    assert told.value.problem == f"Not a directory: {tmp_path}/file/answers.jsonl.parts"
    assert told.value.hint == (
        f"{tmp_path}/file has 3 MB free; make room, allow writing there, or set --out"
    )


@pytest.mark.parametrize("source", WRITE)
def test_a_file_without_a_row_is_one_clear_error(tmp_path, source):
    place = tmp_path / f"rows{source}"
    if source == ".parquet":
        pq.write_table(pa.table({"question": pa.array([], pa.string())}), place)
    else:
        place.write_text("question\n" if source == ".csv" else "\n\n")
    with pytest.raises(DataError) as told:
        answer_file(job(tmp_path, source), Answering(), quiet)
    assert told.value.problem == f"{place} has no row"
    assert told.value.hint == "give a file with rows"
    assert list(tmp_path.iterdir()) == [place]


def test_a_file_of_another_format_is_refused_with_the_known_ones(tmp_path):
    (tmp_path / "rows.txt").write_text("question\nq0\n")
    with pytest.raises(ConfigError) as told:
        answer_file(job(tmp_path, ".txt"), Answering(), quiet)
    assert told.value.problem == f"{tmp_path}/rows.txt: there is no format '.txt'"
    assert told.value.hint == VALID_FORMATS


def test_more_rows_than_are_read_at_once_come_out_in_one_parquet_file(tmp_path):
    rows = [{"id": str(n), "question": f"q{n}"} for n in range(2500)]
    one = job(tmp_path, ".jsonl", ".parquet", rows=rows, part_rows=2000)
    answer_file(one, Answering(), quiet)
    written = pq.read_table(one.target).to_pylist()
    assert [row["response"] for row in written] == [f"to q{n}" for n in range(2500)]
    with pq.ParquetFile(one.target) as file:
        groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    assert groups == [1024, 1024, 452]


@pytest.mark.usefixtures("three_mb_free")
def test_a_join_that_fails_before_its_first_row_leaves_no_target(tmp_path, monkeypatch):
    one = job(tmp_path, ".jsonl", ".parquet")

    def refuse(source):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(batch, "_as_batches", refuse)
    with pytest.raises(BackendError) as told:
        answer_file(one, Answering(), quiet)
    assert told.value.problem == f"Input/output error: {tmp_path}"
    assert told.value.hint == (
        f"{tmp_path} has 3 MB free; make room, allow writing there, or set --out"
    )
    assert not one.target.exists()
    assert (one.parts / "000003.jsonl").exists()


def test_cells_that_json_has_no_word_for_are_written_as_text(tmp_path):
    row = {
        "question": "q0",
        "raw": b"\x00\xff",
        "list": [1],
        "part": {"moment": datetime(2026, 11, 25, tzinfo=UTC)},
        "price": Decimal("1.50"),
        "took": timedelta(seconds=90),
    }
    one = job(tmp_path, ".parquet", ".jsonl", rows=[row])
    answer_file(one, Answering(), quiet)
    (written,) = read_jsonl(one.target)
    assert {name: written[name] for name in row} == {
        "question": "q0",
        "raw": "00ff",
        "list": [1],
        "part": {"moment": "2026-11-25T00:00:00+00:00"},
        "price": "1.50",
        "took": "0:01:30",
    }


def test_cells_of_json_lines_become_texts_in_parquet_and_absent_ones_null(tmp_path):
    rows = [
        {"question": "q0", "number": 7, "tags": ["ä"], "empty": None},
        {"question": "q1", "number": None, "later": "left out"},
    ]
    one = job(tmp_path, ".jsonl", ".parquet", rows=rows)
    answer_file(one, Answering(), quiet)
    table = pq.read_table(one.target)
    own = dict.fromkeys(("question", "number", "tags", "empty"), "string")
    assert {field.name: str(field.type) for field in table.schema} == own | FIELDS
    assert table.select(list(own)).to_pylist() == [
        {"question": "q0", "number": "7", "tags": '["ä"]', "empty": None},
        {"question": "q1", "number": None, "tags": None, "empty": None},
    ]


def test_a_csv_file_has_the_columns_of_the_first_row(tmp_path):
    rows = [{"question": "q0", "n": 7}, {"question": "q1", "later": "left out"}]
    one = job(tmp_path, ".jsonl", ".csv", rows=rows)
    answer_file(one, Answering(), quiet)
    written = read_csv(one.target)
    assert list(written[0]) == ["question", "n", *FIELDS]
    assert [(row["question"], row["n"]) for row in written] == [("q0", "7"), ("q1", "")]


def test_csv_has_json_of_what_a_rows_cell_has_parts_of_and_hex_of_bytes(tmp_path):
    rows = [{"question": "q0", "tags": [{"n": "ä"}, {"n": None}], "raw": b"\x00\xff"}]
    one = job(tmp_path, ".parquet", ".csv", rows=rows)
    answer_file(one, Answering(), quiet)
    (row,) = read_csv(one.target)
    assert row["tags"] == '[{"n":"ä"},{"n":null}]'
    assert row["raw"] == "00ff"


@pytest.mark.parametrize("source", WRITE)
def test_a_source_that_is_a_folder_is_told(tmp_path, source):
    place = tmp_path / f"rows{source}"
    place.mkdir()
    with pytest.raises(ConfigError) as told:
        answer_file(job(tmp_path, source), Answering(), quiet)
    assert told.value.problem == f"{place} cannot be read (it is a folder)"


def test_empty_lines_between_json_lines_are_no_rows(tmp_path):
    (tmp_path / "rows.jsonl").write_text('\n{"question": "q0"}\n \n{"question": "q1"}\n')
    one = job(tmp_path)
    assert answer_file(one, Answering(), quiet).rows == 2
    assert [row["question"] for row in read_jsonl(one.target)] == ["q0", "q1"]


@pytest.mark.usefixtures("ascii_locale")
def test_csv_keeps_the_characters_and_line_ends_of_its_cells_in_any_locale(tmp_path):
    (tmp_path / "rows.csv").write_bytes(
        '\ufeffquestion,place\r\nwhy?,"Zürich,\r\nold town"\r\n'.encode()
    )
    one = job(tmp_path, ".csv", ".csv")
    answer_file(one, Answering(), quiet)
    assert one.target.read_bytes().decode() == (
        f"question,place,{','.join(FIELDS)}\r\n"
        'why?,"Zürich,\r\nold town",to why?,ans_why?,,False,[],stop,"{""profanity"":0.1}",'
        "[],,,3,2,0.1,,\r\n"
    )


@pytest.mark.parametrize("target", READ)
def test_a_source_that_grows_while_it_is_answered_gives_no_target(tmp_path, target):
    one = job(tmp_path, ".jsonl", target)

    def growing(asked):
        if "q9" in asked:
            with one.source.open("a") as file:
                file.write('{"id": "10", "question": "q10"}\n' * 5)
        return Answering()(asked)

    with pytest.raises(ValueError, match=r"shorter|length"):
        answer_file(one, growing, quiet)
    assert not one.target.exists()


def test_rows_of_a_query_in_several_batches_are_kept_once(tmp_path):
    batches = [pa.RecordBatch.from_pylist([{"question": f"q{n}"}]) for n in range(3)]
    kept = write_rows(iter(batches), tmp_path / "answers.jsonl")
    assert [row["question"] for row in pq.read_table(kept).to_pylist()] == ["q0", "q1", "q2"]
    assert write_rows(iter(()), tmp_path / "answers.jsonl") == kept
