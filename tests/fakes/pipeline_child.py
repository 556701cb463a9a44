"""Run a submitted pipeline with ``kfp.local``, as a service would run it in its containers.

    python -m tests.fakes.pipeline_child SPECIFICATION ARGUMENTS PIPELINE_ROOT

Prints a JSON line when a task starts and ends. The tasks have the environment of this process.
No image is pulled: the command of a container of a user's own is run as a process of this machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

WORD = r"\x1b\[\d+m'?(?P<{}>[^'\x1b]+)'?\x1b\[0m"
STARTS = re.compile(rf"Executing task {WORD.format('task')}")
ENDS = re.compile(rf"Task {WORD.format('task')} finished with status {WORD.format('status')}")


def main() -> None:
    specification, arguments, root = sys.argv[1:]
    said, sink = os.pipe()
    if os.fork():
        os.close(sink)
        _tell(said)
        raise SystemExit(os.waitstatus_to_exitcode(os.wait()[1]))
    os.close(said)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.close(sink)
    from kfp import components, local

    import llmops.worker  # noqa: F401
    from llmops.engines.forked_tasks import forked_tasks

    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=root, raise_on_error=True)
    given = json.loads(Path(arguments).read_text("utf-8"))
    with forked_tasks(), containers(root):  # forks: only a matter of time
        components.load_component_from_file(specification)(**given)


@contextlib.contextmanager
def containers(root: str) -> Iterator[None]:
    """Let ``kfp.local`` run commands that are no Python component, as a cluster does.

    They find the folders of their outputs and no variables but their own, and what they write
    is their outputs: ``kfp.local`` itself takes only what a Python component reports.
    """
    from kfp.local import executor_output_utils as reading
    from kfp.local import subprocess_task_handler as handler

    read = reading.get_outputs_from_executor_output
    python = handler.run_local_subprocess
    handler.SubprocessTaskHandler.validate_not_container_component = lambda *_: None

    def run(full_command, env_vars=None):
        if any("kfp.dsl.executor_main" in part for part in full_command):
            return python(full_command, env_vars)
        for part in full_command:
            if part.startswith(root):
                Path(part).parent.mkdir(parents=True, exist_ok=True)
        environment = {"PATH": os.environ["PATH"], **(env_vars or {})}
        return subprocess.run(full_command, env=environment, check=False).returncode

    def outputs(executor_output, executor_input, component_spec):
        for name, given in executor_input.outputs.artifacts.items():
            if name not in executor_output.artifacts:
                executor_output.artifacts[name].CopyFrom(given)
        return read(executor_output, executor_input, component_spec)

    handler.run_local_subprocess = run
    reading.get_outputs_from_executor_output = outputs
    yield


def _tell(said: int) -> None:
    with os.fdopen(said, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            sys.stderr.write(line)
            if found := STARTS.search(line):
                _say(task=found["task"], state="RUNNING")
            elif found := ENDS.search(line):
                failed = found["status"] == "FAILURE"
                _say(task=found["task"], state="FAILED" if failed else "SUCCEEDED")


def _say(**what: str) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
