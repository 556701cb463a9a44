"""validate: in = good + quarantined + duplicates, whatever comes in, in whatever order."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_harness import config, run_step
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from llmops.data import buckets, parquet
from llmops.data.profile import Counts
from llmops.errors import ConfigError, DataError
from llmops.steps.validate import KIND

GOOD = {"input_text": "How do I open a file?", "output_text": "Call open() on its path."}
CELL = st.one_of(st.none(), st.text(max_size=12), st.sampled_from(["same question", "same answer"]))
ROWS = st.lists(st.tuples(CELL, CELL), min_size=1, max_size=30)
FILES = hypothesis_settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def validate(tmp_path, rows, **changes):
    source = tmp_path / "rows.parquet"
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows, schema=_schema(rows))
    pq.write_table(table, source)
    return run_step(KIND, config(**changes), {"rows": source}, tmp_path / "out")


def _schema(rows):
    return pa.schema([(name, pa.string()) for name in rows[0]])


def quarantined(ran):
    return pq.read_table(ran.outputs["quarantined"]).to_pylist()


def pairs(cells):
    return [{"input_text": q, "output_text": a} for q, a in cells]


def broken_text(data):
    """A string array of one cell with these bytes, as a reader that does not check hands it on."""
    cell = pa.array([data], pa.binary())
    return pa.StringArray.from_buffers(1, cell.buffers()[1], cell.buffers()[2])


# ------------------------------------------------------------------ properties


@FILES
@given(ROWS)
def test_every_row_is_good_quarantined_or_a_duplicate(tmp_path, cells):
    cells = [*cells, ("kept question", "kept answer")]
    ran = validate(tmp_path, pairs(cells))
    good = pq.read_table(ran.outputs["rows"])
    keys = good["row_key"].to_pylist()
    assert keys == sorted(set(keys))
    profile = json.loads(ran.outputs["profile"].read_text())
    assert profile["rows"] == {
        "in": len(cells),
        "good": len(keys),
        "quarantined": len(quarantined(ran)),
        "duplicates": len(cells) - len(keys) - len(quarantined(ran)),
    }


@FILES
@given(ROWS, st.randoms(use_true_random=False), st.sampled_from([1, 100, 10**6]))
def test_any_row_order_and_batch_size_give_the_same_bytes(tmp_path, cells, random, batch_bytes):
    cells = [*cells, ("kept question", "kept answer"), ("kept question\r", "kept answer ")]
    first = validate(tmp_path, pairs(cells)).outputs["rows"].read_bytes()
    random.shuffle(cells)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "BATCH_BYTES", batch_bytes)
        again = validate(tmp_path, pairs(cells)).outputs["rows"].read_bytes()
    assert again == first


@pytest.mark.parametrize(("bucket_bytes", "bits"), [(64 << 10, 3), (64, 8)])
def test_many_buckets_give_the_same_bytes_as_one(tmp_path, monkeypatch, bucket_bytes, bits):
    rows = pairs((f"question number {i % 9000}", f"answer {i % 9000}") for i in range(10_000))
    one = validate(tmp_path, rows).outputs["rows"].read_bytes()
    monkeypatch.setattr(buckets, "BUCKET_BYTES", bucket_bytes)
    assert buckets.prefix_bits(parquet.count_bytes(tmp_path / "rows.parquet")) == bits
    many = validate(tmp_path, rows)
    assert many.outputs["rows"].read_bytes() == one
    assert many.outcome.facts["duplicates"] == 1000


def test_losing_a_row_is_a_bug_of_ours():
    with pytest.raises(RuntimeError, match="lost or made up"):
        Counts(given=3, good=1, quarantined=0, duplicates=1).check()


# ------------------------------------------------------------------- bad cells


@pytest.mark.parametrize(
    ("rule", "column", "change", "excerpt"),
    [
        ("missing", "input_text", {"input_text": None}, None),
        ("missing", "output_text", {"output_text": None}, None),
        ("empty", "output_text", {"output_text": " \n\t"}, " \\n\\t"),
        ("nul", "input_text", {"input_text": "a\0b question"}, "a\\x00b question"),
        ("replacement_character", "output_text", {"output_text": "caf\ufffd"}, "caf\ufffd"),
        ("min_answer_characters", "output_text", {"output_text": "ok"}, "ok"),
        ("max_question_characters", "input_text", {"input_text": "q" * 10_000_001}, "q" * 200),
    ],
)
def test_a_bad_cell_sends_its_row_to_the_quarantine(tmp_path, rule, column, change, excerpt):
    ran = validate(tmp_path, [GOOD, {**GOOD, **change}])
    (record,) = quarantined(ran)
    del record["row_key"]
    assert record == {"rule": rule, "column": column, "excerpt": excerpt, "position": 1}
    assert ran.outcome.facts["good"] == 1


@pytest.mark.parametrize("data", [b"half of a \xed\xa0\x80 pair", b"latin caf\xe9"])
def test_a_cell_that_is_not_utf8_sends_its_row_to_the_quarantine(tmp_path, data):
    good = pa.table({name: [text] for name, text in GOOD.items()})
    bad = pa.table({"input_text": ["Is it broken?"], "output_text": broken_text(data)})
    ran = validate(tmp_path, pa.concat_tables([good, bad]))
    (record,) = quarantined(ran)
    assert (record["rule"], record["column"]) == ("not_utf8", "output_text")
    assert record["excerpt"] == data.decode(errors="backslashreplace")
    assert record["row_key"] is None


def test_nul_and_broken_bytes_are_found_in_optional_columns_too(tmp_path):
    ran = validate(
        tmp_path,
        [{**GOOD, "who": "Ada"}, {**GOOD, "input_text": "And this one?", "who": "E\0ve"}],
        dataset__columns__author="who",
    )
    (record,) = quarantined(ran)
    assert (record["rule"], record["column"]) == ("nul", "who")


def test_a_row_is_quarantined_once_under_the_first_rule_it_breaks(tmp_path):
    ran = validate(tmp_path, [GOOD, {"input_text": None, "output_text": "\0"}])
    assert [record["rule"] for record in quarantined(ran)] == ["missing"]


def test_a_duplicate_differs_only_in_what_normalising_removes(tmp_path):
    twin = {"input_text": GOOD["input_text"] + " \r\n", "output_text": GOOD["output_text"]}
    ran = validate(tmp_path, [twin, GOOD])
    assert ran.outcome.facts["duplicates"] == 1
    assert pq.read_table(ran.outputs["rows"])["input_text"].to_pylist() == [GOOD["input_text"]]


def test_a_bidi_override_in_an_excerpt_is_escaped(tmp_path):
    ran = validate(tmp_path, [GOOD, {**GOOD, "input_text": "a\u202e\0"}])
    assert quarantined(ran)[0]["excerpt"] == "a\\u202e\\x00"


# ------------------------------------------------------------------ bad results


def test_a_query_without_rows_is_refused(tmp_path):
    empty = pa.table({"input_text": pa.array([], "string"), "output_text": pa.array([], "string")})
    with pytest.raises(DataError, match="returned no rows"):
        validate(tmp_path, empty)


def test_too_many_bad_rows_are_refused_with_counts_and_an_example(tmp_path):
    rows = [
        GOOD,
        {**GOOD, "output_text": "ok"},
        {**GOOD, "output_text": "no"},
        {**GOOD, "input_text": None},
    ]
    with pytest.raises(DataError) as refused:
        validate(tmp_path, rows, dataset__rules__max_bad_fraction=0.5)
    assert refused.value.problem == (
        "3 of 4 rows (75%) break a rule, more than dataset.rules.max_bad_fraction 0.5 allows: "
        "min_answer_characters 2, missing 1; "
        "for example row 1, column output_text, min_answer_characters: 'ok'"
    )
    assert "dataset.rules.min_answer_characters" in refused.value.hint


def test_the_bad_fraction_itself_is_still_allowed(tmp_path):
    rows = [GOOD, {**GOOD, "output_text": None}]
    assert validate(tmp_path, rows, dataset__rules__max_bad_fraction=0.5).outcome.rows["rows"] == 1


def test_too_few_good_rows_are_refused_with_what_became_of_the_others(tmp_path):
    with pytest.raises(DataError) as refused:
        validate(tmp_path, [GOOD, GOOD, {**GOOD, "output_text": None}], dataset__rules__min_rows=2)
    assert refused.value.problem == (
        "1 good rows are fewer than dataset.rules.min_rows 2: the query gave 3, 1 were "
        "duplicates, 1 were quarantined (missing 1)"
    )


def test_a_column_that_the_query_lacks_is_named_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError) as refused:
        validate(tmp_path, [GOOD], dataset__columns__answer="output_txt")
    assert "dataset.columns.answer" in refused.value.problem
    assert "did you mean 'output_text'?" in refused.value.hint


def test_a_question_that_is_not_text_is_refused(tmp_path):
    rows = pa.table({"input_text": [1], "output_text": ["one"]})
    with pytest.raises(ConfigError, match="'input_text' holds int64, not text"):
        validate(tmp_path, rows)


def test_a_rule_that_no_row_can_keep_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"min_answer_characters 9 is above"):
        validate(
            tmp_path,
            [GOOD],
            dataset__rules__min_answer_characters=9,
            dataset__rules__max_answer_characters=8,
        )


# ------------------------------------------------------------------- good rows


def test_mapped_columns_become_strings_and_others_are_left_out(tmp_path):
    rows = pa.table({**{k: [v] for k, v in GOOD.items()}, "number": [7], "score": [1.5]})
    ran = validate(tmp_path, rows, dataset__columns__id="number")
    good = pq.read_table(ran.outputs["rows"])
    assert good.column_names == ["row_key", "input_text", "output_text", "id"]
    assert good["id"].to_pylist() == ["7"]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_every_arrow_type_of_text_is_read(tmp_path, kind):
    rows = pa.table({name: pa.array([text]).cast(kind) for name, text in GOOD.items()})
    good = pq.read_table(validate(tmp_path, rows).outputs["rows"])
    assert good.select(list(GOOD)).to_pylist() == [GOOD]


def test_the_profile_tells_lengths_tags_and_distinct_texts(tmp_path):
    rows = [
        {"input_text": "q" * 10, "output_text": "a" * 100, "tags": "python|pandas"},
        {"input_text": "q" * 10, "output_text": "b" * 300, "tags": "<python><io>"},
        {"input_text": "r" * 20, "output_text": "a" * 100, "tags": None},
    ]
    ran = validate(tmp_path, rows, dataset__columns__tags="tags")
    profile = json.loads(ran.outputs["profile"].read_text())
    assert profile["texts"]["question"]["distinct"] == 2
    assert profile["texts"]["answer"]["characters"] == {
        "min": 100,
        "p10": 100,
        "p50": 100,
        "p90": 300,
        "p99": 300,
        "max": 300,
        "mean": 166.667,
        "histogram": {"edges": [64, 128, 256, 512], "counts": [2, 0, 1]},
    }
    assert profile["tags"][0] == {"tag": "python", "rows": 2}
    assert profile["missing"] == {"tags": 1}
    assert sum(profile["rules"].values()) == 0
