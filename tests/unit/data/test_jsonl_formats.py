"""Tuners' JSONL: exact bytes, one object a line whatever the text holds."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops.data.formats import LINES, JsonlWriter, encode
from llmops.data.settings import FORMATS

TEXT = st.one_of(
    st.text(),
    st.text(alphabet='\0\x07\x0b\x0c\x1c\x85\u2028\u2029\r\n"\\/{}😀é\ufeff\ufffd', max_size=20),
)


def test_text_bison_lines_are_these_bytes():
    line = LINES["text_bison"](encode('How "so"?\n', "Like é.", None))
    assert line == b'{"input_text":"How \\"so\\"?\\n","output_text":"Like \xc3\xa9."}\n'


def test_gemini_lines_are_these_bytes():
    assert LINES["gemini"](encode("Q", "A", None)) == (
        b'{"contents":[{"role":"user","parts":[{"text":"Q"}]},'
        b'{"role":"model","parts":[{"text":"A"}]}]}\n'
    )
    assert LINES["gemini"](encode("Q", "A", "S")) == (
        b'{"systemInstruction":{"parts":[{"text":"S"}]},'
        b'"contents":[{"role":"user","parts":[{"text":"Q"}]},'
        b'{"role":"model","parts":[{"text":"A"}]}]}\n'
    )


def test_chat_lines_are_these_bytes():
    assert LINES["chat"](encode("Q", "A", None)) == (
        b'{"messages":[{"role":"user","content":"Q"},{"role":"assistant","content":"A"}]}\n'
    )
    assert LINES["chat"](encode("Q", "A", "S")) == (
        b'{"messages":[{"role":"system","content":"S"},'
        b'{"role":"user","content":"Q"},{"role":"assistant","content":"A"}]}\n'
    )


@pytest.mark.parametrize("name", FORMATS)
@given(user=TEXT, answer=TEXT)
def test_a_line_reads_back_as_it_was_and_is_one_line_to_every_reader(name, user, answer):
    line = LINES[name](encode(user, answer, None))
    assert len(line.decode().splitlines()) == 1
    read = json.loads(line)
    if name == "text_bison":
        assert read == {"input_text": user, "output_text": answer}
    elif name == "chat":
        assert [turn["content"] for turn in read["messages"]] == [user, answer]
    else:
        assert [turn["parts"][0]["text"] for turn in read["contents"]] == [user, answer]


def test_a_file_is_its_lines_and_is_counted(tmp_path):
    with JsonlWriter(tmp_path / "x.jsonl", "chat", "train") as writer:
        writer.write([encode("a", "b", None)])
        writer.write([])
        writer.write([encode("c", "d", None), encode("e", "f", None)])
    assert writer.written().rows == 3
    lines = (tmp_path / "x.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["messages"][0]["content"] for line in lines] == ["a", "c", "e"]
