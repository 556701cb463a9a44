"""Whether a contestant may go on: rules over metrics, safety and leakage. Fails closed.

A rule looks at the bound of an interval, never at the point, and a figure that is missing, null or
not a number refuses. Knows plain JSON documents; moves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmops.config.knowledge import lacks
from llmops.errors import ConfigError
from llmops.evaluation.metrics import METRICS, find

CONDITIONS = ("better_than", "not_worse_than", "at_most", "at_least", "beyond_control")
CHAMPION = "champion"  # the contestant that the registry's alias names; absent where there is none


@dataclass(frozen=True)
class Rule:
    """One rule on a metric, with exactly one condition.

    ``by`` is how much better than ``better_than``, or how much worse than ``not_worse_than`` is
    still allowed, in the metric's unit, at the bound. ``beyond_control`` asks for a claim of
    learning. ``slice`` is ``<by>:<value>`` or ``<by>`` for every slice of that kind. On the metric
    ``judge``, the judge must agree with people at least as often as ``min_agreement``.
    ``instead`` is the metric that is judged the same way where the model's provider cannot be
    measured by ``metric``; such a rule compares, and asks for no amount.
    """

    metric: str
    better_than: str | None = None
    not_worse_than: str | None = None
    by: float = 0.0
    at_most: float | None = None
    at_least: float | None = None
    beyond_control: bool = False
    slice: str | None = None
    min_agreement: float = 0.6
    instead: str | None = None

    def in_force(self, model_kind: str | None) -> Rule:
        """Return the rule that models of a kind are judged by."""
        if self.instead is None or not lacks(self.metric, model_kind):
            return self
        return replace(self, metric=self.instead, instead=None)

    @property
    def other(self) -> str | None:
        """The contestant that the rule compares with, if it compares."""
        return self.better_than if self.better_than is not None else self.not_worse_than

    @property
    def conditions(self) -> tuple[str, ...]:
        """The conditions that the rule gives, by name."""
        values = {name: getattr(self, name) for name in CONDITIONS}
        return tuple(
            name for name, value in values.items() if value is not None and value is not False
        )

    @property
    def name(self) -> str:
        """The rule as the config says it, e.g. ``loss better_than untuned``."""
        condition = self.conditions[0]
        said = f"{self.metric} {condition}" + (f" {self.other}" if self.other else "")
        return f"{said} in {self.slice}" if self.slice else said


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
    """What must hold of ``contestant``; a null ``max_leakage`` or ``safety_test`` is not judged.

    ``model_kind`` says what the contestant's provider can be measured by; null: everything.
    """

    contestant: str
    max_leakage: float | None
    safety: bool
    rules: Sequence[Rule]
    safety_test: SafetyTestRule | None = None
    model_kind: str | None = None


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


def check_rules(rules: Sequence[Rule], own: Sequence[str] = ()) -> None:
    """Refuse rules that cannot be read: an unknown metric, no or two conditions.

    ``own`` are the project's metrics, which only the evaluation knows.

    Raises:
        ConfigError: Naming the rule by its place.
    """
    for place, rule in enumerate(rules):
        where = f"gate.rules[{place}]"
        if len(rule.conditions) != 1:
            raise ConfigError(
                f"{where}: give exactly one of {', '.join(CONDITIONS)}",
                hint="for example {metric: loss, better_than: untuned, by: 0.0}",
            )
        better = None if rule.metric in own else find(rule.metric, where=f"{where}.metric").better
        compares = rule.other is not None or rule.beyond_control
        if compares and better is None and rule.metric not in own:
            raise ConfigError(
                f"{where}: neither more nor less {rule.metric} is better by itself",
                hint="use at_most or at_least",
            )


def decide(evidence: Evidence, policy: Policy) -> Decision:
    """Judge ``policy.contestant`` by every rule.

    Raises:
        ConfigError: If a rule cannot be read.
    """
    own = _measured(evidence.metrics)
    check_rules(policy.rules, own)
    check_rules([rule.in_force(policy.model_kind) for rule in policy.rules], own)
    reasons = [
        *_leakage(evidence.card, policy),
        *_safety(evidence.safety, policy),
        *_safety_test(evidence.safety_test, policy.safety_test),
        *(reason for rule in policy.rules for reason in _in_force(rule, evidence.metrics, policy)),
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


def _measured(metrics: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the metrics that the evaluation measured and llmops does not know."""
    found = (_at(metrics, "contestants") or {}).values()
    return tuple({name for figures in found for name in figures if name not in METRICS})


