"""A small table of step kinds to plan with."""

from __future__ import annotations

from dataclasses import dataclass

from llmops.plan.kinds import Outcome, Port, StepKind, leaf


@dataclass(frozen=True)
class NoSettings:
    pass


@dataclass(frozen=True)
class LoadSettings:
    query: str = leaf("data.query")


@dataclass(frozen=True)
class FitSettings:
    steps: int = leaf("fit.steps")


def idle(work):
    return Outcome()


LOAD = StepKind("load", 1, idle, LoadSettings, gives=(Port("rows", "parquet"),))
FIT = StepKind(
    "fit",
    1,
    idle,
    FitSettings,
    takes=(Port("rows", "parquet"), Port("extra", "json", optional=True)),
    gives=(Port("model", "folder"), Port("notes", "json")),
)
JUDGE = StepKind(
    "judge", 1, idle, NoSettings, takes=(Port("model", "folder"),), gives=(Port("verdict", "json"),)
)
KINDS = {kind.name: kind for kind in (LOAD, FIT, JUDGE)}


def config(**changes):
    base = {
        "name": "example",
        "data": {"query": "SELECT 1"},
        "fit": {"steps": 40},
        "pipeline": {
            "name": "small",
            "steps": {
                "load": {"use": "load"},
                "fit": {"use": "fit", "takes": {"rows": "load.rows"}},
                "judge": {"use": "judge", "takes": {"model": "fit.model"}},
            },
        },
    }
    return base | changes
