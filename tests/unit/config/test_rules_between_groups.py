"""Rules that read several groups, on configs that the schemas let pass."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmops import sandbox
from llmops.config import returned_columns, rules
from llmops.config.knowledge import NEED_SCORES, PROVIDERS
from llmops.config.schemas import Mistake, schema
from llmops.config.validate import validate
from llmops.evaluation.metrics import METRICS

DOCS = Path(__file__).parents[3] / "docs" / "providers.md"


@pytest.fixture(scope="module")
def so_python() -> dict[str, Any]:
    return validate(["+experiment=so_python"]).config


def with_gemini(config: dict[str, Any], tune: str = "us-central1", serve: str = "us-central1"):
    """Return the config with a provider that scores nothing."""
    changed = copy.deepcopy(config)
    changed["model"] |= {"kind": "gemini", "tuner": {"region": tune}}
    changed["deploy"]["region"] = serve
    return changed


def told(config: dict[str, Any]) -> list[Mistake]:
    return rules.mistakes(config)


def test_the_shipped_experiment_breaks_no_rule(so_python: dict[str, Any]) -> None:
    assert told(so_python) == []


def test_the_shipped_experiment_is_the_same_with_a_provider_that_scores_nothing(so_python) -> None:
    assert told(with_gemini(so_python)) == []


def test_a_rule_on_a_metric_that_the_provider_lacks_says_what_stands_in(so_python) -> None:
    config = with_gemini(so_python)
    del config["gate"]["rules"][0]["instead"]
    (mistake,) = told(config)
    assert mistake.path == ("gate", "rules", "0", "metric")
    assert "`instead: chrf`" in mistake.hint
    config["gate"]["rules"][0]["instead"] = "perplexity"  # which it lacks as well
    assert [mistake.path for mistake in told(config)] == [("gate", "rules", "0", "metric")]


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        ({"metric": "loss", "better_than": "untuned", "by": 0.1, "instead": "chrf"}, "instead"),
        ({"metric": "loss", "at_most": 3.0, "instead": "chrf"}, "instead"),
    ],
)
def test_what_stands_in_compares_without_an_amount(so_python, rule, key) -> None:
    config = copy.deepcopy(so_python)
    config["gate"]["rules"] = [rule]
    assert [mistake.path for mistake in told(config)] == [("gate", "rules", "0", key)]


def test_what_stands_in_is_measured_where_it_is_judged(so_python) -> None:
    rule = {"metric": "loss", "better_than": "untuned", "instead": "bleu"}
    scores, lacks = copy.deepcopy(so_python), with_gemini(so_python)
    for config in (scores, lacks):
        config["gate"]["rules"] = [rule]
    assert told(scores) == []
    assert [mistake.path for mistake in told(lacks)] == [("gate", "rules", "0", "instead")]


def test_a_provider_that_scores_nothing_is_measured_by_something(so_python) -> None:
    config = with_gemini(so_python)
    config["evaluation"]["metrics"] = ["loss", "perplexity"]
    config["gate"]["rules"] = []
    assert [mistake.path for mistake in told(config)] == [("evaluation", "metrics")]


def test_a_pipeline_that_tunes_needs_a_model_that_can_be_tuned(so_python) -> None:
    config = copy.deepcopy(so_python)
    config["model"] = {"kind": "palm"}
    assert ("model", "kind") in [mistake.path for mistake in told(config)]


def test_a_scorer_of_ratings_needs_a_model_that_sends_some(so_python) -> None:
    config = copy.deepcopy(so_python)
    config["safety"]["scorer"] = {"kind": "gemini"}
    config["safety"]["input"]["score"] = True
    config["safety"]["thresholds"] = {"harassment": 0.5}
    paths = [mistake.path for mistake in told(config)]
    assert paths == [("safety", "scorer", "kind"), ("safety", "input", "score")]


@pytest.mark.parametrize(
    ("tune", "serve", "path"),
    [
        ("us-central1", "europe-west4", ("deploy", "region")),
        ("us-centrall", "us-central1", ("model", "tuner", "region")),
        ("mars", "mars", ("model", "tuner", "region")),
    ],
)
def test_a_region_must_serve_what_it_tunes(so_python, tune: str, serve: str, path) -> None:
    assert path in [mistake.path for mistake in told(with_gemini(so_python, tune, serve))]


def test_every_provider_that_a_config_may_choose_has_a_row() -> None:
    assert set(schema("model")["properties"]["kind"]["enum"]) <= set(PROVIDERS)


def test_the_table_names_metrics_that_exist() -> None:
    assert set(NEED_SCORES) <= set(METRICS)


def test_the_page_shows_the_table() -> None:
    lines = DOCS.read_text("utf-8").splitlines()
    for name, able in PROVIDERS.items():
        regions = ", ".join(able.regions) if able.regions else "-"
        scores, tunes = ("yes" if able else "no" for able in (able.can_score, able.tunes))
        assert [line for line in lines if line.startswith(f"| `{name}` | {scores} | {tunes} |")]
        assert [line for line in lines if line.startswith(f"| `{name}`") and regions in line]


# ------------------------------------------------------------- returned columns


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT a AS x, b.c, `d` FROM t", ["x", "c", "d"]),
        ("SELECT CONCAT(a, ', ', b) AS x, (SELECT y AS z FROM u) AS w FROM t", ["x", "w"]),
        ("WITH s AS (SELECT q AS r FROM t) SELECT r AS x FROM s", ["x"]),
        ("SELECT 'a, b AS c FROM' AS x -- , y AS z\nFROM t", ["x"]),
        ("SELECT a AS x FROM t UNION ALL SELECT b AS y FROM u", ["x"]),
        ("SELECT COUNT(*), MAX(b) n, a AS x FROM t", ["x"]),
        ("", []),
    ],
)
def test_aliases_are_those_of_the_outermost_list(sql: str, names: list[str]) -> None:
    assert returned_columns.aliases(sql) == names


@pytest.mark.parametrize(
    ("sql", "wanted", "found"),
    [
        ("SELECT a AS x FROM t", ["x"], None),
        ("SELECT a x FROM t", ["x"], None),
        ("SELECT a AS x FROM t WHERE y = 1", ["y"], (["y"], ["x"])),
        ("SELECT * FROM t", ["y"], None),
        ("SELECT t.* FROM t", ["y"], None),
        ("this is no query", ["y"], None),
    ],
)
def test_a_column_is_missing_only_if_the_text_says_so(sql: str, wanted: list[str], found) -> None:
    assert returned_columns.missing(sql, wanted) == found


def test_a_query_that_names_its_columns_is_checked_without_a_parser() -> None:
    code = (
        "import sys; from llmops.config.validate import validate;"
        "validate(['+experiment=so_python']); sys.exit('sqlglot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_rows_of_files_need_no_query():
    files = ("dataset=jsonl", "dataset.query=null", "pipeline=dataset_of_files")
    own = ("dataset.licence=mine", "dataset.source_terms=mine", "dataset.acknowledged_terms=[mine]")
    validate(["+experiment=so_python", *files, "dataset.files=[rows.jsonl]", *own])


def with_code_metric(config: dict[str, Any], engine: str = "local") -> dict[str, Any]:
    changed = copy.deepcopy(config)
    changed["evaluation"]["metrics"].append("code_passes")
    changed["evaluation"]["sandbox"] = {"timeout_s": 5, "max_memory_mb": 256}
    changed["engine"]["kind"] = engine
    return changed


def of_code(config: dict[str, Any]) -> list[Mistake]:
    return [one for one in told(config) if one.got == "'code_passes'" or "bwrap" in one.got]


def test_a_metric_that_runs_code_has_to_be_allowed(so_python: dict[str, Any]) -> None:
    config = with_code_metric(so_python)
    config["evaluation"]["sandbox"] = None
    assert "allow running it" in of_code(config)[0].hint


def test_a_metric_that_runs_code_is_refused_where_no_sandbox_works(
    so_python: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "why_not", sandbox.why_not.__wrapped__)
    monkeypatch.setenv("PATH", "/nowhere")
    (mistake,) = of_code(with_code_metric(so_python))
    assert mistake.path == ("evaluation", "metrics", "6")
    assert mistake.got.startswith("bwrap is not installed")
    assert "leave code_passes out" in mistake.hint


def test_tasks_on_other_machines_look_for_their_sandbox_themselves(
    so_python: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "why_not", sandbox.why_not.__wrapped__)
    monkeypatch.setenv("PATH", "/nowhere")
    assert of_code(with_code_metric(so_python, engine="kubeflow")) == []
