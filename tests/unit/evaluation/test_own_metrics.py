"""Metrics that a project brings: found by entry point, named in the config, part of the key."""

from __future__ import annotations

import importlib.metadata
import json
import sys
import types

import pytest

from llmops.errors import ConfigError
from llmops.evaluation import metrics
from llmops.evaluation.metrics import Metric
from llmops.steps import evaluate
from tests.unit.steps.judging import Bench, write_responses


def shout(columns):
    return [float(text.isupper()) for text in columns["text"]]


LOUD = Metric("loud", "share of rows", "lower", "rate", ("text",), shout, revision=3)


@pytest.fixture
def installed(monkeypatch):
    """A package with a metric, as an installer would leave it."""
    module = types.ModuleType("own_metrics")
    module.METRICS = (LOUD,)
    monkeypatch.setitem(sys.modules, "own_metrics", module)
    points = [importlib.metadata.EntryPoint("mine", "own_metrics", metrics.GROUP)]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
    return module


OVERRIDES = ("+project.metrics=[mine]", "evaluation.metrics=[loud]")


def test_a_projects_metric_is_measured_like_any_other(installed, tmp_path):
    rows = [
        {"row_key": f"{i:04}", "contestant": name, "text": "LOUD" if i % 2 else "low"}
        for name in ("untuned", "tuned")
        for i in range(8)
    ]
    bench = Bench(tmp_path)
    responses = write_responses(tmp_path / "responses.parquet", rows)
    bench.run(evaluate.KIND, {"responses": responses}, *OVERRIDES)
    document = json.loads(bench.output("metrics").read_text())
    assert document["contestants"]["tuned"]["loud"]["value"] == 0.5


def test_its_revision_is_in_the_key(installed):
    from llmops.execute import structure
    from llmops.plan.keys import read_settings
    from tests.unit.steps.judging import experiment

    settings = structure(
        evaluate.KIND, read_settings(evaluate.KIND, experiment(*OVERRIDES), "evaluate")
    )
    assert evaluate.source(settings, None).facts == {"own_metrics": {"loud": 3}}


def test_an_entry_point_that_is_not_installed_is_a_config_error(installed):
    with pytest.raises(ConfigError, match=r"no entry point of llmops\.metrics 'other'"):
        metrics.own_metrics(["other"])


def test_a_name_that_is_taken_is_a_config_error(installed):
    installed.METRICS = (Metric("loss", "", None, "mean", ("text",), shout),)
    with pytest.raises(ConfigError, match="'loss', which exists"):
        metrics.own_metrics(["mine"])
