"""The documented Python interface: what the commands do, as plain functions.

>>> from llmops import api
>>> plan = api.plan(["+experiment=so_python"])
>>> run = api.run(["+experiment=so_python", "tuning.max_steps=20"])
>>> run.record["metrics"]["contestants"]["tuned"]["loss"]["value"]
"""

from llmops.api.ancestry import compare, lineage
from llmops.api.answering import find_model, open_model, predict, serve_config
from llmops.api.collecting import Collected, gc
from llmops.api.exporting import export_to_mlflow, export_to_tensorboard
from llmops.api.gates import check_gate
from llmops.api.monitoring import monitor
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
from llmops.api.running import attach, reproduce, run
from llmops.api.safety import safety_test
from llmops.api.site import Site, site
from llmops.api.storage import verify_store
from llmops.api.sweeping import Sweep, SweepOptions, resume, show_sweep, sweep, sweeps
from llmops.api.tuned import Import, import_model, tuned_models

__all__ = [
    "EVERYTHING",
    "Collected",
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
