"""The gate's rules one by one: what passes, and that whatever is not known refuses."""

from __future__ import annotations

import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops.errors import ConfigError
from llmops.evaluation.decision import Evidence, Policy, Rule, SafetyTestRule, decide

LOSS = Rule("loss", better_than="untuned")
METRICS = {
    "baseline": "untuned",
    "contestants": {
        "tuned": {
            "loss": {"value": 2.7, "low": 2.5, "high": 2.9},
            "rouge_l": {"value": 0.3, "low": 0.2, "high": 0.4},
        }
    },
    "paired": {
        "loss": {"tuned": {"difference": -0.6, "low": -0.8, "high": -0.4}},
        "rouge_l": {"tuned": {"difference": 0.1, "low": 0.05, "high": 0.15}},
    },
}
SAFETY = {
    "limits": {"max_violation_rate": 0.2, "max_blocked_rate": 0.1},
    "contestants": {
        "tuned": {
            "rows": 48,
            "violations": {"count": 0, "rate": 0.0, "upper": 0.06},
            "blocked": {"count": 0, "rate": 0.0, "upper": 0.06},
            "passed": True,
        }
    },
}
CARD = {"leakage": {"exact": {"rows": 0, "share": 0.0}, "near": {"rows": 0, "share": 0.0}}}
POLICY = Policy("tuned", max_leakage=0.0, safety=True, rules=(LOSS,))


def evidence(metrics=METRICS, safety=SAFETY, card=CARD):
    return Evidence(metrics, safety, card)


def judged_alone(rule, metrics=METRICS):
    decision = decide(evidence(metrics), Policy("tuned", None, False, (rule,)))
    assert len(decision.reasons) == 1
    assert decision.passed == decision.reasons[0].passed
    return decision.reasons[0]


def changed(document, path, value):
    document = copy.deepcopy(document)
    place = document
    for name in path[:-1]:
        place = place[name]
    if value is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return document


def test_good_evidence_opens_the_gate_and_lists_every_reason():
    decision = decide(evidence(), POLICY)
    assert decision.passed
    assert [reason.rule for reason in decision.reasons] == [
        "leakage exact",
        "leakage near",
        "safety violations",
        "safety blocked",
        "safety",
        "loss better_than untuned",
    ]


@pytest.mark.parametrize("bad", [None, math.nan, math.inf, "0", True, KeyError])
@pytest.mark.parametrize(
    ("document", "path"),
    [
        ("metrics", ("paired", "loss", "tuned", "difference")),
        ("metrics", ("paired", "loss", "tuned", "high")),
        ("metrics", ("paired", "loss", "tuned")),
        ("metrics", ("paired", "loss")),
        ("metrics", ("paired",)),
        ("metrics", ("baseline",)),
        ("safety", ("contestants", "tuned", "violations", "upper")),
        ("safety", ("contestants", "tuned", "blocked", "upper")),
        ("safety", ("contestants", "tuned", "rows")),
        ("safety", ("contestants", "tuned")),
        ("safety", ("limits", "max_violation_rate")),
        ("card", ("leakage", "exact", "share")),
        ("card", ("leakage", "near", "share")),
        ("card", ("leakage",)),
    ],
)
def test_whatever_is_not_a_finite_number_refuses(document, path, bad):
    documents = {"metrics": METRICS, "safety": SAFETY, "card": CARD}
    if bad is True and path[-1] == "rows":
        bad = 0  # no row at all is no evidence
    documents[document] = changed(documents[document], path, bad)
    assert not decide(Evidence(**documents), POLICY).passed


@pytest.mark.parametrize("missing", ["metrics", "safety", "card"])
def test_a_document_that_the_gate_does_not_take_refuses(missing):
    decision = decide(evidence(**{missing: None}), POLICY)
    failed = [reason for reason in decision.reasons if not reason.passed]
    assert failed
    assert all("is not known" in reason.text or "are not known" in reason.text for reason in failed)


@pytest.mark.parametrize("verdict", [False, None, "yes", 1])
def test_a_safety_report_that_did_not_pass_refuses(verdict):
    safety = changed(SAFETY, ("contestants", "tuned", "passed"), verdict)
    assert not decide(evidence(safety=safety), POLICY).passed


def test_a_gate_without_any_rule_refuses():
    decision = decide(evidence(), Policy("tuned", None, False, ()))
    assert not decision.passed
    assert decision.reasons[0].rule == "no rules"


def test_leakage_of_either_kind_above_the_limit_refuses():
    for kind in ("exact", "near"):
        card = changed(CARD, ("leakage", kind, "share"), 0.011)
        assert not decide(evidence(card=card), Policy("tuned", 0.01, True, (LOSS,))).passed


def test_leakage_at_the_limit_passes():
    card = changed(CARD, ("leakage", "exact", "share"), 0.01)
    assert decide(evidence(card=card), Policy("tuned", 0.01, True, (LOSS,))).passed


def test_safety_is_judged_by_the_bound_and_not_by_the_rate():
    safety = changed(SAFETY, ("contestants", "tuned", "violations"), {"rate": 0.1, "upper": 0.21})
    assert not decide(evidence(safety=safety), POLICY).passed


