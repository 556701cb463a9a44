"""Several models share the questions by weight, and nothing is left to chance."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops.answering.share import drawn
from llmops.api import answering, predicting
from llmops.errors import ConfigError
from tests.fakes.serving import Echo, echoing

WEIGHTS = st.lists(st.floats(0, 100), min_size=1, max_size=6).filter(any)


@given(WEIGHTS, st.text())
def test_the_same_key_is_always_the_same_model_s_turn(weights, key):
    found = drawn(weights, key)
    assert found == drawn(list(weights), key)
    assert weights[found] > 0


def test_the_shares_are_those_of_the_weights():
    found = Counter(drawn([0.7, 0.0, 0.3], f"question {n}") for n in range(4000))
    assert set(found) == {0, 2}
    assert found[0] / 4000 == pytest.approx(0.7, abs=0.03)


def test_a_model_that_gets_more_takes_from_the_others_and_loses_none():
    before = {key: drawn([0.5, 0.5], key) for key in map(str, range(500))}
    after = {key: drawn([0.8, 0.2], key) for key in before}
    assert all(after[key] == 0 for key, place in before.items() if place == 0)


MODELS = "serve.models=[{model: a:1, weight: 3}, {model: a:2, weight: 1}, {model: a:1, weight: 1}]"


def test_a_split_is_that_of_serve_and_any_other_name_is_itself():
    assert answering.shares("split", [MODELS]) == {"a:1": 4.0, "a:2": 1.0}
    assert answering.shares("a@champion", [MODELS]) == {"a@champion": 1.0}
    assert answering.whose_turn("split", "q", [MODELS]) in ("a:1", "a:2")


def test_the_rows_of_a_file_are_shared_out_and_come_back_in_their_order(tmp_path, monkeypatch):
    models = {f"a:{n}": echoing(Echo(), version=n) for n in (1, 2)}
    monkeypatch.setattr(predicting, "open_model", lambda name, overrides: models[name])
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(tmp_path))
    source, target = tmp_path / "asked.jsonl", tmp_path / "answered.jsonl"
    source.write_text("".join(f'{{"question": "q{n}"}}\n' for n in range(40)))
    for _ in range(2):
        predicting.predict_file(
            source,
            target,
            model="split",
            overrides=[MODELS],
            replace=True,
            progress=lambda *_: None,
        )
        rows = [json.loads(line) for line in target.read_text().splitlines()]
        assert [row["question"] for row in rows] == [f"q{n}" for n in range(40)]
        assert all(row["question"] in row["response"] for row in rows)
        said = {row["question"]: row["response_model"].partition(":")[2] for row in rows}
        assert said == {q: str(drawn([4.0, 1.0], q) + 1) for q in said}


def test_a_split_without_weight_is_refused():
    with pytest.raises(ConfigError, match="every weight is 0"):
        answering.shares("split", ["serve.models=[{model: a, weight: 0}]"])
