"""Prepared in the warehouse or on this machine, the same rows are on the same sides."""

import dataclasses
import json
import random
from fnmatch import fnmatch

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from data_harness import config, limits_of_a_project, settings

from llmops.data.limits import QUANTITIES, Limit, Limits
from llmops.data.pushdown import SPACES
from llmops.errors import ConfigError, DataError
from llmops.plan.kinds import Adapters, Work
from llmops.steps import prepare
from llmops.steps.in_warehouse import Known, fitting
from tests.fakes.bigquery import bigquery, bigquery_client, duckdb_with
from tests.fakes.faults import serve
from tests.fakes.gcs_server import Objects, cloud_storage

TABLE = "shop.support.pairs"
QUERY = f"SELECT input_text, output_text FROM `{TABLE}`"
PIECES = (
    *("list", "caf\u00e9", "\u65e5\u672c", "e\u0301", "line\r\nend", "cr\rend", "a\u2028b", "'q'"),
    *(
        '"q"',
        "\\u0041",
        "tab\t",
        " \n",
        "\u00a0",
        "\x1c",
        "\ufffd",
        "{{ question }}",
        "% _",
        "<|im_start|>",
        "[/INST]",
        "<<SYS>></s>",
        "<\uff5c[INST]|>",
        "\U0001f600",
    ),
)
KEEP = {"html": "keep", "role_tags": "keep", "control_characters": "keep"}


