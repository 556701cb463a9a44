"""Testing a model's safety by suites of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.api.opening import open_config, validate
from llmops.errors import ConfigError
from llmops.ports.model import ModelReference
from llmops.ports.progress import Progress
from llmops.prompts.generating import generation_settings
from llmops.prompts.prompt import check_prompt

if TYPE_CHECKING:
    from llmops.api.opening import Opened


def safety_test(
    overrides: Sequence[str],
    suites: Sequence[Path],
    *,
    model: str | None = None,
    prompts_only: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Ask an experiment's model the prompts of ``suites`` under its policy; return the report.

    Args:
        overrides: The experiment, as ``run`` takes it.
        suites: Files of prompts.
        model: Alias or version of the registered model; null for the untuned base.
        prompts_only: Judge the questions only; no model is asked.
        progress: Told how many prompts are done.

    Raises:
        ConfigProblems: If the config is wrong.
        ConfigError: If a suite cannot be read, or the config lacks a group that this needs.
        BackendError: If the model or the scorer fails as a whole.
    """
    from llmops.safety import testing
    from llmops.safety.policy import check_thresholds, read_policy
    from llmops.safety.suites import read_suites

    cases = read_suites(suites)
    composed = validate(overrides)
    opened = open_config(composed.config, composed.overrides, dict)  # it may fill the sample
    config = opened.config
    prompt = check_prompt(config)
    if prompt is None or "safety" not in config or "predict" not in config:
        raise ConfigError(
            f"the experiment '{config['name']}' has no prompt, model and safety policy to test",
            hint="choose one that predicts, e.g. +experiment=so_python",
        )
    scorer = opened.adapters.scorer()
    policy = read_policy(config["safety"])
    check_thresholds(policy.thresholds, scorer.categories)
    reference = None if prompts_only else _reference(opened, model)
    subject = testing.Subject(
        policy=policy,
        scorer=scorer,
        prompt=prompt,
        generator=None if reference is None else opened.adapters.generator(reference),
        settings=generation_settings(config["predict"], prompt),
    )
    return testing.report(
        testing.ask(cases, subject, progress or _quiet),
        confidence=config["safety"]["confidence"],
        scorer=testing.described(config["safety"]["scorer"]["kind"], scorer),
        model=None if reference is None else reference.tuned or reference.base,
    )


def _reference(opened: Opened, model: str | None) -> ModelReference:
    config = opened.config
    if model is None:
        return ModelReference(provider=config["model"]["kind"], base=config["model"]["base"])
    return opened.adapters.registry().get(config["deploy"]["model_name"], model).model


def _quiet(done: float, total: float | None, note: str = "") -> None:
    """Report progress to nobody."""
