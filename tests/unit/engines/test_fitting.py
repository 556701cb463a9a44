"""What an engine cannot carry out is told when the config is checked."""

from __future__ import annotations

import pytest

from llmops.engines import fitting
from llmops.errors import ConfigProblems
from llmops.plan.graph import build_graph
from llmops.plan.kinds import Port, StepKind
from llmops.steps.component import component_kind
from tests.fakes.container_component import SHOUT

SAY = StepKind("say", 1, lambda work: None, object, (), (Port("out", "json"),))
FIT = StepKind("fit", 1, lambda work: None, object, (Port("in", "json"),), (Port("out", "json"),))


def said(steps: dict, **engine) -> str:
    """Return what the check has against the steps, or nothing."""
    kinds = {"say": SAY, "fit": FIT, "shout.yaml": component_kind("shout.yaml", SHOUT)}
    config = {"pipeline": {"name": "p", "steps": steps}, "engine": {"kind": "local", **engine}}
    try:
        fitting.check(build_graph(config["pipeline"], kinds), config)
    except ConfigProblems as exc:
        return "\n".join(exc.problems)
    return ""


def steps(**given) -> dict:
    return {
        "s0": {"use": "say"},
        "s1": {"use": "shout.yaml", "takes": {"greeting": "s0.out"}, "with": given},
    }


def test_the_local_engine_refuses_a_container_image_by_name_and_says_what_to_do():
    problem = said(steps(mark="!"))
    assert problem.startswith("pipeline.steps.s1.use: it runs in the container image alpine:3.22")
    assert "engine=vertex or engine=kubeflow" in problem


@pytest.mark.parametrize("kind", ["vertex", "kubeflow"])
def test_engines_elsewhere_take_it(kind):
    assert said(steps(mark="!"), kind=kind) == ""


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "pipeline.steps.s1.with: shout needs mark"),
        ({"mark": "!", "tims": 2}, "did you mean 'times'?"),
    ],
)
def test_its_parameters_are_checked_before_anything_is_submitted(given, problem):
    assert problem in said(steps(**given), kind="vertex")


def test_two_accelerators_in_one_task_are_refused():
    both = {"s0": {"use": "say"}, "s1": {"use": "fit", "takes": {"in": "s0.out"}}}
    sizes = {"s0": {"accelerator": "NVIDIA_L4"}, "s1": {"accelerator": "NVIDIA_A100"}}
    fused = said(both, kind="vertex", fuse={"all": ["say", "fit"]}, resources=sizes)
    assert "steps that share a task ask for NVIDIA_A100 and NVIDIA_L4" in fused
    assert said(both, kind="vertex", fuse=None, resources=sizes) == ""


def test_every_problem_is_told_at_once():
    assert said(steps()).count("pipeline.steps.s1") == 2
