"""Run a submitted pipeline with ``kfp.local``, as a service would run it in its containers.

    python -m tests.fakes.pipeline_child SPECIFICATION ARGUMENTS PIPELINE_ROOT

Prints a JSON line when a task starts and ends. The tasks have the environment of this process.
"""

from __future__ import annotations

import json
import os
import re
import sys
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
    with forked_tasks():  # one import of the worker for all tasks: only a matter of time
        components.load_component_from_file(specification)(**given)


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
