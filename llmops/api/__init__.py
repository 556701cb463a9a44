"""The documented Python interface: what the commands do, as plain functions.

>>> from llmops import api
>>> plan = api.plan(["+experiment=so_python"])
>>> run = api.run(["+experiment=so_python", "tuning.max_steps=20"])
>>> run.record["metrics"]["contestants"]["tuned"]["loss"]["value"]


Each name's module is imported when the name is first asked for: a command pays only for its own.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmops.api.ancestry import compare, lineage
    from llmops.api.answering import find_model, open_model, predict, serve_config
    from llmops.api.collecting import Collected, gc
    from llmops.api.erasing import Erasure, erase
    from llmops.api.exporting import export_to_mlflow, export_to_tensorboard
    from llmops.api.gates import check_gate
    from llmops.api.monitoring import monitor, schedule_monitor
    from llmops.api.opening import validate, validate_members
    from llmops.api.past import (
        Run,
        accept,
        datasets,
        query_runs,
        run_rows,
        runs,
        show,
        tag_run,
    )
    from llmops.api.planning import (
        EVERYTHING,
        check_budget,
        compile_pipeline,
        diff,
        plan,
        plan_members,
    )
    from llmops.api.predicting import predict_file, predict_query
    from llmops.api.prompts import diff_prompts, prompt, prompt_names, render_prompt, try_prompt
    from llmops.api.reproducing import reproduce
    from llmops.api.running import attach, run
    from llmops.api.safety import safety_test
    from llmops.api.static_site import Site, site
    from llmops.api.storage import verify_store
    from llmops.api.sweep_plan import SweepOptions
    from llmops.api.sweeping import Sweep, resume, show_sweep, sweep, sweeps
    from llmops.api.tuned import Import, import_model, tuned_models

_MODULES = {
    "ancestry": (
        "compare",
        "lineage",
    ),
    "answering": (
        "find_model",
        "open_model",
        "predict",
        "serve_config",
    ),
    "collecting": (
        "Collected",
        "gc",
    ),
    "erasing": (
        "Erasure",
        "erase",
    ),
    "exporting": (
        "export_to_mlflow",
        "export_to_tensorboard",
    ),
    "gates": ("check_gate",),
    "monitoring": (
        "monitor",
        "schedule_monitor",
    ),
    "opening": (
        "validate",
        "validate_members",
    ),
    "past": (
        "Run",
        "accept",
        "datasets",
        "query_runs",
        "run_rows",
        "runs",
        "show",
        "tag_run",
    ),
    "planning": (
        "EVERYTHING",
        "check_budget",
        "compile_pipeline",
        "diff",
        "plan",
        "plan_members",
    ),
    "predicting": (
        "predict_file",
        "predict_query",
    ),
    "prompts": (
        "diff_prompts",
        "prompt",
        "prompt_names",
        "render_prompt",
        "try_prompt",
    ),
    "reproducing": ("reproduce",),
    "running": (
        "attach",
        "run",
    ),
    "safety": ("safety_test",),
    "static_site": (
        "Site",
        "site",
    ),
    "storage": ("verify_store",),
    "sweep_plan": ("SweepOptions",),
    "sweeping": (
        "Sweep",
        "resume",
        "show_sweep",
        "sweep",
        "sweeps",
    ),
    "tuned": (
        "Import",
        "import_model",
        "tuned_models",
    ),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "EVERYTHING",
    "Collected",
    "Erasure",
    "Import",
    "Run",
    "Site",
    "Sweep",
    "SweepOptions",
    "accept",
    "attach",
    "check_budget",
    "check_gate",
    "compare",
    "compile_pipeline",
    "datasets",
    "diff",
    "diff_prompts",
    "erase",
    "export_to_mlflow",
    "export_to_tensorboard",
    "find_model",
    "gc",
    "import_model",
    "lineage",
    "monitor",
    "open_model",
    "plan",
    "plan_members",
    "predict",
    "predict_file",
    "predict_query",
    "prompt",
    "prompt_names",
    "query_runs",
    "render_prompt",
    "reproduce",
    "resume",
    "run",
    "run_rows",
    "runs",
    "safety_test",
    "schedule_monitor",
    "serve_config",
    "show",
    "show_sweep",
    "site",
    "sweep",
    "sweeps",
    "tag_run",
    "try_prompt",
    "tuned_models",
    "validate",
    "validate_members",
    "verify_store",
]


def __getattr__(name: str) -> Any:
    """Import the module that a name comes from."""
    if name not in _HOMES:
        raise AttributeError(f"module 'llmops.api' has no attribute '{name}'")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
