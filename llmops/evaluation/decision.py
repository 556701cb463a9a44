"""Whether a contestant may go on: rules over metrics, safety and leakage. Fails closed.

A rule looks at the bound of an interval, never at the point, and a figure that is missing, null or
not a number refuses. Knows plain JSON documents; moves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops.errors import ConfigError
from llmops.evaluation.metrics import Metric, find


@dataclass(frozen=True)
class Rule:
    """One rule on a metric: exactly one of ``better_than``, ``at_most`` and ``at_least``.

    ``by`` belongs to ``better_than``: how much better, in the metric's unit, at the bound.
    """

    metric: str
    better_than: str | None = None
    by: float = 0.0
    at_most: float | None = None
    at_least: float | None = None

    @property
    def name(self) -> str:
        """The rule as the config says it, e.g. ``loss better_than untuned``."""
        if self.better_than is not None:
            return f"{self.metric} better_than {self.better_than}"
        return f"{self.metric} {'at_most' if self.at_most is not None else 'at_least'}"


@dataclass(frozen=True)
class SafetyTestRule:
    """What the safety test must show at the bounds of its intervals, both in [0, 1]."""

    min_catch_rate: float
    max_false_alarms: float


@dataclass(frozen=True)
class Reason:
    """What one rule found: ``observed`` is the point, ``bound`` is judged against ``limit``."""

    rule: str
    observed: float | None
    bound: float | None
    limit: float | None
    passed: bool
    text: str


@dataclass(frozen=True)
class Policy:
    """What must hold of ``contestant``; a null ``max_leakage`` or ``safety_test`` is not judged."""

    contestant: str
    max_leakage: float | None
    safety: bool
    rules: Sequence[Rule]
    safety_test: SafetyTestRule | None = None


@dataclass(frozen=True)
class Evidence:
    """The documents to judge; null where the pipeline has none."""

    metrics: Mapping[str, Any] | None
    safety: Mapping[str, Any] | None
    card: Mapping[str, Any] | None
    safety_test: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Decision:
    """The decision and every reason, passed and failed, in the order of the policy."""

    passed: bool
    contestant: str
    reasons: tuple[Reason, ...]


def check_rules(rules: Sequence[Rule]) -> None:
    """Refuse rules that cannot be read: an unknown metric, no or two conditions.

    Raises:
        ConfigError: Naming the rule by its place.
    """
    for place, rule in enumerate(rules):
        where = f"gate.rules[{place}]"
        metric = find(rule.metric, where=f"{where}.metric")
        given = [rule.better_than is not None, rule.at_most is not None, rule.at_least is not None]
        if sum(given) != 1:
            raise ConfigError(
                f"{where}: give exactly one of better_than, at_most and at_least",
                hint="for example {metric: loss, better_than: untuned, by: 0.0}",
            )
        if rule.better_than is not None and metric.better is None:
            raise ConfigError(
                f"{where}: neither more nor less {rule.metric} is better by itself",
                hint="use at_most or at_least",
            )


def decide(evidence: Evidence, policy: Policy) -> Decision:
    """Judge ``policy.contestant`` by every rule.

    Raises:
        ConfigError: If a rule cannot be read.
    """
    check_rules(policy.rules)
    reasons = [
        *_leakage(evidence.card, policy),
        *_safety(evidence.safety, policy),
        *_safety_test(evidence.safety_test, policy.safety_test),
        *(_rule(rule, evidence.metrics, policy.contestant) for rule in policy.rules),
    ]
    if not reasons:
        reasons = [_refuse("no rules", "the gate has no rule, so nothing shows that it may open")]
    return Decision(all(reason.passed for reason in reasons), policy.contestant, tuple(reasons))


def _refuse(rule: str, text: str, limit: float | None = None) -> Reason:
    return Reason(rule, None, None, limit, False, text)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _at(document: object, *path: str) -> Any:
    for name in path:
        document = document.get(name) if isinstance(document, Mapping) else None
    return document


def _leakage(card: Mapping[str, Any] | None, policy: Policy) -> list[Reason]:
    if policy.max_leakage is None:
        return []
    return [_leak(card, kind, policy.max_leakage) for kind in ("exact", "near")]


def _leak(card: Mapping[str, Any] | None, kind: str, limit: float) -> Reason:
    rule, words = f"leakage {kind}", {"exact": "exactly", "near": "nearly"}[kind]
    if card is None:
        return _refuse(rule, "leakage is not known: the gate takes no dataset card", limit)
    share = _number(_at(card, "leakage", kind, "share"))
    if share is None:
        return _refuse(rule, f"the dataset card measures no {kind} leakage", limit)
    passed = share <= limit
    text = (
        f"{share:.2%} of the test rows also stand {words} in train,"
        f" {'within' if passed else 'above'} the limit of {limit:.2%}"
    )
    return Reason(rule, share, share, limit, passed, text)


def _safety(report: Mapping[str, Any] | None, policy: Policy) -> list[Reason]:
    if not policy.safety:
        return []
    name = policy.contestant
    if report is None:
        return [_refuse("safety", "safety is not known: the gate takes no safety report")]
    found = _at(report, "contestants", name)
    if not isinstance(found, Mapping):
        return [_refuse("safety", f"the safety report knows no contestant '{name}'")]
    return [_safety_rate(report, found, what) for what in ("violations", "blocked")] + [
        _safety_verdict(found, name)
    ]


def _safety_rate(report: Mapping[str, Any], found: Mapping[str, Any], what: str) -> Reason:
    limit_name = {"violations": "max_violation_rate", "blocked": "max_blocked_rate"}[what]
    limit = _number(_at(report, "limits", limit_name))
    rate, upper = _number(_at(found, what, "rate")), _number(_at(found, what, "upper"))
    rows = _number(found.get("rows"))
    if limit is None or rate is None or upper is None or not rows:
        return _refuse(f"safety {what}", f"the safety report has no rate of {what} to judge", limit)
    passed = upper <= limit
    text = (
        f"{what}: {rate:.2%} of {rows:.0f} rows, at most {upper:.2%} at the bound,"
        f" {'within' if passed else 'above'} the limit of {limit:.2%}"
    )
    return Reason(f"safety {what}", rate, upper, limit, passed, text)


def _safety_verdict(found: Mapping[str, Any], name: str) -> Reason:
    passed = found.get("passed") is True
    text = f"the safety step found {name} {'within' if passed else 'outside'} its policy"
    return Reason("safety", None, None, None, passed, text)


def _safety_test(report: Mapping[str, Any] | None, rule: SafetyTestRule | None) -> list[Reason]:
    """Judge the catch rate by the low end of its interval, false alarms by the high end."""
    if rule is None:
        return []
    return [
        _tested(report, "catch_rate", "low", rule.min_catch_rate),
        _tested(report, "false_alarms", "high", rule.max_false_alarms),
    ]


def _tested(report: Mapping[str, Any] | None, what: str, end: str, limit: float) -> Reason:
    words = {"catch_rate": "harmful prompts caught", "false_alarms": "benign prompts stopped"}[what]
    name = f"safety_test {what}"
    if report is None:
        return _refuse(name, f"{words}: the gate takes no safety test", limit)
    value, bound = _number(_at(report, what, "value")), _number(_at(report, what, end))
    if value is None or bound is None:
        return _refuse(name, f"{words}: the safety test asked no such prompt", limit)
    passed = bound >= limit if end == "low" else bound <= limit
    text = (
        f"{words}: {value:.1%} of {_at(report, what, 'trials')}, {bound:.1%} at the bound,"
        f" {'within' if passed else 'outside'} {'at least' if end == 'low' else 'at most'}"
        f" {limit:.1%}"
    )
    return Reason(name, value, bound, limit, passed, text)


def _rule(rule: Rule, metrics: Mapping[str, Any] | None, contestant: str) -> Reason:
    if metrics is None:
        return _refuse(rule.name, "metrics are not known: the gate takes no metrics", _limit(rule))
    if rule.better_than is not None:
        return _better_than(rule, rule.better_than, metrics, contestant)
    return _own_figure(rule, metrics, contestant)


def _limit(rule: Rule) -> float | None:
    if rule.better_than is not None:
        return rule.by
    return rule.at_most if rule.at_most is not None else rule.at_least


def _better_than(rule: Rule, other: str, metrics: Mapping[str, Any], contestant: str) -> Reason:
    """Judge contestant - other by the end of its interval that speaks least for the contestant."""
    metric = find(rule.metric)
    baseline = metrics.get("baseline")
    if baseline != other:
        text = f"differences are from {baseline}, not from {other}: set evaluation.baseline={other}"
        return _refuse(rule.name, text, rule.by)
    found = _at(metrics, "paired", rule.metric, contestant)
    difference = _number(_at(found, "difference"))
    bound = _number(_at(found, "high" if metric.better == "lower" else "low"))
    if difference is None or bound is None:
        return _missing(rule, found, f"the difference in {rule.metric} from {other}", contestant)
    sign = -1 if metric.better == "lower" else 1
    passed = sign * bound > rule.by
    text = (
        f"{rule.metric} of {contestant} differs from {other} by {difference:+.4g} {metric.unit},"
        f" {bound:+.4g} at the bound: {'better' if passed else 'not shown to be better'}"
        f" by more than {rule.by:g}"
    )
    return Reason(rule.name, difference, bound, sign * rule.by, passed, text)


def _own_figure(rule: Rule, metrics: Mapping[str, Any], contestant: str) -> Reason:
    """Judge the contestant's own interval: its high end for ``at_most``, its low end otherwise."""
    metric: Metric = find(rule.metric)
    found = _at(metrics, "contestants", contestant, rule.metric)
    most = rule.at_most is not None
    value, bound = _number(_at(found, "value")), _number(_at(found, "high" if most else "low"))
    limit = _number(_limit(rule))
    if value is None or bound is None or limit is None:
        return _missing(rule, found, rule.metric, contestant)
    passed = bound <= limit if most else bound >= limit
    text = (
        f"{rule.metric} of {contestant} is {value:.4g} ({metric.unit}), {bound:.4g} at the bound:"
        f" {'within' if passed else 'outside'} {'at most' if most else 'at least'} {limit:g}"
    )
    return Reason(rule.name, value, bound, limit, passed, text)


def _missing(rule: Rule, found: object, what: str, contestant: str) -> Reason:
    why = _at(found, "why") or "the evaluation did not measure it"
    return _refuse(rule.name, f"{what} has no interval for {contestant}: {why}", _limit(rule))
