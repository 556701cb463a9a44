"""A graph of steps as a Kubeflow Pipelines pipeline.

Every task has the same few lines: hand the config's address, the run's id, the step's name and
the places of its reference files to ``llmops.worker.work``, once a step. Data does not pass
through KFP, but for steps with a container image of their own (``own_image``).
"""

from __future__ import annotations

import linecache
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops.artifacts import digest
from llmops.engines import own_image, resources
from llmops.engines.fusion import Group, grouped
from llmops.plan.graph import Graph, Node
from llmops.plan.kinds import Port

TYPES: Mapping[str, str] = {
    "parquet": "Dataset",
    "jsonl": "Dataset",
    "json": "Artifact",
    "folder": "Artifact",
}
SHAPES = ("image", "fuse", "resources", "environment")  # keys of `engine` that shape the pipeline
Hits = Mapping[str, Mapping[str, str]]  # step -> output -> address of its reference file


@dataclass(frozen=True)
class Compiled:
    """A compiled pipeline: KFP's object, which can be called, and its tasks but the importers."""

    pipeline: Any
    tasks: tuple[Group, ...]


def compile_pipeline(
    graph: Graph, engine: Mapping[str, Any], target: Path, hits: Hits | None = None
) -> Compiled:
    """Write ``graph`` as KFP's pipeline YAML; the same graph gives the same bytes.

    Args:
        graph: The steps in order.
        engine: The config's ``engine`` section: image, fused tasks, resources.
        target: The file to write.
        hits: Steps whose results are known; they become importers of their references, and
            those that nothing needs are left out. Without it the cold graph is written.
    """
    from kfp import compiler

    tasks = due_tasks(graph, engine, hits or {})
    pipeline = _pipeline(graph, tasks, engine, hits or {})
    compiler.Compiler().compile(pipeline, str(target))
    return Compiled(pipeline, tasks)


def due_tasks(graph: Graph, engine: Mapping[str, Any], hits: Hits) -> tuple[Group, ...]:
    """Return the tasks of the steps that are not among ``hits``."""
    due = tuple(node for node in graph.nodes if node.name not in hits)
    return grouped(Graph(graph.name, due), engine.get("fuse"))


def pipeline_digest(graph: Graph, engine: Mapping[str, Any]) -> str:
    """Return the sha256 of all that decides the cold pipeline, without compiling it.

    Two graphs with the same digest compile to the same bytes by the same version of KFP.
    """
    tasks = [
        [node.name, task_source(node), {name: str(edge) for name, edge in node.takes.items()}]
        for node in graph.nodes
    ]
    shape = {name: engine[name] for name in SHAPES[1:] if engine.get(name)}
    return digest([graph.name, engine["image"], tasks, *([shape] if shape else [])])


def task_source(node: Node) -> str:
    """Return the source of the function that KFP runs for a step with a task of its own.

    Of a step with a container image of its own: a text that changes with its tasks.
    """
    if node.kind.own_image:
        return own_image.source(node)
    return group_source(Group(node.name, (node,)))


def group_source(group: Group) -> str:
    """Return the source of the function that KFP runs for ``group``."""
    parameters = ["config_uri: str", "run_id: str"]
    parameters += [f"{name}: Input[{kind}]" for name, kind in _input_parameters(group).items()]
    parameters += [
        f"{_output(group, node, port)}: Output[{TYPES[port.kind]}]"
        for node in group.nodes
        for port in node.kind.gives
    ]
    calls = "".join(_call(group, node) for node in group.nodes)
    return (
        f"def {group.name}(\n    "
        + ",\n    ".join(parameters)
        + ",\n):\n"
        + "    from llmops.worker import work\n\n"
        + calls
    )


def _call(group: Group, node: Node) -> str:
    inputs = ", ".join(f'"{p.name}": {_source(group, node, p)}.path' for p in _taken(node))
    outputs = ", ".join(f'"{p.name}": {_output(group, node, p)}.path' for p in node.kind.gives)
    return f'    work(config_uri, run_id, "{node.name}", {{{inputs}}}, {{{outputs}}})\n'


def _input_parameters(group: Group) -> dict[str, str]:
    """Return the artifacts that a task is given: name of the parameter -> KFP's type."""
    return {
        _source(group, node, port): _type(port)
        for node in group.nodes
        for port in _taken(node)
        if node.takes[port.name].step not in group.steps
    }


def _source(group: Group, node: Node, port: Port) -> str:
    """Name the parameter that an input comes from: an output, if a step of the task gives it."""
    edge = node.takes[port.name]
    if edge.step in group.steps:
        return f"out_{edge.step}__{edge.output}"
    return f"in_{port.name}" if len(group.nodes) == 1 else f"in_{edge.step}__{edge.output}"


