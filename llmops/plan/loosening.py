"""Which changes of a resolved config loosen what protects people, data or money.

A table says for each guarded leaf in which direction it gets looser. Where two values cannot be
compared the change counts as loosened: somebody has to look. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from llmops.config.knowledge import lacks

Category = Literal["safety", "gate", "leakage", "budget", "data"]
Direction = Literal["up", "down", "any", "grows", "shrinks", "milder"]
CATEGORIES: tuple[Category, ...] = ("safety", "gate", "leakage", "budget", "data")


@dataclass(frozen=True)
class Guard:
    """A guarded leaf: ``direction`` is the one in which it gets looser.

    A value that is null, or a key that is gone, bounds nothing and is the loosest there is.
    """

    leaf: str
    categories: tuple[Category, ...]
    direction: Direction
    why: str


@dataclass(frozen=True)
class Loosening:
    """A change for the looser; ``certain`` is false where the values cannot be compared."""

    key: str
    categories: tuple[Category, ...]
    before: Any
    after: Any
    why: str
    certain: bool = True


GUARDS: tuple[Guard, ...] = (
    Guard("safety.thresholds.*", ("safety",), "up", "fewer answers count as violations"),
    Guard("safety.max_violation_rate", ("safety",), "up", "more violations are tolerated"),
    Guard("safety.max_blocked_rate", ("safety",), "up", "more blocked answers are tolerated"),
    Guard("safety.confidence", ("safety",), "down", "rates are judged with less confidence"),
    Guard("safety.scorer.*", ("safety",), "any", "another scorer rates the answers"),
    Guard("safety.on_violation", ("safety",), "milder", "what breaks a threshold is shown"),
    Guard("safety.on_scorer_failure", ("safety",), "milder", "what was not scored is shown"),
    Guard("safety.input.score", ("safety",), "down", "questions are not scored"),
    Guard("safety.*put.block_list", ("safety",), "shrinks", "fewer phrases are looked for"),
    Guard("safety.*put.on_block_list", ("safety",), "milder", "a listed phrase leads to less"),
    Guard("safety.input.prompt_injection", ("safety",), "milder", "orders of users lead to less"),
    Guard("safety.*put.personal_data", ("safety",), "milder", "personal data leads to less"),
    Guard("safety.output.recitation", ("safety",), "milder", "recitation leads to less"),
    Guard("safety.output.max_cited_share", ("safety",), "up", "answers may repeat more"),
    Guard("safety.output.citation_licences", ("safety",), "any", "other sources may be repeated"),
    Guard("safety.output.on_citation", ("safety",), "milder", "repeated sources lead to less"),
    Guard(
        "safety.output.ungrounded", ("safety",), "milder", "answers without sources lead to less"
    ),
    Guard("safety.personal_data.kinds", ("safety",), "shrinks", "less counts as personal data"),
    Guard("safety.personal_data.region", ("safety",), "any", "other numbers are telephones"),
    Guard("gate.safety", ("gate", "safety"), "down", "the gate does not ask the safety step"),
    Guard("gate.safety_test.min_catch_rate", ("gate", "safety"), "down", "more harm may pass"),
    Guard("gate.safety_test.max_false_alarms", ("gate",), "up", "more may be stopped for nothing"),
    Guard("gate.max_leakage", ("gate", "leakage"), "up", "more test rows may stand in train"),
    Guard("gate.contestant", ("gate",), "any", "the gate judges another contestant"),
    Guard("evaluation.confidence", ("gate",), "down", "metrics are judged with less confidence"),
    Guard("predict.other_prompt", ("gate",), "up", "another prompt than the tuned one may be used"),
    Guard("dataset.near_duplicates.threshold", ("leakage",), "up", "fewer rows count as near"),
    Guard("dataset.near_duplicates.shingle_words", ("leakage",), "any", "near is measured anew"),
    Guard("env.budget", ("budget",), "up", "a run may cost more"),
    Guard("dataset.max_bytes", ("budget",), "up", "the query may scan more"),
    Guard("dataset.rules.max_bad_fraction", ("data",), "up", "more bad rows are tolerated"),
    Guard("dataset.rules.min_rows", ("data",), "down", "fewer good rows are enough"),
    Guard("dataset.acknowledged_terms", ("data",), "grows", "data under more terms may be used"),
)
ACTIONS = ("ignore", "flag", "redact", "block")  # of the safety policy, the mildest first
PROTECTING: Mapping[str, tuple[Category, ...]] = {"gate": ("gate",), "safety": ("safety",)}
COMPARING = ("better_than", "not_worse_than")  # conditions that name another contestant
CONDITIONS = (*COMPARING, "at_most", "at_least", "beyond_control")  # as the gate knows them
MIN_AGREEMENT = 0.6  # what the gate asks of a judge where the rule does not say


def loosened(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Loosening]:
    """Return what got looser from one table of leaves (dotted key -> value) to another."""
    found = []
    for key in dict.fromkeys([*before, *after]):
        guard = next((guard for guard in GUARDS if fnmatchcase(key, guard.leaf)), None)
        if guard and (loosening := _judged(guard, key, before, after)):
            found.append(loosening)
    return [*found, *_rules(before, after), *_steps(before, after)]


def cheaper(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Loosening]:
    """Return the prices that a new table lowers, or gives where none was known.

    Whoever lowers a price lets more pass a budget.
    """
    old, new = _prices(before), _prices(after)
    why = "a budget lets more pass"
    return [
        Loosening(f"knowledge/prices.yaml: {name}", ("budget",), old.get(name), price, why)
        for name, price in new.items()
        if price is not None and ((known := old.get(name)) is None or price < known)
    ]


def _prices(table: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        " ".join(
            str(entry[key]) for key in ("port", "kind", "base", "unit") if key in entry
        ): entry["price"]
        for entry in table["prices"]
    }


def _judged(
    guard: Guard, key: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Loosening | None:
    old, new = before.get(key), after.get(key)
    if old == new:
        return None
    loosening = Loosening(key, guard.categories, old, new, guard.why)
    if guard.direction == "any":
        return None if key not in before else _uncertain(loosening)
    if guard.direction == "grows":
        return loosening if set(new or ()) - set(old or ()) else None
    if guard.direction == "shrinks":
        return loosening if set(old or ()) - set(new or ()) else None
    if old is None:  # nothing was bounded before
        return None
    if new is None:
        return loosening
    if guard.direction == "milder" and {old, new} <= set(ACTIONS):
        return loosening if ACTIONS.index(new) < ACTIONS.index(old) else None
    if not _number(old) or not _number(new):
        return _uncertain(loosening)
    return loosening if (new > old) == (guard.direction == "up") else None


def _uncertain(loosening: Loosening) -> Loosening:
    return Loosening(
        loosening.key,
        loosening.categories,
        loosening.before,
        loosening.after,
        f"{loosening.why}; judge it by hand",
        certain=False,
    )


def _number(value: Any) -> bool:
    return isinstance(value, int | float)


# ----------------------------------------------------------------- gate rules


def _rules(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Loosening]:
    """Compare the gate's rules: one that is gone or easier to meet is a loosening.

    All rules of one name have to hold, so one that is as strict as the old one is enough.
    """
    others = [_in_force(rule, after) for rule in _listed(after)]
    for rule in (_in_force(rule, before) for rule in _listed(before)):
        name = _name(rule)
        key, shown = f"gate.rules[{name}]", _shown(rule)
        new = [other for other in others if _name(other) == name]
        if not new and (stand_in := _stand_in(name, after)):
            why = f"{stand_in['metric']} is judged in its place; judge it by hand"
            yield Loosening(key, ("gate",), shown, _shown(stand_in), why, certain=False)
        elif not new:
            yield Loosening(key, ("gate",), shown, None, "the rule is gone")
        elif all(_easier(rule, other) for other in new):
            now = "; ".join(map(_shown, new))
            yield Loosening(key, ("gate",), shown, now, "the rule is easier to meet")


def _stand_in(name: str, leaves: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what is judged in place of the rule of that name, if its model lacks the metric."""
    same = (rule for rule in _listed(leaves) if _name(rule) == name)
    return next((_in_force(rule, leaves) for rule in same), None)


