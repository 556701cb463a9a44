"""The drawing of a lineage: nearest first, what was used above what was made of it."""

from __future__ import annotations

from llmops.report.lineage_graph import MOST, lineage_graph


def document(*edges, start="run:r"):
    ids = dict.fromkeys([start, *(end for edge in edges for end in edge)])
    nodes = [
        {"id": id_, "kind": id_.partition(":")[0], "short": id_.partition(":")[2], "facts": {}}
        for id_ in ids
    ]
    made = [{"from": source, "to": target, "how": "made"} for source, target in edges]
    return {"start": start, "nodes": nodes, "edges": made}


def test_what_was_used_stands_above_what_was_made_of_it():
    drawn = lineage_graph(document(("run:r", "file:v1.2"), ("source:s", "run:r")))
    heights = {one.name: one.box.y for one in drawn.boxes}
    assert heights["s"] < heights["r"] < heights["v1.2"]
    assert [one.name for one in drawn.boxes if one.is_start] == ["r"]
    assert len(drawn.edges) == 2


def test_the_words_name_every_edge():
    drawn = lineage_graph(document(("source:s", "run:r"), ("run:r", "file:f")))
    assert drawn.words == "run r made source s; file f made run r"


def test_the_nearest_are_drawn_and_the_others_counted():
    far = [("run:r", f"file:{n}") for n in range(MOST)] + [("file:0", "model:far")]
    drawn = lineage_graph(document(*far))
    assert len(drawn.boxes) == MOST
    assert drawn.left_out == 2
    assert "far" not in {one.name for one in drawn.boxes}


def test_a_thing_that_nothing_led_to_is_one_box():
    drawn = lineage_graph(document())
    assert [one.name for one in drawn.boxes] == ["r"]
    assert drawn.edges == ()


def test_things_that_were_made_of_each_other_are_drawn_all_the_same():
    drawn = lineage_graph(document(("run:r", "file:f"), ("file:f", "run:r")))
    assert len(drawn.boxes) == 2


def test_a_line_that_others_imply_is_said_and_not_drawn():
    edges = (("run:r", "file:a"), ("file:a", "file:b"), ("run:r", "file:b"))
    drawn = lineage_graph(document(*edges))
    assert len(drawn.edges) == 2
    assert "file b made run r" in drawn.words
