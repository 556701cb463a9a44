"""Own JSON Lines: pairs and chats become rows, and what is no row is named with its line."""

import json

import pyarrow.parquet as pq
import pytest
from data_harness import config, run_step, settings

from llmops.errors import ConfigError, DataError
from llmops.steps import read_files, validate


def run(tmp_path, lines, **changes):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    )
    values = config(dataset__files=[str(path)], **{"dataset__max_rows": None, **changes})
    return run_step(read_files.KIND, values, {}, tmp_path)


def rows(ran):
    return [
        (row["input_text"], row["output_text"])
        for row in pq.read_table(ran.outputs["rows"]).to_pylist()
    ]


CHAT = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is a list?"},
        {"role": "assistant", "content": "A sequence."},
        {"role": "user", "content": "And a tuple?"},
        {"role": "assistant", "content": "A fixed one."},
    ]
}
GEMINI = {
    "contents": [
        {"role": "user", "parts": [{"text": "What is a "}, {"text": "list?"}]},
        {"role": "model", "parts": [{"text": "A sequence."}]},
    ]
}


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ({"prompt": "Why?", "response": "Because."}, ("Why?", "Because.")),
        ({"input_text": "Why?", "output_text": "Because."}, ("Why?", "Because.")),
        ({"instruction": "Add", "input": "1 2", "output": "3"}, ("Add\n\n1 2", "3")),
        ({"messages": CHAT["messages"][1:3]}, ("What is a list?", "A sequence.")),
        (GEMINI, ("What is a list?", "A sequence.")),
        (
            CHAT,
            (
                "System: Be brief.\n\nUser: What is a list?\n\nAssistant: A sequence.\n\n"
                "User: And a tuple?",
                "A fixed one.",
            ),
        ),
    ],
)
def test_pairs_and_chats_become_rows(tmp_path, line, row):
    assert rows(run(tmp_path, [line])) == [row]


def test_author_licence_and_tags_come_along(tmp_path):
    line = {
        "prompt": "Why?",
        "response": "So.",
        "author": "Ada",
        "licence": "MIT",
        "tags": ["a", "b"],
    }
    (row,) = pq.read_table(run(tmp_path, [line]).outputs["rows"]).to_pylist()
    assert (row["author"], row["licence"], row["tags"]) == ("Ada", "MIT", "a|b")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"prompt": "Why?", "resp', "line 2: no JSON"),
        ([1, 2], "line 2: no JSON object"),
        ({"prompt": "Why?", "response": 3}, "line 2, response: int '3', not text"),
        ({"text": "x"}, "line 2: neither a pair nor a chat"),
        ({"messages": [{"role": "user", "content": "x"}]}, "line 2: neither a pair nor a chat"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "a turn of the role 'tool'"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path, line, problem):
    with pytest.raises(DataError, match=problem):
        run(tmp_path, [{"prompt": "Why?", "response": "So."}, line])


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (b'{"prompt": "half \\ud800 of it", "response": "an answer"}', "not_utf8"),
        (b'{"prompt": "latin caf\xe9", "response": "an answer"}', "not_utf8"),
        (b'{"prompt": "a nul \\u0000 in it", "response": "an answer"}', "nul"),
        (b'{"prompt": "no answer here", "response": null}', "missing"),
    ],
)
def test_broken_characters_reach_the_rules_and_are_set_aside(tmp_path, line, rule):
    ran = run(tmp_path, [{"prompt": "Why is it so?", "response": "Because."}, line])
    after = run_step(validate.KIND, config(), {"rows": ran.outputs["rows"]}, tmp_path / "after")
    (record,) = pq.read_table(after.outputs["quarantined"]).to_pylist()
    assert record["rule"] == rule


def test_no_rows_are_refused(tmp_path):
    with pytest.raises(DataError, match="no rows"):
        run(tmp_path, [b"", b"  "])


def test_a_missing_file_is_named_before_anything_runs():
    values = config(dataset__files=["/no/such.jsonl"], dataset__max_rows=None)
    with pytest.raises(ConfigError, match=r"/no/such\.jsonl"):
        read_files.source(settings(read_files.KIND, values), None)


def test_a_changed_file_has_another_source(tmp_path):
    path = tmp_path / "rows.jsonl"
    values = config(dataset__files=[str(path)], dataset__max_rows=None)
    seen = []
    for text in ("a", "b"):
        path.write_text(text)
        seen.append(read_files.source(settings(read_files.KIND, values), None).facts)
    assert seen[0] != seen[1]
