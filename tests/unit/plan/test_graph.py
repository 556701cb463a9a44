from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops.errors import ConfigError, ConfigProblems
from llmops.plan.graph import build_graph
from tests.unit.plan.kinds import FIT, JUDGE, KINDS, LOAD


def pipeline(**steps):
    return {"name": "small", "steps": steps}


LOADS = {"use": "load"}
FITS = {"use": "fit", "takes": {"rows": "load.rows"}}
JUDGES = {"use": "judge", "takes": {"model": "fit.model"}}


def problems(**steps):
    with pytest.raises(ConfigProblems) as caught:
        build_graph(pipeline(**steps), KINDS)
    return "\n".join(caught.value.problems)


@given(st.permutations(["load", "fit", "judge"]))
def test_steps_run_after_what_they_take_however_the_file_orders_them(order):
    steps = {"load": LOADS, "fit": FITS, "judge": JUDGES}
    graph = build_graph(pipeline(**{name: steps[name] for name in order}), KINDS)
    assert [node.kind for node in graph.nodes] == [LOAD, FIT, JUDGE]


def test_independent_steps_keep_the_order_of_the_file():
    graph = build_graph(pipeline(b=LOADS, a=LOADS, c=LOADS), KINDS)
    assert [node.name for node in graph.nodes] == ["b", "a", "c"]


def test_after_follows_indirect_dependants_only():
    graph = build_graph(pipeline(load=LOADS, other=LOADS, fit=FITS, judge=JUDGES), KINDS)
    assert graph.after("load") == {"fit", "judge"}
    assert graph.after("judge") == frozenset()


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ({"load": {"use": "laod"}}, "did you mean 'load'?"),
        ({"load": LOADS, "fit": {"use": "fit"}}, "the input 'rows' (parquet) is missing"),
        ({"load": LOADS, "fit": {"use": "fit", "takes": {"rows": "laod.rows"}}}, "no step 'laod'"),
        ({"load": LOADS, "fit": {"use": "fit", "takes": {"rows": "load.row"}}}, "no output 'row'"),
        (
            {"load": LOADS, "fit": {"use": "fit", "takes": {"rows": "load.rows", "row": "a.b"}}},
            "fit has no input 'row'",
        ),
        (
            {"load": LOADS, "judge": {"use": "judge", "takes": {"model": "load.rows"}}},
            "load.rows is parquet, but this input wants folder",
        ),
        ({"Load": LOADS}, "a step's name has lower-case letters"),
    ],
)
def test_a_miswired_step_is_named_with_the_way_out(steps, said):
    assert said in problems(**steps)


def test_all_wiring_problems_are_told_at_once():
    text = problems(a={"use": "nope"}, b={"use": "fit"}, c={"use": "judge"})
    assert {line.partition(":")[0] for line in text.splitlines()} == {
        "pipeline.steps.a.use",
        "pipeline.steps.b.takes",
        "pipeline.steps.c.takes",
    }


def test_a_circle_is_refused_by_name():
    circle = {
        "one": {"use": "fit", "takes": {"rows": "load.rows", "extra": "two.notes"}},
        "two": {"use": "fit", "takes": {"rows": "load.rows", "extra": "one.notes"}},
    }
    with pytest.raises(ConfigError, match="is a circle"):
        build_graph(pipeline(load=LOADS, **circle), KINDS)


def test_an_unknown_step_is_answered_with_the_nearest():
    graph = build_graph(pipeline(load=LOADS), KINDS)
    with pytest.raises(ConfigError) as caught:
        graph.node("laod")
    assert "did you mean 'load'?" in caught.value.hint
