"""The split methods: what each promises beyond the promises of every split."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_harness import as_rows, card_of, config, prepare, side_of
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops.data.columns import SIDES
from llmops.data.settings import SplitSettings
from llmops.data.splits import TEST, VALIDATION, hashed_sides, row_draws
from llmops.errors import ConfigError, DataError

WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa")


def unlike(number):
    """A text that is no near-duplicate of another number's."""
    return " ".join(f"{word}{number * 31 + place}" for place, word in enumerate(WORDS))


def made(count, **columns):
    return [
        {
            "input_text": f"question {unlike(i)}",
            "output_text": f"answer {unlike(i)}",
            **{name: value(i) for name, value in columns.items()},
        }
        for i in range(count)
    ]


def run(tmp_path, rows, **changes):
    tmp_path.mkdir(exist_ok=True)
    source = tmp_path / "rows.parquet"
    pq.write_table(as_rows(rows), source)
    return prepare(source, config(**changes), tmp_path)


def sides(ran):
    return {key: name for name in SIDES for key in side_of(ran, name)["row_key"].to_pylist()}


HASH = {"split__method": "hash", "split__by": []}
TIME = {"split__method": "time", "dataset__columns__created_at": "at", "split__by": []}


# ------------------------------------------------------------------------ hash


def test_rows_that_are_added_later_move_none(tmp_path):
    before = sides(run(tmp_path / "a", made(300), **HASH))
    after = sides(run(tmp_path / "b", made(900), **HASH))
    assert {key: after[key] for key in before} == before


def test_a_hash_split_by_question_keeps_equal_questions_together(tmp_path):
    rows = made(400)
    for number, row in enumerate(rows):
        row["input_text"] = f"question {unlike(number // 4)}"
    ran = run(tmp_path, rows, split__method="hash", split__by=["question"])
    found = {name: set(side_of(ran, name)["input_text"].to_pylist()) for name in SIDES}
    assert sum(map(len, found.values())) == 100
    assert card_of(ran)["leakage"]["exact"]["rows"] == 0


# no row expected on a side, or at least 40: a handful is not spread as six deviations assume
@given(st.floats(0.05, 0.4), st.just(0.0) | st.floats(0.01, 0.4), st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_a_hash_split_meets_its_fractions_on_average(test, validation, seed):
    split = SplitSettings("hash", 1 - test - validation, validation, test, seed, ())
    dealt = hashed_sides(row_draws(seed, pa.array(map(str, range(4000)))), split)
    for side, fraction in ((TEST, test), (VALIDATION, validation)):
        deviation = (fraction * (1 - fraction) / 4000) ** 0.5
        assert abs((dealt == side).mean() - fraction) <= 6 * deviation


def test_a_hash_goes_by_one_thing(tmp_path):
    with pytest.raises(ConfigError, match="a row's hash goes by one of"):
        run(tmp_path, made(40), split__method="hash", split__by=["question", "answer"])


# ------------------------------------------------------------------------ time


def day(number):
    return f"2024-01-01 {number // 60:02d}:{number % 60:02d}:00.000000Z"


def test_every_test_row_is_newer_than_every_train_row(tmp_path):
    ran = run(tmp_path, made(100, at=day), **TIME)
    when = {name: side_of(ran, name)["created_at"].to_pylist() for name in SIDES}
    assert max(when["train"]) < min(when["validation"])
    assert max(when["validation"]) < min(when["test"])
    assert card_of(ran)["rows"] == {"train": 80, "validation": 10, "test": 10}


def test_a_group_goes_by_its_latest_row_so_train_holds_nothing_newer(tmp_path):
    rows = made(100, at=day)
    rows[3]["output_text"] = rows[99]["output_text"]
    changes = TIME | {"split__by": ["answer"]}
    ran = run(tmp_path, rows, **changes)
    assert side_of(ran, "test")["created_at"].to_pylist().count(day(3)) == 1
    assert card_of(ran)["leakage"]["exact"]["rows"] == 0


def test_time_has_two_sides_as_well_as_three(tmp_path):
    changes = TIME | {"split__validation": 0.0, "split__train": 0.9}
    assert card_of(run(tmp_path, made(100, at=day), **changes))["rows"] == {
        "train": 90,
        "validation": 0,
        "test": 10,
    }


def test_rows_of_one_moment_leave_no_newer_ones_and_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"is empty.*rows of one moment stay on one side") as caught:
        run(tmp_path, made(100, at=lambda i: day(1)), **TIME)
    assert "a column of finer moments in dataset.columns.created_at" in caught.value.hint


def test_a_row_without_a_moment_cannot_be_split_by_time(tmp_path):
    with pytest.raises(DataError, match="created_at of 50 of 100 rows is no moment"):
        run(tmp_path, made(100, at=lambda i: day(i) if i % 2 else None), **TIME)


def test_time_without_the_column_is_a_mistake_in_the_config(tmp_path):
    with pytest.raises(ConfigError, match=r"dataset\.columns\.created_at is null"):
        run(tmp_path, made(100), split__method="time")


# ------------------------------------------------------------------ stratified


STRATIFIED = {
    "split__method": "stratified",
    "split__stratify": "tags",
    "dataset__columns__tags": "tags",
}


def test_each_stratum_is_held_out_in_proportion(tmp_path):
    rows = made(400, tags=lambda i: "rare|python" if i % 10 == 0 else "common|python")
    ran = run(tmp_path, rows, **STRATIFIED)
    rare = {
        name: sum(t.startswith("rare") for t in side_of(ran, name)["tags"].to_pylist())
        for name in SIDES
    }
    assert rare == {"train": 32, "validation": 4, "test": 4}
    assert card_of(ran)["rows"] == {"train": 320, "validation": 40, "test": 40}


def test_groups_stay_whole_in_a_stratified_split(tmp_path):
    rows = made(300, tags=lambda i: f"t{i % 7}")
    for number, row in enumerate(rows):
        row["output_text"] = f"answer {unlike(number // 3)}"
    ran = run(tmp_path, rows, **STRATIFIED)
    groups = [set(side_of(ran, name)["group"].to_pylist()) for name in SIDES]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 100


def test_strata_too_small_to_split_are_made_up_for_by_others(tmp_path):
    ran = run(tmp_path, made(200, tags=lambda i: f"only{i}"), **STRATIFIED)
    assert card_of(ran)["rows"]["test"] in (19, 20)


def test_a_stratum_needs_its_column(tmp_path):
    with pytest.raises(ConfigError, match=r"dataset\.columns\.tags is null"):
        run(tmp_path, made(50), split__method="stratified", split__stratify="tags")
    with pytest.raises(ConfigError, match="there is no column 'None'"):
        run(tmp_path, made(50), split__method="stratified")


# ----------------------------------------------------------------- every method


@pytest.mark.parametrize("method", ["group", "random", "hash", "time", "stratified"])
def test_leakage_is_measured_whatever_the_method(tmp_path, method):
    rows = made(200, at=day, tags=lambda i: f"t{i % 3}")
    for number in range(0, 200, 2):
        rows[number]["input_text"] = rows[(number + 50) % 200]["input_text"]
    mapped = {"dataset__columns__created_at": "at", "dataset__columns__tags": "tags"}
    ran = run(tmp_path, rows, split__method=method, split__by=[], split__stratify="tags", **mapped)
    train = side_of(ran, "train")
    known = {*train["input_text"].to_pylist()}
    leaked = [q for q in side_of(ran, "test")["input_text"].to_pylist() if q in known]
    assert card_of(ran)["leakage"]["exact"]["rows"] == len(leaked)
    assert card_of(ran)["method"] == method
