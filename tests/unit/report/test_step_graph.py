from __future__ import annotations

import re
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from llmops.report.graph import lay_out


@st.composite
def pipelines(draw):
    size = draw(st.integers(1, 9))
    steps = []
    for place in range(size):
        sources = draw(st.lists(st.integers(0, place - 1), max_size=3)) if place else []
        takes = {f"in{i}": f"s{source}.out" for i, source in enumerate(sources)}
        steps.append({"name": f"s{place}", "kind": "k", "status": "done", "takes": takes})
    return steps


def inside(box, x, y):
    return box.x < x < box.x + box.width and box.y < y < box.y + box.height


@given(pipelines())
def test_no_two_boxes_overlap_and_all_lie_in_the_drawing(steps):
    layout = lay_out(steps)
    assert [box.name for box in layout.boxes] == [step["name"] for step in steps]
    for one, other in combinations(layout.boxes, 2):
        apart_across = one.x + one.width <= other.x or other.x + other.width <= one.x
        apart_down = one.y + one.height <= other.y or other.y + other.height <= one.y
        assert apart_across or apart_down
    for box in layout.boxes:
        assert box.x >= 0
        assert box.x + box.width <= layout.width
        assert box.y + box.height <= layout.height


@given(pipelines())
def test_every_edge_goes_down_and_its_straight_parts_cross_no_box(steps):
    layout = lay_out(steps)
    boxes = {box.name: box for box in layout.boxes}
    for edge in layout.edges:
        assert boxes[edge.source].y + boxes[edge.source].height <= boxes[edge.target].y
        x = 0.0
        y = 0.0
        for kind, numbers in re.findall(r"([MCV])([^MCV]+)", edge.path):
            values = [float(number) for number in re.split(r"[ ,]", numbers.strip())]
            if kind == "V":
                middle = (y + values[0]) / 2
                assert not any(inside(box, x, middle) for box in layout.boxes)
                y = values[0]
            else:
                x, y = values[-2:]


@given(pipelines())
def test_edges_are_the_pairs_that_take_from_each_other(steps):
    wanted = {(edge.split(".")[0], s["name"]) for s in steps for edge in s["takes"].values()}
    assert {(edge.source, edge.target) for edge in lay_out(steps).edges} == wanted


def test_a_step_that_takes_what_is_not_there_still_has_a_box():
    layout = lay_out([{"name": "a", "kind": "k", "status": "done", "takes": {"x": "gone.out"}}])
    assert len(layout.boxes) == 1
    assert layout.edges == ()


def test_no_steps_make_an_empty_drawing():
    assert lay_out([]).height == 0
