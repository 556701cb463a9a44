"""A step in a container image of its own, as up to three tasks of KFP.

Such a container knows neither our store nor our references. A task of ours before it hands its
inputs out as plain files, one after it takes its outputs into the store; between them runs the
user's component as it is, and here alone data passes through KFP's own place, ``pipeline_root``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmops.artifacts import digest
from llmops.engines.fusion import Group
from llmops.plan.graph import Node

BEFORE, AFTER = "before", "after"
PYTHON_TYPES: Mapping[str, str] = {
    "STRING": "str",
    "NUMBER_INTEGER": "int",
    "NUMBER_DOUBLE": "float",
    "BOOLEAN": "bool",
    "LIST": "list",
    "STRUCT": "dict",
}


def task_names(group: Group) -> tuple[str, ...]:
    """Return the names of all tasks that a group becomes."""
    if group.own is None:
        return (group.name,)
    return (f"{BEFORE}_{group.name}", group.name, f"{AFTER}_{group.name}")


def source(node: Node) -> str:
    """Return a text that decides the tasks of such a step."""
    assert node.kind.own_image is not None
    return digest([node.kind.own_image.component, node.given, before(node), after(node)])


def before(node: Node) -> str:
    """Return the source of the function that hands the inputs out; empty if there are none."""
    if not node.takes:
        return ""
    references = "".join(f"    in_{name}: Input[Artifact],\n" for name in node.takes)
    data = "".join(f"    out_{name}: Output[Artifact],\n" for name in node.takes)
    return (
        f"def {BEFORE}_{node.name}(\n    config_uri: str,\n    run_id: str,\n{references}{data}):\n"
        "    from llmops.worker import hand_out\n\n"
        f'    hand_out(config_uri, run_id, "{node.name}", '
        f"{_paths('in_', node.takes)}, {_paths('out_', node.takes)})\n"
    )


def after(node: Node) -> str:
    """Return the source of the function that takes the outputs in."""
    assert node.kind.own_image is not None
    given, results = [port.name for port in node.kind.gives], node.kind.own_image.results
    parameters = [
        *(f"in_{name}: Input[Artifact]" for name in node.takes),
        *(f"made_{name}: Input[Artifact]" for name in given),
        *(f"said_{name}: {PYTHON_TYPES[kind]}" for name, kind in results.items()),
        *(f"out_{name}: Output[Artifact]" for name in given),
    ]
    said = ", ".join(f'"{name}": said_{name}' for name in results)
    return (
        f"def {AFTER}_{node.name}(\n    config_uri: str,\n    run_id: str,\n    "
        + ",\n    ".join(parameters)
        + ",\n):\n    from llmops.worker import take_in\n\n"
        f'    take_in(config_uri, run_id, "{node.name}", {_paths("in_", node.takes)}, '
        f"{_paths('out_', given)}, {_paths('made_', given)}, {{{said}}})\n"
    )


def container(node: Node) -> Any:
    """Return KFP's component of the step's own container, named after the step."""
    from kfp import components

    assert node.kind.own_image is not None
    made = components.load_component_from_text(node.kind.own_image.component)
    made.component_spec.name = node.name
    return made


def _paths(prefix: str, names: Any) -> str:
    return "{" + ", ".join(f'"{name}": {prefix}{name}.path' for name in names) + "}"
