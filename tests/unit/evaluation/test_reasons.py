"""What the user reads of rules over metrics: every reason in full, with its numbers and words."""

from __future__ import annotations

import math

import pytest

from llmops.errors import ConfigError
from llmops.evaluation.decision import Decision, Evidence, Policy, Reason, Rule, decide


def judged(*rules, kind=None, **metrics):
    """Return the reasons of the rules over an evaluation of ``tuned`` against ``untuned``."""
    document = {"baseline": "untuned", **metrics}
    policy = Policy("tuned", None, False, rules, model_kind=kind)
    return list(decide(Evidence(document, None, None), policy).reasons)


def figures(metric, **found):
    return {"contestants": {"tuned": {metric: found}}}


def differences(metric, **found):
    return {metric: {"tuned": found}}


# ------------------------------------------------------------------- the whole gate


def test_a_gate_without_a_rule_says_that_nothing_shows_it_may_open():
    text = "the gate has no rule, so nothing shows that it may open"
    assert decide(Evidence(None, None, None), Policy("tuned", None, False, ())) == Decision(
        False, "tuned", (Reason("no rules", None, None, None, False, text),)
    )


def test_one_failed_reason_among_passed_ones_keeps_the_gate_shut():
    rules = (Rule("loss", at_most=3.0), Rule("loss", at_most=2.0))
    metrics = figures("loss", value=2.7, high=2.9)
    decision = decide(Evidence(metrics, None, None), Policy("tuned", None, False, rules))
    assert [reason.passed for reason in decision.reasons] == [True, False]
    assert not decision.passed


@pytest.mark.parametrize(
    ("rule", "limit"),
    [
        (Rule("loss", better_than="untuned", by=0.1), 0.1),
        (Rule("loss", not_worse_than="champion", by=0.2), 0.2),
        (Rule("loss", beyond_control=True), 0.0),
        (Rule("loss", at_most=3.0), 3.0),
        (Rule("rouge_l", at_least=0.0), 0.0),
    ],
)
def test_a_gate_that_takes_no_metrics_refuses_every_rule_with_its_limit(rule, limit):
    text = "metrics are not known: the gate takes no metrics"
    decision = decide(Evidence(None, None, None), Policy("tuned", None, False, (rule,)))
    assert decision.reasons == (Reason(rule.name, None, None, limit, False, text),)


# ---------------------------------------------------------------- the contestant's own figure


@pytest.mark.parametrize(
    ("rule", "bound", "passed", "text"),
    [
        (
            Rule("loss", at_most=2.9),
            2.9,
            True,
            "loss of tuned is 2.712 (nats per answer token), 2.9 at the bound: within at most 2.9",
        ),
        (
            Rule("loss", at_most=2.899),
            2.9,
            False,
            "loss of tuned is 2.712 (nats per answer token), 2.9 at the bound:"
            " outside at most 2.899",
        ),
        (
            Rule("loss", at_least=2.5),
            2.5,
            True,
            "loss of tuned is 2.712 (nats per answer token), 2.5 at the bound: within at least 2.5",
        ),
        (
            Rule("loss", at_least=2.501),
            2.5,
            False,
            "loss of tuned is 2.712 (nats per answer token), 2.5 at the bound:"
            " outside at least 2.501",
        ),
    ],
    ids=["at most", "above", "at least", "below"],
)
def test_an_own_figure_is_told_with_its_unit_its_bound_and_its_limit(rule, bound, passed, text):
    limit = rule.at_least if rule.at_most is None else rule.at_most
    metrics = figures("loss", value=2.71234, low=2.5, high=2.9)
    assert judged(rule, **metrics) == [Reason(rule.name, 2.71234, bound, limit, passed, text)]


@pytest.mark.parametrize(
    ("metrics", "why"),
    [
        ({}, "the evaluation did not measure it"),
        ({"contestants": None}, "the evaluation did not measure it"),
        ({"contestants": {"untuned": {}}}, "the evaluation did not measure it"),
        (figures("loss", value=2.7), "the evaluation did not measure it"),
        (figures("loss", high=2.9), "the evaluation did not measure it"),
        (figures("loss", value=2.7, why="one row has no interval"), "one row has no interval"),
    ],
    ids=["nothing", "null", "another contestant", "no bound", "no value", "with its why"],
)
def test_a_figure_that_is_missing_refuses_and_says_why(metrics, why):
    text = f"loss has no interval for tuned: {why}"
    rule = Rule("loss", at_most=3.0)
    assert judged(rule, **metrics) == [Reason("loss at_most", None, None, 3.0, False, text)]


