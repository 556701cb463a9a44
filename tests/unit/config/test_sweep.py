from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest

from llmops.config import project, sweep
from llmops.config.compose import compose, register_plugins
from llmops.errors import ConfigError

WriteConf = Callable[[str, str], Path]  # see conftest.py

SO_PYTHON = "+experiment=so_python"


@pytest.mark.parametrize(
    "overrides",
    [
        [SO_PYTHON],
        [SO_PYTHON, "split=group,random_80_20", "tuning.max_steps=20,40"],
        [SO_PYTHON, "tuning.max_steps=range(1,4)", "version='a,b'"],
        [SO_PYTHON, "split=glob(*)", "evaluation.metrics=[loss,chrf],[loss]"],
        ["+experiment=hello,so_python", "seed=choice(1,2)"],
    ],
    ids=str,
)
def test_members_are_those_that_hydra_runs(workspace: Path, overrides: list[str]) -> None:
    ran: list[list[str]] = []
    sweep.launch(["-m", *overrides], ran.append)
    assert sweep.members(overrides) == ran


def test_hydras_own_settings_are_no_part_of_a_member(workspace: Path) -> None:
    assert sweep.members([SO_PYTHON, "hydra/launcher=basic"]) == [[SO_PYTHON]]


def test_a_launch_leaves_no_file_of_hydras(workspace: Path) -> None:
    sweep.launch(["-m", SO_PYTHON, "seed=1,2"], lambda overrides: None)
    sweep.launch([SO_PYTHON], lambda overrides: None)
    assert list(workspace.rglob("*")) == []


def test_a_member_that_fails_does_not_stop_the_others(workspace: Path) -> None:
    ran: list[str] = []

    def job(overrides: list[str]) -> None:
        ran.append(overrides[-1])
        if overrides[-1] == "seed=1":
            raise RuntimeError("the first one fails")

    with pytest.raises(RuntimeError, match="the first one fails"):
        sweep.launch(["-m", SO_PYTHON, "seed=1,2,3"], job)
    assert ran == ["seed=1", "seed=2", "seed=3"]


def test_a_launch_sees_the_projects_own_config(write_conf: WriteConf) -> None:
    write_conf("experiment/own.yaml", "# @package _global_\nname: own\nversion: v1\n")
    ran: list[list[str]] = []
    sweep.launch(["-m", "+experiment=own", "seed=1"], ran.append)
    assert ran == [["+experiment=own", "seed=1"]]


def test_a_member_can_compose_its_own_config(workspace: Path) -> None:
    seeds: list[int] = []
    launched = ["-m", SO_PYTHON, "seed=1,2"]
    sweep.launch(launched, lambda overrides: seeds.append(compose(overrides).config["seed"]))
    assert seeds == [1, 2]


def test_the_command_line_is_as_before_after_a_launch(workspace: Path) -> None:
    before = list(sys.argv)
    sweep.launch([SO_PYTHON], lambda overrides: None)
    assert sys.argv == before


def test_flags_and_overrides_may_come_in_any_order() -> None:
    arguments = sweep.normalise(["seed=1", "--cfg", "job", "experiment=hello", "-m"])
    assert arguments.overrides == ("seed=1", "+experiment=hello")
    assert arguments.multirun
    assert arguments.informs


@pytest.mark.parametrize("flag", ["--config-dir", "--config-name", "--experimental-rerun"])
def test_a_flag_that_reads_past_the_checks_is_refused(flag: str) -> None:
    with pytest.raises(ConfigError, match=flag):
        sweep.normalise([flag, "x"])


def test_an_unknown_flag_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="--multrun"):
        sweep.normalise(["--multrun"])


def test_a_sweep_over_an_interval_needs_another_sweeper(workspace: Path) -> None:
    with pytest.raises(ConfigError, match="INTERVAL_SWEEP"):
        sweep.members([SO_PYTHON, "tuning.max_steps=interval(1,4)"])


def test_other_hydra_applications_keep_their_search_path(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("other: true\n", encoding="utf-8")
    register_plugins()
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"):
        config: Any = hydra.compose("config")
    assert dict(config) == {"other": True}
    assert tmp_path != project.packaged_conf()