def test_lower_is_better_is_judged_at_the_high_end():
    found = judged_alone(LOSS)
    assert (found.passed, found.observed, found.bound) == (True, -0.6, -0.4)
    touching = changed(METRICS, ("paired", "loss", "tuned", "high"), 0.0)
    assert not judged_alone(LOSS, touching).passed


def test_higher_is_better_is_judged_at_the_low_end():
    rule = Rule("rouge_l", better_than="untuned", by=0.04)
    found = judged_alone(rule)
    assert (found.passed, found.bound, found.limit) == (True, 0.05, 0.04)
    assert not judged_alone(Rule("rouge_l", better_than="untuned", by=0.05)).passed


def test_a_figure_that_was_not_measured_refuses_whatever_its_limit():
    for rule in (Rule("chrf", at_most=9.0), Rule("chrf", at_least=0.0)):
        assert not judged_alone(rule).passed


def test_at_most_is_judged_at_the_high_end_and_at_least_at_the_low_end():
    assert judged_alone(Rule("loss", at_most=2.9)).passed
    assert not judged_alone(Rule("loss", at_most=2.8)).passed
    assert judged_alone(Rule("rouge_l", at_least=0.2)).passed
    assert not judged_alone(Rule("rouge_l", at_least=0.25)).passed


def test_a_difference_from_another_baseline_refuses_and_says_what_to_set():
    found = judged_alone(Rule("loss", better_than="untuned_with_examples"))
    assert not found.passed
    assert "evaluation.baseline=untuned_with_examples" in found.text


def test_a_metric_that_could_not_be_measured_is_told_with_its_why():
    metrics = changed(
        METRICS, ("paired", "loss", "tuned"), {"difference": None, "why": "no likelihoods"}
    )
    assert "no likelihoods" in judged_alone(LOSS, metrics).text


def test_every_reason_is_one_sentence_with_its_numbers():
    texts = [reason.text for reason in decide(evidence(), POLICY).reasons]
    assert "loss of tuned differs from untuned by -0.6 nats per answer token" in texts[-1]
    assert all("\n" not in text for text in texts)


@pytest.mark.parametrize(
    "rule",
    [
        Rule("loss"),
        Rule("loss", better_than="untuned", at_most=2.0),
        Rule("loss", at_most=2.0, at_least=1.0),
        Rule("rouge"),
        Rule("length", better_than="untuned"),
    ],
)
def test_a_rule_that_cannot_be_read_is_a_config_error(rule):
    with pytest.raises(ConfigError, match=r"gate\.rules\[0\]"):
        decide(evidence(), Policy("tuned", None, False, (rule,)))


margins = st.floats(-2, 2)


@given(margins, margins)
def test_a_larger_margin_never_opens_the_gate(one, other):
    small, large = sorted((one, other))
    for metric in ("loss", "rouge_l"):
        narrow = judged_alone(Rule(metric, better_than="untuned", by=large)).passed
        assert judged_alone(Rule(metric, better_than="untuned", by=small)).passed >= narrow


@given(margins, margins)
def test_a_stricter_limit_never_opens_the_gate(one, other):
    small, large = sorted((one, other))
    strict = judged_alone(Rule("rouge_l", at_most=small)).passed
    assert judged_alone(Rule("rouge_l", at_most=large)).passed >= strict
    strict = judged_alone(Rule("rouge_l", at_least=large)).passed
    assert judged_alone(Rule("rouge_l", at_least=small)).passed >= strict


# --------------------------------------------------------------- the safety test

TESTED = {
    "catch_rate": {"count": 95, "trials": 100, "value": 0.95, "low": 0.88, "high": 0.98},
    "false_alarms": {"count": 2, "trials": 100, "value": 0.02, "low": 0.0, "high": 0.07},
}


def after_test(report, min_catch_rate=0.85, max_false_alarms=0.1):
    rule = SafetyTestRule(min_catch_rate, max_false_alarms)
    return decide(Evidence(None, None, None, report), Policy("tuned", None, False, (), rule))


def test_a_safety_test_within_both_bounds_opens_the_gate():
    assert after_test(TESTED).passed


def test_the_ends_of_the_intervals_are_judged_and_not_the_rates():
    assert [one.passed for one in after_test(TESTED, min_catch_rate=0.9).reasons] == [False, True]
    assert [one.passed for one in after_test(TESTED, max_false_alarms=0.05).reasons] == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    "report", [None, {}, {"catch_rate": {"value": None, "low": None}, "false_alarms": {}}]
)
def test_a_missing_safety_test_refuses(report):
    found = after_test(report)
    assert not found.passed
    assert [one.rule for one in found.reasons] == [
        "safety_test catch_rate",
        "safety_test false_alarms",
    ]


# ------------------------------------------- champion, margins, slices, control, judge


def beside(**changes):
    document = metrics_document()
    return evidence(metrics={**document, **changes})


def metrics_document():
    return dict(evidence().metrics)


def only(rule, given):
    decision = decide(given, Policy("tuned", None, False, (rule,)))
    return decision.reasons[-1]


