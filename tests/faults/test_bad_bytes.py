"""Whatever bytes come in: rows, or one error that says where; what is written is read back."""

from __future__ import annotations

import contextlib
import json
import math

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmops.config.documents import parse
from llmops.data.formats import encode, inner, shape
from llmops.data.own_files import read_files
from llmops.data.parquet import RowWriter, read_batches
from llmops.data.settings import FORMATS
from llmops.data.texts import Around
from llmops.errors import ConfigError, DataError
from llmops.prompts.template import render

NASTY = st.sampled_from(
    ["\x00", "\u2028", "\u2029", "\u0085", "\ufeff", "\x1b[31m", "\\", '"', "\U0010ffff"]
)
TEXT = st.lists(st.text(st.characters(codec="utf-8"), max_size=20) | NASTY, max_size=6).map("".join)
KEYS = (
    *("prompt", "response", "messages", "contents", "role", "content", "parts", "text"),
    *("system", "systemInstruction", "instruction", "input", "output", "tags", "id"),
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["user", "assistant", "system", "model"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def read(folder, content: bytes):
    path = folder / "rows.jsonl"
    path.write_bytes(content)
    return [row for batch in read_files([path]) for row in batch.to_pylist()]


def rows_or_error(folder, content: bytes):
    try:
        return read(folder, content)
    except DataError as error:
        return error


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bytes")


def test_a_key_that_stands_twice_is_refused(folder):
    with pytest.raises(DataError, match="line 1: the key 'prompt' stands there twice"):
        read(folder, b'{"prompt": "a", "response": "b", "prompt": "c"}')
    assert len(read(folder, b'{"prompt": "response", "response": "prompt"}')) == 1


@given(st.binary(max_size=120))
@example(b'{"prompt": "a", "response": "b"')
@example(b"\xff\xfe{}")
def test_any_bytes_are_rows_or_an_error_with_file_and_line(folder, content):
    found = rows_or_error(folder, content)
    if isinstance(found, DataError):
        assert "rows.jsonl, line 1" in found.problem or b"\n" in content
        assert found.hint


@given(JSON)
@example({"prompt": 2**63, "response": "b"})
@example({"prompt": math.nan, "response": "b"})
@example({"messages": 5})
@example({"messages": ["user", "assistant"]})
@example({"messages": [{"role": "user", "content": [1]}]})
@example({"contents": [{"role": "user", "parts": 3}, {"role": "model", "parts": [None]}]})
def test_any_json_is_a_row_or_an_error_with_file_and_line(folder, value):
    found = rows_or_error(folder, json.dumps(value).encode())
    if isinstance(found, DataError):
        assert "rows.jsonl, line 1" in found.problem
        assert found.hint
    else:
        assert len(found) == 1


@pytest.mark.parametrize("format", FORMATS)
@given(pairs=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4))
def test_what_a_format_writes_is_read_back_the_same(folder, format, pairs):
    users, answers = (inner(encode(pl.Series(texts))) for texts in zip(*pairs, strict=True))
    content = b"".join(shape(format, None, Around()).blocks(users, answers))
    found = [(row["input_text"], row["output_text"]) for row in read(folder, content)]
    assert found == pairs


@given(st.lists(st.tuples(TEXT, st.none() | st.integers(-(2**63), 2**63 - 1)), max_size=30))
def test_what_parquet_keeps_is_read_back_the_same(folder, rows):
    schema = pa.schema([("text", pa.string()), ("number", pa.int64())])
    path = folder / "rows.parquet"
    table = pa.Table.from_pylist([{"text": t, "number": n} for t, n in rows], schema=schema)
    with RowWriter(path, schema) as writer:
        writer.write(table)
    found = [row for batch in read_batches(path, ["text", "number"]) for row in batch.to_pylist()]
    assert [(row["text"], row["number"]) for row in found] == rows


@given(TEXT)
@example("{{ 7 * 7 }}{% for x in y %}{# gone #}")
def test_a_question_is_never_read_as_a_template(question):
    assert render("<{{ question }}>", question=question, instruction="") == f"<{question}>"


@given(st.text(max_size=60))
@settings(max_examples=200)
def test_any_template_renders_or_is_refused(template):
    with contextlib.suppress(ConfigError):
        assert isinstance(render(template, question="why", instruction="say"), str)


@given(st.text(st.sampled_from("&*{}[]:,-|>\"' \n\t#!%?ab1~"), max_size=80))
@settings(max_examples=300)
def test_any_config_text_is_a_document_with_its_problems(tmp_path_factory, text):
    document = parse(text, tmp_path_factory.getbasetemp() / "x.yaml", "conf/x.yaml")
    assert document.usable or document.problems
