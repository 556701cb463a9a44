"""What of a config its model's provider cannot give, told before anything runs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llmops.config.knowledge import SCORERS_OF_RATINGS, lacks


def notes(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return sentences for the plan's reader; none if the provider gives all that is asked for."""
    kind = (config.get("model") or {}).get("kind")
    return (*_metrics(config, kind), *_rules(config, kind), *_ratings(config, kind))


def _metrics(config: Mapping[str, Any], kind: str | None) -> Iterator[str]:
    measured = (config.get("evaluation") or {}).get("metrics") or ()
    lacking = [metric for metric in measured if lacks(metric, kind)]
    if lacking:
        yield (
            f"{' and '.join(lacking)}: not available with model.kind '{kind}', which gives no "
            "probabilities; the table shows no figure"
        )


def _rules(config: Mapping[str, Any], kind: str | None) -> Iterator[str]:
    for rule in (config.get("gate") or {}).get("rules") or ():
        if lacks(rule["metric"], kind):
            yield f"the gate judges {rule.get('instead')} in place of {rule['metric']}"


def _ratings(config: Mapping[str, Any], kind: str | None) -> Iterator[str]:
    scorer = (config.get("safety") or {}).get("scorer", {}).get("kind")
    for rating, able in SCORERS_OF_RATINGS.items():
        if kind in able and scorer not in (None, rating):
            yield f"safety={scorer} judges; {kind} rates its answers too: safety={rating}"
