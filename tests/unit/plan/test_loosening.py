from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops.config.schemas import known_keys
from llmops.evaluation import decision
from llmops.plan.loosening import COMPARING, CONDITIONS, GUARDS, MIN_AGREEMENT, loosened

LOOSER = [
    ("safety.thresholds.profanity", 0.8, 0.9, "safety"),
    ("safety.thresholds.profanity", 0.8, None, "safety"),
    ("safety.max_violation_rate", 0.2, 0.3, "safety"),
    ("safety.max_blocked_rate", 0.1, 0.2, "safety"),
    ("safety.confidence", 0.95, 0.5, "safety"),
    ("safety.scorer.kind", "profanity", "other", "safety"),
    ("safety.on_violation", "block", "flag", "safety"),
    ("safety.on_scorer_failure", "block", "flag", "safety"),
    ("safety.input.score", True, False, "safety"),
    ("safety.input.block_list", ["a", "b"], ["b"], "safety"),
    ("safety.output.on_block_list", "redact", "ignore", "safety"),
    ("safety.input.prompt_injection", "block", "flag", "safety"),
    ("safety.output.personal_data", "block", "redact", "safety"),
    ("safety.output.recitation", "block", "flag", "safety"),
    ("safety.output.max_cited_share", 0.1, 0.2, "safety"),
    ("safety.output.citation_licences", ["mit"], None, "safety"),
    ("safety.output.on_citation", "block", "flag", "safety"),
    ("safety.output.ungrounded", "block", "flag", "safety"),
    ("safety.personal_data.kinds", ["keys", "card"], ["card"], "safety"),
    ("safety.personal_data.region", "US", "GB", "safety"),
    ("gate.safety", True, False, "safety"),
    ("gate.safety", True, False, "gate"),
    ("gate.safety_test.min_catch_rate", 0.9, 0.8, "safety"),
    ("gate.safety_test.max_false_alarms", 0.1, 0.2, "gate"),
    ("gate.max_leakage", 0.0, 0.1, "leakage"),
    ("gate.max_leakage", 0.0, None, "leakage"),
    ("gate.contestant", "tuned", "untuned", "gate"),
    ("evaluation.confidence", 0.95, 0.6, "gate"),
    ("predict.other_prompt", False, True, "gate"),
    ("dataset.near_duplicates.threshold", 0.85, 0.99, "leakage"),
    ("env.budget", 5, 50, "budget"),
    ("env.budget", 5, None, "budget"),
    ("dataset.max_bytes", 10, 20, "budget"),
    ("dataset.rules.max_bad_fraction", 0.5, 0.9, "data"),
    ("dataset.rules.min_rows", 20, 2, "data"),
    ("dataset.acknowledged_terms", ["a"], ["a", "b"], "data"),
]
ANY_CHANGE = {
    "safety.scorer.kind",
    "safety.output.citation_licences",
    "safety.personal_data.region",
    "gate.contestant",
}
COMPARABLE = [case for case in LOOSER if case[0] not in ANY_CHANGE]


@pytest.mark.parametrize(("key", "before", "after", "category"), LOOSER)
def test_a_looser_value_is_marked(key, before, after, category):
    (found,) = loosened({key: before}, {key: after})
    assert found.key == key
    assert category in found.categories


@pytest.mark.parametrize(("key", "before", "after", "category"), COMPARABLE)
def test_the_way_back_is_no_loosening(key, before, after, category):
    assert loosened({key: after}, {key: before}) == []


@pytest.mark.parametrize(
    "key", sorted({case[0] for case in COMPARABLE} - {"dataset.acknowledged_terms"})
)
def test_a_guard_that_is_gone_is_the_loosest_of_all(key):
    before = next(case[1] for case in LOOSER if case[0] == key)
    if before is False:
        return
    assert [one.key for one in loosened({key: before}, {})] == [key]


def test_every_guard_has_a_case():
    keys = {case[0] for case in LOOSER}
    unseen = {g.leaf for g in GUARDS} - {"dataset.near_duplicates.shingle_words"}
    assert {leaf for leaf in unseen if not any(_fits(leaf, key) for key in keys)} == set()


