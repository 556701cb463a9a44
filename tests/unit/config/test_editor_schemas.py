"""The schemas that editors use accept what is shipped, and still tell a slip of the keyboard."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from referencing import Registry, Resource

from llmops import cli
from llmops.config import documents, editor
from llmops.config.project import packaged_conf
from tests.unit.config.conftest import WriteConf

CONF = packaged_conf()
FILES = sorted((*CONF.glob("*.yaml"), *CONF.glob("*/*.yaml")))
BASE = "https://llmops.test/"
REGISTRY: Registry[Any] = Registry().with_resources(
    [
        (BASE + name, Resource.from_contents(json.loads(text)))
        for name, text in editor.documents().items()
    ]
)


def mistakes(name: str, value: Any) -> list[str]:
    validator = Draft7Validator({"$ref": f"{BASE}{name}.json"}, registry=REGISTRY)
    return [error.message for error in validator.iter_errors(value)]


def schema_of(path: Path) -> str:
    return editor.schema_name(path, CONF)


def test_there_are_files_to_look_at() -> None:
    assert len(FILES) >= 20


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CONF).as_posix())
def test_a_shipped_file_is_valid_for_an_editor(path: Path) -> None:
    assert mistakes(schema_of(path), documents.read(path, "conf").value) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CONF).as_posix())
def test_a_shipped_file_names_its_schema_after_its_package(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    line = lines[1] if lines[0].startswith("# @package") else lines[0]
    named = line.removeprefix(editor.MODELINE)
    assert (path.parent / named).resolve() == CONF / editor.FOLDER / f"{schema_of(path)}.json"


def test_the_shipped_schemas_are_those_of_this_version() -> None:
    shipped = {path.name: path.read_text("utf-8") for path in (CONF / editor.FOLDER).iterdir()}
    assert shipped == editor.documents()


@pytest.mark.parametrize("value", ["???", "${seed}", "${split.seed}", 3, None])
def test_a_value_may_be_missing_or_an_interpolation(value: Any) -> None:
    assert mistakes("tuning", {"max_steps": value}) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tuning", {"max_step": 3}),
        ("tuning", {"max_steps": 0}),
        ("tuning", {"max_steps": "many"}),
        ("split", {"method": "gruop"}),
        ("warehouse", {"kind": "duckdb", "memroy_limit": "1GB"}),
        ("model", {"kind": "local", "tuner": {"lora": {"rnak": 3}}}),
        ("experiment", {"tuning": {"max_step": 3}}),
        ("experiment", {"tunning": {}}),
        ("evaluation", {"slices": ["tags"]}),
    ],
)
def test_a_slip_is_told(name: str, value: Any) -> None:
    assert mistakes(name, value)


def test_a_file_that_sets_one_key_is_whole() -> None:
    assert mistakes("experiment", {"defaults": ["hello"], "safety": {"confidence": 0.9}}) == []


# ------------------------------------------------------------------ the command


def test_the_command_writes_schemas_and_lines(workspace: Path, write_conf: WriteConf) -> None:
    experiment = write_conf("experiment/mine.yaml", "# @package _global_\n# Mine.\nname: mine\n")
    group = write_conf("tuning/mine.yaml", "# Mine.\nmax_steps: 3\n")
    assert cli.main(["schema", "--check"]) == 3
    assert cli.main(["schema", "--add-lines"]) == 0
    assert cli.main(["schema", "--check"]) == 0
    assert experiment.read_text().splitlines()[1] == f"{editor.MODELINE}../.schema/experiment.json"
    assert group.read_text().splitlines()[0] == f"{editor.MODELINE}../.schema/tuning.json"
    assert (workspace / "conf/.schema/tuning.json").is_file()


def test_check_writes_nothing_and_names_what_is_old(
    workspace: Path, write_conf: WriteConf, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(CONF / editor.FOLDER, workspace / "conf/.schema")
    (workspace / "conf/.schema/split.json").write_text("{}")
    assert cli.main(["schema", "--check", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["old"] == ["split.json"]
    assert (workspace / "conf/.schema/split.json").read_text() == "{}"


def test_lines_are_added_once(write_conf: WriteConf) -> None:
    path = write_conf("tuning/mine.yaml", "# Mine.\nmax_steps: 3\n")
    cli.main(["schema", "--add-lines"])
    once = path.read_text()
    cli.main(["schema", "--add-lines"])
    assert path.read_text() == once


def test_without_a_config_folder_it_says_where_to_write(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["schema"]) == 2
    assert "--out DIR" in capsys.readouterr().err
    assert cli.main(["schema", "--out", "schemas"]) == 0
    assert (workspace / "schemas" / "experiment.json").is_file()
