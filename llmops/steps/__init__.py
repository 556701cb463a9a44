"""The step kinds: the built-in table, and those that a project brings by entry points."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module

from llmops.errors import ConfigError, unknown_name
from llmops.plan.kinds import StepKind

GROUP = "llmops.steps"
COMPONENTS = (".yaml", ".yml")  # of a KFP component file
BUILT_IN = (
    "ingest",
    "read_files",
    "prepare",
    "validate",
    "transform",
    "split",
    "tune",
    "tune_again",
    "deploy",
    "predict",
    "judge",
    "evaluation_set",
    "evaluate",
    "safety",
    "safety_test",
    "gate",
    "say_hello",
)


def step_kinds(
    project_steps: Sequence[str] = (), components: Mapping[str, str] | None = None
) -> Mapping[str, StepKind]:
    """Return the step kinds by name: the built-in ones and those of the named entry points.

    An entry point of the group ``llmops.steps`` names a module with ``KINDS``, a tuple of
    ``StepKind``. Only entry points that the config lists in ``project.steps`` are imported, and
    built-in kinds only when they are looked up. A name that ends with ``.yaml`` is a KFP component
    file (see ``component``); ``components`` has the texts of such files where the config folder
    is not at hand.

    Raises:
        ConfigError: If an entry point is not installed, or brings a name that is taken.
    """
    brought: dict[str, StepKind] = {}
    for name in project_steps:
        for kind in _project_kinds(name):
            if kind.name in brought or kind.name in BUILT_IN:
                raise ConfigError(
                    f"project.steps: '{name}' brings a step kind '{kind.name}', which exists",
                    hint="give the project's step another name",
                )
            brought[kind.name] = kind
    return _Kinds(brought, components or {})


class _Kinds(Mapping[str, StepKind]):
    """The project's kinds, and the built-in ones imported at first use."""

    def __init__(self, brought: Mapping[str, StepKind], components: Mapping[str, str]) -> None:
        self.brought = brought
        self.components = components

    def __getitem__(self, name: str) -> StepKind:
        if name in self.brought:
            return self.brought[name]
        if name.endswith(COMPONENTS):
            from llmops.steps.component import component_kind

            return component_kind(name, self.components.get(name))
        if name not in BUILT_IN:
            raise KeyError(name)
        kind: StepKind = import_module(f"llmops.steps.{name}").KIND
        return kind

    def __contains__(self, name: object) -> bool:
        return name in self.brought or name in BUILT_IN or str(name).endswith(COMPONENTS)

    def __iter__(self) -> Iterator[str]:
        return iter((*BUILT_IN, *self.brought))

    def __len__(self) -> int:
        return len(BUILT_IN) + len(self.brought)


@functools.cache
def _project_kinds(name: str) -> Sequence[StepKind]:
    from importlib.metadata import entry_points  # a quarter of what a small step costs

    installed = {point.name: point for point in entry_points(group=GROUP)}
    if name not in installed:
        raise unknown_name(f"entry point of {GROUP}", name, installed, where="project.steps")
    return tuple(installed[name].load().KINDS)
