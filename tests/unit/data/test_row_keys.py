"""A row's identity is its normalised content."""

import hashlib
import unicodedata

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from llmops.data.cells import Sign, cells, signs
from llmops.data.keys import content_keys, exact_digests, normalise

TEXT = st.text(max_size=40)


def key(*texts):
    return content_keys(*(pa.array([text], pa.string()) for text in texts))[0].as_py()


def test_a_key_is_the_sha256_of_length_prefixed_texts():
    # "a\r\ne" + combining acute: 4 bytes once composed and with a plain line end
    expected = hashlib.sha256("4:a\né2:ok".encode()).hexdigest()
    assert key("a\r\ne\u0301 \n", "ok\t") == expected


@given(st.lists(st.tuples(st.none() | TEXT, st.none() | TEXT)), st.integers(0, 3))
def test_a_digest_is_that_of_hashlib_over_length_prefixed_texts(pairs, start):
    columns = [pa.array([pair[side] for pair in pairs], pa.string()) for side in (0, 1)]
    found = exact_digests(*(column[start:] for column in columns))
    for (left, right), digest in zip(pairs[start:], found, strict=True):
        texts = [text if text is None else text.encode() for text in (left, right)]
        pieces = [b"null:" if text is None else b"%d:%b" % (len(text), text) for text in texts]
        assert digest.tobytes() == hashlib.sha256(b"".join(pieces)).digest()


def test_many_rows_are_hashed_in_their_order():
    texts = pa.array([f"{number}" * (number % 7) for number in range(5000)])
    alone = [exact_digests(texts[row : row + 1])[0].tobytes() for row in range(0, 5000, 499)]
    assert [digest.tobytes() for digest in exact_digests(texts)[::499]] == alone


def test_moving_a_character_from_question_to_answer_changes_the_key():
    assert key("ab", "c") != key("a", "bc")


@given(TEXT, TEXT, TEXT, TEXT)
def test_two_pairs_have_one_key_only_if_they_are_equal_after_normalising(a, b, c, d):
    left, right = pa.array([a, b]), pa.array([c, d])
    same = normalise(left).to_pylist() == normalise(right).to_pylist()
    assert (key(a, b) == key(c, d)) == same


@given(TEXT)
def test_normalising_twice_changes_nothing_more(text):
    once = normalise(pa.array([text]))
    assert normalise(once) == once


def test_a_null_has_no_key():
    assert key("question", None) is None


def test_keys_do_not_depend_on_the_rows_beside_them():
    questions, answers = pa.array(["é", "plain", "x\r"]), pa.array(["1", "2", "3"])
    together = content_keys(questions, answers).to_pylist()
    assert together == [key(q, a) for q, a in zip(["é", "plain", "x\r"], "123", strict=True)]
    assert content_keys(questions[1:], answers[1:]).to_pylist() == together[1:]


def test_no_character_that_nfc_changes_escapes_the_quick_look():
    changed = [c for c in map(chr, range(0x110000)) if _may_change(c)]
    seen = signs(cells(pa.array(changed))).holding(Sign.UNSTABLE).tolist()
    assert len(changed) > 2000
    assert [hex(ord(c)) for c, found in zip(changed, seen, strict=True) if not found] == []


@given(st.lists(st.one_of(st.none(), TEXT), max_size=8), st.integers(0, 4))
def test_the_quick_look_finds_the_text_that_nfc_changes(texts, start):
    column = pa.array(texts, pa.string())[start:]
    seen = signs(cells(column)).holding(Sign.UNSTABLE).tolist()
    changes = [unicodedata.normalize("NFC", text or "") != (text or "") for text in texts[start:]]
    assert [row for row, changed in enumerate(changes) if changed and not seen[row]] == []


def test_plain_text_is_not_looked_at_twice():
    column = pa.array(["plain", "caf\u00e9", "\u65e5\u672c\u8a9e", "\U0001f600 \u2019"])
    assert not signs(cells(column)).holding(Sign.UNSTABLE).any()


def _may_change(character):
    if 0xD800 <= ord(character) < 0xE000:
        return False
    return not unicodedata.is_normalized("NFC", character) or unicodedata.combining(character) > 0