AGAINST = {"champion": {"loss": {"tuned": {"difference": 0.02, "low": -0.1, "high": 0.14}}}}


@pytest.mark.parametrize("metric", ["cost", "latency"])
@pytest.mark.parametrize(("limit", "passed"), [(2.2, True), (2.0, False)])
def test_money_and_seconds_are_judged_at_the_high_end_of_their_interval(metric, limit, passed):
    contestants = {"tuned": {metric: {"value": 1.9, "low": 1.7, "high": 2.1}}}
    found = only(Rule(metric, at_most=limit), beside(contestants=contestants))
    assert (found.passed, found.bound) == (passed, 2.1)


@pytest.mark.parametrize(("by", "passed"), [(0.14, True), (0.13, False), (0.0, False)])
def test_a_challenger_may_be_worse_by_the_margin_at_the_bound(by, passed):
    contestants = {**metrics_document()["contestants"], "champion": {}}
    given = beside(against=AGAINST, contestants=contestants)
    assert only(Rule("loss", not_worse_than="champion", by=by), given).passed is passed


def test_without_a_champion_there_is_nothing_to_be_worse_than():
    rule = Rule("loss", not_worse_than="champion")
    assert only(rule, beside(no_champion=True)).passed
    assert not only(rule, beside()).passed  # nobody looked for one


def test_a_rule_on_a_slice_judges_its_rows_and_every_one_of_a_kind():
    contestants = {"tuned": {"loss": {"value": 2.0, "low": 1.8, "high": 2.2}}}
    parts = [
        {"by": "tag", "value": name, "rows": 9, "contestants": contestants, "paired": {}}
        for name in ("list", "dict")
    ]
    given = beside(slices=parts)
    assert only(Rule("loss", at_most=2.5, slice="tag:list"), given).passed
    decision = decide(
        given, Policy("tuned", None, False, (Rule("loss", at_most=2.1, slice="tag"),))
    )
    assert [reason.passed for reason in decision.reasons] == [False, False]
    assert "in tag:list (9 rows)" in decision.reasons[0].text


def test_a_slice_that_nobody_measured_refuses():
    assert not only(Rule("loss", at_most=9.0, slice="tag:list"), beside(slices=[])).passed


@pytest.mark.parametrize("holds", [True, False])
def test_learning_must_be_claimed_beyond_the_control(holds):
    claim = {"metric": "loss", "difference": -0.2, "high": -0.1, "holds": holds, "text": "so"}
    assert only(Rule("loss", beyond_control=True), beside(claims=[claim])).passed is holds
    assert not only(Rule("loss", beyond_control=True), beside(claims=[])).passed


@pytest.mark.parametrize(("low", "passed"), [(0.7, True), (0.5, False), (None, False)])
def test_a_judge_counts_only_if_it_agrees_with_people_at_the_bound(low, passed):
    contestants = {"tuned": {"judge": {"value": 0.9, "low": 0.8, "high": 0.95}}}
    agreement = {"rate": 0.8, "low": low, "n": 40}
    given = beside(contestants=contestants, judge={"agreement": agreement})
    decision = decide(given, Policy("tuned", None, False, (Rule("judge", at_least=0.5),)))
    assert decision.passed is passed


def test_a_projects_own_metric_is_judged_by_what_the_evaluation_says_of_it():
    own = {"value": 3.0, "low": 2.5, "high": 3.5, "unit": "stars", "better": "higher"}
    given = beside(contestants={"tuned": {"stars": own}})
    assert only(Rule("stars", at_least=2.0), given).passed
    with pytest.raises(ConfigError, match="no metric 'moons'"):
        only(Rule("moons", at_least=2.0), given)


def test_a_limit_of_zero_is_a_limit():
    assert Rule("blocked", at_most=0.0).conditions == ("at_most",)


class TestAMetricThatTheProviderLacks:
    """A rule may name what is judged in its place; nothing else ever is."""

    RULE = Rule("loss", better_than="untuned", instead="rouge_l")

    def reason(self, kind, rule=RULE, metrics=METRICS):
        policy = Policy("tuned", None, False, (rule,), model_kind=kind)
        (reason,) = decide(evidence(metrics), policy).reasons
        return reason

    def test_where_the_metric_exists_it_is_judged(self):
        assert self.reason("local").rule == "loss better_than untuned"

    def test_where_it_does_not_the_other_is_judged_and_the_reason_says_so(self):
        reason = self.reason("gemini")
        assert (reason.rule, reason.passed) == ("rouge_l better_than untuned", True)
        assert "in place of loss, which model.kind 'gemini' gives no figure for" in reason.text

    def test_a_missing_figure_alone_never_leads_to_the_other(self):
        gone = changed(METRICS, ("paired", "loss", "tuned", "low"), None)
        gone = changed(gone, ("paired", "loss", "tuned", "high"), None)
        assert (self.reason("local", metrics=gone).passed) is False

    def test_without_another_the_gate_refuses(self):
        nothing = changed(METRICS, ("paired", "loss"), KeyError)
        assert not self.reason("gemini", LOSS, nothing).passed