def _fits(leaf, key):
    from fnmatch import fnmatchcase

    return fnmatchcase(key, leaf)


def test_every_guard_is_a_key_of_the_config():
    for guard in GUARDS:
        *above, last = guard.leaf.split(".")
        sections = [["safety", way] for way in ("input", "output")] if "*put" in above else [above]
        for section in sections:
            assert last == "*" or last in known_keys(tuple(section), {}), guard.leaf


def test_values_that_cannot_be_compared_count_as_loosened():
    (found,) = loosened({"env.budget": 5}, {"env.budget": "a lot"})
    assert not found.certain


RULE = {"metric": "loss", "better_than": "untuned", "by": 0.1}


@pytest.mark.parametrize(
    "after",
    [
        [],
        None,
        [{**RULE, "by": 0.0}],
        [{**RULE, "better_than": "untuned_with_examples"}],
        [{"metric": "loss", "at_most": 9.0}],
    ],
)
def test_a_gate_rule_that_is_gone_or_easier_is_marked(after):
    assert [one.key for one in loosened({"gate.rules": [RULE]}, {"gate.rules": after})] == [
        "gate.rules[loss better_than untuned]"
    ]


@pytest.mark.parametrize(
    "after", [[RULE], [{**RULE, "by": 0.2}], [{"metric": "chrf", "at_least": 1}, RULE]]
)
def test_a_gate_rule_that_stays_or_gets_harder_is_not(after):
    assert loosened({"gate.rules": [RULE]}, {"gate.rules": after}) == []


@pytest.mark.parametrize(
    ("bound", "looser"),
    [({"at_most": 2.0}, {"at_most": 3.0}), ({"at_least": 0.5}, {"at_least": 0.4})],
)
def test_a_bound_of_a_rule_has_a_direction(bound, looser):
    before = {"gate.rules": [{"metric": "loss", **bound}]}
    after = {"gate.rules": [{"metric": "loss", **looser}]}
    assert len(loosened(before, after)) == 1
    assert loosened(after, before) == []


ASKED = {"metric": "judge", "better_than": "untuned"}
ALLOWED = {"metric": "loss", "not_worse_than": "untuned"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({**ALLOWED, "by": 0.1}, {**ALLOWED, "by": 0.2}),
        (ALLOWED, {**ALLOWED, "by": 0.1}),
        ({**ASKED, "min_agreement": 0.8}, {**ASKED, "min_agreement": 0.7}),
        ({**ASKED, "min_agreement": 0.8}, ASKED),
        (ASKED, {**ASKED, "min_agreement": 0.5}),
        (
            {**ALLOWED, "slice": "tag:python", "by": 0.1},
            {**ALLOWED, "slice": "tag:python", "by": 1},
        ),
    ],
)
def test_a_rule_gets_easier_one_way_only(before, after):
    (found,) = loosened({"gate.rules": [before]}, {"gate.rules": [after]})
    assert found.why == "the rule is easier to meet"
    assert loosened({"gate.rules": [after]}, {"gate.rules": [before]}) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({**ASKED, "min_agreement": 0.6}, ASKED),
        ({**RULE, "min_agreement": 0.8}, {**RULE, "min_agreement": 0.1}),
        ({"metric": "loss", "at_most": 2.0, "by": 1.0}, {"metric": "loss", "at_most": 2.0}),
    ],
)
def test_what_the_gate_does_not_read_makes_no_rule_easier(before, after):
    assert loosened({"gate.rules": [before]}, {"gate.rules": [after]}) == []


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        (ALLOWED, {**ALLOWED, "not_worse_than": "champion"}, "loss not_worse_than untuned"),
        (RULE, {**ALLOWED, "by": 0.1}, "loss better_than untuned"),
        (ALLOWED, {"metric": "loss", "beyond_control": True}, "loss not_worse_than untuned"),
        ({"metric": "loss", "beyond_control": True}, ALLOWED, "loss beyond_control"),
        ({"metric": "loss", "at_most": 0}, {"metric": "loss", "at_least": 0}, "loss at_most"),
        (
            {"metric": "loss", "beyond_control": True},
            {"metric": "loss", "beyond_control": False, "at_most": 9.0},
            "loss beyond_control",
        ),
        (RULE, {**RULE, "slice": "tag:python"}, "loss better_than untuned"),
        (
            {**RULE, "slice": "tag:python"},
            {**RULE, "slice": "tag:pandas"},
            "loss better_than untuned in tag:python",
        ),
    ],
)
def test_a_rule_that_asks_something_else_leaves_the_old_one_gone(before, after, name):
    (found,) = loosened({"gate.rules": [before]}, {"gate.rules": [after]})
    assert (found.key, found.why) == (f"gate.rules[{name}]", "the rule is gone")


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_rules_that_differ_by_their_slice_are_told_apart(gone):
    rules = [ALLOWED, {**ALLOWED, "slice": "tag:python"}, {**ALLOWED, "slice": "tag:pandas"}]
    left = [rule for place, rule in enumerate(rules) if place != gone]
    (found,) = loosened({"gate.rules": rules}, {"gate.rules": left})
    ending = f" in {rules[gone]['slice']}" if gone else ""
    assert found.key == f"gate.rules[loss not_worse_than untuned{ending}]"
    assert loosened({"gate.rules": rules}, {"gate.rules": rules[::-1]}) == []


