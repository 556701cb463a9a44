"""Fit a model to the training split.

Refuses data whose terms the config does not acknowledge. Is never given the test split, so it
cannot read it. Knows no provider.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmops.errors import ConfigError, DataError
from llmops.plan.kinds import Outcome, Port, StepKind, Work, leaf
from llmops.ports.model import Tuned, TuningRequest

WITHOUT_EFFECT = ("requests", "filters", "filter_method", "tuner.waiting")


@dataclass(frozen=True)
class Settings:
    """How much to tune, and the model; null steps and epochs are refused."""

    max_steps: int | None = leaf("tuning.max_steps")
    epochs: int | None = leaf("tuning.epochs")
    max_examples: int | None = leaf("tuning.max_examples")
    seed: int = leaf("tuning.seed")
    model: Mapping[str, Any] = leaf("model", without=WITHOUT_EFFECT)


def run(work: Work[Settings]) -> Outcome:
    """Tune on ``train``, measure on ``validation``, write the ``model`` folder."""
    if not work.settings.max_steps and not work.settings.epochs:
        raise ConfigError(
            "tuning.max_steps and tuning.epochs are both null",
            hint="set one, e.g. tuning.max_steps=40",
        )
    card = read_card(work.inputs["card"])
    folder = work.outputs["model"]
    folder.mkdir(parents=True, exist_ok=True)
    request = request_of(
        work.settings,
        work.inputs,
        seed=work.settings.seed,
        output=folder,
        scratch=work.scratch,
        key=work.key,
    )
    tuned = work.adapters.tuner().tune(request, work.progress)
    write_tuned(folder, tuned, work.settings.model, card)
    return Outcome(facts={"tuned": tuned.tuned, **tuned.facts, **_last_losses(tuned)})


def read_card(path: Path) -> Mapping[str, Any]:
    """Return the dataset card of rows that may be tuned on.

    Raises:
        DataError: If their terms are not acknowledged, or there are none.
    """
    from llmops.data.terms import require_acknowledged

    card: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
    require_acknowledged(card)
    if not card["rows"]["train"]:
        raise DataError("the training split has no rows", hint="raise split.train")
    return card


def request_of(
    settings: Settings,
    inputs: Mapping[str, Path],
    *,
    seed: int,
    output: Path,
    scratch: Path,
    key: str,
) -> TuningRequest:
    """Return what a tuner is asked for one model."""
    return TuningRequest(
        train=inputs["train"],
        validation=inputs.get("validation"),
        system=None,  # each row carries its own
        max_steps=settings.max_steps,
        epochs=settings.epochs,
        max_examples=settings.max_examples,
        seed=seed,
        output=output,
        scratch=scratch,
        key=key,
    )


def write_tuned(
    folder: Path, tuned: Tuned, model: Mapping[str, Any], card: Mapping[str, Any]
) -> None:
    """Write ``tuned.json`` and ``curve.json`` beside what the tuner left in ``folder``."""
    curve = [asdict(point) for point in tuned.curve]
    summary = {
        "tuned": tuned.tuned,
        "endpoint": tuned.endpoint,
        "facts": dict(tuned.facts),
        "provider": model["kind"],
        "base": model["base"],
        "base_sha256": tuned.facts.get("base_sha256"),
        "prompt_sha256": card["prompt"]["sha256"],
        "dataset_version": card["dataset_version"],
    }
    _write_json(folder / "tuned.json", {**summary, "curve": curve})
    _write_json(folder / "curve.json", curve)


def _write_json(path: Path, value: object) -> None:
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", "utf-8")


def _last_losses(tuned: Tuned) -> dict[str, float | None]:
    trained = [p.train_loss for p in tuned.curve if p.train_loss is not None]
    held_out = [p.validation_loss for p in tuned.curve if p.validation_loss is not None]
    return {
        "last_train_loss": trained[-1] if trained else None,
        "first_validation_loss": held_out[0] if held_out else None,
        "last_validation_loss": held_out[-1] if held_out else None,
    }


KIND = StepKind(
    name="tune",
    revision=1,
    run=run,
    settings=Settings,
    takes=(
        Port("train", "parquet"),
        Port("validation", "parquet", optional=True),
        Port("card", "json"),
    ),
    gives=(Port("model", "folder"),),
    uses=("tuner",),
    code=(
        "llmops.adapters.model.attention",
        "llmops.adapters.model.base",
        "llmops.adapters.model.batching",
        "llmops.adapters.model.examples",
        "llmops.adapters.model.fused",
        "llmops.adapters.model.local_tuner",
        "llmops.data.terms",
    ),
    summary="fit a model to the training split",
)
