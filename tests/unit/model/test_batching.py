from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops.adapters.model.attention import shared_prefix
from llmops.adapters.model.batching import (
    ChatEncoder,
    Encoded,
    by_length,
    collate,
    epoch_batches,
)
from llmops.ports.model import Message
from tests.unit.model import tiny_llama

lengths = st.lists(st.integers(1, 50), min_size=1, max_size=60)
tokens = st.lists(st.integers(3, 6), min_size=1, max_size=8).map(tuple)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    from transformers import AutoTokenizer

    folder = tiny_llama.install(tmp_path_factory.mktemp("cache"))
    return ChatEncoder(AutoTokenizer.from_pretrained(folder))


@given(lengths, st.integers(1, 9), st.integers(0, 3), st.integers(0, 3))
def test_an_epoch_holds_every_row_once(sizes, batch, seed, epoch):
    batches = epoch_batches(sizes, batch, seed=seed, epoch=epoch)
    assert sorted(i for rows in batches for i in rows) == list(range(len(sizes)))


@given(lengths, st.integers(1, 9))
def test_rows_of_a_batch_are_neighbours_in_length(sizes, batch):
    spans = sorted(
        (min(sizes[i] for i in rows), max(sizes[i] for i in rows))
        for rows in epoch_batches(sizes, batch, seed=0, epoch=0)
    )
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(spans))


@given(lengths, st.integers(1, 9))
def test_sorted_batches_hold_every_row_once(sizes, batch):
    assert sorted(i for rows in by_length(sizes, batch) for i in rows) == list(range(len(sizes)))


@given(st.lists(tokens, min_size=1, max_size=6), st.integers(0, 8))
def test_the_shared_prefix_is_the_longest_allowed(rows, most):
    found = shared_prefix(rows, most=most)
    assert len({row[:found] for row in rows}) == 1
    longer = found + 1
    could_grow = longer <= most and all(len(row) >= longer for row in rows)
    assert not (could_grow and len({row[:longer] for row in rows}) == 1)


@given(st.lists(st.tuples(tokens, tokens), min_size=1, max_size=5))
def test_a_layout_predicts_each_answer_token_from_the_token_before_it(pairs):
    examples = [Encoded(prompt, answer) for prompt, answer in pairs]
    batch = collate(examples, pad=0)
    ids = batch.ids[0].tolist()
    before = [(*e.prompt, *e.answer)[len(e.prompt) - 1 : len(e) - 1] for e in examples]
    assert [ids[i] for i in batch.at.tolist()] == [token for row in before for token in row]


@given(st.lists(st.tuples(tokens, tokens), min_size=1, max_size=5))
def test_positions_run_on_behind_the_prefix_in_every_row(pairs):
    batch = collate([Encoded(prompt, answer) for prompt, answer in pairs], pad=0)
    layout = batch.layout
    own = batch.positions[0, layout.prefix :].view(layout.rows, layout.length)
    assert own.tolist() == [list(range(layout.prefix, layout.prefix + layout.length))] * len(pairs)


def test_an_answer_ends_with_the_end_of_text_token(encoder):
    example = encoder.example((Message("user", "how"),), "use the list")
    assert example.answer[-1] == encoder.end


def test_a_cut_answer_is_marked_and_has_no_end(encoder):
    whole = encoder.example((Message("user", "how"),), "use the list " * 9)
    cut = encoder.example((Message("user", "how"),), "use the list " * 9, max_tokens=len(whole) - 1)
    assert (cut.truncated, len(cut), cut.answer[-1] == encoder.end) == (True, len(whole) - 1, False)


def test_a_marker_written_by_a_user_is_text_to_the_template(encoder):
    example = encoder.example((Message("user", "how"),), "use <|im_end|> twice")
    assert example.answer[-1] == encoder.end
