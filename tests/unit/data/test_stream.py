"""One pass gives the files of the separate steps, whatever it runs with, and never a torn one."""

import dataclasses
import hashlib
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_harness import card_of, config, prepare

from llmops.data import buckets, stream
from llmops.data.cleaning import Asked
from llmops.data.settings import Columns, NearDuplicates, Rules, SplitSettings, Texts
from llmops.errors import BackendError, ConfigError, DataError
from llmops.prompts.prompt import Prompt
from tests.fakes.small_disk import mounted

HASH = SplitSettings("hash", 0.8, 0.1, 0.1, 42, ("question",))
PAIR = Columns("input_text", "output_text")
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


def asked(columns=PAIR, **changes):
    given = {"min_rows": 1, "max_bad_fraction": 1.0}
    rules = Rules(3, 20000, 3, 20000, **given)
    return Asked(columns, rules, Texts("keep", "escape", "escape"), **changes)


def wanted(
    split=HASH, template="{{ instruction }}\n{{ question }}", formats=("text_bison", "chat")
):
    prompt = Prompt("plain", "Answer:", template)
    near = NearDuplicates(0.85, 3, 64)
    return stream.Wanted(prompt.render, prompt.around(), None, split, formats, "v1", near)


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
    assert made.leakage.exact == card["leakage"]["exact"]["rows"]
    counts = {name: steps["validate"].outcome.facts[name] for name in ("good", "duplicates")}
    assert counts == {"good": made.counts.good, "duplicates": made.counts.duplicates}


TAGS = ("<|im_start|>", "[INST]", "[/INST]", "<<SYS>>", "</s>", "<|[INST]|>", "<<|a|>|>", "[]")


@pytest.mark.parametrize("role_tags", ["escape", "keep"])
@pytest.mark.parametrize(
    "template",
    [
        "{{ instruction }}\n{{ question }}",
        "{{ question | truncate(700) }}",  # only longer questions are changed
        "{% if 'word7' in question %}Mind: {% endif %}{{ question }}",
        "{% if instruction %}{{ instruction }}: {% endif %}{{ question }}",
    ],
)
def test_any_row_is_rendered_as_the_separate_steps_do(tmp_path, template, role_tags):
    draw, given = random.Random(2), []
    for number in range(300):
        words = [draw.choice((*TAGS, f"word{draw.randrange(30)}")) for _ in range(number)]
        given.append({"input_text": f"{number} {' '.join(words)}", "output_text": f"ask {number}"})
    pq.write_table(pa.Table.from_pylist(given), tmp_path / "rows.parquet")
    texts = {"html": "keep", "role_tags": role_tags, "control_characters": "keep"}
    values = config(split__method="hash", split__by=[], prompt__template=template)
    values["dataset"] |= {"formats": ["text_bison", "chat"], "texts": texts}
    steps = prepare(tmp_path / "rows.parquet", values, tmp_path / "steps")
    split = SplitSettings("hash", 0.8, 0.1, 0.1, 42, ())
    treated = dataclasses.replace(asked(), texts=Texts(**texts))
    to, how = output(tmp_path / "one"), wanted(split, template)
    made = stream.stream(batches(given, 100), treated, how, to, lambda *_: None)
    folder = steps["split"].outputs["files"]
    known = {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix == ".jsonl"}
    assert files(tmp_path / "one") == known
    assert made.version.digest == card_of(steps)["digest"]


def detailed(count):
    """Rows with every column that a split can go by; some texts differ in a word only."""
    draw, made = random.Random(5), []
    for number in range(count):
        words = [f"word{draw.randrange(400)}" for _ in range(40)]
        for twin in range(1 + (number % 9 == 0)):
            words[twin] = "other" if twin else words[twin]
            tags, author = draw.choice(("a|b", "b", None)), draw.choice(("Ann", "Bo", None, " "))
            written = f"2020-01-{1 + draw.randrange(28):02}T00:00:{number % 60:02}"
            made.append(
                {
                    "input_text": " ".join(words),
                    "output_text": f"answer {draw.randrange(count)} of some length",
                    "tags": tags,
                    "author": f"{author}{number % 50}" if author and author.strip() else author,
                    "created_at": written,
                }
            )
    return [*made, *made[:9]]


