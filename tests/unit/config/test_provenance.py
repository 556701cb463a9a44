from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from llmops.config import project
from llmops.config.compose import Composed, compose
from llmops.config.provenance import leaves, provenance, to_json

WriteConf = Callable[[str, str], Path]  # see conftest.py

SO_PYTHON = ["+experiment=so_python"]


@pytest.fixture
def so_python(workspace: Path) -> Composed:
    return compose([*SO_PYTHON, "tuning.max_steps=20"])


def test_every_leaf_has_an_origin(so_python: Composed) -> None:
    origins = provenance(so_python)
    assert list(origins) == [".".join(path) for path in leaves(so_python.config)]
    assert len(origins) > 100


def test_every_origin_is_the_place_where_the_value_is_written(so_python: Composed) -> None:
    for key, origin in provenance(so_python).items():
        if origin.written or origin.set_by.startswith("command line: "):
            continue
        label, line, column = origin.set_by.rsplit(":", 2)
        path = project.packaged_conf() / label.removeprefix("llmops:conf/")
        text = path.read_text("utf-8").splitlines()[int(line) - 1]
        word = key.rsplit(".", 1)[-1]
        assert word in text or text.lstrip().startswith("- "), (key, origin.set_by)
        assert int(column) <= len(text)


def test_an_override_is_named_with_what_it_hides_nearest_first(so_python: Composed) -> None:
    origin = provenance(so_python)["tuning.max_steps"]
    assert origin.set_by == "command line: tuning.max_steps=20"
    assert [place.rsplit(":", 2)[0] for place in origin.shadowed] == [
        "llmops:conf/experiment/so_python.yaml",
        "llmops:conf/tuning/short.yaml",
    ]


def test_an_interpolation_is_shown_as_it_is_written(so_python: Composed) -> None:
    assert provenance(so_python)["split.seed"].written == "${seed}"


def test_a_list_is_one_leaf_that_hides_the_whole_list_below_it(workspace: Path) -> None:
    origins = provenance(compose([*SO_PYTHON, "evaluation.metrics=[loss]"]))
    assert origins["evaluation.metrics"].set_by == "command line: evaluation.metrics=[loss]"
    assert len(origins["evaluation.metrics"].shadowed) == 1


def test_an_added_mapping_gives_each_of_its_leaves_its_origin(workspace: Path) -> None:
    override = "+pipeline.steps.gate.with={a: {b: 1}}"
    assert (
        provenance(compose([*SO_PYTHON, override]))["pipeline.steps.gate.with.a.b"].set_by
        == f"command line: {override}"
    )


def test_a_projects_file_is_named_as_the_project_names_it(write_conf: WriteConf) -> None:
    write_conf("env/prod.yaml", "name: prod\nbudget: 3\n")
    origins = provenance(compose([*SO_PYTHON, "env=prod"]))
    assert origins["env.budget"].set_by == "conf/env/prod.yaml:2:9"


def test_provenance_describes_the_text_that_was_composed(write_conf: WriteConf) -> None:
    path = write_conf("env/prod.yaml", "name: prod\n")
    composed = compose([*SO_PYTHON, "env=prod"])
    path.write_text("# moved\n\nname: prod\n", encoding="utf-8")
    assert provenance(composed)["env.name"].set_by == "conf/env/prod.yaml:1:7"


def test_origins_can_be_written_as_json(so_python: Composed) -> None:
    written = json.loads(json.dumps(to_json(provenance(so_python))))
    assert written["split.seed"]["written"] == "${seed}"
    assert yaml.safe_load(written["seed"]["set_by"].split(":")[0]) == "llmops"
