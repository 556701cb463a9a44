from __future__ import annotations

import pytest

from llmops.report import tables
from tests.fakes.run_folder import make_run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"), rows=9)


def artifact(made, step, name):
    outputs = next(found["outputs"] for found in made.run["steps"] if found["name"] == step)
    return made.store.find(outputs[name]["sha256"])


def read_answers(made, cache):
    responses, test = artifact(made, "predict", "responses"), artifact(made, "split", "test")
    return tables.answers(made.store, cache, responses, test)


def test_answers_come_in_key_order_with_every_contestant(made, tmp_path):
    found = read_answers(made, tmp_path)
    keys = [row["key"] for row in found["rows"]]
    assert len(keys) == 9
    assert keys == sorted(keys)
    assert all(list(row["answers"]) == found["contestants"] for row in found["rows"])


def test_a_page_holds_no_more_rows_than_it_may_and_knows_how_many_there_are(
    made, tmp_path, monkeypatch
):
    monkeypatch.setattr(tables, "MAX_ROWS", 4)
    found = read_answers(made, tmp_path)
    assert found["total"] == 9
    assert [len(row["answers"]) for row in found["rows"]] == [3, 3, 3, 3]


def test_a_long_text_is_cut_and_says_by_how_much(made, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_TEXT", 10)
    question = read_answers(made, tmp_path)["rows"][0]["question"]
    assert question.startswith("How do I u\N{HORIZONTAL ELLIPSIS} [")
    assert question.endswith("more characters]")


def test_without_the_test_side_the_prompt_stands_for_the_question(made, tmp_path):
    found = tables.answers(made.store, tmp_path, artifact(made, "predict", "responses"), None)
    assert found["rows"][0]["question"].startswith("Please answer the question.")


def test_the_loss_of_a_row_is_per_token_of_its_reference(made, tmp_path):
    row = read_answers(made, tmp_path)["rows"][0]
    assert row["answers"]["untuned"]["loss"] == pytest.approx(3.5, abs=0.21)


def test_quarantined_rows_are_counted_by_rule_the_most_frequent_first(made, tmp_path):
    found = tables.quarantine(made.store, tmp_path, artifact(made, "validate", "quarantined"))
    assert next(iter(found["rules"].items())) == ("short_answer", 2)
    assert sum(found["rules"].values()) == len(found["examples"]) == 4


def test_a_known_artifact_is_not_read_again(made, tmp_path, monkeypatch):
    first = read_answers(made, tmp_path)
    monkeypatch.setattr(tables, "_read", lambda path, columns: pytest.fail("read again"))
    assert read_answers(made, tmp_path) == first
