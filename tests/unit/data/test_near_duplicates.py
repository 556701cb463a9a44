"""Near-duplicates are those whose exact similarity reaches the threshold."""

import itertools
import random
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops.data.near_duplicates import NEIGHBOURS, band_rows, index_texts
from llmops.data.settings import NearDuplicates
from llmops.data.shingles import shingle

NEAR = NearDuplicates(threshold=0.85, shingle_words=3, permutations=64)
WORDS = st.lists(st.sampled_from(["ab", "cd", "ef", "Gh", "ij"]), max_size=8).map(" ".join)


def index(tmp_path, texts, near=NEAR):
    column = pa.array(texts, pa.string())
    parts = [column[start : start + 7] for start in range(0, len(column), 7)]
    return index_texts(lambda: iter(parts), near, tmp_path / "spill")


def shingle_set(text, words=3):
    tokens = re.findall(r"\w+", text.lower())
    if not tokens:
        return set()
    return {tuple(tokens[i : i + words]) for i in range(max(1, len(tokens) - words + 1))}


def similarity(one, other):
    both = len(one & other)
    return both / (len(one) + len(other) - both)


def variants(seed):
    """Texts of 60 words, each with copies that differ in 0 to 6 words."""
    draw = random.Random(seed)
    vocabulary = [f"word{i}" for i in range(500)]
    texts = []
    for _ in range(25):
        words = draw.choices(vocabulary, k=60)
        for changes in range(7):
            copy = list(words)
            for place in draw.sample(range(60), changes):
                copy[place] = draw.choice(vocabulary)
            texts.append(" ".join(copy))
    return list(dict.fromkeys(texts))


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.85, 1.0])
def test_the_pairs_are_those_that_a_full_comparison_finds(tmp_path, threshold):
    texts = variants(seed=threshold)
    near = NearDuplicates(threshold, 3, 128)
    found = {tuple(sorted(pair)) for pair in index(tmp_path, texts, near).pairs.tolist()}
    pairs = itertools.combinations(range(len(texts)), 2)
    sets = [shingle_set(text) for text in texts]
    expected = {(i, j) for i, j in pairs if similarity(sets[i], sets[j]) >= threshold}
    assert found <= expected
    assert len(found) >= 0.98 * len(expected)


@given(st.lists(WORDS, min_size=1, max_size=6), st.integers(1, 4))
def test_shingles_equal_those_of_a_plain_loop(texts, words):
    result = shingle(pa.array(texts), words)
    parts = np.split(result.values, np.cumsum(result.counts)[:-1])
    assert [len(set(part.tolist())) for part in parts] == [
        len(shingle_set(t, words)) for t in texts
    ]


def test_shingles_do_not_depend_on_the_machine_or_the_python():
    assert shingle(pa.array(["How do I open a file?"]), 3).values[:2].tolist() == [
        3146696536426421703,
        1902629097287706411,
    ]


def test_case_punctuation_and_markup_do_not_count(tmp_path):
    texts = ["How do I open a file", "<how> DO i: open, a FILE?"]
    assert index(tmp_path, texts).pairs.tolist() == [[0, 1]]


def test_texts_without_words_are_near_no_other(tmp_path):
    assert len(index(tmp_path, ["+", "++", "", "-"]).pairs) == 0


def test_equal_texts_have_one_number_by_first_appearance(tmp_path):
    assert index(tmp_path, ["b", "a", "b ", "c", "a\r\n"]).text.tolist() == [0, 1, 0, 2, 1]


def test_a_crowd_of_near_duplicates_is_compared_in_linear_time_and_stays_connected(tmp_path):
    boilerplate = " ".join(f"word{i}" for i in range(100))
    pairs = index(tmp_path, [f"{boilerplate} ticket {i}" for i in range(1000)]).pairs
    assert 999 <= len(pairs) <= NEIGHBOURS * 64 * 1000
    reached = {0}
    for left, right in sorted(pairs.tolist()):
        if left in reached:
            reached.add(right)
    assert len(reached) == 1000


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.85, 0.95, 1.0])
@pytest.mark.parametrize("permutations", [16, 64, 256])
def test_a_band_has_as_many_rows_as_the_recall_allows(threshold, permutations):
    rows = band_rows(threshold, permutations)

    def recall(r):
        return 1 - (1 - threshold**r) ** (permutations // r)

    assert rows == 1 or recall(rows) >= 0.99
    assert all(recall(r) < 0.99 for r in range(rows + 1, permutations + 1))


def test_every_near_pair_that_datasketch_finds_is_found(tmp_path):
    from datasketch import MinHash, MinHashLSH

    texts = variants(7)
    lsh, theirs = MinHashLSH(threshold=NEAR.threshold, num_perm=NEAR.permutations), set()
    sets = [shingle_set(text) for text in texts]
    for number, shingles in enumerate(sets):
        made = MinHash(num_perm=NEAR.permutations)
        made.update_batch([" ".join(words).encode() for words in shingles])
        theirs |= {(other, number) for other in lsh.query(made)}
        lsh.insert(number, made)
    near = {pair for pair in theirs if similarity(*(sets[n] for n in pair)) >= NEAR.threshold}
    ours = {tuple(sorted(pair)) for pair in index(tmp_path, texts).pairs.tolist()}
    assert len(near) > 10
    assert near <= ours
