"""A graph of steps as a Kubeflow Pipelines pipeline.

Every task has the same few lines: hand the config's address, the run's id, the step's name and
the places of its reference files to ``llmops.worker.work``. Data never passes through KFP.
"""

from __future__ import annotations

import linecache
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmops.artifacts import digest
from llmops.plan.graph import Graph, Node
from llmops.plan.kinds import Port

TYPES: Mapping[str, str] = {
    "parquet": "Dataset",
    "jsonl": "Dataset",
    "json": "Artifact",
    "folder": "Artifact",
}
Hits = Mapping[str, Mapping[str, str]]  # step -> output -> address of its reference file


def compile_pipeline(graph: Graph, image: str, target: Path, hits: Hits | None = None) -> Any:
    """Write ``graph`` as KFP's pipeline YAML and return the pipeline, which can be called.

    The same graph gives the same bytes.

    Args:
        graph: The steps in order.
        image: The container image that holds llmops.
        target: The file to write.
        hits: Steps whose results are known; they become importers of their references, and
            those that nothing needs are left out. Without it the cold graph is written.
    """
    from kfp import compiler

    pipeline = _pipeline(graph, image, hits or {})
    compiler.Compiler().compile(pipeline, str(target))
    return pipeline


def pipeline_digest(graph: Graph, image: str) -> str:
    """Return the sha256 of all that decides the cold pipeline, without compiling it.

    Two graphs with the same digest compile to the same bytes by the same version of KFP.
    """
    tasks = [
        [node.name, task_source(node), {name: str(edge) for name, edge in node.takes.items()}]
        for node in graph.nodes
    ]
    return digest([graph.name, image, tasks])


def task_source(node: Node) -> str:
    """Return the source of the function that KFP runs for ``node``."""
    parameters = ["config_uri: str", "run_id: str"]
    parameters += [f"in_{p.name}: Input[{_type(p)}]" for p in _taken(node)]
    parameters += [f"out_{p.name}: Output[{TYPES[p.kind]}]" for p in node.kind.gives]
    inputs = ", ".join(f'"{p.name}": in_{p.name}.path' for p in _taken(node))
    outputs = ", ".join(f'"{p.name}": out_{p.name}.path' for p in node.kind.gives)
    return (
        f"def {node.name}(\n    "
        + ",\n    ".join(parameters)
        + ",\n):\n"
        + "    from llmops.worker import work\n\n"
        + f'    work(config_uri, run_id, "{node.name}", {{{inputs}}}, {{{outputs}}})\n'
    )


def _type(port: Port) -> str:
    return "Artifact" if port.any_kind else TYPES[port.kind]


def _taken(node: Node) -> list[Any]:
    return [port for port in node.kind.takes if port.name in node.takes]


def _component(node: Node, image: str) -> Any:
    """Make a KFP component from generated source; KFP reads the source back by ``inspect``."""
    from kfp import dsl

    source = task_source(node)
    filename = f"<llmops step {node.name}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    names: dict[str, Any] = {
        "Input": dsl.Input,
        "Output": dsl.Output,
        "Dataset": dsl.Dataset,
        "Artifact": dsl.Artifact,
    }
    # Names are checked identifiers (graph.STEP_NAME and the kinds' ports): nothing a config
    # says can reach this but the name of a step.
    exec(compile(source, filename, "exec", dont_inherit=True), names)  # noqa: S102
    return dsl.component(base_image=image, install_kfp_package=False)(names[node.name])


def _pipeline(graph: Graph, image: str, hits: Hits) -> Any:
    from kfp import dsl

    due = [node for node in graph.nodes if node.name not in hits]
    needed = {str(edge) for node in due for edge in node.takes.values()}

    def pipeline(config_uri: str, run_id: str) -> None:
        outputs: dict[str, Any] = {}
        for node in graph.nodes:
            if node.name in hits:
                outputs |= _importers(node, hits[node.name], needed)
                continue
            inputs = {f"in_{name}": outputs[str(edge)] for name, edge in node.takes.items()}
            task = _component(node, image)(config_uri=config_uri, run_id=run_id, **inputs)
            task.set_display_name(node.name).set_caching_options(False)
            for port in node.kind.gives:
                outputs[f"{node.name}.{port.name}"] = task.outputs[f"out_{port.name}"]

    pipeline.__annotations__ = {"config_uri": str, "run_id": str}
    return dsl.pipeline(name=graph.name.replace("_", "-"))(pipeline)


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
