from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llmops.config import project
from llmops.config.compose import compose, group
from llmops.config.identity import config_digest
from llmops.errors import ConfigError, ConfigProblems

WriteConf = Callable[[str, str], Path]  # see conftest.py

SO_PYTHON = ["+experiment=so_python"]
EXPERIMENTS = project.names("experiment")


def test_the_shipped_experiments_are_found() -> None:
    assert {"hello", "so_python"} <= set(EXPERIMENTS)


def test_a_resolved_config_is_plain_and_complete(workspace: Path) -> None:
    config = compose(SO_PYTHON).config
    assert {type(value) for value in scalars(config)} <= {str, int, float, bool, type(None)}
    assert "???" not in scalars(config)
    assert "hydra" not in config


def test_the_command_line_wins_over_the_experiment_and_that_over_the_group(workspace: Path) -> None:
    config = compose([*SO_PYTHON, "evaluation.max_rows=7"]).config
    assert config["evaluation"]["max_rows"] == 7
    assert config["safety"]["thresholds"] == {"profanity": 0.8}
    assert config["predict"]["max_new_tokens"] == 96


def test_an_experiment_may_be_named_without_the_plus(workspace: Path) -> None:
    assert compose(["experiment=hello"]).config == compose(["+experiment=hello"]).config


def test_a_group_set_to_null_leaves_its_key_out(workspace: Path) -> None:
    assert "dataset" not in compose(["+experiment=hello"]).config


def test_a_query_is_read_from_its_file(workspace: Path) -> None:
    query = compose(SO_PYTHON).config["dataset"]["query"]
    assert query == (project.packaged_conf() / "sql" / "so_python.sql").read_text("utf-8")


def test_a_secret_stays_a_reference(workspace: Path) -> None:
    config = compose([*SO_PYTHON, "env.bucket=gs://${secret:BUCKET}"]).config
    assert config["env"]["bucket"] == "gs://${secret:BUCKET}"


def test_a_projects_own_file_shadows_the_packaged_one(write_conf: WriteConf) -> None:
    write_conf("tuning/short.yaml", "max_steps: 7\nepochs: null\nmax_examples: null\nseed: 1\n")
    write_conf("sql/so_python.sql", "SELECT 1\n")
    config = compose(SO_PYTHON).config
    assert config["tuning"]["seed"] == 1
    assert config["dataset"]["query"] == "SELECT 1\n"


def test_a_project_is_found_from_a_folder_below_it(
    write_conf: WriteConf, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_conf("experiment/own.yaml", "# @package _global_\nname: own\nversion: v1\n")
    below = workspace / "python3 ü" / "deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert project.workspace() == workspace
    assert compose(["+experiment=own", "~dataset"]).config["name"] == "own"


def test_settings_name_other_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "settings" / "env").mkdir(parents=True)
    (tmp_path / "settings" / "env" / "prod.yaml").write_text("name: prod\n")
    monkeypatch.setenv("LLMOPS_CONF", str(tmp_path / "settings"))
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(tmp_path / "work"))
    assert project.workspace() == tmp_path / "work"
    assert compose([*SO_PYTHON, "env=prod"]).config["env"] == {"name": "prod"}


def test_a_setting_that_names_no_folder_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMOPS_CONF", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="LLMOPS_CONF"):
        project.project_conf()


def test_a_group_can_be_had_without_an_experiment(workspace: Path) -> None:
    assert group("warehouse")["source"]["terms"] == "psf-2.0"


def test_a_group_leaves_out_what_only_an_experiment_says(workspace: Path) -> None:
    assert "model_name" not in group("deploy")
    assert group("deploy")["registry"]["kind"] == "files"


def test_a_group_that_lacks_a_value_of_its_own_is_refused(workspace: Path) -> None:
    with pytest.raises(ConfigProblems, match=r"warehouse\.source\.title"):
        group("warehouse", ["warehouse=duckdb"])


def test_a_group_that_does_not_exist_gets_the_nearest_name(workspace: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        group("warehous")
    assert "did you mean 'warehouse'?" in caught.value.hint


def test_compositions_in_threads_do_not_disturb_each_other(workspace: Path) -> None:
    wanted = [["+experiment=hello"], SO_PYTHON] * 3
    with ThreadPoolExecutor(4) as pool:
        names = [composed.config["name"] for composed in pool.map(compose, wanted)]
    assert names == ["hello", "so_python"] * 3


def test_the_digest_knows_values_only(workspace: Path) -> None:
    config = compose(SO_PYTHON).config
    reversed_keys = dict(reversed(config.items()))
    same = compose([*SO_PYTHON, "tuning.max_steps=40", "split.train=0.80"]).config
    other = compose([*SO_PYTHON, "tuning.max_steps=41"]).config
    assert config_digest(config) == config_digest(reversed_keys) == config_digest(same)
    assert config_digest(config) != config_digest(other)


def scalars(value: object) -> list[object]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in scalars(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in scalars(item)]
    return [value]