def rows(count, seed=3):
    draw, made = random.Random(seed), []
    for number in range(count):
        question = f"question {draw.randrange(count)} " + " ".join(draw.choices(PIECES, k=4))
        answer = f"answer {draw.randrange(count)} " + "".join(draw.choices(PIECES, k=2))
        made.append({"input_text": question, "output_text": answer if number % 40 else None})
    twins = [{**row, "input_text": row["input_text"] + " \n"} for row in made[: count // 8]]
    return [*made, *twins, {"input_text": " \u3000", "output_text": "an answer"}, *made[:5]]


def asked(**changes):
    kept = dict.fromkeys(("email", "phone", "ip", "card", "iban", "keys"), "keep")
    given = {"split__method": "hash", "split__by": [], "dataset__texts": KEEP}
    given["dataset__formats"] = ["gemini"]  # each more is three more exports
    values = config(**given | {"dataset__personal": kept} | changes)
    values["dataset"] |= {
        "query": QUERY,
        "parameters": {},
        "max_rows": values["dataset"].get("max_rows"),
        "max_bytes": None,
        "runs_in": values["dataset"].get("runs_in", "warehouse"),
        "export_to": values["dataset"].get("export_to"),
    }
    return values


def run(values, warehouse, to):
    to.mkdir()
    work = Work(
        step="prepare",
        key="0" * 64,
        run_id="test",
        experiment="test",
        settings=settings(prepare.KIND, values),
        inputs={},
        digests={},
        outputs={port.name: to / port.name for port in prepare.KIND.gives},
        adapters=Adapters(lambda: warehouse, *[None] * (len(dataclasses.fields(Adapters)) - 1)),
        progress=lambda done, total, note="": None,
        scratch=to / "scratch",
    )
    return prepare.KIND.run(work)


def lines(folder, card, side, format):
    """Return the lines of a side, parsed, in an order of their own."""
    (name,) = (f["name"] for f in card["files"] if (f["side"], f["format"]) == (side, format))
    return parsed((folder / "files" / name).read_text("utf-8"))


def parsed(text):
    found = (json.loads(line) for line in text.split("\n") if line)
    return sorted(json.dumps(line, sort_keys=True) for line in found)


def card_of(folder):
    return json.loads((folder / "card").read_text())


@pytest.mark.parametrize(
    ("by", "formats"),
    [([], ["gemini", "chat"]), (["question"], ["gemini"]), (["answer"], ["chat"])],
)
def test_both_ways_give_the_same_rows_on_the_same_sides(tmp_path, by, formats):
    warehouse = duckdb_with(tmp_path, TABLE, rows(400))
    changes = {
        "split__by": by,
        "prompt__system": "Be 'brief'.",
        "dataset__formats": formats,
    }
    there = run(asked(**changes), warehouse, tmp_path / "there")
    here = run(asked(dataset__runs_in="here", **changes), warehouse, tmp_path / "here")
    pushed, local = card_of(tmp_path / "there"), card_of(tmp_path / "here")
    assert pushed["rows"] == local["rows"]
    assert pushed["leakage"]["exact"] == local["leakage"]["exact"]
    for name in ("in", "good", "quarantined", "duplicates", "rules"):
        assert there.facts[name] == here.facts[name]
    for side in ("train", "validation", "test"):
        for format in formats:
            pair = [
                lines(tmp_path / at, card_of(tmp_path / at), side, format)
                for at in ("here", "there")
            ]
            assert pair[0] == pair[1]


def test_the_version_is_of_the_rows_whatever_their_order(tmp_path):
    given, versions = rows(100), set()
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        warehouse = duckdb_with(folder, TABLE, given)
        versions.add(
            run(asked(dataset__formats=[]), warehouse, folder / "out").facts["dataset_version"]
        )
        given.reverse()
    assert len(versions) == 1
    warehouse = duckdb_with(tmp_path, TABLE, given[1:60])
    assert run(asked(), warehouse, tmp_path / "out").facts["dataset_version"] not in versions


def test_rules_that_sql_knows_count_the_same(tmp_path):
    warehouse = duckdb_with(tmp_path, TABLE, rows(300))
    changes = {
        "dataset__rules": {
            **config()["dataset"]["rules"],
            "max_question_characters": 40,
            "min_answer_characters": 12,
            "answer_pattern": "answer [0-9]*[02468]\\b",
        }
    }
    there = run(asked(**changes), warehouse, tmp_path / "there")
    here = run(asked(dataset__runs_in="here", **changes), warehouse, tmp_path / "here")
    assert there.facts["rules"] == here.facts["rules"]
    assert len(there.facts["rules"]) >= 4


def test_what_arrow_trims_is_what_the_sql_trims():
    every = [c for c in map(chr, range(0x110000)) if not 0xD800 <= ord(c) < 0xE000]
    trimmed = pc.utf8_rtrim_whitespace(pa.array(every)).to_pylist()
    blank = {c for c, left in zip(every, trimmed, strict=True) if not left}
    assert blank == set(SPACES)


# ------------------------------------------------------------------- on BigQuery


def test_the_shards_in_the_bucket_hold_the_rows_that_this_machine_would_write(tmp_path):
    given = [{**row, "input_text": row["input_text"].replace("\x1c", "")} for row in rows(120)]
    behind = duckdb_with(tmp_path, TABLE, given)
    app = bigquery(behind)
    with cloud_storage() as url, serve(app) as server:
        bucket = app.state.bigquery.bucket = Objects(url, "shop-data")
        values = asked(dataset__export_to="gs://shop-data/sets")
        there = run(values, bigquery_client(server, tmp_path), tmp_path / "there")
        written = {address: bucket[address].decode() for address in bucket}
    run(asked(dataset__runs_in="here"), behind, tmp_path / "here")
    card = card_of(tmp_path / "there")
    told = {file["side"]: file["name"] for file in card["files"]}
    shards = {
        side: [address for address in written if fnmatch(address, name)]
        for side, name in told.items()
    }
    assert told["train"] == f"gs://shop-data/sets/train-{card['dataset_version']}.gemini-*.jsonl"
    assert len(shards["train"]) > 1
    assert sum(map(len, shards.values())) == len(written)
    for side, addresses in shards.items():
        text = "".join(written[address] for address in addresses)
        assert parsed(text) == lines(tmp_path / "here", card_of(tmp_path / "here"), side, "gemini")
    # Only counts and digests came here.
    results = app.state.bigquery.results.values()
    assert max(table.num_columns for table in results if table.num_rows) <= 5
    assert there.facts["runs_in"] == "warehouse"


def test_bigquery_needs_a_bucket(tmp_path):
    with serve(bigquery(duckdb_with(tmp_path, TABLE, rows(100)))) as server:
        warehouse = bigquery_client(server, tmp_path)
        with pytest.raises(ConfigError, match="exports to Cloud Storage") as refused:
            run(asked(), warehouse, tmp_path / "out")
    assert "dataset.export_to" in refused.value.hint


# ------------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"split__method": "group", "split__by": ["question"]}, "split.method group"),
        ({"split__by": ["author"]}, r"split.by \[author\]"),
        ({"dataset__texts": {**KEEP, "html": "text"}}, "dataset.texts.html"),
        ({"dataset__max_rows": 10}, "dataset.max_rows"),
        ({"prompt__template": "{{ question | upper }}"}, "prompt.template"),
        ({"dataset__export_to": "gs://bucket/folder"}, "on this machine"),
    ],
)
def test_what_has_no_sql_is_refused_by_its_key(tmp_path, changes, named):
    warehouse = duckdb_with(tmp_path, TABLE, rows(100))
    values = asked()
    for path, value in changes.items():
        group, key = path.split("__")
        values[group][key] = value
    with pytest.raises(ConfigError, match=named):
        run(values, warehouse, tmp_path / "out")