bounds = st.lists(st.sampled_from([0.1, 0.3, 0.5, 0.7]), min_size=1, max_size=4)


@given(bounds, bounds)
def test_of_rules_of_one_name_the_strictest_counts(before, after):
    def with_limits(limits):
        return {"gate.rules": [{"metric": "truncated", "at_most": limit} for limit in limits]}

    found = loosened(with_limits(before), with_limits(after))
    assert bool(found) == (min(after) > min(before))


def test_the_conditions_and_the_default_agreement_are_those_of_the_gate():
    assert CONDITIONS == decision.CONDITIONS
    assert decision.Rule("judge").min_agreement == MIN_AGREEMENT
    for condition in CONDITIONS:
        rule = {"metric": "loss", condition: "untuned" if condition in COMPARING else 1.0}
        (found,) = loosened({"gate.rules": [{**rule, "slice": "tag"}]}, {"gate.rules": []})
        assert found.key == f"gate.rules[{decision.Rule(**rule, slice='tag').name}]"


@pytest.mark.parametrize("kind", ["gate", "safety"])
def test_a_pipeline_without_its_protecting_step_is_marked(kind):
    before = {"pipeline.steps.a.use": "tune", "pipeline.steps.b.use": kind}
    (found,) = loosened(before, {"pipeline.steps.a.use": "tune"})
    assert kind in found.categories


@given(st.dictionaries(st.sampled_from([case[0] for case in LOOSER]), st.floats(0, 1)))
def test_a_config_is_never_looser_than_itself(leaves):
    assert loosened(leaves, dict(leaves)) == []


@given(st.floats(0, 1), st.floats(0, 1))
def test_of_two_thresholds_at_most_one_way_is_looser(one, other):
    key = "safety.thresholds.profanity"
    ways = [loosened({key: one}, {key: other}), loosened({key: other}, {key: one})]
    assert sum(map(bool, ways)) == (one != other)


class TestWhatStandsInForAMetric:
    """A rule may name the metric that is judged where the model's provider lacks its own."""

    def leaves(self, kind, instead="chrf"):
        rule = {"metric": "loss", "better_than": "untuned", "by": 0.0, "instead": instead}
        return {"model.kind": kind, "gate.rules": [rule]}

    def test_another_model_that_is_judged_by_it_is_to_be_looked_at(self):
        (found,) = loosened(self.leaves("local"), self.leaves("gemini"))
        assert (found.key, found.certain) == ("gate.rules[loss better_than untuned]", False)
        assert found.why.startswith("chrf is judged in its place")

    def test_naming_one_or_another_one_loosens(self):
        without = self.leaves("local", instead=None)
        assert len(loosened(without, self.leaves("local"))) == 1
        assert len(loosened(self.leaves("local"), self.leaves("local", instead="bleu"))) == 1
        assert loosened(self.leaves("local"), without) == []

    def test_where_it_is_in_force_it_is_compared_as_any_rule(self):
        assert loosened(self.leaves("gemini"), self.leaves("gemini")) == []
