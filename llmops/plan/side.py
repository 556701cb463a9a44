"""Which side of the data contestants are scored on: the test side, or validation in its place.

A sweep decides by validation rows, so that the test side is read once, for the chosen member. A
step that takes the test side of a split takes its validation side then. Pure: knows the pipeline's
wiring and the step kinds' outputs, no data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from llmops.plan.kinds import KindTable

Side = Literal["test", "validation"]


def readers(pipeline: Mapping[str, Any], kinds: KindTable) -> dict[str, str]:
    """Return each input that takes a test side, and the validation side of the same step.

    Keys are dotted paths of the config, e.g. ``pipeline.steps.predict.takes.test``, values what
    ``takes`` may say, e.g. ``split.validation``. Empty where the pipeline reads no test side.
    """
    steps: Mapping[str, Any] = pipeline["steps"]
    return {
        f"pipeline.steps.{name}.takes.{taken}": f"{source.partition('.')[0]}.validation"
        for name, step in steps.items()
        for taken, source in (step.get("takes") or {}).items()
        if _is_test_side(source, steps, kinds)
    }


def has_validation_rows(config: Mapping[str, Any]) -> bool:
    """Say whether the split leaves rows for validation."""
    return bool((config.get("split") or {}).get("validation"))


def _is_test_side(source: str, steps: Mapping[str, Any], kinds: KindTable) -> bool:
    made_by, _, output = source.partition(".")
    if output != "test" or made_by not in steps or steps[made_by]["use"] not in kinds:
        return False
    return "validation" in {port.name for port in kinds[steps[made_by]["use"]].gives}
