"""Tuners' JSONL: exact bytes, one object a line whatever the text holds."""

import hashlib
import json

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops.data.formats import JsonlWriter, chosen_lines, lines_of
from llmops.data.settings import FORMATS

TEXT = st.one_of(
    st.text(),
    st.text(alphabet='\0\x07\x0b\x0c\x1c\x85\u2028\u2029\r\n"\\/{}😀é\ufeff\ufffd', max_size=20),
)


def line(name, user, answer, system):
    (made,) = lines_of(name, pa.array([user]), pa.array([answer]), system).to_pylist()
    return made.encode()


def test_text_bison_lines_are_these_bytes():
    made = line("text_bison", 'How "so"?\n', "Like é.", None)
    assert made == b'{"input_text":"How \\"so\\"?\\n","output_text":"Like \xc3\xa9."}\n'


def test_gemini_lines_are_these_bytes():
    assert line("gemini", "Q", "A", None) == (
        b'{"contents":[{"role":"user","parts":[{"text":"Q"}]},'
        b'{"role":"model","parts":[{"text":"A"}]}]}\n'
    )
    assert line("gemini", "Q", "A", "S") == (
        b'{"systemInstruction":{"parts":[{"text":"S"}]},'
        b'"contents":[{"role":"user","parts":[{"text":"Q"}]},'
        b'{"role":"model","parts":[{"text":"A"}]}]}\n'
    )


def test_chat_lines_are_these_bytes():
    assert line("chat", "Q", "A", None) == (
        b'{"messages":[{"role":"user","content":"Q"},{"role":"assistant","content":"A"}]}\n'
    )
    assert line("chat", "Q", "A", "S") == (
        b'{"messages":[{"role":"system","content":"S"},'
        b'{"role":"user","content":"Q"},{"role":"assistant","content":"A"}]}\n'
    )


@pytest.mark.parametrize("name", FORMATS)
@given(user=TEXT, answer=TEXT)
def test_a_line_reads_back_as_it_was_and_is_one_line_to_every_reader(name, user, answer):
    made = line(name, user, answer, None)
    assert len(made.decode().splitlines()) == 1
    read = json.loads(made)
    if name == "text_bison":
        assert read == {"input_text": user, "output_text": answer}
    elif name == "chat":
        assert [turn["content"] for turn in read["messages"]] == [user, answer]
    else:
        assert [turn["parts"][0]["text"] for turn in read["contents"]] == [user, answer]


@given(text=TEXT)
def test_a_text_is_encoded_as_orjson_does_it_but_for_line_ends(text):
    known = orjson.dumps(text)
    for mark in ("\x85", "\u2028", "\u2029"):
        known = known.replace(mark.encode(), mark.encode("ascii", "backslashreplace"))
    known = known.replace(b"\\x85", b"\\u0085")
    assert line("text_bison", text, "", None) == b'{"input_text":%b,"output_text":""}\n' % known


def test_chosen_lines_stand_one_after_the_other():
    lines = lines_of("chat", pa.array(list("abcde")), pa.array(list("vwxyz")), None)
    whole = lines.to_pylist()
    for rows in ([], [0], [0, 1, 3], [2, 3, 4], [0, 1, 2, 3, 4]):
        block = chosen_lines(lines, np.array(rows, np.int64))
        assert block.decode() == "".join(whole[row] for row in rows)


def test_a_file_is_its_lines_and_is_counted(tmp_path):
    with JsonlWriter(tmp_path / "x.jsonl", "chat", "train") as writer:
        writer.write(b"one\n", 1)
        writer.write(b"", 0)
        writer.write(b"two\nthree\n", 2)
    assert writer.written().rows == 3
    assert (tmp_path / "x.jsonl").read_bytes() == b"one\ntwo\nthree\n"
    assert writer.written().sha256 == hashlib.sha256(b"one\ntwo\nthree\n").hexdigest()
