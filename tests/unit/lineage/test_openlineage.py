"""Events that the official client accepts."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from llmops.lineage import openlineage
from tests.fakes.lineage import accepted
from tests.fakes.run_folder import make_failed_run, make_run

SCHEMAS = Path(__file__).parents[3] / "docs" / "openlineage"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


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
    told = json.dumps(openlineage.ended(failed))
    assert "Secret Street" not in told
    assert "step validate" in told
