"""Traffic held against a run's training rows, and the retraining run that an alert starts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest

from llmops import api, cli
from llmops.data import columns
from llmops.traffic import segments
from tests.unit.monitoring.test_monitoring import log_line

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
WINDOW = ["monitor.window_days=1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a workspace with a run's training rows, and some of their questions."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMOPS_WORKSPACE", str(folder))
        run = api.run(["+experiment=so_python", "pipeline=dataset"], limit=400)
        assert run.record["status"] == "succeeded"
        (dataset,) = api.datasets()
    questions = pq.read_table(dataset.sides["train"])[columns.QUESTION].to_pylist()
    return folder, questions, dataset.name


@pytest.fixture
def workspace(trained, tmp_path, monkeypatch):
    """Return what writes a log of questions and judges it in the workspace."""
    folder, questions, _ = trained
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(folder))
    logs = [f"serve.log.path={tmp_path}/logs"]

    def write(asked):
        writer = segments.Writer(tmp_path / "logs", segment_bytes=10**9, fsync=False)
        writer.append(
            [
                log_line(
                    n,
                    NOW - timedelta(minutes=n + 1),
                    question=text,
                    question_characters=len(text),
                )
                for n, text in enumerate(asked)
            ]
        )
        writer.close()

    return write, logs, questions


def test_what_people_ask_as_in_training_alerts_nothing(workspace, trained):
    write, logs, questions = workspace
    write(questions[::2])
    watched = api.monitor([*WINDOW, *logs], until=NOW)
    assert watched.report["against"] == f"training rows of {trained[2]}"
    assert watched.report["enough"]
    assert watched.alerts == []
    assert watched.run_id is None


def test_other_questions_than_in_training_start_a_retraining_run(workspace):
    write, logs, _ = workspace
    write([f"where can i buy {n} pounds of ripe bananas in town today" for n in range(120)])
    retrain = 'monitor.alert.retrain=["+experiment=hello","engine=local"]'
    watched = api.monitor([*WINDOW, *logs, retrain], until=NOW)
    drifted = [one["name"] for one in watched.report["drift"] if one["alert"]]
    assert "vocabulary" in drifted
    records = [one.record for one in api.runs()]
    (record,) = [one for one in records if one["run_id"] == watched.run_id]
    assert (record["experiment"], record["status"]) == ("hello", "succeeded")


def test_a_retraining_run_that_cannot_be_is_told_and_the_page_is_there(
    workspace, capsys, monkeypatch
):
    write, logs, _ = workspace
    write([f"bananas {n}" for n in range(120)])
    pages = f"monitor.pages={logs[0].partition('=')[2]}/pages"
    monkeypatch.setattr("llmops.api.monitoring.datetime", Frozen)
    retrain = 'monitor.alert.retrain=["+experiment=nowhere"]'
    assert cli.main(["monitor", *WINDOW, *logs, retrain, pages]) == 2
    assert "nowhere" in capsys.readouterr().err
    from pathlib import Path

    assert len(list(Path(pages.partition("=")[2]).glob("*.html"))) == 1


class Frozen(datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


@pytest.mark.model
def test_meaning_drifts_by_the_shipped_encoder(workspace):
    write, logs, questions = workspace
    encoder = ["monitor.encoder=minilm", "monitor.max_rows=60"]
    write(questions[::2])
    alike = _of(api.monitor([*WINDOW, *logs, *encoder], until=NOW), "embedding")
    write([f"a recipe for soup with {n} onions" for n in range(400)])
    apart = _of(api.monitor([*WINDOW, *logs, *encoder], until=NOW), "embedding")
    assert not alike["alert"]
    assert apart["alert"]
    assert apart["low"] > alike["high"]


def _of(watched, name):
    return next(one for one in watched.report["drift"] if one["name"] == name)
