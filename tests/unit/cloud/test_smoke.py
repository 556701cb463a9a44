"""The smoke test of a real project holds against the fakes too, as far as they go."""

from __future__ import annotations

import pytest

from tests.fakes.bigquery import bigquery, duckdb_with
from tests.fakes.faults import serve
from tests.fakes.identity import key_file
from tests.fakes.storage import storage
from tests.fakes.whole_cloud import whole_cloud
from tests.smoke.__main__ import PARTS, checks, environment, run
from tests.smoke.bigquery import TABLE
from tests.smoke.check import Place

ROWS = [{"corpus": "hamlet", "word": f"word{n}", "word_count": n} for n in range(40)]


def test_every_part_has_checks():
    assert all(len(list(checks(part))) >= 3 for part in PARTS)


def test_the_bigquery_part_holds_against_the_fake(tmp_path, capsys):
    with serve(bigquery(duckdb_with(tmp_path, TABLE, ROWS))) as server:
        known = environment("shop-project", None, "us-central1") | {
            "credentials": {
                "kind": "service_account_file",
                "file": str(key_file(tmp_path, server.url)),
            },
            "endpoints": {"bigquery": server.url},
        }
        assert run(["bigquery"], Place(known, tmp_path), real=False) == 0
    assert capsys.readouterr().out.count("ok  ") == 5


def test_the_storage_part_holds_against_the_fake_and_leaves_nothing(tmp_path, capsys):
    with storage() as cloud:
        bucket = cloud.bucket()
        known = cloud.environment(tmp_path) | {"bucket": f"gs://{bucket}"}
        assert run(["storage"], Place(known, tmp_path), real=False) == 0
    assert capsys.readouterr().out.count("ok  ") == 3


@pytest.mark.parametrize(
    ("part", "held"), [("gemini", 6), pytest.param("engines", 2, marks=pytest.mark.slow)]
)
def test_the_parts_on_vertex_hold_against_the_fakes(tmp_path, capsys, monkeypatch, part, held):
    monkeypatch.delenv("LLMOPS_WORKSPACE", raising=False)
    with whole_cloud(tmp_path / "cloud") as cloud:
        image = "registry.invalid/llmops-python:1"
        place = Place(cloud.environment, tmp_path, image, tune=True, poll_s=0.05)
        assert run([part], place, real=False) == 0, capsys.readouterr().out
    assert capsys.readouterr().out.count("ok  ") == held


def test_what_costs_more_is_done_only_if_asked_for(tmp_path, capsys):
    assert run(["engines"], Place({}, tmp_path)) == 0
    assert capsys.readouterr().out.count("(say IMAGE=...)") == 3


def test_a_check_that_does_not_hold_is_counted_and_shown(tmp_path, capsys):
    known = environment("shop-project", None, "us-central1") | {
        "credentials": {"kind": "service_account_file", "file": "/nowhere/key.json"}
    }
    assert run(["storage"], Place(known, tmp_path), real=False) == 3
    assert capsys.readouterr().out.count("FAIL") == 3
