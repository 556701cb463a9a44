"""Register the tuned model under a name, as a candidate. The gate and the run promote it later.

Registering the same model again gives the same version. On a cache hit the registry is asked
whether it still has it. Knows no file layout of the registry.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmops.artifacts import canonical_json
from llmops.errors import ConfigError, DataError
from llmops.files import read_text
from llmops.plan.kinds import Adapters, Outcome, Port, StepKind, Work, leaf
from llmops.ports.model import ModelReference
from llmops.ports.registry import ModelVersion
from llmops.prompts.prompt import Prompt


@dataclass(frozen=True)
class Settings:
    """Where the model is registered, and as what."""

    model_name: str = leaf("deploy.model_name")
    alias: str = leaf("deploy.alias")
    endpoint: str = leaf("deploy.endpoint")
    registry: Mapping[str, Any] = leaf("deploy.registry")
    experiment: str = leaf("name")
    prompt: Prompt = leaf("prompt")


def run(work: Work[Settings]) -> Outcome:
    """Register the model, point the alias at it, and write the reference to it, and its prompt.

    The prompt's file is all that a model sees of it, so that its digest in the store is the digest
    by which the model knows it: the registered model leads to its prompt.

    Raises:
        ConfigError: If the registry refuses the name.
        DataError: If the folder is not what a tuner leaves.
    """
    settings, registry = work.settings, work.adapters.registry()
    model = tuned_reference(work.inputs["model"], work.digests["model"])
    labels = _labels(model, settings, work.key)
    version = registry.register(settings.model_name, model, labels=labels, run_id=work.run_id)
    registry.set_alias(
        version.name,
        settings.alias,
        version.version,
        reason=f"step {work.step} of run {work.run_id}",
    )
    work.outputs["prompt"].write_text(settings.prompt.content(), encoding="utf-8")
    work.outputs["model"].write_text(canonical_json(asdict(model)) + "\n", encoding="utf-8")
    return Outcome(facts=_facts(version, settings))


def verify(settings: Settings, adapters: Adapters, facts: Mapping[str, Any]) -> bool:
    """Say whether the registry still holds the version that ``facts`` tell of."""
    try:
        version = adapters.registry().get(settings.model_name, str(facts["version"]))
    except ConfigError:
        return False
    return bool(version.digest == facts["digest"])


def tuned_reference(folder: Path, digest: str) -> ModelReference:
    """Return the reference to what a tuner left in ``folder``, whose digest is given.

    Raises:
        DataError: If the folder is not what a tuner leaves.
    """
    try:
        tuned = json.loads(read_text(folder / "tuned.json"))
        return ModelReference(
            provider=tuned["provider"],
            base=tuned["base"],
            base_sha256=tuned["base_sha256"],
            tuned=tuned["tuned"],
            adapter=None if tuned["endpoint"] else digest,  # a provider keeps its own weights
            endpoint=tuned["endpoint"],
            prompt_sha256=tuned["prompt_sha256"],
            dataset_version=tuned["dataset_version"],
        )
    except (OSError, ValueError, KeyError) as exc:
        raise DataError(
            f"the model folder holds no readable tuned.json ({exc})",
            hint="run with --force tune",
        ) from exc


def _labels(model: ModelReference, settings: Settings, key: str) -> Mapping[str, str]:
    labels = {
        "base": model.base,
        "dataset_version": model.dataset_version,
        "endpoint": settings.endpoint,
        "experiment": settings.experiment,
        "prompt": settings.prompt.name,
        "prompt_sha256": model.prompt_sha256,
        "step_key": key,
    }
    return {name: value for name, value in labels.items() if value is not None}


def _facts(version: ModelVersion, settings: Settings) -> Mapping[str, Any]:
    return {
        "name": version.name,
        "version": version.version,
        "alias": settings.alias,
        "digest": version.digest,
    }


KIND = StepKind(
    name="deploy",
    revision=2,
    run=run,
    settings=Settings,
    takes=(Port("model", "folder"),),
    gives=(Port("model", "json"), Port("prompt", "json")),
    uses=("registry",),
    summary="register the tuned model as a candidate",
    verify=verify,
)
