"""The child of a local run: compile the pipeline into the run folder and run it with kfp.local.

Started by ``local.run`` with the neutral folder; ends with 0 if every step succeeded.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmops.adapters.catalog import open_store
from llmops.artifacts import reference
from llmops.engines.engine import selected_graph
from llmops.engines.forked_tasks import forked_tasks
from llmops.engines.local import REWRITTEN
from llmops.engines.pipeline import compile_pipeline
from llmops.ports import Store
from llmops.worker import leave_with_the_run, read_config


def main(arguments: list[str]) -> None:
    """Run ``RUN_FOLDER RUN_ID CONFIG_URI NEUTRAL_FOLDER``."""
    leave_with_the_run()
    _import_for_every_task()
    run_folder, run_id, config_uri, neutral = arguments
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
    given = {"config_uri": _neutral(config_uri, store, neutral), "run_id": run_id}
    _run(compiled.pipeline, given, neutral)


def _import_for_every_task() -> None:
    """Import what tasks need: they are forks of this process.

    ``kfp`` is imported as its own tasks do it: its client would bring Kubernetes' for a second.
    """
    os.environ["_KFP_RUNTIME"] = "true"
    import kfp  # noqa: F401

    del os.environ["_KFP_RUNTIME"]
    import filelock  # noqa: F401
    import msgspec  # noqa: F401


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
    main(sys.argv[1:])