@dataclass(frozen=True)
class _Kind:
    """What a rule must know of its metric; from the evaluation where the project brought it."""

    unit: str
    better: str | None


def _kind(rule: Rule, metrics: Mapping[str, Any], contestant: str) -> _Kind:
    if rule.metric in METRICS:
        metric = METRICS[rule.metric]
        return _Kind(metric.unit, metric.better)
    found = _at(metrics, "contestants", contestant, rule.metric) or {}
    return _Kind(str(found.get("unit") or ""), found.get("better"))


def _in_force(rule: Rule, metrics: Mapping[str, Any] | None, policy: Policy) -> list[Reason]:
    """Judge a rule, or what stands in for it; then every reason says so."""
    judged = rule.in_force(policy.model_kind)
    reasons = _rule(judged, metrics, policy.contestant)
    if judged is rule:
        return reasons
    why = f"in place of {rule.metric}, which model.kind '{policy.model_kind}' gives no figure for"
    return [replace(reason, text=f"{reason.text} ({why})") for reason in reasons]


def _rule(rule: Rule, metrics: Mapping[str, Any] | None, contestant: str) -> list[Reason]:
    """Judge one rule, on the whole or on each slice that it names."""
    if metrics is None:
        text = "metrics are not known: the gate takes no metrics"
        return [_refuse(rule.name, text, _limit(rule))]
    trusted = _agreement(rule, metrics) if rule.metric == "judge" else []
    if rule.slice is None:
        return [*trusted, _judged(rule, metrics, contestant)]
    parts = [one for one in metrics.get("slices") or () if _in_slice(one, rule.slice)]
    if not parts:
        text = f"the evaluation has no slice '{rule.slice}': set evaluation.slices"
        return [*trusted, _refuse(rule.name, text, _limit(rule))]
    return [*trusted, *(_in_part(rule, one, metrics, contestant) for one in parts)]


def _in_slice(one: Mapping[str, Any], wanted: str) -> bool:
    by, _, value = wanted.partition(":")
    return bool(one.get("by") == by and (not value or one.get("value") == value))


def _in_part(
    rule: Rule, one: Mapping[str, Any], metrics: Mapping[str, Any], contestant: str
) -> Reason:
    found = _judged(rule, {**one, "baseline": metrics.get("baseline")}, contestant)
    part = f"{one.get('by')}:{one.get('value')}"
    return replace(
        found,
        rule=f"{replace(rule, slice=None).name} in {part}",
        text=f"in {part} ({one.get('rows')} rows): {found.text}",
    )


def _agreement(rule: Rule, metrics: Mapping[str, Any]) -> list[Reason]:
    """A judge counts only if it was measured against labels, and agrees with them at the bound."""
    name, limit = "judge agreement", rule.min_agreement
    found = _at(metrics, "judge", "agreement")
    rate, low = _number(_at(found, "rate")), _number(_at(found, "low"))
    if rate is None or low is None:
        text = "the judge was not measured against labelled answers: set judge.labelled"
        return [_refuse(name, text, limit)]
    passed = low >= limit
    text = (
        f"the judge agrees with {rate:.0%} of {_at(found, 'n')} labelled answers, {low:.0%} at the"
        f" bound: {'enough' if passed else 'not enough'} by {limit:.0%}"
    )
    return [Reason(name, rate, low, limit, passed, text)]


def _judged(rule: Rule, metrics: Mapping[str, Any], contestant: str) -> Reason:
    if rule.beyond_control:
        return _beyond_control(rule, metrics, contestant)
    if rule.other is not None:
        return _compared(rule, rule.other, metrics, contestant)
    return _own_figure(rule, metrics, contestant)


