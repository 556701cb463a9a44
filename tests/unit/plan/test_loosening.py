from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops.config.schemas import known_keys
from llmops.plan.loosening import GUARDS, loosened

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
