"""What the policy finds in a text: three layers told apart, and what may be shown. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llmops.safety.policy import Action

Layer = Literal["provider", "thresholds", "rules"]
LAYERS: tuple[Layer, ...] = ("provider", "thresholds", "rules")
SEVERITY: Mapping[str, int] = {"ignore": 0, "flag": 1, "redact": 2, "block": 3}


@dataclass(frozen=True)
class Finding:
    """One thing found. ``detail`` never quotes the text, so it may be logged and shown.

    ``score`` and ``limit`` are in [0, 1] where a figure was judged; a null score beside a limit
    means that there was none to judge. ``category`` is what a threshold stands for.
    """

    layer: Layer
    rule: str
    action: Action
    detail: str
    score: float | None = None
    limit: float | None = None
    category: str | None = None


@dataclass(frozen=True)
class Verdict:
    """The gravest action, the text that may go on, and all findings.

    ``text`` is the given text, redacted, or the policy's message where it is blocked.
    """

    action: Literal["allow", "flag", "redact", "block"]
    text: str
    findings: tuple[Finding, ...] = ()

    @property
    def blocked(self) -> bool:
        """Say whether the text must not go on."""
        return self.action == "block"

    def layer(self, name: Layer) -> tuple[Finding, ...]:
        """Return what one layer found."""
        return tuple(finding for finding in self.findings if finding.layer == name)

    def as_json(self) -> dict[str, Any]:
        """Return the verdict without its text, as responses and logs carry it."""
        layers = {
            layer: [
                {
                    "rule": one.rule,
                    "action": one.action,
                    "detail": one.detail,
                    "score": one.score,
                    "limit": one.limit,
                    "category": one.category,
                }
                for one in self.layer(layer)
            ]
            for layer in LAYERS
        }
        return {"action": self.action, "layers": layers}


def verdict(text: str, findings: tuple[Finding, ...], message: str) -> Verdict:
    """Return the verdict of ``findings`` on ``text``, which is already redacted."""
    gravest = max((SEVERITY[finding.action] for finding in findings), default=0)
    if gravest == SEVERITY["block"]:
        return Verdict("block", message, findings)
    if gravest == SEVERITY["redact"]:
        return Verdict("redact", text, findings)
    return Verdict("flag" if gravest else "allow", text, findings)
