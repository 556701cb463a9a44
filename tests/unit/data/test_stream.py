"""One pass gives the files of the separate steps, whatever it runs with, and never a torn one."""

import dataclasses
import hashlib
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_harness import card_of, config, prepare

from llmops.data import buckets, stream
from llmops.data.cleaning import Asked
from llmops.data.settings import Columns, Rules, SplitSettings, Texts
from llmops.errors import BackendError, ConfigError, DataError
from llmops.prompts.prompt import Prompt

HASH = SplitSettings("hash", 0.8, 0.1, 0.1, 42, ("question",))
WORDS = (
    "list",
    "caf\u00e9",
    "\u65e5\u672c",
    "e\u0301",
    "line\r\nend",
    "a\u2028b",
    "</code>",
    '"q"',
)


def rows(count, seed=0):
    draw = random.Random(seed)
    made = []
    for number in range(count):
        question = f"question {draw.randrange(count)} " + " ".join(draw.choices(WORDS, k=8))
        answer = (
            f"answer {number % (count * 9 // 10)} " + draw.choice(WORDS) + draw.choice(("", " \n"))
        )
        made.append({"input_text": question, "output_text": answer if number % 50 else None})
    return [*made, *made[: count // 10]]


def asked(**changes):
    given = {"min_rows": 1, "max_bad_fraction": 1.0}
    rules = Rules(3, 20000, 3, 20000, **given)
    return Asked(
        Columns("input_text", "output_text"), rules, Texts("keep", "escape", "escape"), **changes
    )


def wanted(
    split=HASH, template="{{ instruction }}\n{{ question }}", formats=("text_bison", "chat")
):
    prompt = Prompt("plain", "Answer:", template)
    return stream.Wanted(prompt.render, None, split, formats, "v1")


def output(tmp_path):
    tmp_path.mkdir(exist_ok=True)
    return stream.Output(tmp_path / "files", tmp_path / "quarantined.parquet", tmp_path / "spill")


def batches(given, size=100):
    yield from pa.Table.from_pylist(given).to_batches(size)


def run(tmp_path, given, size=100, **changes):
    to = output(tmp_path)
    how = changes.pop("wanted", None) or wanted()
    return stream.stream(batches(given, size), asked(**changes), how, to, lambda *_: None)


def files(tmp_path):
    return {path.name: path.read_bytes() for path in (tmp_path / "files").iterdir()}


@pytest.mark.parametrize(
    "template", ["{{ instruction }}\n{{ question }}", "{{ question | upper }}!"]
)
@pytest.mark.parametrize("by", [(), ("question",), ("answer",)])
def test_the_files_are_those_of_the_separate_steps(tmp_path, by, template):
    given = rows(400)
    pq.write_table(pa.Table.from_pylist(given), tmp_path / "rows.parquet")
    values = config(split__method="hash", split__by=list(by), prompt__template=template)
    values["dataset"]["formats"] = ["text_bison", "chat"]
    steps = prepare(tmp_path / "rows.parquet", values, tmp_path / "steps")
    split = SplitSettings("hash", 0.8, 0.1, 0.1, 42, by)
    made = run(tmp_path / "one", given, wanted=wanted(split, template))
    folder = steps["split"].outputs["files"]
    known = {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix == ".jsonl"}
    assert files(tmp_path / "one") == known
    card = card_of(steps)
    assert (made.version.digest, made.rows) == (card["digest"], card["rows"])
    assert made.leaked == card["leakage"]["exact"]["rows"]
    counts = {name: steps["validate"].outcome.facts[name] for name in ("good", "duplicates")}
    assert counts == {"good": made.counts.good, "duplicates": made.counts.duplicates}


@pytest.mark.parametrize("seed", range(4))
def test_no_setting_changes_a_byte(tmp_path, seed, monkeypatch):
    draw, given = random.Random(seed), rows(300)
    run(tmp_path / "a", given)
    draw.shuffle(given)
    monkeypatch.setattr(stream, "AHEAD", draw.randrange(1, 5))
    limit = draw.choice(("150MB", "1GB", "4GB"))
    expected = draw.choice((None, 0, 10**9, 10**11))
    how = dataclasses.replace(wanted(), expected_bytes=expected)
    run(tmp_path / "b", given, size=draw.randrange(1, 200), memory_limit=limit, wanted=how)
    assert files(tmp_path / "b") == files(tmp_path / "a")


def test_each_file_has_the_sha256_that_is_told(tmp_path):
    made = run(tmp_path, rows(200))
    for told in made.files:
        data = files(tmp_path)[told.name]
        assert hashlib.sha256(data).hexdigest() == told.sha256
        assert data.count(b"\n") == told.rows


# ------------------------------------------------------------------- bad input


def test_a_warehouse_that_stops_in_mid_stream_is_told_and_leaves_no_file(tmp_path):
    def stopping():
        yield from batches(rows(200))
        raise BackendError("the warehouse failed: connection lost", retryable=True)

    to = output(tmp_path)
    with pytest.raises(BackendError, match="connection lost"):
        stream.stream(stopping(), asked(), wanted(), to, lambda *_: None)
    assert list(to.files.iterdir()) == []
    assert list(to.spill.iterdir()) == []


def test_a_disk_that_fills_in_mid_spill_is_a_backend_error(tmp_path, monkeypatch):
    def full(self, rows):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(buckets.Buckets, "add", full)
    with pytest.raises(BackendError, match="No space left on device"):
        run(tmp_path, rows(100))
    assert list((tmp_path / "files").iterdir()) == []


def test_no_rows_are_refused(tmp_path):
    with pytest.raises(DataError, match="no rows"):
        run(tmp_path, [])


def test_one_row_leaves_a_side_empty_and_is_refused(tmp_path):
    with pytest.raises(DataError, match="is empty"):
        run(tmp_path, [{"input_text": "a question", "output_text": "an answer"}])


def test_all_duplicates_are_one_row(tmp_path):
    with pytest.raises(DataError, match="of 1 rows is empty"):
        run(tmp_path, [{"input_text": "a question", "output_text": "an answer"}] * 500)


def test_a_missing_column_is_named(tmp_path):
    with pytest.raises(ConfigError, match="input_text"):
        run(tmp_path, [{"input_txt": "a question", "output_text": "an answer"}])


def test_a_split_that_needs_all_rows_is_refused_before_any_is_read(tmp_path):
    by_group = SplitSettings("group", 0.8, 0.1, 0.1, 42, ("question",))
    with pytest.raises(ConfigError, match="one pass divides by hash"):
        run(tmp_path, rows(50), wanted=wanted(by_group))


def test_a_memory_limit_too_small_says_the_least_that_works(tmp_path):
    with pytest.raises(ConfigError) as refused:
        run(tmp_path, rows(50), memory_limit="1MB")
    assert "the least that works" in refused.value.hint
