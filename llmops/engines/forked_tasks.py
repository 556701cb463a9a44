"""Run the tasks of ``kfp.local`` as forks of a process that has imported KFP and the worker once.

``kfp.local`` starts a shell and a fresh Python for each task, and that Python spends its time on
imports. A fork has them already. The task is still a process of its own that runs KFP's own
executor on the component's own source. Knows no step; holds for Lightweight Python Components,
which every task of ours is.
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

SOURCE = 3  # place of the component's source in KFP's command: sh -c SCRIPT SOURCE ARGUMENTS...
RUNTIME = {"_KFP_RUNTIME": "true"}  # what KFP's own script sets for its executor


@contextlib.contextmanager
def forked_tasks() -> Iterator[None]:
    """Let ``kfp.local`` start its tasks by ``run_task`` while this is open."""
    from kfp.dsl import executor_main  # noqa: F401 - imported once, for every fork
    from kfp.local import subprocess_task_handler as handler

    gc.freeze()  # a fork that looked for garbage among these would copy all of their pages
    before = handler.run_local_subprocess
    handler.run_local_subprocess = run_task
    try:
        yield
    finally:
        handler.run_local_subprocess = before
        gc.unfreeze()


def run_task(full_command: Sequence[str], env_vars: Mapping[str, str] | None = None) -> int:
    """Run KFP's command for a component in a fork, print what it prints, return its exit code."""
    source, *arguments = full_command[SOURCE:]
    sys.stdout.flush()
    sys.stderr.flush()
    read, write = os.pipe()
    task = os.fork()
    if task == 0:
        os.close(read)
        _be_the_task(source, arguments, env_vars or {}, write)
    os.close(write)
    with os.fdopen(read, encoding="utf-8", errors="replace") as output:
        for line in output:
            print(line, end="")  # noqa: T201 - kfp indents what is printed here
    return os.waitstatus_to_exitcode(os.waitpid(task, 0)[1])


def _be_the_task(
    source: str, arguments: Sequence[str], env_vars: Mapping[str, str], output: int
) -> NoReturn:
    """Do what KFP's script does, and end without returning to the loop of the parent."""
    code = 1
    try:
        _take_output(output)
        os.environ.update(RUNTIME | dict(env_vars))
        folder = Path(tempfile.mkdtemp())
        module = folder / "ephemeral_component.py"
        module.write_text(source, "utf-8")
        sys.argv = ["executor_main", "--component_module_path", str(module), *arguments]
        from kfp.dsl.executor_main import executor_main

        executor_main()
        code = 0
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException:  # noqa: BLE001 - whatever it is, it must not reach the parent's code
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _take_output(output: int) -> None:
    """Print to ``output`` alone, without the parent's indentation and log handlers."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    builtins.print = _PRINT
    logging.getLogger().handlers.clear()


_PRINT = builtins.print
