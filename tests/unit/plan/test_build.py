from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from llmops.artifacts import Artifact
from llmops.errors import ConfigError, ConfigProblems
from llmops.plan.build import Before, Facts, Selection, build, leaf_changes
from llmops.plan.keys import read_settings, step_key
from llmops.plan.kinds import Outcome, StepKind, leaf
from llmops.ports.store import IndexEntry
from tests.unit.plan.kinds import FIT, KINDS, LOAD, config


class Ran:
    """Pretends that a config ran: an index and what each step looked like."""

    def __init__(self, ran, sources=None):
        self.index, self.before = {}, {}
        known = {}
        for name, step in ran["pipeline"]["steps"].items():
            kind = KINDS[step["use"]]
            settings = read_settings(kind, ran, name)
            inputs = {i: known[source] for i, source in step.get("takes", {}).items()}
            source = (sources or {}).get(name, {})
            key = step_key(kind, settings, inputs, source)
            outputs = {p.name: Artifact("u", p.kind, f"{key}-{p.name}", 1) for p in kind.gives}
            known |= {f"{name}.{o}": artifact.sha256 for o, artifact in outputs.items()}
            self.index[key] = IndexEntry(
                key, name, kind.name, kind.revision, settings, inputs, source, outputs, {}, "r", 0.1
            )
            self.before[name] = Before(key, kind.revision, settings, inputs, source)

    def facts(self, **changes):
        return dataclasses.replace(Facts(self.index.get, before=self.before), **changes)


NOTHING = Facts(lambda key: None)


def plan(of, facts, kinds=KINDS, **selection):
    return build(of, kinds, facts, config_digest="d", selection=Selection(**selection))


def statuses(of, facts, **selection):
    return [step.status for step in plan(of, facts, **selection).steps]


def test_on_an_empty_store_the_first_step_runs_and_the_others_wait_for_it():
    assert statuses(config(), NOTHING) == ["run", "waits", "waits"]


def test_an_unchanged_config_is_cached_throughout():
    assert statuses(config(), Ran(config()).facts()) == ["cached"] * 3


def test_a_changed_leaf_reruns_from_the_step_that_reads_it():
    changed = plan(config(fit={"steps": 80}), Ran(config()).facts())
    assert [step.status for step in changed.steps] == ["cached", "run", "waits"]
    assert changed.steps[1].reason == "fit.steps 40 -> 80"
    assert changed.steps[2].reason == "after fit"


def test_a_leaf_that_no_step_reads_reruns_nothing():
    assert statuses(config(unread={"x": 1}), Ran(config()).facts()) == ["cached"] * 3


def test_a_raised_revision_reruns_the_step_and_says_so():
    raised = {**KINDS, "fit": dataclasses.replace(FIT, revision=2)}
    steps = plan(config(), Ran(config()).facts(), kinds=raised).steps
    assert (steps[1].status, steps[1].reason) == ("run", "fit revision 1 -> 2")


def test_changed_tables_rerun_the_ingesting_step():
    ran = Ran(config(), sources={"load": {"tables": {"t": "v1"}}})
    facts = ran.facts(sources={"load": {"tables": {"t": "v2"}}})
    first = plan(config(), facts).steps[0]
    assert (first.status, first.reason) == ("run", "the tables changed")


def test_a_result_that_left_the_store_is_made_again():
    ran = Ran(config())
    first = plan(config(), Facts(lambda key: None, before=ran.before)).steps[0]
    assert first.reason == "its result is no longer in the store"


def test_force_reruns_one_step_and_leaves_the_rest_to_its_output():
    assert statuses(config(), Ran(config()).facts(), force=("fit",)) == ["cached", "run", "waits"]


def test_from_marks_the_step_and_all_its_dependants_as_forced():
    steps = plan(config(), Ran(config()).facts(), start="fit").steps
    assert [step.forced for step in steps] == [False, True, True]


def test_only_leaves_out_what_comes_after():
    facts = Ran(config()).facts()
    changed = config(fit={"steps": 80})
    assert statuses(changed, facts, only="fit") == ["cached", "run", "skipped"]


def test_only_needs_its_inputs_to_be_cached():
    with pytest.raises(ConfigError, match="--only fit needs load"):
        plan(config(), NOTHING, only="fit")


@pytest.mark.parametrize("selection", [{"force": ("ft",)}, {"start": "ft"}, {"only": "ft"}])
def test_a_selected_step_must_exist(selection):
    with pytest.raises(ConfigError) as caught:
        plan(config(), NOTHING, **selection)
    assert "did you mean 'fit'?" in caught.value.hint


def test_every_leaf_that_is_not_set_is_told_at_once():
    with pytest.raises(ConfigProblems) as caught:
        plan(config(fit={"step": 1}, data={}), NOTHING)
    assert [problem.split("'")[1] for problem in caught.value.problems] == [
        "data.query",
        "fit.steps",
    ]


def test_the_plan_as_json_has_the_outputs_of_cached_steps():
    shown = plan(config(), Ran(config()).facts()).as_json()
    assert list(shown["steps"][1]["outputs"]) == ["model", "notes"]


def test_equal_numbers_give_equal_keys_whatever_their_type():
    keys = {step_key(LOAD, {"n": value}, {}, {}) for value in (1, 1.0)}
    assert len(keys) == 1


@pytest.mark.parametrize("changed", ["settings", "inputs", "source"])
def test_each_part_of_a_key_counts(changed):
    parts = {"settings": {"a": 1}, "inputs": {"i": "x"}, "source": {"t": "v"}}
    other = parts | {changed: {"else": 1}}
    assert step_key(LOAD, **parts) != step_key(LOAD, **other)


def test_long_texts_are_named_and_not_shown():
    assert leaf_changes({"query": "a" * 100}, {"query": "b" * 100}) == ["query changed"]


@dataclass(frozen=True)
class AskSettings:
    model: Mapping[str, Any] = leaf("model", without=("requests", "tuner.waiting"))


ASK = StepKind("ask", 1, lambda work: Outcome(), AskSettings)


def test_parts_that_cannot_change_the_result_are_not_in_the_key_whether_there_or_not():
    model = {"base": "b", "requests": {"concurrent": 1}, "tuner": {"rank": 4, "waiting": 60}}
    plain = {"base": "b", "tuner": {"rank": 4}}
    keys = {
        step_key(ASK, read_settings(ASK, {"model": one}, "ask"), {}, {}) for one in (model, plain)
    }
    assert len(keys) == 1
    assert step_key(ASK, {"model": {**plain, "tuner": {"rank": 8}}}, {}, {}) not in keys