def _listed(leaves: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    rules = leaves.get("gate.rules")
    return rules if isinstance(rules, Sequence) and not isinstance(rules, str) else ()


def _in_force(rule: Mapping[str, Any], leaves: Mapping[str, Any]) -> Mapping[str, Any]:
    if rule.get("instead") is None or not lacks(rule["metric"], leaves.get("model.kind")):
        return rule
    return {**rule, "metric": rule["instead"]}


def _name(rule: Mapping[str, Any]) -> str:
    """Return what a rule asks, without how much of it: two rules of one name can be compared."""
    given = (one for one in CONDITIONS if rule.get(one) is not None and rule[one] is not False)
    condition = next(given, "")  # a bound of zero is given
    said = f"{rule['metric']} {condition}"
    if condition in COMPARING:
        said += f" {rule[condition]}"
    return f"{said} in {rule['slice']}" if rule.get("slice") else said


def _easier(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Judge two rules of one name. ``by`` is asked for by one comparison, allowed by the other."""
    by = old.get("by", 0.0), new.get("by", 0.0)
    return (
        (old.get("better_than") is not None and by[1] < by[0])
        or (old.get("not_worse_than") is not None and by[1] > by[0])
        or (old.get("at_most") is not None and new["at_most"] > old["at_most"])
        or (old.get("at_least") is not None and new["at_least"] < old["at_least"])
        or (old["metric"] == "judge" and _agreement(new) < _agreement(old))
        or (new.get("instead") is not None and new["instead"] != old.get("instead"))
    )


def _agreement(rule: Mapping[str, Any]) -> float:
    return float(rule.get("min_agreement", MIN_AGREEMENT))


def _shown(rule: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in rule.items())


def _steps(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Loosening]:
    """Find steps that protect and are no longer in the pipeline."""
    for kind, categories in PROTECTING.items():
        old, new = _uses(before, kind), _uses(after, kind)
        if old and not new:
            why = f"the pipeline has no {kind} step any more"
            yield Loosening(old[0].removesuffix(".use"), categories, kind, None, why)


def _uses(leaves: Mapping[str, Any], kind: str) -> list[str]:
    return [
        key
        for key, value in leaves.items()
        if value == kind and fnmatchcase(key, "pipeline.steps.*.use")
    ]
