"""Rules of a gate: what they are called, and the error for one that cannot be read."""

from __future__ import annotations

import pytest

from llmops.errors import ConfigError
from llmops.evaluation.decision import Rule, check_rules


@pytest.mark.parametrize(
    "rule",
    [
        Rule("loss"),
        Rule("loss", at_most=2.0, at_least=1.0),
        Rule("loss", better_than="untuned", not_worse_than="champion"),
        Rule("loss", at_most=0.0, beyond_control=True),
    ],
)
def test_no_condition_or_two_is_an_error_that_names_the_rule_and_shows_one(rule):
    with pytest.raises(ConfigError) as caught:
        check_rules([Rule("loss", at_most=3.0), rule])
    assert (caught.value.problem, caught.value.hint) == (
        "gate.rules[1]: give exactly one of better_than, not_worse_than, at_most, at_least,"
        " beyond_control",
        "for example {metric: loss, better_than: untuned, by: 0.0}",
    )


@pytest.mark.parametrize(
    "rule",
    [
        Rule("length", better_than="untuned"),
        Rule("length", not_worse_than="champion"),
        Rule("length", beyond_control=True),
    ],
)
def test_to_compare_by_a_metric_without_a_better_side_is_an_error(rule):
    with pytest.raises(ConfigError) as caught:
        check_rules([rule], ["stars"])
    assert (caught.value.problem, caught.value.hint) == (
        "gate.rules[0]: neither more nor less length is better by itself",
        "use at_most or at_least",
    )


def test_a_misspelt_metric_is_an_error_at_its_place_with_the_nearest_name():
    with pytest.raises(ConfigError) as caught:
        check_rules([Rule("los", at_most=3.0)])
    assert caught.value.problem == "gate.rules[0].metric: there is no metric 'los'"
    assert caught.value.hint.startswith("did you mean 'loss'? valid: ")


def test_a_metric_without_a_better_side_has_limits_and_an_own_one_may_be_compared():
    check_rules([Rule("length", at_most=90.0), Rule("length", at_least=9.0)])
    check_rules([Rule("stars", better_than="untuned")], ["stars"])


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        (Rule("loss", not_worse_than="champion"), "loss not_worse_than champion"),
        (Rule("loss", better_than="untuned", slice="tag"), "loss better_than untuned in tag"),
        (Rule("loss", beyond_control=True), "loss beyond_control"),
        (Rule("cost", at_most=0.0, slice="tag:list"), "cost at_most in tag:list"),
    ],
)
def test_a_rule_is_called_as_the_config_says_it(rule, name):
    assert rule.name == name


@pytest.mark.parametrize(
    ("kind", "metric"), [("gemini", "rouge_l"), ("local", "loss"), ("elsewhere", "loss")]
)
def test_a_rule_in_force_is_the_same_rule_on_the_metric_that_the_provider_has(kind, metric):
    rule = Rule("loss", not_worse_than="untuned", by=0.1, instead="rouge_l")
    in_force = rule.in_force(kind)
    assert (in_force.metric, in_force.not_worse_than, in_force.by) == (metric, "untuned", 0.1)


def test_what_stands_in_for_a_metric_has_nothing_that_stands_in_for_it():
    rule = Rule("loss", better_than="untuned", instead="perplexity")
    assert rule.in_force("gemini") == Rule("perplexity", better_than="untuned")
