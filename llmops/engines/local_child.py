"""The child of a local run: compile the pipeline into the run folder and run it with kfp.local.

Started by ``local``, it imports what every run needs, then reads from its input which run it is
for; without an answer it ends. It ends with 0 if every step succeeded.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmops.adapters.catalog import open_store
from llmops.artifacts import reference
from llmops.engines.engine import selected_graph
from llmops.engines.forked_tasks import forked_tasks
from llmops.engines.local import REWRITTEN
from llmops.engines.pipeline import compile_pipeline
from llmops.ports.store import Store
from llmops.processes import collect_seldom
from llmops.worker import leave_with_the_run, read_config


def main() -> None:
    """Run what the input tells of: workspace, run folder and id, config, neutral folder."""
    collect_seldom()
    _import_for_every_task()
    leave_with_the_run()
    said = sys.stdin.read()
    sys.stdin = open(os.devnull)  # noqa: SIM115 - no task is to wait for input
    if not said:
        return
    told = json.loads(said)
    run_folder, config_uri, neutral = told["run_folder"], told["config_uri"], told["neutral"]
    os.chdir(told["workspace"])
    os.environ["LLMOPS_RUN_FOLDER"] = run_folder
    os.environ["TMPDIR"] = tempfile.tempdir = f"{neutral}/tmp"
    config = read_config(config_uri)
    store = open_store(config, Path.cwd())
    plan = json.loads((Path(run_folder) / "plan.json").read_text("utf-8"))
    graph = selected_graph(config, plan)
    target = Path(run_folder) / "pipeline.yaml"
    hits = {
        step["name"]: _addresses(step, store, neutral)
        for step in plan["steps"]
        if step["status"] == "cached"
    }
    compiled = compile_pipeline(graph, config["engine"], target, hits)
    given = {"config_uri": _neutral(config_uri, store, neutral), "run_id": told["run_id"]}
    _run(compiled.pipeline, given, neutral)


def _import_for_every_task() -> None:
    """Import what tasks need: they are forks of this process.

    No thread may import anything once there are forks: they would wait for ever for its lock.
    ``kfp`` is imported as its own tasks do it: its client would bring Kubernetes' for a second.
    """
    os.environ["_KFP_RUNTIME"] = "true"
    import kfp  # noqa: F401

    del os.environ["_KFP_RUNTIME"]
    import filelock  # noqa: F401
    import msgspec  # noqa: F401
    import psutil  # noqa: F401
    from kfp import dsl, local  # noqa: F401


def _addresses(step: Mapping[str, Any], store: Store, neutral: str) -> Mapping[str, str]:
    return {
        name: _neutral(store.reference_uri(reference(output)), store, neutral)
        for name, output in step["outputs"].items()
    }


def _neutral(uri: str, store: Any, neutral: str) -> str:
    """Return an address that kfp.local does not rewrite."""
    if not any(text in uri for text in REWRITTEN):
        return uri
    return f"{neutral}/store{uri.removeprefix(store.uri)}"


def _run(pipeline: Any, arguments: Mapping[str, str], neutral: str) -> None:
    from kfp import local

    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=f"{neutral}/kfp",
        raise_on_error=True,
    )
    with forked_tasks():
        pipeline(**arguments)


if __name__ == "__main__":
    main()
