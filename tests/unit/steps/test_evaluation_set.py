"""Evaluation sets: their forms, what pins them, and their rows in train."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from judging import write_side

from llmops import sandbox
from llmops.data.evaluation_sets import Row, read_set
from llmops.errors import ConfigError, DataError
from llmops.plan.kinds import Work
from llmops.steps.evaluation_set import KIND, Settings

LONG = "open the file with a context manager and read all of its lines one by one"


def write(folder, *rows):
    path = folder / "set.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def run(folder, path, form="questions", train=None, sha256=None):
    settings = Settings((str(path),), form, sha256)
    outputs = {name: folder / name for name in ("test", "card")}
    work = Work(
        step="benchmark",
        key="0" * 64,
        run_id="run",
        settings=settings,
        inputs={"train": train} if train else {},
        digests={},
        outputs=outputs,
        adapters=None,
        progress=lambda *_: None,
        scratch=folder,
    )
    KIND.run(work)
    return pq.read_table(outputs["test"]).to_pylist(), json.loads(outputs["card"].read_text())


def test_pairs_under_any_usual_name_become_test_rows_once(tmp_path):
    rows, card = run(
        tmp_path,
        write(
            tmp_path,
            {"question": "q1", "answer": "a1"},
            {"input_text": "q2", "output_text": "a2"},
            {"prompt": "q1", "completion": "a1"},
        ),
    )
    assert sorted((row["input_text"], row["output_text"]) for row in rows) == [
        ("q1", "a1"),
        ("q2", "a2"),
    ]
    assert [row["row_key"] for row in rows] == sorted(row["row_key"] for row in rows)
    assert (card["rows"]["test"], card["duplicates"]) == (2, 1)


@pytest.mark.parametrize("answer", [1, "B", " b "])
def test_choices_are_listed_by_letter_and_the_letter_is_the_answer(tmp_path, answer):
    row = {"question": "Which?", "choices": ["one", "two"], "answer": answer}
    (found,) = read_set([write(tmp_path, row)], "choices")
    assert found == Row("Which?\nA. one\nB. two", "B")


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Q", "choices": ["one", "two"], "answer": 1, "subject": "MMLU"},
        {"ctx": "Q", "endings": ["one", "two"], "label": "1", "ind": 4},  # HellaSwag
        {
            "id": "ARC",
            "question": {
                "stem": "Q",
                "choices": [{"text": "one", "label": "1"}, {"text": "two", "label": "2"}],
            },
            "answerKey": "2",
        },
        {
            "question": "Q",
            "choices": {"text": ["one", "two"], "label": ["A", "B"]},
            "answerKey": "B",
        },
        {
            "question": "Q",
            "choices": [{"label": "A", "text": "one"}, {"label": "B", "text": "two"}],
            "answerKey": "B",
        },
    ],
)
def test_benchmarks_with_choices_are_read_in_their_own_formats(tmp_path, row):
    assert list(read_set([write(tmp_path, row)], "choices")) == [Row("Q\nA. one\nB. two", "B")]


HUMAN_EVAL = {
    "task_id": "HumanEval/0",
    "prompt": "def add(a, b):\n",
    "canonical_solution": "    return a + b\n",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
    "entry_point": "add",
}
MBPP = {
    "text": "Write add.",
    "code": "def add(a, b): return a + b",
    "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"],
    "test_setup_code": "",
}
OWN = {
    "question": "Write add.",
    "answer": "def add(a, b): return a + b",
    "checks": "assert add(1, 2) == 3",
}


@pytest.mark.skipif(sandbox.why_not() is not None, reason="no sandbox on this machine")
@pytest.mark.parametrize("row", [HUMAN_EVAL, MBPP, OWN])
def test_the_checks_of_a_benchmark_pass_its_own_reference_and_not_another(tmp_path, row):
    (found,) = read_set([write(tmp_path, row)], "code")
    limits = sandbox.Limits(timeout_s=10, max_memory_mb=256)
    assert sandbox.run((found.answer, found.checks), limits) == sandbox.PASSED
    other = sandbox.run(("def add(a, b): return a * b", found.checks), limits)
    assert other == "AssertionError"


def test_checks_travel_to_the_test_side_and_only_there_where_a_row_has_some(tmp_path):
    rows, _ = run(tmp_path, write(tmp_path, MBPP), form="code")
    assert rows[0]["checks"].strip().startswith("assert add(1, 2) == 3")
    rows, _ = run(tmp_path, write(tmp_path, {"question": "q", "answer": "a"}))
    assert "checks" not in rows[0]


def test_logs_give_the_answers_that_people_corrected(tmp_path):
    liked, corrected = ({"question": q, "answer": "a", "id": q} for q in ("q1", "q2"))
    path = write(tmp_path, liked | {"corrected": False}, corrected | {"corrected": True})
    assert list(read_set([path], "logs")) == [Row("q2", "a")]


@pytest.mark.parametrize(
    ("form", "row"),
    [
        ("questions", "{"),
        ("questions", {"question": "q"}),
        ("questions", {"question": " ", "answer": "a"}),
        ("choices", {"question": "q", "choices": ["a"], "answer": 0}),
        ("choices", {"question": "q", "choices": ["a", "b"], "answer": 2}),
        ("choices", {"question": "q", "choices": ["a", "b"], "answer": True}),
        ("choices", {"question": "q", "choices": ["a", "b"]}),
        ("choices", {"question": "q", "choices": ["a", "b"], "answer": "C"}),
        (
            "choices",
            {"question": "q", "choices": {"text": ["a"], "label": ["A", "B"]}, "answer": 0},
        ),
        ("choices", {"question": {"stem": "q"}, "answerKey": "A"}),
        ("code", {"question": "q", "answer": "a"}),
        ("code", {"prompt": "q", "test": "a"}),
        ("logs", {"question": "q", "answer": "a"}),
        ("logs", {"question": "q", "corrected": True}),
    ],
)
def test_a_line_that_is_no_row_is_named_with_an_example(tmp_path, form, row):
    with pytest.raises(DataError, match=r"set\.jsonl, line 1") as caught:
        list(read_set([write(tmp_path, row)], form))
    assert "{" in caught.value.hint


def test_rows_that_stand_in_train_are_counted_exactly_and_by_runs_of_words(tmp_path):
    train = write_side(tmp_path / "train.parquet", ["known  question", f"How to {LONG}?"])
    path = write(
        tmp_path,
        {"question": "Known question", "answer": "x"},
        {"question": f"Please {LONG}, or else", "answer": "y"},
        {"question": "new", "answer": "z"},
    )
    _, card = run(tmp_path, path, train=train)
    assert card["leakage"]["exact"]["rows"] == 1
    assert card["leakage"]["near"]["rows"] == 2


def test_without_train_nothing_is_known_of_contamination(tmp_path):
    _, card = run(tmp_path, write(tmp_path, {"question": "q", "answer": "a"}))
    assert card["leakage"] is None


def test_a_changed_file_is_another_set_and_a_pinned_one_is_refused(tmp_path):
    path = write(tmp_path, {"question": "q", "answer": "a"})
    before = KIND.source(Settings((str(path),), "questions", None), None).facts["sha256"]
    run(tmp_path, path, sha256=before)
    write(tmp_path, {"question": "q", "answer": "b"})
    with pytest.raises(ConfigError, match="pins"):
        run(tmp_path, path, sha256=before)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (Settings((), "questions", None), "names no file"),
        (Settings(("nowhere.jsonl",), "questions", None), "is not there"),
        (Settings(("nowhere.jsonl",), "riddles", None), "form is 'riddles'"),
    ],
)
def test_a_set_that_cannot_be_is_a_config_error(settings, problem):
    with pytest.raises(ConfigError, match=problem):
        KIND.source(settings, None)


def test_an_empty_set_is_refused(tmp_path):
    with pytest.raises(DataError, match="no rows"):
        run(tmp_path, write(tmp_path, ""))
