"""BigQuery on a bad day: nothing is lost, nothing is paid twice, and nobody waits for ever."""

from __future__ import annotations

import dataclasses
import json
import time

import pytest

from llmops import cli
from llmops.adapters.warehouse import bigquery_job
from llmops.adapters.warehouse.bigquery import LEAST_BILLED
from llmops.errors import BackendError, ConfigError, LlmopsError, Refused
from llmops.files import file_sha256
from llmops.plan.kinds import Adapters, Work
from llmops.ports.warehouse import Origin
from llmops.steps import ingest
from tests.fakes.bigquery import bigquery, bigquery_client, duckdb_with
from tests.fakes.faults import serve

TABLE = "shop.support.tickets"
ROWS = [{"id": n, "topic": ("mail", "disk")[n % 2], "text": f"text {n}"} for n in range(50)]
SQL = f"SELECT id, topic, text FROM `{TABLE}`"
ORIGIN = Origin("so_python", "20261125-101502-7b1e", "0123456789abcdef" * 4)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    behind = duckdb_with(tmp_path_factory.mktemp("behind"), TABLE, ROWS)
    with serve(bigquery(behind, page_rows=20)) as server:
        yield server


@pytest.fixture
def server(running, monkeypatch):
    running.faults.clear()
    running.app.state.bigquery.forget()
    monkeypatch.setattr("llmops.adapters.patience.FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(bigquery_job, "FIRST_POLL_S", 0.01)
    return running


@pytest.fixture
def fake(server):
    return server.app.state.bigquery


@pytest.fixture
def opened(server, tmp_path):
    return bigquery_client(server, tmp_path)


def read(warehouse, sql=SQL, **limits):
    result = warehouse.query(sql, **{"origin": ORIGIN} | limits)
    rows = [row for batch in result.batches() for row in batch.to_pylist()]
    return rows, result.statistics()


def queries(server):
    """Return the configurations of the jobs that were submitted, dry runs left out."""
    sent = [request.body["configuration"] for request in server.faults.found("/jobs$")]
    return [configuration for configuration in sent if not configuration.get("dryRun")]


# ------------------------------------------------------------------ what is asked


def test_a_dry_run_goes_before_every_query_and_the_bill_is_bounded(server, opened):
    read(opened, max_bytes=10**8)
    first, second = [request.body["configuration"] for request in server.faults.found("/jobs$")]
    assert first["dryRun"] is True
    assert second["query"]["maximumBytesBilled"] == str(10**8)
    assert second["query"]["useLegacySql"] is False


def test_a_bound_below_what_bigquery_bills_at_least_is_judged_by_the_dry_run_alone(server, opened):
    read(opened, max_bytes=2000)
    assert queries(server)[0]["query"]["maximumBytesBilled"] == str(LEAST_BILLED)
    with pytest.raises(Refused, match="max_bytes allows 5"):
        read(opened, max_bytes=5)


def test_a_job_says_for_whom_it_runs(server, opened, fake):
    read(opened)
    labels = queries(server)[0]["labels"]
    assert labels["experiment"] == "so_python"
    assert labels["run"] == ORIGIN.run_id
    assert labels["key"] == ORIGIN.key[:63]
    assert next(iter(fake.jobs)).startswith(f"llmops-{ORIGIN.key[:24]}-")


def test_statistics_tell_what_was_scanned_billed_and_by_which_job(opened, fake):
    rows, statistics = read(opened)
    assert statistics.rows == len(rows) == 50
    assert statistics.bytes == opened.check(SQL).bytes
    assert statistics.billed_bytes == LEAST_BILLED
    assert statistics.job == f"shop-project:US.{next(iter(fake.jobs))}"
    assert statistics.tables == {TABLE: "2026-11-01T00:00:00+00:00"}


def test_rows_come_a_page_at_a_time_in_the_order_that_duckdb_gives_them(server, opened, fake):
    rows, _ = read(opened)
    batches = fake.warehouse.query(SQL).batches()
    assert rows == [row for batch in batches for row in batch.to_pylist()]
    assert server.faults.count("/data$") == 3


def test_the_same_rows_have_the_same_schema_as_duckdb_s(opened, fake):
    sql = (
        "SELECT id, CAST(id AS FLOAT64) AS f, topic, id > 3 AS b, TIMESTAMP '2020-01-02 03:04:05' "
        "AS t, DATE '2020-01-02' AS d, [1, id] AS many, STRUCT(id AS x, topic AS y) AS pair "
        f"FROM `{TABLE}` ORDER BY id"
    )
    (ours,) = list(opened.query(sql, max_rows=3).batches())
    (theirs,) = list(fake.warehouse.query(sql, max_rows=3).batches())
    assert ours.schema.remove_metadata() == theirs.schema.remove_metadata()
    assert ours.to_pylist() == theirs.to_pylist()


def test_a_pinned_moment_is_in_the_query_the_versions_and_the_statistics(server, fake, tmp_path):
    pinned = bigquery_client(server, tmp_path, snapshot="2026-11-23T10:00:00Z")
    sql = f"WITH few AS (SELECT id FROM `{TABLE}` AS t WHERE t.id < 3) SELECT id FROM few"
    _, statistics = read(pinned, sql)
    assert [job.snapshot for job in fake.jobs.values()] == ["2026-11-23T10:00:00Z"]
    assert queries(server)[0]["query"]["query"].count("FOR SYSTEM_TIME AS OF") == 1
    assert statistics.tables == {TABLE: "as of 2026-11-23T10:00:00Z"}
    assert statistics.snapshot == "2026-11-23T10:00:00Z"


def test_a_table_that_changed_has_another_version(opened, fake, monkeypatch):
    before = opened.check(SQL).tables
    monkeypatch.setattr(fake, "changed", fake.changed.replace(year=2027))
    assert opened.check(SQL).tables != before


def test_the_ingest_step_writes_the_same_bytes_from_both_warehouses(opened, fake, tmp_path):
    def written(warehouse, folder):
        folder.mkdir()
        outputs = {"rows": folder / "rows", "statistics": folder / "statistics"}
        settings = ingest.Settings(SQL, {}, {"question": "topic", "answer": "text"}, 30, None)
        closed = {field.name: _unused for field in dataclasses.fields(Adapters)}
        adapters = Adapters(**closed | {"warehouse": lambda: warehouse})
        work = Work("ingest", ORIGIN.key, "r", settings, {}, {}, outputs, adapters, _quiet, folder)
        ingest.run(work)
        return file_sha256(outputs["rows"])

    assert written(opened, tmp_path / "one") == written(fake.warehouse, tmp_path / "two")


def _quiet(done, total, note=""):
    """Say nothing."""


def _unused(*_):
    raise AssertionError("ingest uses the warehouse alone")


# ------------------------------------------------------------------- a bad day


def test_a_connection_cut_in_mid_result_goes_on_at_the_row_where_it_was(server, opened, fake):
    server.faults.cut("/data$", skip=1, times=2)
    rows, statistics = read(opened)
    assert [row["id"] for row in rows] == [row["id"] for row in read(opened)[0]]
    assert (len(rows), statistics.rows, len(fake.jobs)) == (50, 50, 1)


@pytest.mark.parametrize("skip", [1, 2], ids=["of the submission", "of a poll"])
def test_a_lost_answer_is_read_again_and_paid_once(server, opened, fake, skip):
    fake.stall(polls=3)
    server.faults.lose("/jobs", skip=skip, times=2)
    rows, _ = read(opened)
    assert len(rows) == 50
    assert len(fake.jobs) == 1
    assert fake.billed == LEAST_BILLED


def test_a_process_that_died_after_submitting_finds_its_job_again(server, opened, fake, tmp_path):
    server.faults.lose("/jobs$", method="POST", skip=1, times=99)
    impatient = bigquery_client(server, tmp_path, patience_s=0)
    with pytest.raises(BackendError):
        read(impatient)
    assert len(fake.jobs) == 1
    server.faults.clear()
    later = Origin(ORIGIN.experiment, "20261126-090000-1111", ORIGIN.key)
    rows, _ = read(opened, origin=later)
    assert (len(rows), len(fake.jobs), fake.billed) == (50, 1, LEAST_BILLED)


def test_two_runs_that_ask_for_the_same_key_share_one_job(opened, fake):
    first, second = (opened.query(SQL, origin=ORIGIN) for _ in range(2))
    assert [b.to_pylist() for b in first.batches()] == [b.to_pylist() for b in second.batches()]
    assert (len(fake.jobs), fake.billed) == (1, LEAST_BILLED)


def test_another_query_or_another_key_is_another_job(opened, fake):
    read(opened)
    read(opened, origin=Origin("so_python", "r", "f" * 64))
    read(opened, f"{SQL} WHERE id > 3")
    assert len(fake.jobs) == 3


def test_a_refusal_for_quota_waits_as_long_as_it_says(server, opened):
    server.faults.refuse(429, "/jobs$", headers={"Retry-After": "1"})
    started = time.monotonic()
    rows, _ = read(opened)
    assert len(rows) == 50
    assert 1.0 <= time.monotonic() - started < 5


def test_a_storm_of_503_passes(server, opened, fake):
    server.faults.refuse(503, "/bigquery/", times=4)
    server.faults.refuse(503, "/data$", times=3)
    server.faults.refuse(503, "/token", times=1)
    rows, _ = read(opened)
    assert (len(rows), len(fake.jobs)) == (50, 1)


def test_a_storm_that_does_not_pass_ends_and_says_that_trying_again_helps(server, tmp_path):
    server.faults.refuse(503, "/bigquery/", times=999)
    with pytest.raises(BackendError, match="503") as caught:
        read(bigquery_client(server, tmp_path, patience_s=0.3))
    assert caught.value.retryable


def test_credentials_that_expire_during_the_result_are_renewed(server, opened, fake):
    result = opened.query(SQL, origin=ORIGIN)
    batches = result.batches()
    rows = next(batches).num_rows
    issued = fake.identity.issued
    fake.identity.revoke()
    rows += sum(batch.num_rows for batch in batches)
    assert (rows, fake.identity.issued) == (50, issued + 1)


def test_a_job_that_failed_for_bigquery_s_own_reasons_is_submitted_anew(opened, fake):
    fake.fail("backendError")
    rows, _ = read(opened)
    assert len(rows) == 50
    assert [name.rpartition("-")[2] for name in fake.jobs] == ["1", "2"]
    assert fake.billed == LEAST_BILLED


def test_a_job_that_vanished_is_submitted_anew(opened, fake):
    fake.vanish()
    rows, _ = read(opened)
    assert len(rows) == 50
    assert len(fake.jobs) == 2


def test_a_result_that_bigquery_no_longer_keeps_is_made_again(opened, fake):
    read(opened)
    fake.expire_results()
    rows, _ = read(opened)
    assert len(rows) == 50
    assert len(fake.jobs) == 2


def test_a_job_that_stays_pending_is_cancelled_after_its_time(server, fake, tmp_path):
    fake.stall()
    with pytest.raises(BackendError, match=r"still PENDING after 0\.2 s") as caught:
        read(bigquery_client(server, tmp_path, timeout_s=0.2))
    assert caught.value.retryable
    assert server.faults.count("/cancel$") == 1


@pytest.mark.parametrize(
    ("reason", "kind", "says"),
    [
        ("bytesBilledLimitExceeded", Refused, "maximum_bytes_billed"),
        ("resourcesExceeded", BackendError, "max_rows"),
        ("quotaExceeded", BackendError, "quota"),
        ("stopped", BackendError, "console"),
        ("invalidQuery", ConfigError, "docs/google_cloud.md"),
    ],
)
def test_a_job_that_failed_for_good_is_not_tried_again_and_says_what_to_do(
    opened, fake, reason, kind, says
):
    fake.fail(reason)
    with pytest.raises(kind) as caught:
        read(opened)
    assert says in caught.value.hint
    assert len(fake.jobs) == 1


@pytest.mark.parametrize("reason", ["stopped", "quotaExceeded", "invalidQuery"])
def test_what_failed_in_an_earlier_run_is_submitted_anew_and_paid_once(opened, fake, reason):
    """Cancelled from outside, refused by the quota of that day, a table that was not there yet."""
    fake.fail(reason)
    with pytest.raises(LlmopsError):
        read(opened)
    rows, _ = read(opened)
    assert len(rows) == 50
    assert [name.rpartition("-")[2] for name in fake.jobs] == ["1", "2"]
    assert read(opened)[0] == rows
    assert (len(fake.jobs), fake.billed) == (2, LEAST_BILLED)


def test_a_job_that_was_cancelled_for_its_time_has_a_successor(server, fake, tmp_path):
    fake.stall()
    with pytest.raises(BackendError, match="was cancelled"):
        read(bigquery_client(server, tmp_path, timeout_s=0.2))
    rows, _ = read(bigquery_client(server, tmp_path))
    assert len(rows) == 50


def test_an_account_without_the_right_is_told_where_to_read(server, opened):
    server.faults.refuse(403, times=1)
    with pytest.raises(BackendError, match="403") as caught:
        read(opened)
    assert not caught.value.retryable
    assert "docs/google_cloud.md" in caught.value.hint


# ----------------------------------------------------------------- the commands


@pytest.fixture
def overrides(server, tmp_path, monkeypatch):
    from tests.fakes.identity import key_file

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file(tmp_path, server.url)))
    return [
        "warehouse=bigquery",
        "warehouse.datasets=[shop.support]",
        "env.project=shop-project",
        f"+env.endpoints.bigquery={server.url}",
    ]


def test_the_tables_are_listed(overrides, capsys):
    assert cli.main(["warehouse", "tables", *overrides, "--json"]) == 0
    (table,) = json.loads(capsys.readouterr().out)
    assert (table["name"], table["rows"]) == (TABLE, 50)
    assert table["version"] == "2026-11-01T00:00:00+00:00"


def test_a_preview_costs_nothing(overrides, fake, capsys):
    assert cli.main(["warehouse", "preview", TABLE, *overrides, "--limit", "2", "--json"]) == 0
    assert [row["id"] for row in json.loads(capsys.readouterr().out)] != []
    assert (len(fake.jobs), fake.billed) == (0, 0)


def test_a_query_is_answered(overrides, capsys):
    sql = f"SELECT COUNT(*) AS n FROM `{TABLE}`"
    assert cli.main(["warehouse", "query", sql, *overrides, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"n": 50}]


def test_without_a_project_the_command_says_which_key_is_missing(overrides, capsys):
    overrides = [item for item in overrides if not item.startswith("env.project")]
    assert cli.main(["warehouse", "tables", *overrides]) == 2
    assert "env.project is not set" in capsys.readouterr().err
