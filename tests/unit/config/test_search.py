"""Search with Optuna: what it asks for, and that the same command asks for the same again."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from llmops.config import search, sweep
from llmops.errors import ConfigError

SO_PYTHON = "+experiment=so_python"
OPTUNA = "hydra/sweeper=optuna"
LOG_RATE = "model.tuner.learning_rate=tag(log,interval(1e-5,1e-2))"


def searched(*arguments: str, figure=lambda overrides: 1.0) -> list[list[str]]:
    asked: list[list[str]] = []

    def job(overrides: list[str]):
        asked.append(overrides)
        return figure(overrides)

    sweep.launch(["-m", SO_PYTHON, OPTUNA, *arguments], job)
    return asked


def rate(overrides: list[str]) -> float:
    return float(overrides[-1].partition("=")[2])


def test_a_search_asks_for_as_many_members_as_it_was_told(workspace: Path) -> None:
    asked = searched("tuning.max_steps=range(5,50,5)", "hydra.sweeper.trials=3")
    assert len(asked) == 3
    assert {len(overrides) for overrides in asked} == {2}
    assert all(int(rate(one)) in range(5, 50, 5) for one in asked)


def test_the_same_seed_asks_for_the_same_members(workspace: Path) -> None:
    def run(seed: int) -> list[list[str]]:
        options = ("hydra.sweeper.trials=5", f"hydra.sweeper.seed={seed}")
        return searched(LOG_RATE, *options, figure=lambda o: abs(math.log(rate(o) / 1e-3)))

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_a_search_finds_what_is_better(workspace: Path) -> None:
    options = ("hydra.sweeper.trials=14", "hydra.sweeper.startup_trials=5")
    asked = searched(LOG_RATE, *options, figure=lambda o: abs(math.log(rate(o) / 1e-3)))
    early = min(abs(math.log(rate(o) / 1e-3)) for o in asked[:5])
    late = [abs(math.log(rate(o) / 1e-3)) for o in asked[8:]]
    assert sorted(late)[len(late) // 2] < 1.5
    assert min(late) < early


def test_members_can_be_asked_for_two_at_a_time(workspace: Path) -> None:
    options = ("hydra.sweeper.trials=3", "hydra.sweeper.at_once=2")
    assert len(searched("tuning.max_steps=range(5,50,5)", *options)) == 3


def test_a_member_without_a_figure_does_not_end_the_search(workspace: Path) -> None:
    figures = iter([None, math.nan, 2.0])
    options = ("tuning.max_steps=5,10", "hydra.sweeper.trials=3")
    assert len(searched(*options, figure=lambda overrides: next(figures))) == 3


def test_a_job_can_end_the_search(workspace: Path) -> None:
    options = ("tuning.max_steps=5,10", "hydra.sweeper.trials=9")
    assert len(searched(*options, figure=lambda overrides: search.STOP)) == 1


@pytest.mark.parametrize(
    ("setting", "said"),
    [("sampler=tqe", "did you mean 'tpe'"), ("direction=down", "valid: maximize, minimize")],
)
def test_a_wrong_setting_is_told_with_the_valid_ones(
    workspace: Path, setting: str, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        searched("seed=1,2", f"hydra.sweeper.{setting}")
    assert said in caught.value.hint


def test_what_a_search_may_ask_for_is_checked_at_every_choice_and_both_ends(
    workspace: Path,
) -> None:
    members = sweep.search_members([SO_PYTHON, "split=group,hash", "seed=range(1,4)", LOG_RATE])
    changed = [set(one) - set(members[0]) for one in members[1:]]
    assert changed == [
        {"split=hash"},
        {"seed=3"},
        {"model.tuner.learning_rate=0.01"},
    ]