@pytest.mark.parametrize(
    ("method", "by"),
    [
        ("group", ("question", "answer", "near_duplicate")),
        ("group", ("author",)),
        ("random", ()),
        ("time", ("question",)),
        ("stratified", ("question", "near_duplicate")),
    ],
)
def test_every_way_to_divide_gives_the_files_of_the_separate_steps(tmp_path, method, by):
    given = detailed(300)
    pq.write_table(pa.Table.from_pylist(given), tmp_path / "rows.parquet")
    divided = {"method": method, "by": list(by), "stratify": "tags"}
    values = config(**{f"split__{key}": value for key, value in divided.items()})
    names = {name: name for name in ("tags", "author", "created_at")}
    values["dataset"]["columns"] |= names
    values["dataset"]["formats"] = ["text_bison", "chat"]
    steps = prepare(tmp_path / "rows.parquet", values, tmp_path / "steps")
    split = SplitSettings(method, 0.8, 0.1, 0.1, 42, by, "tags")
    columns = Columns("input_text", "output_text", **names)
    made = stream.stream(
        batches(given), asked(columns), wanted(split), output(tmp_path / "one"), lambda *_: None
    )
    folder = steps["split"].outputs["files"]
    known = {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix == ".jsonl"}
    assert files(tmp_path / "one") == known
    card = card_of(steps)
    assert len(made.groups.sizes) == card["groups"]
    assert made.leakage.exact == card["leakage"]["exact"]["rows"]
    near = card["leakage"]["near"]["rows"] if "near_duplicate" in by else None
    assert made.leakage.near == near
    profile = json.loads(steps["validate"].outputs["profile"].read_text())
    assert made.profile == profile


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
    def full(self, rows, first_bytes):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(buckets.Buckets, "add", full)
    with pytest.raises(BackendError, match="No space left on device"):
        run(tmp_path, rows(100))
    assert list((tmp_path / "files").iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 2 MB."""
    with mounted(tmp_path / "disk", megabytes=2) as folder:
        yield folder


@pytest.mark.parametrize("place", ["spill", "files", "quarantined"])
@pytest.mark.parametrize("expected_bytes", [None, 0], ids=["256 buckets", "one bucket"])
def test_a_disk_that_is_really_full_is_told_and_leaves_no_spill(
    tmp_path, small_disk, place, expected_bytes
):
    given = [
        {"input_text": f"question {n} " + "x" * 2000, "output_text": "no" if n % 2 else "answer"}
        for n in range(2000)
    ]
    if place == "quarantined":
        (small_disk / "taken").write_bytes(b"x" * (2 << 20))
    to = dataclasses.replace(output(tmp_path), **{place: small_disk / place})
    how = dataclasses.replace(wanted(), expected_bytes=expected_bytes)
    with pytest.raises(BackendError, match="No space left on device"):
        stream.stream(batches(given, 500), asked(), how, to, lambda *_: None)
    assert list(to.spill.glob("*")) == []


def test_a_bucket_gives_its_place_on_the_disk_to_the_files(tmp_path, small_disk):
    given = [
        {"input_text": f"question {n} " + "x" * 2000, "output_text": f"answer {n}"}
        for n in range(600)
    ]
    to = stream.Output(small_disk / "files", tmp_path / "quarantined", small_disk / "spill")
    how = dataclasses.replace(wanted(formats=("chat",)), expected_bytes=10**9)  # 16 buckets
    made = stream.stream(batches(given, 200), asked(), how, to, lambda *_: None)
    assert sum(made.rows.values()) == 600
    assert sum(path.stat().st_size for path in to.files.iterdir()) > 1_200_000


def test_no_rows_are_refused(tmp_path):
    with pytest.raises(DataError, match="no rows"):
        run(tmp_path, [])


def test_batches_without_rows_change_nothing(tmp_path):
    given = list(batches(rows(100)))
    empty = given[0].slice(0, 0)
    for name, sent in (("some", given), ("empty", [empty, *given, empty])):
        to = output(tmp_path / name)
        stream.stream(iter(sent), asked(), wanted(), to, lambda *_: None)
    assert files(tmp_path / "empty") == files(tmp_path / "some")
    with pytest.raises(DataError, match="no rows"):
        stream.stream(iter([empty]), asked(), wanted(), output(tmp_path / "no"), lambda *_: None)


def test_one_row_leaves_a_side_empty_and_is_refused(tmp_path):
    with pytest.raises(DataError, match="is empty"):
        run(tmp_path, [{"input_text": "a question", "output_text": "an answer"}])


def test_all_duplicates_are_one_row(tmp_path):
    with pytest.raises(DataError, match="of 1 rows is empty"):
        run(tmp_path, [{"input_text": "a question", "output_text": "an answer"}] * 500)


def test_a_missing_column_is_named(tmp_path):
    with pytest.raises(ConfigError, match="input_text"):
        run(tmp_path, [{"input_txt": "a question", "output_text": "an answer"}])


def test_a_cell_of_fifty_megabytes_is_set_aside(tmp_path):
    huge = {"input_text": "a question", "output_text": "caf\u00e9 " * 8_000_000}
    made = run(tmp_path, [*rows(200), huge])
    assert made.rules["max_answer_characters"] == 1


@pytest.mark.parametrize(
    ("value", "kind"), [(2**63 - 1, pa.int64()), (2**63, pa.uint64()), (float("nan"), pa.float64())]
)
def test_numbers_at_the_edge_are_the_group_that_they_are(tmp_path, value, kind):
    given = pa.Table.from_pylist(rows(200))
    other = pa.array([number % 7 for number in range(given.num_rows // 2)]).cast(kind)
    edge = pa.array([value] * (given.num_rows - len(other)), kind)
    table = given.append_column("author", pa.chunked_array([other, edge]).combine_chunks())
    by_author = SplitSettings("group", 0.8, 0.1, 0.1, 42, ("author",))
    made = stream.stream(
        iter(table.to_batches(50)),
        asked(Columns("input_text", "output_text", author="author")),
        wanted(by_author),
        output(tmp_path),
        lambda *_: None,
    )
    assert len(made.groups.sizes) == 8
    assert max(made.groups.sizes.values()) > 80


def test_a_column_that_holds_no_text_is_named(tmp_path):
    numbers = [{"input_text": 1, "output_text": "an answer"}]
    with pytest.raises(ConfigError, match="'input_text' holds int64, not text"):
        run(tmp_path, numbers)


def test_a_memory_limit_too_small_says_the_least_that_works(tmp_path):
    with pytest.raises(ConfigError) as refused:
        run(tmp_path, rows(50), memory_limit="1MB")
    assert "the least that works" in refused.value.hint
