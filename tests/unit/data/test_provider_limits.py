"""What a tuner would refuse is left out of its files, and counted; nothing else is."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_harness import card_of, config, limits_of_a_project, prepare, run_step, settings, side_of
from hypothesis import given
from hypothesis import strategies as st

from llmops.data import stream
from llmops.data.cleaning import Asked
from llmops.data.limits import LEFT_OUT, QUANTITIES, Limit, Limits, fit
from llmops.data.settings import Columns, NearDuplicates, Rules, SplitSettings
from llmops.data.splits import TEST, TRAIN, VALIDATION
from llmops.data.texts import Around
from llmops.errors import ConfigError, DataError
from llmops.steps import split, transform
from llmops.steps.split import provider_limits


class Examples:
    """Rows whose figures are known beforehand."""

    def __init__(self, sizes, draws=None):
        self.sizes = np.array(sizes, np.int64)
        self.drawn = np.arange(len(sizes)) if draws is None else np.array(draws)
        self.counted = []

    def draws(self):
        return self.drawn.astype(np.uint64)

    def seen_bytes(self):
        return self.sizes

    def tokens(self, rows):
        self.counted += rows.tolist()
        return self.sizes[rows] // 4

    def line_bytes(self, format):
        return self.sizes


def limits(**at_most):
    found = tuple(Limit(name, value, "a page", "2026-09-25") for name, value in at_most.items())
    return Limits("a model", "gemini", found)


def cut(sides, known, **at_most):
    fitted = fit(np.array(sides, np.int8), limits(**at_most), known)
    return fitted.sides.tolist(), [dict(cut.rows) for cut in fitted.cuts]


def test_an_example_of_too_many_tokens_is_left_out_and_no_other_is_counted():
    known = Examples([400, 404, 100, 4000, 9999])
    sides, cuts = cut([TRAIN, TRAIN, VALIDATION, TRAIN, TEST], known, example_tokens=100)
    assert sides == [TRAIN, LEFT_OUT, VALIDATION, LEFT_OUT, TEST]
    assert cuts == [{"train": 2, "validation": 0}]
    assert known.counted == [0, 1, 3]  # a token is a byte at least


def test_of_too_many_rows_those_stay_that_are_drawn_first():
    known = Examples([1] * 6, draws=[5, 0, 4, 1, 3, 2])
    sides, cuts = cut([TRAIN] * 4 + [VALIDATION] * 2, known, train_rows=2, validation_rows=1)
    assert sides == [LEFT_OUT, TRAIN, LEFT_OUT, TRAIN, LEFT_OUT, VALIDATION]
    assert cuts == [{"train": 2, "validation": 0}, {"train": 0, "validation": 1}]


def test_validation_has_at_most_its_share_of_train():
    sides, cuts = cut([TRAIN] * 10 + [VALIDATION] * 5, Examples([1] * 15), validation_share=0.3)
    assert sides.count(VALIDATION) == 3
    assert cuts == [{"train": 0, "validation": 2}]


@pytest.mark.parametrize(("validation", "kept"), [(4, 4), (5, 4), (20, 6)])
def test_a_share_holds_only_for_a_side_of_more_rows(validation, kept):
    share = Limit("validation_share", 0.3, "a page", "2026-09-25", above_rows=4)
    train = 20 if kept == 6 else 10
    sides = np.array([TRAIN] * train + [VALIDATION] * validation, np.int8)
    fitted = fit(sides, Limits("a model", "gemini", (share,)), Examples([1] * len(sides)))
    assert fitted.sides.tolist().count(VALIDATION) == kept


def test_gemini_takes_a_thousand_validation_rows_whatever_the_train_rows():
    (share,) = (
        limit
        for limit in provider_limits("gemini", "gemini-3.5-flash").limits
        if limit.quantity == "validation_share"
    )
    assert (share.at_most, share.above_rows) == (0.3, 1000)


def test_a_file_has_at_most_its_bytes():
    sides, cuts = cut([TRAIN] * 4 + [TEST], Examples([100] * 5), file_bytes=250)
    assert sides == [TRAIN, TRAIN, LEFT_OUT, LEFT_OUT, TEST]
    assert cuts == [{"train": 2, "validation": 0}]


def test_a_side_of_which_nothing_would_be_left_is_refused():
    with pytest.raises(DataError, match=r"no row of train fits a model: example_tokens"):
        cut([TRAIN, TEST], Examples([1000, 1]), example_tokens=10)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5000)), min_size=1, max_size=40),
    st.dictionaries(st.sampled_from(QUANTITIES), st.integers(1, 2000)),
)
def test_every_row_that_a_side_loses_is_counted_and_test_loses_none(rows, at_most):
    sides = [side for side, _ in rows]
    try:
        fitted, cuts = cut(sides, Examples([size for _, size in rows]), **at_most)
    except DataError:
        return
    for side, name in ((TRAIN, "train"), (VALIDATION, "validation")):
        assert sides.count(side) - fitted.count(side) == sum(cut[name] for cut in cuts)
    assert fitted.count(TEST) == sides.count(TEST)


# ------------------------------------------------------------------- in the step


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose own table of limits is ``write(quantity=at_most, ...)``."""

    def write(**at_most):
        limits_of_a_project(tmp_path, monkeypatch, at_most)

    return write