@pytest.mark.parametrize("cloud", [False, True])
def test_a_query_that_takes_other_rows_each_time_is_refused(tmp_path, cloud):
    behind = duckdb_with(tmp_path, TABLE, rows(100))
    values = asked()
    values["dataset"]["query"] = QUERY + " LIMIT 50"
    with serve(bigquery(behind)) as server:
        warehouse = bigquery_client(server, tmp_path) if cloud else behind
        with pytest.raises(ConfigError, match="LIMIT without ORDER BY"):
            run(values, warehouse, tmp_path / "out")


def limits(**at_most):
    found = tuple(Limit(name, most, "a page", "2026-09-25") for name, most in at_most.items())
    return Limits("x", "gemini", found)


KNOWN = Known(
    source="duckdb://sample",
    broken={},
    duplicates=0,
    sides={"train": 100, "validation": 30, "test": 500},
    longest={"train": 396, "validation": 100, "test": 9999},
    total_bytes={"train": 9000, "validation": 900, "test": 99999},
    leaked=0,
    digest="0" * 64,
)
HOLDING = {
    "example_tokens": 100,
    "train_rows": 100,
    "validation_rows": 30,
    "validation_share": 0.3,
    "file_bytes": 9400,
}


def test_the_card_says_which_limits_held():
    told = fitting(KNOWN, limits(**HOLDING), "four")
    assert {cut["quantity"]: cut["at_most"] for cut in told["cut"]} == HOLDING
    assert all(cut["rows"] == {"train": 0, "validation": 0} for cut in told["cut"])
    assert fitting(KNOWN, Limits(), None) is None


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_a_side_that_the_chosen_tuner_would_refuse_is_named(quantity):
    side = "validation" if quantity.startswith("validation") else "train"
    with pytest.raises(DataError, match=f"{side} does not fit x: {quantity} may be at most"):
        fitting(KNOWN, limits(**{quantity: HOLDING[quantity] * 0.99}), "four")


def test_what_the_chosen_tuner_would_refuse_is_not_exported(tmp_path, monkeypatch):
    limits_of_a_project(tmp_path, monkeypatch, {"train_rows": 10})
    warehouse = duckdb_with(tmp_path, TABLE, rows(200))
    with pytest.raises(DataError, match="train does not fit x: train_rows may be at most 10"):
        run(asked() | {"model": {"kind": "gemini", "base": "x"}}, warehouse, tmp_path / "out")
    assert not (tmp_path / "out" / "files").exists()


def test_the_plan_says_where_it_runs_and_why(tmp_path):
    warehouse = duckdb_with(tmp_path, TABLE, rows(100))
    adapters = Adapters(lambda: warehouse, *[None] * (len(dataclasses.fields(Adapters)) - 1))
    there = prepare.source(settings(prepare.KIND, asked()), adapters).notes
    assert any("in the warehouse, as dataset.runs_in says" in note for note in there)
    here = prepare.source(settings(prepare.KIND, asked(dataset__runs_in="here")), adapters).notes
    assert any("on this machine" in note for note in here)


def test_no_rows_are_refused(tmp_path):
    warehouse = duckdb_with(tmp_path, TABLE, rows(100))
    values = asked()
    values["dataset"]["query"] = QUERY + " WHERE input_text = 'nobody wrote this'"
    with pytest.raises(DataError, match="no rows"):
        run(values, warehouse, tmp_path / "out")


def test_too_many_bad_rows_are_refused_before_anything_is_exported(tmp_path):
    warehouse = duckdb_with(tmp_path, TABLE, rows(100))
    values = asked()
    values["dataset"]["rules"] = {**values["dataset"]["rules"], "max_bad_fraction": 0.0}
    with pytest.raises(DataError, match="max_bad_fraction"):
        run(values, warehouse, tmp_path / "out")
    assert not (tmp_path / "out" / "files").exists()