def _limit(rule: Rule) -> float | None:
    if rule.other is not None or rule.beyond_control:
        return rule.by
    return rule.at_most if rule.at_most is not None else rule.at_least


def _beyond_control(rule: Rule, metrics: Mapping[str, Any], contestant: str) -> Reason:
    claims = [one for one in metrics.get("claims") or () if one.get("metric") == rule.metric]
    if not claims:
        text = "there is no control: choose pipeline=tuning_control and its contestant"
        return _refuse(rule.name, text, 0.0)
    claim = claims[0]
    lower = _kind(rule, metrics, contestant).better == "lower"
    bound = _number(claim.get("high" if lower else "low"))
    passed = claim.get("holds") is True
    return Reason(
        rule.name, _number(claim.get("difference")), bound, 0.0, passed, str(claim.get("text"))
    )


def _compared(rule: Rule, other: str, metrics: Mapping[str, Any], contestant: str) -> Reason:
    """Judge contestant - other by the end of its interval that speaks least for the contestant."""
    kind = _kind(rule, metrics, contestant)
    if other == CHAMPION and CHAMPION not in (metrics.get("contestants") or {}):
        text = "there is no champion yet, so there is nothing to be worse than"
        return Reason(rule.name, None, None, rule.by, _at(metrics, "no_champion") is True, text)
    baseline = metrics.get("baseline")
    pairs = metrics.get("paired") if baseline == other else _at(metrics, "against", other)
    if pairs is None:
        text = f"differences are from {baseline}, not from {other}: set evaluation.baseline={other}"
        return _refuse(rule.name, text, rule.by)
    found = _at(pairs, rule.metric, contestant)
    difference = _number(_at(found, "difference"))
    bound = _number(_at(found, "high" if kind.better == "lower" else "low"))
    if difference is None or bound is None:
        return _missing(rule, found, f"the difference in {rule.metric} from {other}", contestant)
    if kind.better is None:
        text = f"neither more nor less {rule.metric} is better: judge it with at_least or at_most"
        return _refuse(rule.name, text, rule.by)
    sign = -1 if kind.better == "lower" else 1
    if rule.better_than is not None:
        limit, passed = rule.by, sign * bound > rule.by
        word = f"{'better' if passed else 'not shown to be better'} by more than {rule.by:g}"
    else:
        limit, passed = -rule.by, sign * bound >= -rule.by
        word = f"{'not worse' if passed else 'it may be worse'} by more than {rule.by:g}"
    text = (
        f"{rule.metric} of {contestant} differs from {other} by {difference:+.4g} {kind.unit},"
        f" {bound:+.4g} at the bound: {word}"
    )
    return Reason(rule.name, difference, bound, sign * limit, passed, text)


def _own_figure(rule: Rule, metrics: Mapping[str, Any], contestant: str) -> Reason:
    """Judge the contestant's own interval: its high end for ``at_most``, its low end otherwise."""
    kind = _kind(rule, metrics, contestant)
    found = _at(metrics, "contestants", contestant, rule.metric)
    most = rule.at_most is not None
    value, bound = _number(_at(found, "value")), _number(_at(found, "high" if most else "low"))
    limit = _number(_limit(rule))
    if value is None or bound is None or limit is None:
        return _missing(rule, found, rule.metric, contestant)
    passed = bound <= limit if most else bound >= limit
    text = (
        f"{rule.metric} of {contestant} is {value:.4g} ({kind.unit}), {bound:.4g} at the bound:"
        f" {'within' if passed else 'outside'} {'at most' if most else 'at least'} {limit:g}"
    )
    return Reason(rule.name, value, bound, limit, passed, text)


def _missing(rule: Rule, found: object, what: str, contestant: str) -> Reason:
    why = _at(found, "why") or "the evaluation did not measure it"
    return _refuse(rule.name, f"{what} has no interval for {contestant}: {why}", _limit(rule))