@pytest.mark.parametrize("limit", [math.nan, math.inf])
def test_a_limit_that_is_no_finite_number_lets_nothing_pass(limit):
    (reason,) = judged(Rule("loss", at_most=limit), **figures("loss", value=2.7, high=2.9))
    assert not reason.passed


# --------------------------------------------------------------------- differences


@pytest.mark.parametrize(
    ("rule", "bound", "limit", "passed", "words"),
    [
        (
            Rule("loss", better_than="untuned", by=0.39),
            *(-0.4, -0.39, True),
            "-0.4 at the bound: better by more than 0.39",
        ),
        (
            Rule("loss", better_than="untuned", by=0.4),
            *(-0.4, -0.4, False),
            "-0.4 at the bound: not shown to be better by more than 0.4",
        ),
        (
            Rule("loss", not_worse_than="untuned", by=0.1),
            *(-0.4, 0.1, True),
            "-0.4 at the bound: not worse by more than 0.1",
        ),
    ],
    ids=["better", "not better", "not worse"],
)
def test_a_difference_where_less_is_better_is_judged_at_its_high_end(
    rule, bound, limit, passed, words
):
    found = differences("loss", difference=-0.61234, low=-0.8, high=-0.4)
    text = f"loss of tuned differs from untuned by -0.6123 nats per answer token, {words}"
    assert judged(rule, paired=found) == [Reason(rule.name, -0.61234, bound, limit, passed, text)]


@pytest.mark.parametrize(
    ("rule", "bound", "limit", "passed", "words"),
    [
        (
            Rule("rouge_l", better_than="untuned"),
            *(-0.05, 0.0, False),
            "-0.05 at the bound: not shown to be better by more than 0",
        ),
        (
            Rule("rouge_l", not_worse_than="untuned", by=0.05),
            *(-0.05, -0.05, True),
            "-0.05 at the bound: not worse by more than 0.05",
        ),
        (
            Rule("rouge_l", not_worse_than="untuned", by=0.049),
            *(-0.05, -0.049, False),
            "-0.05 at the bound: it may be worse by more than 0.049",
        ),
    ],
    ids=["not better", "not worse", "worse"],
)
def test_a_difference_where_more_is_better_is_judged_at_its_low_end(
    rule, bound, limit, passed, words
):
    found = differences("rouge_l", difference=0.1, low=-0.05, high=0.15)
    text = f"rouge_l of tuned differs from untuned by +0.1 F, 0 to 1, {words}"
    assert judged(rule, paired=found) == [Reason(rule.name, 0.1, bound, limit, passed, text)]


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ({}, "the evaluation did not measure it"),
        (differences("loss", difference=-0.6, low=-0.8), "the evaluation did not measure it"),
        (differences("loss", high=-0.4), "the evaluation did not measure it"),
        (differences("loss", difference=None, why="no likelihoods"), "no likelihoods"),
    ],
    ids=["nothing", "no bound", "no difference", "with its why"],
)
def test_a_difference_that_is_missing_refuses_and_says_why(found, why):
    text = f"the difference in loss from untuned has no interval for tuned: {why}"
    reason = Reason("loss better_than untuned", None, None, 0.1, False, text)
    assert judged(Rule("loss", better_than="untuned", by=0.1), paired=found) == [reason]


def test_a_difference_from_what_is_not_the_baseline_refuses_and_says_what_to_set():
    text = "differences are from untuned, not from larger: set evaluation.baseline=larger"
    reason = Reason("loss better_than larger", None, None, 0.1, False, text)
    rule = Rule("loss", better_than="larger", by=0.1)
    assert judged(rule, paired=differences("loss", difference=-1, high=-1)) == [reason]


@pytest.mark.parametrize("contestants", [None, {}, {"tuned": {}}])
@pytest.mark.parametrize(("no_champion", "passed"), [(True, True), (False, False), (1, False)])
def test_without_a_champion_only_an_evaluation_that_looked_for_one_opens_the_gate(
    contestants, no_champion, passed
):
    rule = Rule("loss", not_worse_than="champion", by=0.2)
    text = "there is no champion yet, so there is nothing to be worse than"
    assert judged(rule, contestants=contestants, no_champion=no_champion) == [
        Reason("loss not_worse_than champion", None, None, 0.2, passed, text)
    ]


def test_a_champion_is_compared_with_by_the_differences_from_it():
    metrics = {
        "contestants": {"champion": {}},
        "no_champion": True,
        "paired": differences("loss", difference=9, low=9, high=9),
        "against": {"champion": differences("loss", difference=0.02, low=-0.1, high=0.14)},
    }
    text = (
        "loss of tuned differs from champion by +0.02 nats per answer token,"
        " +0.14 at the bound: not worse by more than 0.14"
    )
    rule = Rule("loss", not_worse_than="champion", by=0.14)
    assert judged(rule, **metrics) == [Reason(rule.name, 0.02, 0.14, 0.14, True, text)]


