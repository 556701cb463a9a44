"""The schemas know every key that is shipped, and agree with the tables of the floors above."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from llmops.adapters.catalog import ADAPTERS
from llmops.adapters.model.sources import KINDS as SOURCES
from llmops.config import documents, project, rules, schemas
from llmops.config.knowledge import SCORER_CATEGORIES
from llmops.config.validate import validate
from llmops.data import settings as data

CONF = project.packaged_conf()
GROUP_FILES = sorted(
    path
    for path in CONF.glob("*/*.yaml")
    if path.parent.name not in {"experiment", *project.NO_GROUPS}
)
TABLES = sorted((CONF / "knowledge").glob("*.yaml"))
EXPERIMENTS = project.names("experiment")


def test_every_group_has_a_schema_and_every_schema_a_group() -> None:
    groups = set(project.groups()) - {"experiment"}
    assert groups | {"root"} == set(schemas.names())
    assert len(GROUP_FILES) >= 18


@pytest.mark.parametrize("name", schemas.names())
def test_a_schema_is_one_itself_and_describes_every_key(name: str) -> None:
    Draft202012Validator.check_schema(schemas.schema(name))
    for path, rules_of_key in properties(schemas.schema(name), ()):
        assert rules_of_key.get("description") or "$ref" in rules_of_key, ".".join(path)


@pytest.mark.parametrize("path", GROUP_FILES, ids=lambda path: path.relative_to(CONF).as_posix())
def test_every_key_of_a_shipped_group_is_known(path: Path) -> None:
    value = {**documents.read(path, "conf").value}
    value.pop("defaults", None)
    unknown = [
        mistake for mistake in schemas.mistakes(value, name=path.parent.name) if mistake.of_key
    ]
    assert unknown == []


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_shipped_table_fits_its_schema(path: Path) -> None:
    value = documents.read(path, "conf").value
    assert schemas.mistakes(value, name=f"knowledge/{path.stem}") == []
    assert len(TABLES) == 3


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_shipped_experiment_is_valid(name: str, workspace: Path) -> None:
    assert validate([f"+experiment={name}"]).config["name"]


def test_a_mistake_within_a_kind_is_told_as_that_kinds(workspace: Path) -> None:
    config = validate(["+experiment=so_python"]).config["warehouse"]
    config["memroy_limit"] = "1GB"
    mistakes = schemas.mistakes(config, name="warehouse")
    assert [mistake.path for mistake in mistakes] == [("memroy_limit",)]
    assert mistakes[0].hint == "did you mean 'memory_limit'?"


@pytest.mark.parametrize(
    ("group", "keys", "table"),
    [
        ("warehouse", ("kind",), ADAPTERS["warehouse"]),
        ("store", ("kind",), ADAPTERS["store"]),
        ("model", ("kind",), ADAPTERS["generator"]),
        ("safety", ("scorer", "kind"), ADAPTERS["scorer"]),
        ("deploy", ("registry", "kind"), ADAPTERS["registry"]),
        ("split", ("method",), data.SPLIT_METHODS),
        ("split", ("by", "items"), data.JOINS),
        ("dataset", ("formats", "items"), data.FORMATS),
    ],
)
def test_the_choices_of_a_schema_are_those_that_exist(
    group: str, keys: tuple[str, ...], table: Mapping[str, Any]
) -> None:
    node: Any = schemas.schema(group)
    for key in keys:
        node = node["items"] if key == "items" else node["properties"][key]
    assert set(node["enum"]) == set(table)


def test_the_schemas_kinds_of_model_sources_are_those_that_exist() -> None:
    source = schemas.schema("model")["$defs"]["source"]
    assert set(source["properties"]["kind"]["enum"]) == set(SOURCES)


def test_the_table_of_categories_names_every_scorer() -> None:
    assert set(SCORER_CATEGORIES) == set(ADAPTERS["scorer"])


def test_no_number_that_is_no_number_passes() -> None:
    found = rules.mistakes({"a": {"b": [1.0, float("nan")]}, "c": float("-inf")})
    assert [mistake.path for mistake in found] == [("a", "b", "1"), ("c",)]


def test_a_rule_is_not_asked_where_its_keys_are_wrong_already() -> None:
    config = {"split": {"train": 0.1, "validation": 0.1, "test": 0.1}}
    assert rules.mistakes(config)
    assert rules.mistakes(config, [("split", "train")]) == []


def properties(
    node: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    for key, below in node.get("properties", {}).items():
        yield (*path, key), below
        yield from properties(below, (*path, key))
    for name, definition in node.get("$defs", {}).items():
        yield from properties(definition, (*path, name))
