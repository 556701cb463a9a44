"""A KFP component file as a step kind: ``use: components/shout.yaml``, relative to ``conf/``.

A Lightweight Python Component runs wherever the step runs: the step gives it plain local files
and takes its outputs into the store, so that a component written for any KFP pipeline works
unchanged. One with a container image of its own is started by the engine (see ``OwnImage``); the
step only takes what it made. Parameters stand in the step's ``with:`` block. Does not import KFP.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops.artifacts import ArtifactKind, digest
from llmops.config.project import conf_folders, find_file
from llmops.errors import BackendError, ConfigError, DataError, nearest
from llmops.plan.kinds import Outcome, OwnImage, Port, StepKind, Work, leaf

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
class Interface:
    """What a component takes and gives. Artifacts are name -> KFP's type, e.g. system.Dataset."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    parameters: Mapping[str, Mapping[str, Any]]
    results: Mapping[str, str]  # output parameters: name -> KFP's type, e.g. NUMBER_INTEGER


@dataclass(frozen=True)
class PythonComponent:
    """A function, as source, that KFP's own runtime calls."""

    name: str
    source: str
    interface: Interface

    def run(self, work: Work[Any]) -> Outcome:
        """Run the component on the inputs' files; its output parameters become facts.

        Raises:
            DataError: If the component fails; its last lines are told.
        """
        values = getattr(work.settings, "values", {})
        module = work.outputs[next(iter(self.interface.outputs))].with_name("component.py")
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

    def _command(self, module: Path, executor_input: Mapping[str, Any]) -> list[str]:
        return [
            *(sys.executable, "-m", RUNTIME),
            *("--component_module_path", str(module)),
            *("--executor_input", json.dumps(executor_input)),
            *("--function_to_execute", self.name),
        ]

    def _executor_input(self, work: Work[Any], values: Mapping[str, Any]) -> dict[str, Any]:
        folder, said = module_folder(work), self.interface
        defaults = {
            n: spec["defaultValue"] for n, spec in said.parameters.items() if n not in values
        }
        return {
            "inputs": {
                "parameterValues": {**defaults, **values},
                "artifacts": {n: _artifact(n, t, work.inputs[n]) for n, t in said.inputs.items()},
            },
            "outputs": {
                "artifacts": {n: _artifact(n, t, work.outputs[n]) for n, t in said.outputs.items()},
                "parameters": {name: {"outputFile": str(folder / name)} for name in said.results},
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


@dataclass(frozen=True)
class Made:
    """What a container of its own made: output -> its file or folder, and output parameters."""

    outputs: Mapping[str, str]
    results: Mapping[str, Any]

    def take(self, work: Work[Any]) -> Outcome:
        """Do a step's work by taking what is made.

        Raises:
            DataError: If the container left an output out, or wrote a folder for a file.
        """
        for name, target in work.outputs.items():
            path = Path(self.outputs[name])
            if not path.exists():
                raise DataError(
                    f"the container of {work.step} did not write its output '{name}'",
                    hint="see the log of its task",
                )
            if path.is_dir() != (target.suffix == ".folder"):
                raise DataError(
                    f"the container of {work.step} wrote its output '{name}' as a "
                    f"{'folder' if path.is_dir() else 'file'}",
                    hint="an output of KFP's type Model is a folder, any other a file",
                )
            copy(path, target)
        return Outcome(facts=dict(self.results))


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder with all that is in it, as plain files that may be changed."""
    if source.is_dir():
        shutil.copytree(source, target, copy_function=shutil.copyfile)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def component_kind(name: str, text: str | None = None) -> StepKind:
    """Return the step kind of a component file.

    Args:
        name: Its path below the config folder.
        text: What the file says, where the config folder is not at hand.

    Raises:
        ConfigError: If the file is missing, is no component, or cannot run as a step.
    """
    text = component_text(name) if text is None else text
    spec = _read(name, text)
    if isinstance(spec, dict) and "implementation" in spec:
        raise ConfigError(
            f"{name} is a component of KFP 1",
            hint="compile it: kfp.compiler.Compiler().compile("
            f"kfp.components.load_component_from_file('{name}'), '{name}')",
        )
    try:
        return _kind(name, text, spec)
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as exc:
        raise _no_component(name, exc) from exc


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


def _read(name: str, text: str) -> Any:
    import yaml

    try:
        return yaml.load(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as exc:
        raise _no_component(name, exc) from exc


def _no_component(name: str, exc: Exception) -> ConfigError:
    return ConfigError(
        f"{name} is not a compiled KFP component ({type(exc).__name__}: {exc})",
        hint="write it with kfp.compiler.Compiler().compile(component, path)",
    )


def _kind(name: str, text: str, spec: Mapping[str, Any]) -> StepKind:
    (executor,) = spec["deploymentSpec"]["executors"].values()
    container = executor["container"]
    said = _interface(next(iter(spec["components"].values())))
    if not said.outputs:
        raise ConfigError(f"{name} gives no artifact", hint="a step gives at least one output")
    own_image, run, title = None, _cannot_be_worked, spec["pipelineInfo"]["name"]
    if any(RUNTIME in part for part in container.get("command", ())):
        component = _python_component(container, said)
        run, title = component.run, component.name
    else:
        own_image = OwnImage(container["image"], text, said.results)
    return StepKind(
        name=name,
        revision=int(digest([spec["components"], container])[:8], 16),  # its code is its revision
        run=run,
        settings=Parameters if said.parameters else NoParameters,
        takes=tuple(
            Port(n, KINDS.get(t, "json"), any_kind=t not in KINDS) for n, t in said.inputs.items()
        ),
        gives=tuple(Port(n, KINDS.get(t, "json")) for n, t in said.outputs.items()),
        summary=f"the KFP component {title}",
        check=_Check(title, said.parameters),
        own_image=own_image,
    )


def _python_component(container: Mapping[str, Any], said: Interface) -> PythonComponent:
    arguments = container["args"]
    function = arguments[arguments.index("--function_to_execute") + 1]
    return PythonComponent(function, container["command"][-1], said)


def _cannot_be_worked(work: Work[Any]) -> Outcome:
    raise BackendError(
        f"step {work.step} runs in a container image of its own, which this engine did not start",
        hint="choose engine=vertex or engine=kubeflow: docs/engines.md",
    )


@dataclass(frozen=True)
class _Check:
    """Checks the parameters that a step gives its component."""

    component: str
    parameters: Mapping[str, Mapping[str, Any]]

    def __call__(self, settings: Any, step: str) -> None:
        values = getattr(settings, "values", {})
        for name in values:
            if name not in self.parameters:
                guess = nearest(name, self.parameters)
                raise ConfigError(
                    f"pipeline.steps.{step}.with.{name}: {self.component} has no such parameter",
                    hint=f"{guess} valid: {', '.join(self.parameters)}".strip(),
                )
        needed = [name for name, spec in self.parameters.items() if not spec.get("isOptional")]
        missing = [name for name in needed if name not in values]
        if missing:
            raise ConfigError(
                f"pipeline.steps.{step}.with: {self.component} needs {', '.join(missing)}",
                hint=f"add `with: {{{missing[0]}: ...}}` to the step",
            )


def _interface(spec: Mapping[str, Any]) -> Interface:
    taken, given = spec.get("inputDefinitions", {}), spec.get("outputDefinitions", {})
    results = given.get("parameters", {})
    return Interface(
        inputs=_types(taken),
        outputs=_types(given),
        parameters=taken.get("parameters", {}),
        results={name: told["parameterType"] for name, told in results.items()},
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
