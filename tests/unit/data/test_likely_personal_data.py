"""The quick look that spares a text the patterns never misses what they would find."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmops.data.personal import HINTS, KINDS, find, likely

PIECES = st.sampled_from(
    [
        *("AKIAABCDEFGHIJKLMNOP", "ghp_" + "a1" * 20, "GitHub_pat_", "https://bob:s3cretpass@x.y"),
        *("PASSWORD = 'a8F3kk29xQ'", "Auth: bearer a8F3kk29xQzz1234567", "bob@example.org"),
        *("fe80::a:b", "2001:db8::ff00:42:8329", "10.1.2.3", "4111 1111 1111 1111", "+41446681800"),
        *(
            "DE89370400440532013000",
            "٤",
            "hf_" + "x" * 31,
            "SG.aaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbb",
        ),
        *(" ", "\n", "word", ":", "::"),
    ]
)


@given(st.lists(st.one_of(PIECES, st.text(max_size=8)), max_size=6).map("".join))
def test_nothing_that_would_be_found_is_passed_over(text):
    everything = find(text, dict.fromkeys(KINDS, ""), "US")
    looked_for = find(text, dict.fromkeys(likely(text, KINDS), ""), "US")
    assert {one.kind for one in everything} <= set(likely(text, HINTS))
    assert looked_for == everything
