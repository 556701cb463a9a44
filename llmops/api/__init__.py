"""The documented Python interface: what the commands do, as plain functions.

>>> from llmops import api
>>> plan = api.plan(["+experiment=so_python"])
>>> run = api.run(["+experiment=so_python", "tuning.max_steps=20"])
>>> run.record["metrics"]["contestants"]["tuned"]["loss"]["value"]
"""

from llmops.api.opening import validate, validate_members
from llmops.api.past import Run, accept, datasets, runs, show
from llmops.api.planning import (
    EVERYTHING,
    check_budget,
    compile_pipeline,
    diff,
    plan,
    plan_members,
)
from llmops.api.prompts import diff_prompts, prompt, prompt_names, render_prompt, try_prompt
from llmops.api.running import reproduce, run

__all__ = [
    "EVERYTHING",
    "Run",
    "accept",
    "check_budget",
    "compile_pipeline",
    "datasets",
    "diff",
    "diff_prompts",
    "plan",
    "plan_members",
    "prompt",
    "prompt_names",
    "render_prompt",
    "reproduce",
    "run",
    "runs",
    "show",
    "try_prompt",
    "validate",
    "validate_members",
]
