"""split: the same bytes for the same rows, groups whole, leakage measured whatever the method."""

import hashlib
import json
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_harness import config, prepare, run_step
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from llmops.data import parquet
from llmops.data.columns import SIDES
from llmops.data.groups import Groups
from llmops.data.settings import SplitSettings
from llmops.data.splits import TEST, TRAIN, Facts, assign
from llmops.errors import ConfigError, DataError
from llmops.steps import transform

RANDOM_80_20 = {
    "split__method": "random",
    "split__train": 0.8,
    "split__validation": 0.0,
    "split__test": 0.2,
    "split__by": [],
}
FILES = hypothesis_settings(
    max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def rows(count, seed=0):
    """Rows of which some share questions, answers, ids, or nearly share a text."""
    draw = random.Random(seed)
    vocabulary = [f"word{i}" for i in range(300)]
    texts = [" ".join(draw.choices(vocabulary, k=30)) for _ in range(2 * count)]
    made = []
    for number in range(count):
        question, answer = texts[2 * number], texts[2 * number + 1]
        if draw.random() < 0.1:
            question = texts[2 * draw.randrange(count)] + draw.choice(["", " ", " again"])
        if draw.random() < 0.1:
            answer = texts[2 * draw.randrange(count) + 1] + draw.choice(["", "\r\n", " more"])
        made.append({"input_text": question, "output_text": answer, "post": str(number // 2)})
    return made


def run_all(tmp_path, given_rows, **changes):
    source = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(given_rows), source)
    return prepare(source, config(**changes), tmp_path)


def card(ran):
    return json.loads(ran["split"].outputs["card"].read_text())


def side(ran, name):
    return pq.read_table(ran["split"].outputs[name])


def all_bytes(ran):
    outputs = ran["split"].outputs
    files = {path.name: path.read_bytes() for path in outputs["files"].iterdir()}
    return {**files, **{name: outputs[name].read_bytes() for name in (*SIDES, "card")}}


# ------------------------------------------------------------------ properties


@FILES
@given(st.integers(30, 60), st.integers(0, 10**6), st.sampled_from([1000, 10**6]))
def test_any_row_order_and_batch_size_give_the_same_bytes(tmp_path, count, seed, batch_bytes):
    made = rows(count, seed)
    first = all_bytes(run_all(_folder(tmp_path / "first"), made))
    random.Random(seed).shuffle(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "BATCH_BYTES", batch_bytes)
        again = all_bytes(run_all(_folder(tmp_path / "again"), made))
    assert again == first


def _folder(path):
    """Make an empty place for files; hypothesis runs all its examples in one ``tmp_path``."""
    for file in (path / "split" / "files").glob("*"):
        file.unlink()
    path.mkdir(exist_ok=True)
    return path


@FILES
@given(st.integers(40, 150), st.integers(0, 10**6))
def test_a_group_never_lands_on_both_sides_and_nothing_leaks(tmp_path, count, seed):
    ran = run_all(
        _folder(tmp_path), rows(count, seed), split__seed=seed, dataset__columns__id="post"
    )
    groups = {name: set(side(ran, name)["group"].to_pylist()) for name in SIDES}
    assert sum(map(len, groups.values())) == len(set.union(*groups.values())) == card(ran)["groups"]
    leakage = card(ran)["leakage"]
    assert (leakage["exact"]["rows"], leakage["near"]["rows"]) == (0, 0)


@FILES
@given(st.integers(40, 150), st.integers(0, 10**6))
def test_held_out_sides_never_exceed_their_fraction(tmp_path, count, seed):
    counts = card(run_all(_folder(tmp_path), rows(count, seed)))["rows"]
    total = sum(counts.values())
    assert counts["test"] <= round(0.1 * total)
    assert counts["validation"] <= round(0.1 * total)
    assert counts["train"] + counts["validation"] + counts["test"] == total


@given(st.integers(5, 200), st.integers(0, 2**32 - 1), st.floats(0.05, 0.6))
def test_random_membership_is_that_of_scikit_learn(count, seed, test):
    alone = Groups(np.arange(count), ())
    sides = assign(alone, Facts(), SplitSettings("random", 1 - test, 0.0, test, seed, ()))
    train_rows, test_rows = train_test_split(range(count), test_size=test, random_state=seed)
    assert sorted(train_rows) == [row for row in range(count) if sides[row] == TRAIN]
    assert sorted(test_rows) == [row for row in range(count) if sides[row] == TEST]


# ----------------------------------------------------------------- the methods


def test_the_course_split_is_scikit_learns_over_rows_in_key_order(tmp_path):
    ran = run_all(tmp_path, rows(101), **RANDOM_80_20)
    keys = pq.read_table(ran["validate"].outputs["rows"])["row_key"].to_pylist()
    train_keys, test_keys = train_test_split(keys, test_size=0.2, random_state=42)
    assert side(ran, "train")["row_key"].to_pylist() == sorted(train_keys)
    assert side(ran, "test")["row_key"].to_pylist() == sorted(test_keys)


def test_a_validation_side_of_nought_is_an_empty_parquet_without_files(tmp_path):
    ran = run_all(tmp_path, rows(50), **RANDOM_80_20)
    assert side(ran, "validation").num_rows == 0
    assert side(ran, "validation").schema == side(ran, "train").schema
    assert {file["side"] for file in card(ran)["files"]} == {"train", "test"}


def test_a_random_split_measures_both_kinds_of_leakage(tmp_path):
    base = " ".join(f"word{i}" for i in range(60))
    made = [
        {"input_text": f"question {i} {'x' * i}", "output_text": "one answer"} for i in range(10)
    ]
    made += [
        {"input_text": f"{base} {i}", "output_text": f"{i} stands alone {'y' * i}"}
        for i in range(10)
    ]
    made += [
        {"input_text": f"unlike {'z' * i} others", "output_text": f"so is {'w' * i} this"}
        for i in range(1, 31)
    ]
    ran = run_all(tmp_path, made, **RANDOM_80_20)
    test = side(ran, "test")["input_text"].to_pylist()
    same_answer = sum(text.startswith("question") for text in test)
    near = sum(text.startswith("word0") for text in test)
    assert same_answer > 0
    assert near > 0
    assert card(ran)["leakage"] == {
        "exact": {"rows": same_answer, "share": same_answer / 10},
        "near": {"rows": same_answer + near, "share": (same_answer + near) / 10, "threshold": 0.85},
    }


def test_rows_of_one_id_and_one_author_stay_together(tmp_path):
    made = [
        {
            "input_text": f"question {i} {'x' * i}",
            "output_text": f"answer {i} {'y' * i}",
            "post": str(i // 2),
            "who": None if i % 2 else f"author {i // 20}",
        }
        for i in range(100)
    ]
    ran = run_all(
        tmp_path,
        made,
        dataset__columns__id="post",
        dataset__columns__author="who",
        split__by=["id", "author"],
        split__train=0.6,
        split__validation=0.2,
        split__test=0.2,
    )
    assert (card(ran)["groups"], card(ran)["largest_group"]) == (5, 20)


def test_rows_without_an_author_are_not_one_group(tmp_path):
    made = [{**row, "who": ["", None, "  "][i % 3]} for i, row in enumerate(rows(60))]
    ran = run_all(tmp_path, made, dataset__columns__author="who", split__by=["author"])
    assert card(ran)["largest_group"] == 1


def test_a_group_is_named_by_its_smallest_row_key(tmp_path):
    ran = run_all(tmp_path, rows(80))
    for name in SIDES:
        table = side(ran, name)
        first: dict[str, str] = {}
        for group, key in zip(
            table["group"].to_pylist(), table["row_key"].to_pylist(), strict=True
        ):
            assert first.setdefault(group, key).startswith(group)


def test_a_group_larger_than_the_train_fraction_goes_to_train_and_is_told(tmp_path):
    made = [{"input_text": f"q {i} {'x' * i}", "output_text": "shared answer"} for i in range(90)]
    made += [
        {"input_text": f"p {i} {'z' * i}", "output_text": f"a {i} {'y' * i}"} for i in range(10)
    ]
    ran = run_all(tmp_path, made)
    assert side(ran, "train")["output_text"].to_pylist() == ["shared answer"] * 90
    assert card(ran)["rows"] == {"train": 90, "validation": 5, "test": 5}
    (note,) = [n for n in ran["split"].outcome.facts["notes"] if "one group" in n]
    assert note.startswith("one group has 90 of 100 rows")


def test_another_seed_gives_another_split(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = run_all(tmp_path / "a", rows(100), split__seed=1)
    other = run_all(tmp_path / "b", rows(100), split__seed=2)
    assert card(one)["digest"] != card(other)["digest"]


# ------------------------------------------------------------------- refusals


def test_a_side_left_empty_is_refused(tmp_path):
    with pytest.raises(DataError) as refused:
        run_all(tmp_path, rows(4))
    assert refused.value.problem.startswith("split.validation 0.1 of 4 rows in")
    assert "raise split.validation" in refused.value.hint


def test_one_group_of_all_rows_leaves_no_test_side(tmp_path):
    made = [{"input_text": f"q {i} {'x' * i}", "output_text": "shared answer"} for i in range(50)]
    with pytest.raises(DataError, match="the largest group has 50 rows"):
        run_all(tmp_path, made)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"split__method": "tiem"}, "there is no method 'tiem'"),
        ({"split__by": ["questions"]}, "there is no join 'questions'"),
        ({"split__train": 0.7}, r"0.7 \+ validation 0.1 \+ test 0.1 is 0.9, not 1"),
        ({"split__train": 0.9, "split__test": 0.0}, "split.test 0.0 is not a usable fraction"),
        ({"dataset__formats": ["chats"]}, "there is no format 'chats'"),
        ({"version": "v1/../x"}, "cannot be part of a file name"),
        ({"prompt__system": "Be brief."}, "text_bison has no place for the system text"),
    ],
)
def test_settings_that_cannot_be_followed_are_config_errors(tmp_path, changes, problem):
    with pytest.raises(ConfigError, match=problem):
        run_all(tmp_path, rows(40), **changes)


# --------------------------------------------------------------- what is written


def test_files_are_named_by_version_and_digest_and_listed_with_their_hash(tmp_path):
    ran = run_all(tmp_path, rows(60))
    files = {path.name: path for path in ran["split"].outputs["files"].iterdir()}
    version = card(ran)["dataset_version"]
    assert version == f"v1-{card(ran)['digest'][:8]}"
    assert set(files) == {
        f"{name}-{version}.{kind}.jsonl"
        for name in SIDES
        for kind in ("text_bison", "gemini", "chat")
    } | {"card.md"}
    assert files["card.md"].read_text().startswith(f"# Dataset {version}\n")
    for listed in card(ran)["files"]:
        data = files[listed["name"]].read_bytes()
        assert hashlib.sha256(data).hexdigest() == listed["sha256"]
        assert data.count(b"\n") == listed["rows"] == card(ran)["rows"][listed["side"]]


def test_prompt_and_version_travel_in_the_parquet_metadata(tmp_path):
    ran = run_all(tmp_path, rows(60))
    metadata = side(ran, "test").schema.metadata
    assert metadata[b"llmops.prompt_sha256"].decode() == card(ran)["prompt"]["sha256"]
    assert metadata[b"llmops.dataset_version"].decode() == card(ran)["dataset_version"]


def test_the_digest_covers_the_rendered_text_and_the_sides(tmp_path):
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    one = run_all(folders[0], rows(60))
    prompted = run_all(folders[1], rows(60), prompt__instruction="Reply:")
    renamed = run_all(folders[2], rows(60), prompt__name="another")
    assert card(one)["digest"] != card(prompted)["digest"]
    assert card(one)["digest"] == card(renamed)["digest"]


def test_transform_keeps_the_rows_and_adds_what_the_model_sees(tmp_path):
    ran = run_all(tmp_path, rows(60), prompt__system="Brief.", dataset__formats=["chat"])
    good = pq.read_table(ran["validate"].outputs["rows"])
    examples = pq.read_table(ran["transform"].outputs["examples"])
    assert examples.select(good.column_names).to_pylist() == good.to_pylist()
    assert examples.column_names == [*good.column_names, "input_text_instruct", "system"]
    assert examples["input_text_instruct"].to_pylist() == [
        f"Answer:\n{question}" for question in good["input_text"].to_pylist()
    ]
    assert set(examples["system"].to_pylist()) == {"Brief."}


def test_transform_refuses_a_wrong_template_before_the_first_row(tmp_path):
    source = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"input_text": pa.array([], pa.string())}), source)
    with pytest.raises(ConfigError, match="undefined variable 'body'"):
        run_step(
            transform.KIND,
            config(prompt__template="{{ question }} {{ body }}"),
            {"rows": source},
            tmp_path / "out",
        )
