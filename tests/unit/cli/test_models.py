"""``llmops models`` over a real registry of files."""

from __future__ import annotations

import json

import pytest

from llmops.adapters import catalog
from llmops.cli.models import Wanted, main, parse_model
from llmops.errors import ConfigError
from llmops.ports import ModelReference


@pytest.fixture
def registry(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(tmp_path))
    return catalog.adapter("registry", {"kind": "files", "path": ".llmops/registry"}, tmp_path)


@pytest.fixture
def two_versions(registry):
    for number in (1, 2):
        model = ModelReference("local", "a base", tuned=f"tuned-{number}", adapter=f"{number:064}")
        registry.register("so_python", model, labels={"base": "a base"}, run_id=f"run-{number}")
    registry.set_alias("so_python", "candidate", 2, reason="step deploy of run [run-2]")
    return registry


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("so_python", Wanted("so_python", None)),
        ("so_python@champion", Wanted("so_python", "champion")),
        ("so_python:3", Wanted("so_python", "3")),
    ],
)
def test_a_model_is_named_alone_by_alias_or_by_version(text, wanted):
    assert parse_model(text) == wanted


@pytest.mark.parametrize("text", ["@champion", "so_python@", "so_python:", "so_python:x", ":1"])
def test_half_a_name_is_refused(text):
    with pytest.raises(ConfigError, match="names no model"):
        parse_model(text)


def test_list_shows_every_version_with_its_aliases(two_versions, capsys):
    assert main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(one["version"], one["aliases"]) for one in listed] == [(2, ["candidate"]), (1, [])]


def test_list_is_a_table_for_people(two_versions, capsys):
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert "tuned-2" in shown
    assert "candidate" in shown


def test_an_empty_list_says_how_to_fill_it(registry, capsys):
    assert main(["list"]) == 0
    assert "run +experiment=so_python" in capsys.readouterr().out


def test_show_takes_the_newest_version_and_its_history(two_versions, capsys):
    assert main(["show", "so_python", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["version"] == 2
    assert [move["reason"] for move in shown["history"]] == ["step deploy of run [run-2]"]


def test_show_prints_what_users_wrote_as_they_wrote_it(two_versions, capsys):
    assert main(["show", "so_python@candidate"]) == 0
    assert "[run-2]" in capsys.readouterr().out


def test_promote_moves_the_alias_that_the_config_names(two_versions, capsys):
    assert main(["promote", "so_python:1", "--reason", "read its answers"]) == 0
    assert two_versions.get("so_python", "champion").version == 1
    assert capsys.readouterr().out == "so_python@champion is version 1\n"
    assert two_versions.history("so_python")[-1].reason == "read its answers"


def test_promote_moves_the_alias_that_is_asked_for(two_versions):
    assert main(["promote", "so_python@candidate", "--to", "staging", "--reason", "try"]) == 0
    assert two_versions.get("so_python", "staging").version == 2


def test_an_unknown_model_is_told_with_the_nearest_name(two_versions):
    with pytest.raises(ConfigError) as caught:
        main(["show", "so_pyton"])
    assert "did you mean 'so_python'?" in caught.value.hint


def test_another_registry_is_chosen_as_in_any_config(two_versions, capsys):
    assert main(["list", "--json", "deploy.registry.path=elsewhere"]) == 0
    assert json.loads(capsys.readouterr().out) == []
