"""Which steps share a task, and how big its machine is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops.engines import resources
from llmops.engines.fusion import grouped
from llmops.engines.pipeline import compile_pipeline, group_source
from llmops.errors import ConfigError
from llmops.plan.graph import Graph, build_graph
from llmops.plan.kinds import OwnImage, Port, StepKind


def kind(name: str) -> StepKind:
    port = Port("in", "json", optional=True)
    return StepKind(name, 1, lambda work: None, object, (port,), (Port("out", "json"),))


KINDS = {name: kind(name) for name in ("read", "clean", "tune", "judge")}


def chain(*uses: str) -> Graph:
    steps = {
        f"s{i}": {"use": use} | ({"takes": {"in": f"s{i - 1}.out"}} if i else {})
        for i, use in enumerate(uses)
    }
    return build_graph({"name": "p", "steps": steps}, KINDS)


def test_without_groups_each_step_is_a_task_by_its_own_name():
    assert [(g.name, g.steps) for g in grouped(chain("read", "tune"), None)] == [
        ("s0", ("s0",)),
        ("s1", ("s1",)),
    ]


def test_neighbours_of_a_group_share_its_task():
    graph = chain("read", "clean", "tune", "judge")
    tasks = grouped(graph, {"data": ["read", "clean"], "rest": ["judge"]})
    assert [(task.name, task.steps) for task in tasks] == [
        ("data", ("s0", "s1")),
        ("s2", ("s2",)),
        ("s3", ("s3",)),
    ]


def test_a_step_between_two_of_a_group_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"engine\.fuse: the steps of data cannot share a task"):
        grouped(chain("read", "tune", "clean"), {"data": ["read", "clean"]})


def test_a_step_with_an_image_of_its_own_is_left_alone():
    own = replace(kind("own"), own_image=OwnImage("alpine:3", "a component", {}))
    steps = {"s0": {"use": "read"}, "s1": {"use": "own", "takes": {"in": "s0.out"}}}
    graph = build_graph({"name": "p", "steps": steps}, {**KINDS, "own": own})
    tasks = grouped(graph, {"all": ["read", "own"]})
    assert [(task.name, task.steps) for task in tasks] == [("s0", ("s0",)), ("s1", ("s1",))]


def test_inside_a_task_a_step_reads_what_the_one_before_it_wrote():
    (task,) = grouped(chain("read", "clean"), {"data": ["read", "clean"]})
    source = group_source(task)
    assert 'work(config_uri, run_id, "s1", {"in": out_s0__out.path}' in source
    assert "Input[" not in source


@given(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=8))
def test_no_step_is_lost_and_none_comes_before_what_it_takes(uses):
    graph = chain(*uses)
    tasks = grouped(graph, {"all": list(KINDS)})
    assert [step for task in tasks for step in task.steps] == [n.name for n in graph.nodes]


def test_a_task_gets_the_largest_of_what_its_steps_need():
    table = {
        "default": {"cpu": 1, "memory": "512Mi"},
        "s1": {"cpu": 4, "memory": "2G", "accelerator": "NVIDIA_L4", "accelerators": 2},
    }
    assert resources.needed(["s0", "s1"], table) == {
        "cpu": 4,
        "memory": "2G",
        "accelerator": "NVIDIA_L4",
        "accelerators": 2,
    }


def test_two_accelerators_in_one_task_are_refused():
    table = {"s0": {"accelerator": "NVIDIA_L4"}, "s1": {"accelerator": "NVIDIA_A100_80GB"}}
    with pytest.raises(ConfigError, match="NVIDIA_A100_80GB and NVIDIA_L4"):
        resources.needed(["s0", "s1"], table)


@pytest.mark.parametrize(
    ("text", "size"), [("", 0), ("1M", 1e6), ("1.5G", 1.5e9), ("1Mi", 1 << 20), ("2Gi", 2 << 30)]
)
def test_sizes_are_read_as_kubernetes_means_them(text, size):
    assert resources.memory_bytes(text) == size


def test_resources_and_environment_stand_in_the_compiled_pipeline(tmp_path):
    import yaml

    engine = {
        "image": "an-image-with-python:1",
        "resources": {"s0": {"cpu": 4, "memory": "16G", "accelerator": "NVIDIA_L4"}},
        "environment": {"LLMOPS_CACHE": "/models"},
    }
    target = tmp_path / "p.yaml"
    compile_pipeline(chain("read"), engine, target)
    (executor,) = yaml.safe_load(target.read_text())["deploymentSpec"]["executors"].values()
    container = executor["container"]
    assert container["resources"]["resourceCpuLimit"] == "4"
    assert container["resources"]["resourceMemoryLimit"] == "16G"
    assert container["resources"]["accelerator"]["resourceType"] == "NVIDIA_L4"
    assert container["env"] == [{"name": "LLMOPS_CACHE", "value": "/models"}]
