"""Telling others of a run: live, in order, and never to the run's harm."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from fastapi import FastAPI, Request

from llmops.api import announcing
from llmops.api.announcing import Listeners, message
from llmops.lineage.run_folder import RunFolder
from tests.fakes.faults import serve
from tests.fakes.lineage import LineageServer, accepted
from tests.fakes.run_folder import make_failed_run, make_run

NOBODY = {
    "when": ["succeeded", "refused", "failed", "interrupted"],
    "webhook": None,
    "command": None,
    "lineage": [],
    "mlflow": None,
}


@pytest.fixture(scope="module")
def served():
    """Serve lineage and a webhook; what the webhook got is in ``told``."""
    world, app = LineageServer(), FastAPI()
    app.include_router(world.router())
    app.state.told = []

    @app.post("/hook")
    async def hook(request: Request):
        app.state.told.append(await request.json())

    with serve(app) as server:
        yield server, world


@pytest.fixture
def listener(served):
    server, world = served
    world.events.clear()
    server.app.state.told.clear()
    server.faults.clear()
    return server, world


@pytest.fixture
def made(tmp_path):
    return make_run(tmp_path)


def listening(made, **notify):
    """Return the listeners of a run whose steps have not reported yet."""
    return Listeners(RunFolder(made.folder), {"notify": {**NOBODY, **notify}}, made.store)


def going_on(made):
    """Return the record of a run at its start: no step has come to anything."""
    steps = [{**step, "status": "not_reached", "outputs": {}} for step in made.run["steps"]]
    return {**made.run, "status": "running", "finished": None, "steps": steps, "metrics": None}


def kinds(events):
    return [(event["eventType"], event["job"]["name"].partition(".")[2]) for event in events]


def written(made):
    return [json.loads(line) for line in (made.folder / "events.jsonl").read_text().splitlines()]


def test_steps_are_told_as_they_begin_and_end(made, listener):
    server, world = listener
    listeners = listening(made, lineage=[{"kind": "http", "url": server.url}])
    listeners.started(going_on(made))
    made.store.write_report(made.run["run_id"], "ingest", made.run["steps"][0])
    listeners.event({"step": "ingest", "event": "start"})
    until(lambda: len(world.events) == 2)
    listeners.event({"step": "ingest", "event": "end", "status": "done", "seconds": 0.1})
    until(lambda: len(world.events) == 4)
    live = [event for _, event in world.events]
    assert kinds(live[:3]) == [("START", ""), ("START", "ingest"), ("COMPLETE", "ingest")]
    assert kinds(live[3:]) == [("RUNNING", "")]
    assert len(live[2]["outputs"]) == len(made.run["steps"][0]["outputs"]) > 0
    listeners.ended(made.run)
    assert [event for _, event in world.events] == written(made)
    told = kinds(written(made))
    assert told[-1] == ("COMPLETE", "")
    for step in made.run["steps"]:
        assert told.count(("START", step["name"])) == told.count(("COMPLETE", step["name"])) == 1
    for event in written(made):
        accepted(event)


@pytest.mark.parametrize(("status", "kind"), [("interrupted", "ABORT"), ("failed", "FAIL")])
def test_a_step_that_was_at_work_ends_as_the_run_does(made, status, kind):
    listeners = listening(made)
    listeners.started(going_on(made))
    listeners.event({"step": "tune", "event": "start"})
    listeners.ended({**going_on(made), "status": status, "finished": made.run["finished"]})
    assert kinds(written(made)) == [
        ("START", ""),
        ("START", "tune"),
        (kind, "tune"),
        ("RUNNING", ""),
        (kind, ""),
    ]


def test_a_run_elsewhere_of_whose_step_only_the_end_is_seen_has_its_start_told(made):
    listeners = listening(made)
    listeners.go_on(going_on(made))
    made.store.write_report(made.run["run_id"], "ingest", made.run["steps"][0])
    listeners.event({"step": "ingest", "event": "end", "status": "done", "seconds": 1.0})
    assert kinds(written(made))[:2] == [("START", "ingest"), ("COMPLETE", "ingest")]


def test_who_leaves_a_run_that_goes_on_elsewhere_has_told_what_there_was(made, listener):
    server, world = listener
    listeners = listening(made, lineage=[{"kind": "http", "url": server.url}])
    server.faults.delay(0.2, "/api/v1/lineage")
    listeners.started(going_on(made))
    listeners.leave()
    assert kinds(event for _, event in world.events) == [("START", "")]


def test_a_webhook_and_a_command_are_told_once(made, listener, monkeypatch, tmp_path):
    server, _ = listener
    told = tmp_path / "told.json"
    monkeypatch.setenv("HOOK", f"{server.url}/hook")
    monkeypatch.setenv("TEE", f"tee {told}")
    listening(made, webhook="${secret:HOOK}", command="${secret:TEE}").ended(made.run)
    (sent,) = server.app.state.told
    assert sent["text"].startswith("so_python 20261123-101502-7b1e succeeded, tuned loss")
    assert json.loads(told.read_text()) == sent


def test_only_the_ends_that_were_asked_for_are_told(made, listener):
    server, _ = listener
    notify = {"when": ["failed", "refused"], "webhook": f"{server.url}/hook"}
    listening(made, **notify).ended(made.run)
    assert server.app.state.told == []
    listening(made, **notify).ended({**made.run, "status": "refused"})
    assert [one["status"] for one in server.app.state.told] == ["refused"]


def test_a_secret_of_the_environment_is_not_told(made, listener, monkeypatch):
    server, _ = listener
    monkeypatch.setenv("MY_API_KEY", "a-very-secret-value-1234")
    record = {**made.run, "experiment": "a-very-secret-value-1234"}
    listening(made, webhook=f"{server.url}/hook").ended(record)
    assert len(server.app.state.told) == 1
    assert "a-very-secret-value-1234" not in json.dumps(server.app.state.told)


def test_what_an_error_quotes_of_rows_is_not_told(tmp_path):
    failed = make_failed_run(tmp_path).run
    failed["error"]["problem"] = "the row 'Erwin, 4 Secret Street' is no good"
    assert "Secret Street" not in json.dumps(message(failed))


AWAY = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("notify", "name"),
    [
        ({"lineage": [{"kind": "http", "url": AWAY}]}, "lineage http"),
        ({"lineage": [{"kind": "google", "location": "eu"}]}, "lineage google"),
        ({"webhook": AWAY}, "webhook"),
        ({"webhook": "${secret:NOT_SET_ANYWHERE}"}, "webhook"),
        ({"command": "${secret:FAILS}"}, "command"),
    ],
)
def test_a_listener_that_is_away_fails_nothing_and_is_named_once(
    made, monkeypatch, capsys, notify, name
):
    monkeypatch.setenv("FAILS", "false")
    listeners = listening(made, **notify)
    listeners.started(going_on(made))
    listeners.ended(made.run)
    assert capsys.readouterr().err.count(f"note: {name} was not told") == 1


def test_a_listener_that_is_away_is_left_alone_after_a_few_tries(made, listener):
    server, world = listener
    server.faults.refuse(503, "/api/v1/lineage", times=1000)
    listening(made, lineage=[{"kind": "http", "url": server.url}]).ended(made.run)
    assert server.faults.count("/api/v1/lineage") == announcing.PATIENCE
    assert world.events == []


def test_a_listener_that_hangs_is_waited_for_no_longer_than_agreed(
    made, listener, monkeypatch, capsys
):
    server, _ = listener
    monkeypatch.setattr(announcing, "DRAIN_S", 0.1)
    server.faults.delay(1.0, "/hook")
    listening(made, webhook=f"{server.url}/hook").ended(made.run)
    assert "webhook was not told (TimeoutError)" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_fails_nothing(made, capsys):
    listeners = listening(replace(made, folder=made.folder / "gone"))
    listeners.ended(made.run)
    assert "events.jsonl was not told" in capsys.readouterr().err


def until(holds):
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)
