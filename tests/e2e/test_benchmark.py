"""A multiple-choice benchmark from a file, put to a model behind an endpoint, from outside."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from llmops.artifacts import reference
from tests.fakes.openai_server import openai_server

CHOICES = ("open", "close", "read", "write")
PLAIN = (
    *("+experiment=so_python", "pipeline=benchmark"),
    *("model=openai", "predict.contestants=[untuned,untuned_with_examples]", "predict.examples=2"),
    *("evaluation.metrics=[exact_match,chrf,truncated]", "gate.contestant=untuned_with_examples"),
    "gate.rules=[{metric: exact_match, better_than: untuned, by: 0.0}]",
    *("pipeline.steps.benchmark.with.files=[set.jsonl]",),
    *("pipeline.steps.benchmark.with.form=choices", "--limit", "300"),
)


def shown(body):
    """Answer right where examples were shown, else always the first choice."""
    asked = body["messages"][-1]["content"]
    number = re.search(r"word is number (\d+)", asked)
    return "ABCD"[int(number[1]) % 4] if number and len(body["messages"]) > 3 else "A"


@pytest.fixture(scope="module")
def server():
    with openai_server() as running:
        running.answer = shown
        yield running


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    where = tmp_path_factory.mktemp("benchmark")
    rows = [
        {"question": f"Which word is number {i} of the list?", "choices": CHOICES, "answer": i % 4}
        for i in range(48)
    ]
    (where / "set.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return where


def llmops(where, server, *words, code=0):
    endpoint = [f"model.endpoint={server.url}", "model.base=some-model"]
    done = subprocess.run(
        [sys.executable, "-m", "llmops", *words, *endpoint, "--json"],
        cwd=where,
        env=dict(os.environ, LLMOPS_WORKSPACE=str(where)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_a_benchmark_is_answered_measured_and_gated_by_its_contamination(workspace, server):
    record = llmops(workspace, server, "run", *PLAIN)
    metrics = record["metrics"]["contestants"]
    assert metrics["untuned"]["exact_match"]["value"] == 0.25
    assert metrics["untuned_with_examples"]["exact_match"]["value"] == 1.0
    facts = {step["name"]: step for step in record["steps"]}["benchmark"]["facts"]
    assert facts["rows"] == {"test": 48}
    assert facts["leakage"]["exact"]["rows"] == 0
    rules = [reason["rule"] for reason in record["gate"]["reasons"]]
    assert "leakage exact" in rules
    asked = len(server.bodies)
    pinned = f"pipeline.steps.benchmark.with.sha256={facts['sha256']}"
    assert llmops(workspace, server, "run", *PLAIN, pinned)["status"] == "succeeded"
    assert len(server.bodies) == asked


def test_a_set_whose_rows_stand_in_train_is_refused_by_the_gate(workspace, server):
    folder = next(workspace.glob("runs/so_python/*/run.json"))
    steps = {step["name"]: step for step in json.loads(folder.read_text())["steps"]}
    train = reference(steps["split"]["outputs"]["train"]).uri.removeprefix("file://")
    known = pq.read_table(workspace / train).slice(0, 1).to_pylist()[0]["input_text"]
    row = {"question": known, "choices": CHOICES, "answer": "A"}
    (workspace / "known.jsonl").write_text(
        (workspace / "set.jsonl").read_text() + "\n" + json.dumps(row)
    )
    files = "pipeline.steps.benchmark.with.files=[known.jsonl]"
    record = llmops(workspace, server, "run", *PLAIN, files, code=3)
    refused = [one for one in record["gate"]["reasons"] if not one["passed"]]
    assert "leakage near" in [one["rule"] for one in refused]
