"""``llmops models`` over a real registry of files."""

from __future__ import annotations

import json

import pytest

from llmops.adapters import catalog
from llmops.cli.models import Wanted, main, parse_model
from llmops.errors import ConfigError, Refused
from llmops.ports.model import ModelReference


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


def test_promote_needs_a_gate_that_passed(two_versions):
    with pytest.raises(Refused, match="no gate has judged so_python:1"):
        main(["promote", "so_python:1"])
    assert two_versions.get("so_python", "1").aliases == ()


def test_promote_by_force_keeps_the_reason_forever(two_versions, capsys):
    assert main(["promote", "so_python:1", "--force", "--reason", "read its answers"]) == 0
    assert two_versions.get("so_python", "champion").version == 1
    assert capsys.readouterr().out == "so_python@champion is version 1\n"
    last = two_versions.history("so_python")[-1]
    assert (last.reason, last.forced) == ("forced: read its answers", True)


def test_force_without_a_reason_is_refused(two_versions):
    with pytest.raises(ConfigError, match="needs a reason"):
        main(["promote", "so_python:1", "--force"])


def test_rollback_points_the_alias_back_and_show_says_so(two_versions, capsys):
    for version in ("1", "2"):
        main(["promote", f"so_python:{version}", "--force", "--reason", "a trial"])
    assert main(["rollback", "so_python@champion", "--reason", "it was rude"]) == 0
    assert two_versions.get("so_python", "champion").version == 1
    capsys.readouterr()
    main(["show", "so_python:1"])
    assert "champion back from 2 to 1: it was rude" in capsys.readouterr().out


def test_delete_takes_a_version_that_no_alias_needs(two_versions, capsys):
    assert main(["delete", "so_python:1", "--reason", "a trial"]) == 0
    assert [one.version for one in two_versions.list()] == [2]
    with pytest.raises(Refused, match="is candidate"):
        main(["delete", "so_python:2", "--reason", "a trial"])
    with pytest.raises(ConfigError, match="no version is named"):
        main(["delete", "so_python", "--reason", "a trial"])


def test_a_card_of_a_model_whose_run_is_gone_says_what_is_not_known(two_versions, capsys):
    assert main(["card", "so_python:2"]) == 0
    told = capsys.readouterr().out
    assert "# so_python, version 2" in told
    assert "The record of run run-2 is gone" in told
    assert main(["card", "so_python:2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run"]["known"] is False


def test_a_model_whose_provider_keeps_the_weights_is_not_exported(registry, tmp_path):
    model = ModelReference("gemini", "gemini-3", tuned="t", endpoint="projects/1/endpoints/2")
    registry.register("cloudy", model, labels={}, run_id="run-1")
    with pytest.raises(ConfigError) as caught:
        main(["export", "cloudy", "--out", str(tmp_path / "out")])
    assert "projects/1/endpoints/2" in caught.value.hint


def test_an_unknown_model_is_told_with_the_nearest_name(two_versions):
    with pytest.raises(ConfigError) as caught:
        main(["show", "so_pyton"])
    assert "did you mean 'so_python'?" in caught.value.hint


def test_another_registry_is_chosen_as_in_any_config(two_versions, capsys):
    assert main(["list", "--json", "deploy.registry.path=elsewhere"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_the_registry_in_the_store_is_listed_and_moved_like_any_other(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(tmp_path))
    url = f"store.url=file://{tmp_path / 'bucket'}"
    chosen = ["deploy=store", "store=bucket", url]
    config = {"kind": "store", "store": {"kind": "fsspec", "url": url[10:], "options": {}}}
    registry = catalog.adapter("registry", config, tmp_path)
    model = ModelReference("local", "a base", adapter="ab" * 32)
    registry.register("so_python", model, labels={}, run_id="run-1")
    assert main(["list", "--json", *chosen]) == 0
    assert [one["version"] for one in json.loads(capsys.readouterr().out)] == [1]
    promote = ["promote", "so_python:1", "--to", "champion", "--force", "--reason", "a trial"]
    assert main([*promote, *chosen]) == 0
    assert registry.get("so_python", "champion").version == 1
    assert not (tmp_path / ".llmops" / "registry").exists()


@pytest.mark.parametrize("extra", ["--forse", "two"])
def test_what_is_no_override_is_refused(two_versions, extra, capsys):
    with pytest.raises(SystemExit):
        main(["promote", "so_python:1", "--reason", "x", extra])
    assert f"unrecognized arguments: {extra}" in capsys.readouterr().err
