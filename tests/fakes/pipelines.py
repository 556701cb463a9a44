"""What fakes of Vertex AI Pipelines and Kubeflow Pipelines share: they run what is submitted.

A job is executed with ``kfp.local`` in a process and a folder of its own, which stand for the
containers: nothing of the workspace that started the run is at hand there but what the store and
the environment bring.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")


@dataclass
class Machines:
    """Where jobs run: a folder, and what a container's environment holds.

    ``stalled``: new jobs stay pending until ``release``. ``refuses``: the words with which every
    new job fails before any of its tasks starts, as for an image that cannot be pulled.
    """

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    stalled: bool = False
    refuses: str = ""
    executions: list[Execution] = field(default_factory=list)

    def start(self, name: str, specification: Mapping[str, Any], arguments: Any) -> Execution:
        """Take a job on."""
        execution = Execution(name, self, specification, dict(arguments))
        self.executions.append(execution)
        if self.refuses:
            execution.state, execution.error = "FAILED", self.refuses
        elif not self.stalled:
            execution.start()
        return execution

    def release(self) -> None:
        """Start what was stalled."""
        self.stalled = False
        for execution in self.executions:
            if execution.state == "PENDING":
                execution.start()

    def stop(self) -> None:
        """End everything; for the end of a test."""
        for execution in self.executions:
            execution.cancel()
            execution.join()


class Execution:
    """One job at work; ``tasks`` has the state of each task that was reached."""

    def __init__(
        self, name: str, machines: Machines, specification: Mapping[str, Any], arguments: Any
    ) -> None:
        self.name = name
        self.machines = machines
        self.specification = specification
        self.arguments = arguments
        self.state = "PENDING"
        self.error = ""
        self.tasks: dict[str, str] = {}
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def container(self, task: str) -> Mapping[str, Any]:
        """Return the container of a task: its image, command, arguments and resources."""
        label = self.specification["components"][f"comp-{task}"]["executorLabel"]
        found: Mapping[str, Any] = self.specification["deploymentSpec"]["executors"][label]
        return found["container"]

    @property
    def images(self) -> set[str]:
        """The images of the pipeline's containers."""
        executors = self.specification["deploymentSpec"]["executors"].values()
        return {found["container"]["image"] for found in executors if "container" in found}

    def start(self) -> None:
        self.state = "RUNNING"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """End the job as somebody outside would."""
        with self._lock:
            if self.ended:
                return
            self.state = "CANCELLED"
            self._kill()
        for task, state in self.tasks.items():
            if state == "RUNNING":
                self.tasks[task] = "CANCELLED"

    def join(self) -> None:
        if self._thread:
            self._thread.join(20)

    def _kill(self) -> None:
        if self._process and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def _run(self) -> None:
        folder = self.machines.folder / self.name
        folder.mkdir(parents=True)
        (folder / "pipeline.yaml").write_text(yaml.safe_dump(self.specification), "utf-8")
        (folder / "arguments.json").write_text(json.dumps(self.arguments), "utf-8")
        with (folder / "log.txt").open("w", encoding="utf-8") as log:
            with self._lock:
                if self.ended:
                    return
                self._process = self._popen(folder, log)
            assert self._process.stdout is not None
            for line in self._process.stdout:
                told = json.loads(line)
                self.tasks[told["task"]] = told["state"]
            code = self._process.wait()
            self._process.stdout.close()
        with self._lock:
            if not self.ended:
                self._end(code)

    def _popen(self, folder: Path, log: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.fakes.pipeline_child"]
        names = ("pipeline.yaml", "arguments.json", "root")
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        path = os.pathsep.join([str(ROOT), self.machines.environment.get("PYTHONPATH", "")])
        return subprocess.Popen(
            [*command, *(str(folder / name) for name in names)],
            cwd=folder,
            env=kept | dict(self.machines.environment) | {"PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )

    def _end(self, code: int) -> None:
        self.state = "FAILED" if code else "SUCCEEDED"
        failed = [task for task, state in self.tasks.items() if state == "FAILED"]
        if code:
            self.error = (
                "The DAG failed because some tasks failed. "
                f"The failed tasks are: [{', '.join(failed)}]."
            )