# -------------------------------------------------------------------------- slices


def part(by, value, high):
    found = differences("loss", difference=-0.5, low=-0.9, high=high)
    return {"by": by, "value": value, "rows": 9, "paired": found}


PARTS = [part("tag", "list", -0.1), part("tag", "dict", 0.1), part("length", "list", -0.2)]


def test_a_rule_on_one_slice_is_told_with_the_slice_and_its_rows():
    text = (
        "in tag:dict (9 rows): loss of tuned differs from untuned by -0.5 nats per answer token,"
        " +0.1 at the bound: not shown to be better by more than 0"
    )
    assert judged(Rule("loss", better_than="untuned", slice="tag:dict"), slices=PARTS) == [
        Reason("loss better_than untuned in tag:dict", -0.5, 0.1, 0.0, False, text)
    ]


def test_a_rule_on_a_kind_of_slice_judges_each_of_that_kind_and_no_other():
    rule = Rule("loss", better_than="untuned", slice="tag")
    assert [(one.rule, one.passed) for one in judged(rule, slices=PARTS)] == [
        ("loss better_than untuned in tag:list", True),
        ("loss better_than untuned in tag:dict", False),
    ]


@pytest.mark.parametrize("wanted", ["tag:set", "date", "list", "date:list", "tag:list:dict"])
@pytest.mark.parametrize("slices", [PARTS, [], None])
def test_a_slice_that_the_evaluation_lacks_refuses_and_says_what_to_set(wanted, slices):
    text = f"the evaluation has no slice '{wanted}': set evaluation.slices"
    rule = Rule("loss", at_most=3.0, slice=wanted)
    reason = Reason(f"loss at_most in {wanted}", None, None, 3.0, False, text)
    assert judged(rule, slices=slices) == [reason]


def test_a_slice_may_have_a_colon_in_its_value():
    rule = Rule("loss", better_than="untuned", slice="tag:c:d")
    (reason,) = judged(rule, slices=[part("tag", "c", 0.1), part("tag", "c:d", -0.1)])
    assert (reason.rule, reason.passed) == ("loss better_than untuned in tag:c:d", True)


# --------------------------------------------------------------- beyond the control


def claim(metric, **fields):
    found = {"metric": metric, "difference": -0.2, "low": -0.3, "high": -0.1, "text": metric}
    return {**found, "holds": True, **fields}


@pytest.mark.parametrize("claims", [None, [], [claim("rouge_l")]])
def test_without_a_claim_on_the_metric_the_rule_refuses_and_names_the_pipeline(claims):
    text = "there is no control: choose pipeline=tuning_control and its contestant"
    assert judged(Rule("loss", beyond_control=True), claims=claims) == [
        Reason("loss beyond_control", None, None, 0.0, False, text)
    ]


@pytest.mark.parametrize(("metric", "bound"), [("loss", -0.1), ("rouge_l", -0.3)])
@pytest.mark.parametrize(("holds", "passed"), [(True, True), (False, False), (1, False)])
def test_a_claim_is_told_in_its_own_words_with_the_end_that_speaks_least_for_it(
    metric, bound, holds, passed
):
    claims = [claim("chrf"), claim(metric, holds=holds), claim(metric, text="a later claim")]
    assert judged(Rule(metric, beyond_control=True), claims=claims) == [
        Reason(f"{metric} beyond_control", -0.2, bound, 0.0, passed, metric)
    ]


@pytest.mark.parametrize(("better", "bound"), [("higher", -0.3), ("lower", -0.1)])
def test_a_claim_on_a_projects_own_metric_is_judged(better, bound):
    own = figures("stars", value=3.0, unit="stars", better=better)
    assert judged(Rule("stars", beyond_control=True), **own, claims=[claim("stars")]) == [
        Reason("stars beyond_control", -0.2, bound, 0.0, True, "stars")
    ]


# ----------------------------------------------------------------------- the judge

JUDGED = figures("judge", value=0.9, low=0.8, high=0.95)