def rows(path, count=200):
    made = [
        {
            "input_text": f"question number {n} is asked " + "again " * (n % 7),
            "output_text": f"answer number {n} " + "words " * (40 if n % 10 == 0 else 2),
        }
        for n in range(count)
    ]
    pq.write_table(pa.Table.from_pylist(made), path)
    return made


def test_the_split_leaves_out_what_the_chosen_tuner_refuses(tmp_path, project):
    project(example_tokens=50, train_rows=100, validation_rows=5)
    rows(tmp_path / "rows.parquet")
    values = config(dataset__formats=["gemini"]) | {"model": {"kind": "gemini", "base": "x"}}
    ran = prepare(tmp_path / "rows.parquet", values, tmp_path / "out")
    card = card_of(ran)
    told = {one["quantity"]: one["rows"] for one in card["limits"]["cut"]}
    free = card_of(prepare(tmp_path / "rows.parquet", config(), tmp_path / "free"))
    for side in ("train", "validation"):
        lost = free["rows"][side] - card["rows"][side]
        assert lost == sum(rows[side] for rows in told.values())
    assert card["limits"]["of"] == "x"
    assert told["example_tokens"]["train"] > 0
    assert card["rows"]["train"] <= 100
    assert card["rows"]["validation"] == 5
    assert card["rows"]["test"] == free["rows"]["test"]
    assert side_of(ran, "train").num_rows == card["rows"]["train"]
    files = ran["split"].outputs["files"]
    for file in card["files"]:
        assert (files / file["name"]).read_text().count("\n") == card["rows"][file["side"]]
    assert "example_tokens" in (files / "card.md").read_text()
    assert any("left out" in note for note in ran["split"].outcome.facts["notes"])


def test_a_changed_limit_is_in_the_steps_key(project):
    chosen = {"model": {"kind": "gemini", "base": "x"}}
    facts = []
    for rows_at_most in (100, 200):
        project(train_rows=rows_at_most)
        facts.append(split.source(settings(split.KIND, config() | chosen), None).facts)
    assert facts[0] != facts[1]


def test_a_model_of_this_machine_has_no_limits_on_data():
    assert split.provider_limits("local", "SmolLM2").limits == ()
    assert split.provider_limits(None, None).limits == ()


def test_the_tables_limits_on_data_are_those_that_the_split_knows():
    found = split.provider_limits("gemini", "gemini-2.5-flash")
    assert {limit.quantity for limit in found.limits} == {*QUANTITIES}
    assert found.format == "gemini"


def test_one_pass_leaves_out_the_same_rows(tmp_path, project):
    project(example_tokens=50, train_rows=100, file_bytes=20_000)
    given = rows(tmp_path / "rows.parquet")
    changes = {"split__method": "hash", "split__by": [], "dataset__formats": ["gemini"]}
    values = config(**changes) | {"model": {"kind": "gemini", "base": "x"}}
    steps = prepare(tmp_path / "rows.parquet", values, tmp_path / "steps")
    wanted = stream.Wanted(
        render=lambda question: f"Answer:\n{question}",
        around=Around("Answer:\n", ""),
        system=None,
        split=SplitSettings("hash", 0.8, 0.1, 0.1, 42, ()),
        formats=("gemini",),
        tag="v1",
        near_duplicates=NearDuplicates(0.85, 3, 64),
        limits=split.provider_limits("gemini", "x"),
    )
    asked = Asked(Columns("input_text", "output_text"), Rules(3, 20000, 3, 20000, 1.0, 1))
    to = stream.Output(tmp_path / "files", tmp_path / "quarantined", tmp_path / "spill")
    batches = pa.Table.from_pylist(given).to_batches(37)
    made = stream.stream(iter(batches), asked, wanted, to, lambda *_: None)
    card = card_of(steps)
    assert made.limits == card["limits"]
    assert [file.sha256 for file in made.files] == [file["sha256"] for file in card["files"]]
    assert made.version.digest == card["digest"]


# ------------------------------------------------------------------- memory


def test_a_memory_limit_too_small_for_the_rows_says_the_least_that_works(tmp_path):
    rows(tmp_path / "rows.parquet", 400)
    values = config(dataset__memory_limit="134218KB")
    with pytest.raises(ConfigError, match=r"too small for the split of 400 rows") as refused:
        prepare(tmp_path / "rows.parquet", values, tmp_path / "out")
    least = refused.value.hint.split()[-1]
    prepare(tmp_path / "rows.parquet", config(dataset__memory_limit=least), tmp_path / "again")


def test_transform_refuses_a_memory_limit_that_is_too_small(tmp_path):
    rows(tmp_path / "rows.parquet")
    with pytest.raises(ConfigError, match="too small to work with"):
        run_step(
            transform.KIND,
            config(dataset__memory_limit="1MB"),
            {"rows": tmp_path / "rows.parquet"},
            tmp_path / "out",
        )
