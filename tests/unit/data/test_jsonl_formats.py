"""Tuners' JSONL: exact bytes, one object a line whatever the text holds."""

import hashlib
import json

import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops.data import formats
from llmops.data.cells import laid
from llmops.data.formats import JsonlWriter, decode, encode, inner, shape
from llmops.data.settings import FORMATS
from llmops.data.texts import Around
from tests.fakes.small_disk import mounted

TEXT = st.one_of(
    st.text(),
    st.text(alphabet='\0\x07\x0b\x0c\x1c\x85\u2028\u2029\r\n"\\/{}😀é\ufeff\ufffd', max_size=20),
)


NOTHING = Around()


def encoded(texts):
    return inner(encode(pl.Series(texts, dtype=pl.String)))


def line(name, user, answer, system, around=NOTHING):
    (made,) = shape(name, system, around).blocks(encoded([user]), encoded([answer]))
    return bytes(made)


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


@given(text=TEXT, before=TEXT, after=TEXT)
def test_what_a_template_writes_around_a_text_is_as_if_it_were_in_it(text, before, after):
    apart = line("chat", text, "A", "S", Around(before, after))
    assert apart == line("chat", before + text + after, "A", "S")


@given(text=TEXT)
def test_an_encoded_text_decodes_to_itself(text):
    assert decode(encoded([text])[0]) == text


def test_chosen_lines_stand_one_after_the_other():
    users, answers = encoded(list("abcde")), encoded(list("vwxyz"))
    chat = shape("chat", None, Around())
    for rows in ([], [0], [0, 1, 3], [4, 2, 3]):
        whole = b"".join(line("chat", "abcde"[row], "vwxyz"[row], None) for row in rows)
        assert b"".join(chat.blocks(users.gather(rows), answers.gather(rows))) == whole


@given(st.lists(st.one_of(TEXT, st.sampled_from(["", "a" * 4, "a" * 5, "\u2028" * 9]))))
def test_what_stands_between_the_quotes_is_read_without_a_copy(texts):
    whole = encode(pl.Series(["before", *texts, "after"], dtype=pl.String))
    within = inner(whole[1:-1])
    assert [f'{{"a":"{text}"}}' for text in within] == whole[1:-1].to_pylist()


def test_what_stands_further_apart_than_a_view_reaches_is_read_too(monkeypatch):
    texts = [str(number) * 9 for number in range(99)]
    monkeypatch.setattr(formats, "_MOST_BYTES", 200)
    assert encoded(texts).to_list() == texts
    assert encoded(texts).n_chunks() == 1  # of several, the texts would be copied


@given(st.lists(st.text(min_size=13)), st.randoms(use_true_random=False))
def test_texts_in_any_order_give_their_bytes_in_that_order(texts, random):
    order = random.choices(range(len(texts)), k=len(texts)) if texts else []
    found = pl.Series(texts, dtype=pl.String).gather(order)
    assert b"".join(laid(found)) == "".join(texts[row] for row in order).encode()


def test_texts_that_were_just_made_lie_one_after_the_other():
    made = pl.DataFrame({"text": ["a" * 1000] * 512}).select(pl.concat_str("text", pl.lit("\n")))
    assert len(list(laid(made.to_series()))) < 20  # polars' buffers, not the 512 texts


def test_a_last_block_that_the_disk_has_no_room_for_is_an_error(tmp_path):
    with (
        mounted(tmp_path / "disk", megabytes=1) as disk,
        JsonlWriter(disk / "x.jsonl", "chat", "train") as writer,
        pytest.raises(OSError, match="No space left on device"),
    ):
        writer.write([memoryview(b"a line\n" * 200_000)], 200_000)


def test_a_file_is_its_lines_and_is_counted(tmp_path):
    with JsonlWriter(tmp_path / "x.jsonl", "chat", "train") as writer:
        writer.write([b"one\n"], 1)
        writer.write([], 0)
        writer.write([b"two\n", b"three\n"], 2)
    assert writer.written().rows == 3
    assert (tmp_path / "x.jsonl").read_bytes() == b"one\ntwo\nthree\n"
    assert writer.written().sha256 == hashlib.sha256(b"one\ntwo\nthree\n").hexdigest()