@pytest.mark.parametrize(
    ("at_least", "passed", "words"),
    [(0.7, True, "enough by 70%"), (0.71, False, "not enough by 71%")],
)
def test_a_judge_is_told_by_how_often_it_agrees_with_people(at_least, passed, words):
    agreement = {"rate": 0.8, "low": 0.7, "n": 40}
    rule = Rule("judge", at_least=0.5, min_agreement=at_least)
    text = f"the judge agrees with 80% of 40 labelled answers, 70% at the bound: {words}"
    trusted, figure = judged(rule, **JUDGED, judge={"agreement": agreement})
    assert trusted == Reason("judge agreement", 0.8, 0.7, at_least, passed, text)
    assert (figure.rule, figure.passed) == ("judge at_least", True)


@pytest.mark.parametrize(
    "judge", [None, {}, {"agreement": {"rate": 0.8, "n": 9}}, {"agreement": {"low": 0.8}}]
)
def test_a_judge_that_was_not_measured_against_labels_refuses_and_says_what_to_set(judge):
    text = "the judge was not measured against labelled answers: set judge.labelled"
    trusted, _ = judged(Rule("judge", at_least=0.5), **JUDGED, judge=judge)
    assert trusted == Reason("judge agreement", None, None, 0.6, False, text)


@pytest.mark.parametrize(("slices", "others"), [([], 1), (PARTS, 2)])
def test_on_a_slice_too_the_judge_must_agree_with_people_first(slices, others):
    first, *rest = judged(Rule("judge", at_least=0.5, slice="tag"), slices=slices)
    assert first.rule == "judge agreement"
    assert len(rest) == others


# ------------------------------------------------------------ a project's own metric


@pytest.mark.parametrize(
    ("better", "bound", "words"),
    [("higher", 0.25, "better"), ("lower", 0.75, "not shown to be better")],
)
def test_a_difference_in_an_own_metric_is_judged_by_the_side_that_the_evaluation_names(
    better, bound, words
):
    own = figures("stars", value=3.0, unit="stars of five", better=better)
    found = differences("stars", difference=0.5, low=0.25, high=0.75)
    (reason,) = judged(Rule("stars", better_than="untuned"), **own, paired=found)
    assert (reason.bound, reason.text) == (
        bound,
        f"stars of tuned differs from untuned by +0.5 stars of five, {bound:+} at the bound:"
        f" {words} by more than 0",
    )


def test_a_difference_in_an_own_metric_without_a_better_side_refuses():
    own = figures("stars", value=3.0, better=None)
    found = differences("stars", difference=0.5, low=0.25, high=0.75)
    (reason,) = judged(Rule("stars", better_than="untuned"), **own, paired=found)
    text = "neither more nor less stars is better: judge it with at_least or at_most"
    assert reason == Reason("stars better_than untuned", None, None, 0.0, False, text)


def test_an_own_metric_that_only_another_contestant_has_is_missing():
    (reason,) = judged(Rule("stars", at_least=1), contestants={"untuned": {"stars": {}}})
    assert reason.text == "stars has no interval for tuned: the evaluation did not measure it"


@pytest.mark.parametrize(("unit", "words"), [("stars of five", "stars of five"), (None, "")])
def test_an_own_metrics_figure_is_told_in_the_unit_that_the_evaluation_names(unit, words):
    (reason,) = judged(Rule("stars", at_least=1), **figures("stars", value=3.0, low=2.5, unit=unit))
    assert reason.text == f"stars of tuned is 3 ({words}), 2.5 at the bound: within at least 1"


# ------------------------------------------------------- a metric that stands in for another

INSTEAD = Rule("loss", better_than="untuned", instead="rouge_l")


def test_every_reason_of_a_rule_that_stands_in_says_what_for():
    why = "in place of loss, which model.kind 'gemini' gives no figure for"
    rule = Rule("loss", better_than="untuned", instead="judge")
    trusted, compared = judged(rule, kind="gemini", paired={})
    assert trusted.text == (
        f"the judge was not measured against labelled answers: set judge.labelled ({why})"
    )
    assert compared.text == (
        "the difference in judge from untuned has no interval for tuned:"
        f" the evaluation did not measure it ({why})"
    )


@pytest.mark.parametrize("kind", [None, "local", "elsewhere"])
def test_where_the_metric_is_measured_no_reason_speaks_of_the_other(kind):
    (reason,) = judged(INSTEAD, kind=kind, paired={})
    assert reason.text == (
        "the difference in loss from untuned has no interval for tuned:"
        " the evaluation did not measure it"
    )


def test_a_metric_that_stands_in_is_read_where_it_is_in_force_only():
    rule = Rule("loss", better_than="untuned", instead="length")
    assert judged(rule, kind="local", paired={})[0].rule == "loss better_than untuned"
    with pytest.raises(ConfigError, match=r"^gate\.rules\[0\]: neither more nor less length"):
        judged(rule, kind="gemini", paired={})
