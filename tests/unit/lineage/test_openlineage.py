"""Events that the official client accepts, and telling others that never fails a run."""

from __future__ import annotations

import http.server
import json
import threading
from pathlib import Path

import jsonschema
import pytest

from llmops.api import announcing
from llmops.lineage import openlineage
from llmops.lineage.run_folder import RunFolder
from tests.fakes.run_folder import make_failed_run, make_run

SCHEMAS = Path(__file__).parents[3] / "docs" / "openlineage"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def listener():
    """A server on loopback that keeps what it is sent."""
    got: list[tuple[str, dict]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, json.loads(body)))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    server.server_close()


def accepted(event):
    """Build the official client's own classes from an event; they check what they are given."""
    from openlineage.client.event_v2 import (
        InputDataset,
        Job,
        OutputDataset,
        Run,
        RunEvent,
        RunState,
    )

    return RunEvent(
        eventType=RunState[event["eventType"]],
        eventTime=event["eventTime"],
        run=Run(event["run"]["runId"], event["run"]["facets"]),
        job=Job(event["job"]["namespace"], event["job"]["name"], event["job"]["facets"]),
        producer=event["producer"],
        inputs=[InputDataset(one["namespace"], one["name"]) for one in event["inputs"]],
        outputs=[OutputDataset(one["namespace"], one["name"]) for one in event["outputs"]],
    )


def test_the_official_client_accepts_every_event(made):
    events = [*openlineage.started(made.run), *openlineage.ended(made.run)]
    assert len(events) > 20
    assert {event["eventType"] for event in events} == {"START", "RUNNING", "COMPLETE"}
    for event in events:
        assert accepted(event).run.runId == event["run"]["runId"]


def test_each_step_names_its_parent_and_root_run(made):
    events = openlineage.ended(made.run)
    steps = [event for event in events if "parent" in event["run"]["facets"]]
    run_id = openlineage.event_id(made.run["run_id"])
    assert len(steps) == 2 * len(made.run["steps"])
    for event in steps:
        parent = event["run"]["facets"]["parent"]
        assert parent["run"]["runId"] == parent["root"]["run"]["runId"] == run_id


def test_own_facets_keep_to_their_published_schemas(made):
    facets = openlineage.ended(made.run)[-1]["run"]["facets"]
    own = {name: facet for name, facet in facets.items() if name.startswith("llmops_")}
    assert set(own) == {
        f"llmops_{name}" for name in ("config", "prompt", "split", "model", "evaluation", "safety")
    } - ({"llmops_split"} if "llmops_split" not in own else set())
    for name, facet in own.items():
        schema = json.loads((SCHEMAS / f"{name}.json").read_text())
        assert schema["$id"] == facet["_schemaURL"]
        jsonschema.Draft202012Validator(schema).validate(facet)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("succeeded", "COMPLETE"),
        ("refused", "COMPLETE"),
        ("failed", "FAIL"),
        ("interrupted", "ABORT"),
    ],
)
def test_a_run_ends_as_its_status_says(made, status, kind):
    assert openlineage.ended({**made.run, "status": status})[-1]["eventType"] == kind


def test_what_an_error_quotes_of_rows_is_not_told(tmp_path):
    failed = make_failed_run(tmp_path).run
    failed["error"]["problem"] = "the row 'Erwin, 4 Secret Street' is no good"
    told = json.dumps([*openlineage.ended(failed), announcing.message(failed)])
    assert "Secret Street" not in told
    assert "step validate" in told


def test_events_lie_in_the_run_folder_and_are_sent(made, listener, monkeypatch):
    address, got = listener
    monkeypatch.setenv("OPENLINEAGE_URL", address)
    announcing.announce_start(RunFolder(made.folder), made.run)
    announcing.announce_end(RunFolder(made.folder), made.run)
    lines = (made.folder / "events.jsonl").read_text().splitlines()
    assert [path for path, _ in got] == ["/api/v1/lineage"] * len(lines)
    assert [json.loads(line) for line in lines] == [body for _, body in got]


def test_a_webhook_and_a_command_are_told_once(made, listener, monkeypatch, tmp_path):
    address, got = listener
    told = tmp_path / "told.json"
    monkeypatch.setenv("LLMOPS_NOTIFY_WEBHOOK", f"{address}/hook")
    monkeypatch.setenv("LLMOPS_NOTIFY_COMMAND", f"tee {told}")
    announcing.announce_end(RunFolder(made.folder), made.run)
    (sent,) = [body for path, body in got if path == "/hook"]
    assert sent["text"].startswith("so_python 20261123-101502-7b1e succeeded, tuned loss")
    assert json.loads(told.read_text()) == sent


def test_a_secret_of_the_environment_is_not_told(made, listener, monkeypatch):
    address, got = listener
    monkeypatch.setenv("LLMOPS_NOTIFY_WEBHOOK", f"{address}/hook")
    monkeypatch.setenv("MY_API_KEY", "a-very-secret-value-1234")
    record = {**made.run, "experiment": "a-very-secret-value-1234"}
    announcing.announce_end(RunFolder(made.folder), record)
    assert "a-very-secret-value-1234" not in json.dumps(got)


@pytest.mark.parametrize("variable", ["OPENLINEAGE_URL", "LLMOPS_NOTIFY_WEBHOOK"])
def test_a_listener_that_is_away_fails_nothing(made, monkeypatch, capsys, variable):
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    announcing.announce_end(RunFolder(made.folder), made.run)
    assert "nobody was told" in capsys.readouterr().err


def test_a_command_that_fails_fails_nothing(made, monkeypatch, capsys):
    monkeypatch.setenv("LLMOPS_NOTIFY_COMMAND", "false")
    announcing.announce_end(RunFolder(made.folder), made.run)
    assert "nobody was told" in capsys.readouterr().err
