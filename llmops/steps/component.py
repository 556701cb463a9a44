"""A KFP component file as a step kind: ``use: components/shout.yaml``, relative to ``conf/``.

Only Lightweight Python Components can run on one machine. The step gives the component plain local
files and takes its outputs into the store, so that a component written for any KFP pipeline works
unchanged. Its parameters stand in the step's ``with:`` block. Does not import KFP: the component's
own runtime is started as a process.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops.artifacts import ArtifactKind, digest
from llmops.config.project import conf_folders, find_file
from llmops.errors import ConfigError, DataError, nearest
from llmops.plan.kinds import Outcome, Port, StepKind, Work, leaf

RUNTIME = "kfp.dsl.executor_main"
KINDS: Mapping[str, ArtifactKind] = {"system.Dataset": "parquet", "system.Model": "folder"}
LOG_LINES = 5


@dataclass(frozen=True)
class NoParameters:
    """Settings of a component without parameters."""


@dataclass(frozen=True)
class Parameters:
    """Settings of a component with parameters: the step's ``with:`` block."""

    values: Mapping[str, Any] = leaf("with")


@dataclass(frozen=True)
class Component:
    """What a component file says: its function, source, artifacts and parameters."""

    name: str
    source: str
    inputs: Mapping[str, str]  # artifact name -> KFP type, e.g. system.Dataset
    outputs: Mapping[str, str]
    parameters: Mapping[str, Mapping[str, Any]]
    results: tuple[str, ...]  # output parameters

    def run(self, work: Work[Any]) -> Outcome:
        """Run the component on the inputs' files; its output parameters become facts.

        Raises:
            ConfigError: If a parameter is unknown or missing.
            DataError: If the component fails; its last lines are told.
        """
        values = getattr(work.settings, "values", {})
        self._check(values, work.step)
        module = work.outputs[next(iter(self.outputs))].with_name("component.py")
        module.write_text(self.source, "utf-8")
        done = subprocess.run(
            self._command(module, self._executor_input(work, values)),
            env=os.environ | {"_KFP_RUNTIME": "true"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        sys.stdout.write(done.stdout)
        if done.returncode:
            last = "\n".join(done.stdout.strip().splitlines()[-LOG_LINES:])
            raise DataError(f"the component {self.name} failed: {last}", hint="see the step's log")
        return Outcome(facts=self._results(work))

    def _check(self, values: Mapping[str, Any], step: str) -> None:
        for name in values:
            if name not in self.parameters:
                guess = nearest(name, self.parameters)
                raise ConfigError(
                    f"pipeline.steps.{step}.with.{name}: {self.name} has no such parameter",
                    hint=f"{guess} valid: {', '.join(self.parameters)}".strip(),
                )
        needed = [name for name, spec in self.parameters.items() if not spec.get("isOptional")]
        missing = [name for name in needed if name not in values]
        if missing:
            raise ConfigError(
                f"pipeline.steps.{step}.with: {self.name} needs {', '.join(missing)}",
                hint=f"add `with: {{{missing[0]}: ...}}` to the step",
            )

    def _command(self, module: Path, executor_input: Mapping[str, Any]) -> list[str]:
        return [
            *(sys.executable, "-m", RUNTIME),
            *("--component_module_path", str(module)),
            *("--executor_input", json.dumps(executor_input)),
            *("--function_to_execute", self.name),
        ]

    def _executor_input(self, work: Work[Any], values: Mapping[str, Any]) -> dict[str, Any]:
        folder = module_folder(work)
        defaults = {
            n: spec["defaultValue"] for n, spec in self.parameters.items() if n not in values
        }
        return {
            "inputs": {
                "parameterValues": {**defaults, **values},
                "artifacts": {n: _artifact(n, t, work.inputs[n]) for n, t in self.inputs.items()},
            },
            "outputs": {
                "artifacts": {n: _artifact(n, t, work.outputs[n]) for n, t in self.outputs.items()},
                "parameters": {name: {"outputFile": str(folder / name)} for name in self.results},
                "outputFile": str(folder / "executor_output.json"),
            },
        }

    def _results(self, work: Work[Any]) -> dict[str, Any]:
        path = module_folder(work) / "executor_output.json"
        if not path.exists():
            return {}
        told: dict[str, Any] = json.loads(path.read_text("utf-8")).get("parameterValues", {})
        return told


def module_folder(work: Work[Any]) -> Path:
    """Return the step's own temporary folder, where its outputs are written."""
    return next(iter(work.outputs.values())).parent


def component_kind(name: str, text: str | None = None) -> StepKind:
    """Return the step kind of a component file.

    Args:
        name: Its path below the config folder.
        text: What the file says, where the config folder is not at hand.

    Raises:
        ConfigError: If the file is missing, is no component, or cannot run as a step.
    """
    component = _read(name, component_text(name) if text is None else text)
    return StepKind(
        name=name,
        revision=int(digest(dataclasses.asdict(component))[:8], 16),  # its code is its revision
        run=component.run,
        settings=Parameters if component.parameters else NoParameters,
        takes=tuple(
            Port(n, KINDS.get(t, "json"), any_kind=t not in KINDS)
            for n, t in component.inputs.items()
        ),
        gives=tuple(Port(n, KINDS.get(t, "json")) for n, t in component.outputs.items()),
        summary=f"the KFP component {component.name}",
    )


def component_text(name: str) -> str:
    """Return the content of a component file of the config folder.

    Raises:
        ConfigError: If there is none.
    """
    path = find_file(name)
    if path is None:
        looked = ", ".join(folder.label for folder in conf_folders())
        raise ConfigError(
            f"there is no component file '{name}'", hint=f"its path is relative to {looked}"
        )
    return path.read_text("utf-8", "replace")


def _read(name: str, text: str) -> Component:
    import yaml

    try:
        return _component(yaml.load(text, Loader=yaml.SafeLoader), name)
    except (yaml.YAMLError, KeyError, TypeError, IndexError, ValueError) as exc:
        raise ConfigError(
            f"{name} is not a compiled KFP component ({type(exc).__name__}: {exc})",
            hint="write it with kfp.compiler.Compiler().compile(component, path)",
        ) from exc


def _component(spec: Mapping[str, Any], name: str) -> Component:
    (label,) = spec["deploymentSpec"]["executors"]
    container = spec["deploymentSpec"]["executors"][label]["container"]
    if not any(RUNTIME in part for part in container["command"]):
        raise ConfigError(
            f"{name} runs a container image of its own, which one machine cannot",
            hint="use a Lightweight Python Component, or write a step kind",
        )
    interface = next(iter(spec["components"].values()))
    taken, given = interface.get("inputDefinitions", {}), interface.get("outputDefinitions", {})
    outputs = _types(given)
    if not outputs:
        raise ConfigError(f"{name} gives no artifact", hint="a step gives at least one output")
    arguments = container["args"]
    return Component(
        name=arguments[arguments.index("--function_to_execute") + 1],
        source=container["command"][-1],
        inputs=_types(taken),
        outputs=outputs,
        parameters=taken.get("parameters", {}),
        results=tuple(given.get("parameters", {})),
    )


def _types(definitions: Mapping[str, Any]) -> dict[str, str]:
    artifacts = definitions.get("artifacts", {})
    for name in artifacts:
        if not name.isidentifier():  # names become parameters of the generated task
            raise ValueError(f"'{name}' is not a name")
    return {name: spec["artifactType"]["schemaTitle"] for name, spec in artifacts.items()}


def _artifact(name: str, schema: str, path: Path) -> dict[str, Any]:
    kind = {"schemaTitle": schema, "schemaVersion": "0.0.1"}
    return {"artifacts": [{"name": name, "type": kind, "uri": str(path), "metadata": {}}]}
