"""The config's schema and the code name the same metrics, contestants and leaves."""

from __future__ import annotations

import json
from importlib.resources import files

from llmops.config import knowledge
from llmops.evaluation.metrics import METRICS
from llmops.steps.predict import CONTESTANTS


def schema(name):
    return json.loads(files("llmops.config").joinpath("schema", f"{name}.json").read_text())


def test_the_config_floor_knows_exactly_the_metrics_there_are():
    assert set(knowledge.METRICS) == set(METRICS)


def test_the_schema_offers_exactly_the_contestants_there_are():
    offered = schema("predict")["properties"]["contestants"]["items"]["enum"]
    assert tuple(offered) == CONTESTANTS
