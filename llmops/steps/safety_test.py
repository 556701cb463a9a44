"""Ask a model the prompts of safety suites, and report what was caught and what was alarm.

The suites are named in the step's own block, relative to ``conf/``:
``with: {suites: [own, suites/mine.csv]}``. It reports and does not raise: the gate decides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from llmops.artifacts import canonical_json
from llmops.config.project import find_file
from llmops.errors import ConfigError
from llmops.plan.kinds import Adapters, Outcome, Port, Source, StepKind, Work, leaf
from llmops.ports.model import GenerationSettings, ModelReference
from llmops.prompts.prompt import Prompt
from llmops.safety import testing
from llmops.safety.policy import read_policy
from llmops.safety.suites import OWN, read_suites


@dataclass(frozen=True)
class Settings:
    """The suites, who answers and how, and the policy."""

    suites: tuple[str, ...] = leaf("with.suites")
    max_new_tokens: int = leaf("predict.max_new_tokens")
    temperature: float = leaf("predict.temperature")
    top_p: float = leaf("predict.top_p")
    batch_rows: int = leaf("predict.batch_rows")
    seed: int = leaf("predict.seed")
    prompt: Prompt = leaf("prompt")
    model: Mapping[str, Any] = leaf("model")
    safety: Mapping[str, Any] = leaf("safety")


def run(work: Work[Settings]) -> Outcome:
    """Write ``report``: both rates with exact intervals, by category, and what was missed.

    Raises:
        ConfigError: If a suite cannot be read.
        BackendError: If the model or the scorer fails as a whole.
    """
    settings = work.settings
    reference = _model(work)
    scorer = work.adapters.scorer()
    subject = testing.Subject(
        policy=read_policy(settings.safety),
        scorer=scorer,
        prompt=settings.prompt,
        generator=work.adapters.generator(reference),
        settings=GenerationSettings(
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            seed=settings.seed,
            batch_rows=settings.batch_rows,
        ),
    )
    cases = read_suites([_path(name) for name in settings.suites])
    report = testing.report(
        testing.ask(cases, subject, work.progress),
        confidence=settings.safety["confidence"],
        scorer=testing.described(settings.safety["scorer"]["kind"], scorer),
        model=reference.tuned or reference.base,
    )
    text = json.dumps(report, ensure_ascii=False, allow_nan=False)
    work.outputs["report"].write_text(text + "\n", encoding="utf-8")
    return Outcome(facts={name: report[name]["value"] for name in ("catch_rate", "false_alarms")})


def _model(work: Work[Settings]) -> ModelReference:
    if "model" in work.inputs:
        return ModelReference(**json.loads(work.inputs["model"].read_text("utf-8")))
    model = work.settings.model
    return ModelReference(provider=model["kind"], base=model["base"])


def _source(settings: Settings, adapters: Adapters) -> Source:
    """Return what the suites hold, so that a changed file is asked again."""
    del adapters
    digests = {name: sha256(_path(name).read_bytes()).hexdigest() for name in settings.suites}
    return Source(facts={"suites": canonical_json(digests)})


def _path(name: str) -> Path:
    path = OWN if name == "own" else find_file(name)
    if path is None:
        raise ConfigError(
            f"there is no suite '{name}'", hint="own, or a file by its path relative to conf/"
        )
    return path


KIND = StepKind(
    name="safety_test",
    revision=1,
    run=run,
    settings=Settings,
    takes=(Port("model", "json", optional=True),),
    gives=(Port("report", "json"),),
    uses=("generator", "scorer"),
    code=("llmops.safety.testing", "llmops.prompts.prompt", "llmops.prompts.template"),
    source=_source,
    summary="ask the prompts of safety suites, and count what was caught and what was alarm",
)
