"""A run tells what it does while it does it, as a user's command does."""

from __future__ import annotations

import json
import signal

import pytest
from fastapi import FastAPI

from tests.fakes.faults import serve
from tests.fakes.lineage import LineageServer, accepted
from tests.fakes.toy_project import ToyProject, end_group

START, RUNNING, COMPLETE, FAIL, ABORT = "START", "RUNNING", "COMPLETE", "FAIL", "ABORT"


@pytest.fixture
def project(tmp_path):
    return ToyProject(tmp_path / "project")


@pytest.fixture(scope="module")
def server():
    world, app = LineageServer(), FastAPI()
    app.include_router(world.router())
    with serve(app) as served:
        yield served, world


@pytest.fixture
def marquez(server, monkeypatch):
    served, world = server
    served.faults.clear()
    world.events.clear()
    monkeypatch.setenv("OPENLINEAGE_URL", served.url)
    return world


def told(events):
    return [(one["eventType"], one["job"]["name"].partition(".")[2]) for one in events]


def written(project):
    (file,) = project.root.glob("runs/*/*/events.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_each_step_is_told_as_it_begins_and_ends_to_file_and_server(project, marquez):
    project.chain("words", "say", "pass_on")
    done = project.llmops("run", "+experiment=words", "notify=marquez")
    assert done.returncode == 0, done.stderr
    events = [event for _, event in marquez.events]
    assert told(events) == [
        (START, ""),
        (START, "s0"),
        (COMPLETE, "s0"),
        (RUNNING, ""),
        (START, "s1"),
        (COMPLETE, "s1"),
        (RUNNING, ""),
        (COMPLETE, ""),
    ]
    assert events == written(project)
    assert [event["eventTime"] for event in events[1:]] == sorted(
        event["eventTime"] for event in events[1:]
    )
    run = events[0]["run"]["runId"]
    for event in events:
        accepted(event)
        parent = event["run"]["facets"].get("parent")
        assert event["run"]["runId"] == run or parent["root"]["run"]["runId"] == run
    assert events[5]["inputs"][0]["name"] == events[2]["outputs"][0]["name"]


def test_a_step_that_fails_is_told_and_the_cause_is_not(project, marquez):
    project.chain("words", "say", "refuse")
    done = project.llmops("run", "+experiment=words", "notify=marquez")
    assert done.returncode == 4
    events = [event for _, event in marquez.events]
    assert told(events)[-3:] == [(FAIL, "s1"), (RUNNING, ""), (FAIL, "")]
    assert "no row is good" not in json.dumps(events)


def test_a_run_that_is_interrupted_ends_in_abort_and_so_does_its_step(project, marquez):
    project.chain("words", "slow")
    running = project.start("run", "+experiment=words", "notify=marquez")
    try:
        project.wait_until_did("s0 began")
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 143
    finally:
        end_group(running)
    assert told(event for _, event in marquez.events)[-3:] == [
        (ABORT, "s0"),
        (RUNNING, ""),
        (ABORT, ""),
    ]


def test_a_server_that_refuses_fails_no_run(project, server, marquez):
    served, _ = server
    served.faults.refuse(500, times=1000)
    project.chain("words", "say")
    done = project.llmops("run", "+experiment=words", "notify=marquez")
    assert done.returncode == 0
    assert done.stderr.count("note: lineage http was not told (answered 500") == 1
    assert told(written(project))[-1] == (COMPLETE, "")