def _output(group: Group, node: Node, port: Port) -> str:
    return f"out_{port.name}" if len(group.nodes) == 1 else f"out_{node.name}__{port.name}"


def _type(port: Port) -> str:
    return "Artifact" if port.any_kind else TYPES[port.kind]


def _taken(node: Node) -> list[Port]:
    return [port for port in node.kind.takes if port.name in node.takes]


def _component(name: str, source: str, image: str) -> Any:
    """Make a KFP component from generated source; KFP reads the source back by ``inspect``."""
    from kfp import dsl

    filename = f"<llmops task {name}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    names: dict[str, Any] = {
        "Input": dsl.Input,
        "Output": dsl.Output,
        "Dataset": dsl.Dataset,
        "Artifact": dsl.Artifact,
    }
    # Names are checked identifiers (graph.STEP_NAME, the kinds' ports, the schema's names of
    # fused tasks): nothing else that a config says can reach this.
    exec(compile(source, filename, "exec", dont_inherit=True), names)  # noqa: S102
    return dsl.component(base_image=image, install_kfp_package=False)(names[name])


def _pipeline(graph: Graph, tasks: tuple[Group, ...], engine: Mapping[str, Any], hits: Hits) -> Any:
    from kfp import dsl

    needed = {address for task in tasks for address in task.takes}

    def pipeline(config_uri: str, run_id: str) -> None:
        outputs: dict[str, Any] = {}
        for node in graph.nodes:
            if node.name in hits:
                outputs |= _importers(node, hits[node.name], needed)
        run = {"config_uri": config_uri, "run_id": run_id}
        for group in tasks:
            if group.own:
                outputs |= _own_tasks(group.own, engine, run, outputs)
            else:
                outputs |= _task(group, engine, run, outputs)

    pipeline.__annotations__ = {"config_uri": str, "run_id": str}
    return dsl.pipeline(name=graph.name.replace("_", "-"))(pipeline)


def _task(
    group: Group, engine: Mapping[str, Any], run: Mapping[str, Any], known: Mapping[str, Any]
) -> dict[str, Any]:
    """Add the task of a group; return its outputs by their addresses."""
    inputs = {
        _source(group, node, port): known[str(node.takes[port.name])]
        for node in group.nodes
        for port in _taken(node)
        if node.takes[port.name].step not in group.steps
    }
    component = _component(group.name, group_source(group), engine["image"])
    task = _prepared(component(**run, **inputs), group.name, group.steps, engine)
    return {
        f"{node.name}.{port.name}": task.outputs[_output(group, node, port)]
        for node in group.nodes
        for port in node.kind.gives
    }


def _own_tasks(
    node: Node, engine: Mapping[str, Any], run: Mapping[str, Any], known: Mapping[str, Any]
) -> dict[str, Any]:
    """Add the tasks of a step with a container image of its own; return its outputs."""
    assert node.kind.own_image is not None
    before, name, after = own_image.task_names(Group(node.name, (node,)))
    references = {f"in_{taken}": known[str(edge)] for taken, edge in node.takes.items()}
    handed: dict[str, Any] = {}
    if node.takes:
        out = _component(before, own_image.before(node), engine["image"])
        task = _prepared(out(**run, **references), before, (resources.DEFAULT,), engine)
        handed = {taken: task.outputs[f"out_{taken}"] for taken in node.takes}
    made = own_image.container(node)(**node.given, **handed)
    made = _prepared(made, name, (node.name,), engine)
    given = {f"made_{port.name}": made.outputs[port.name] for port in node.kind.gives}
    said = {f"said_{name}": made.outputs[name] for name in node.kind.own_image.results}
    into = _component(after, own_image.after(node), engine["image"])
    taken_in = into(**run, **references, **given, **said)
    task = _prepared(taken_in, after, (resources.DEFAULT,), engine)
    return {f"{name}.{port.name}": task.outputs[f"out_{port.name}"] for port in node.kind.gives}


def _prepared(task: Any, name: str, steps: Sequence[str], engine: Mapping[str, Any]) -> Any:
    task.set_display_name(name).set_caching_options(False)
    resources.apply(task, steps, engine)
    return task


def _importers(node: Node, uris: Mapping[str, str], needed: set[str]) -> dict[str, Any]:
    from kfp import dsl

    found: dict[str, Any] = {}
    for port in node.kind.gives:
        address = f"{node.name}.{port.name}"
        if address in needed:
            artifact_class = getattr(dsl, TYPES[port.kind])
            task = dsl.importer(artifact_uri=uris[port.name], artifact_class=artifact_class)
            task.set_display_name(address)
            found[address] = task.output
    return found
