"""From a thing to what it was made of, and to what was made of it."""

from __future__ import annotations

import pytest

from llmops.errors import ConfigError
from llmops.lineage.ancestry import ancestry, as_json, tree
from llmops.ports.model import ModelReference
from llmops.ports.registry import ModelVersion
from tests.fakes.many_runs import record

DATASET = "v1-3f9c21ab"


def step(name, outputs, *, inputs=None, status="done", **fields):
    return {
        "name": name,
        "kind": name,
        "status": status,
        "key": name,
        "inputs": inputs or {},
        "outputs": {key: {"sha256": sha, "rows": None} for key, sha in outputs.items()},
        "facts": {},
        "settings": {},
        **fields,
    }


@pytest.fixture
def graph():
    query = {"dataset.query": "SELECT question FROM posts"}
    first = record(
        1,
        source={"name": "duckdb://sample"},
        prompt={"name": "p", "sha256": "aa" * 32},
        steps=[
            step("ingest", {"rows": "11" * 32}, settings=query),
            step("split", {"card": "22" * 32, "train": "33" * 32}, inputs={"rows": "11" * 32}),
            step("tune", {"model": "44" * 32}, inputs={"train": "33" * 32}),
        ],
    )
    second = record(
        2,
        steps=[
            step("split", {"card": "22" * 32, "train": "33" * 32}, status="cached"),
            step("tune", {"model": "55" * 32}, inputs={"train": "33" * 32}),
        ],
    )
    reference = ModelReference("local", "b", adapter="44" * 32, dataset_version=DATASET)
    version = ModelVersion("m", 1, reference, "d", ("champion",), {}, first["run_id"])
    sweep = {"id": "s-1", "runs": [first["run_id"]], "final": second["run_id"]}
    return ancestry([first, second], [version], [sweep])


def reached(graph, name, direction):
    return {other for _, _, other in graph.walk(graph.find(name).id, direction)}


def test_an_alias_leads_up_to_source_query_prompt_commit_and_config(graph):
    kinds = {node.partition(":")[0] for node in reached(graph, "m@champion", "up")}
    assert {"model", "run", "source", "query", "prompt", "commit", "config", "dataset"} <= kinds


def test_a_dataset_leads_down_to_every_run_and_model_that_used_it(graph):
    down = reached(graph, DATASET, "down")
    assert f"run:{record(2)['run_id']}" in down
    assert {"model:m:1", "alias:m@champion"} <= down


def test_a_run_that_found_the_dataset_did_not_make_it(graph):
    assert f"run:{record(2)['run_id']}" not in reached(graph, DATASET, "up")


def test_a_file_leads_to_what_it_was_made_of(graph):
    assert "file:" + "11" * 32 in reached(graph, "44" * 32, "up")


def test_a_sweep_stands_between_its_members_and_the_chosen_run(graph):
    assert f"run:{record(1)['run_id']}" in reached(graph, "s-1", "up")
    assert f"run:{record(2)['run_id']}" in reached(graph, "s-1", "down")


def test_the_beginning_of_a_name_is_enough_unless_several_fit(graph):
    assert graph.find("4444").kind == "file"
    with pytest.raises(ConfigError, match="several things"):
        graph.find("20261110")
    with pytest.raises(ConfigError, match="nothing here is named"):
        graph.find("zzz")


def test_the_tree_opens_each_thing_once_and_counts_what_is_deeper(graph):
    lines = list(tree(graph, "alias:m@champion", "up", 9))
    assert lines[0].startswith("└─ model m:1")
    assert len(lines) == len(set(lines))
    assert list(tree(graph, "alias:m@champion", "up", 1))[-1].strip().endswith("more")


def test_the_json_has_every_node_of_its_edges(graph):
    made = as_json(graph, graph.find("m:1"))
    ids = {node["id"] for node in made["nodes"]}
    assert {end for edge in made["edges"] for end in (edge["from"], edge["to"])} <= ids
    assert made["start"] == "model:m:1"


def test_a_record_of_a_failed_run_gives_what_it_has():
    bare = {"run_id": "r", "steps": [], "dataset_version": None}
    assert [node.id for node in ancestry([bare]).nodes.values()] == ["run:r"]


def test_packages_with_their_pinned_versions_led_to_the_model():
    run = record(1, packages={"torch": "2.13.0"}, steps=[step("tune", {"model": "44" * 32})])
    graph = ancestry([run])
    lines = "\n".join(tree(graph, "file:" + "44" * 32, "up", 9))
    assert "[python 3.11.7, torch 2.13.0] (ran with)" in lines


def test_a_file_leads_to_the_leaves_that_its_step_read():
    settings = {"tuning.max_steps": 40, "tuning.seed": 42}
    run = record(1, steps=[step("tune", {"model": "44" * 32}, settings=settings)])
    lines = "\n".join(tree(ancestry([run]), "file:" + "44" * 32, "up", 9))
    assert "[tuning.max_steps 40, tuning.seed 42] (read by step tune)" in lines
