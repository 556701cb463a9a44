"""What a config may not leave on this machine when its tasks run on others."""

from __future__ import annotations

import copy

import pytest

from llmops.config import rules
from llmops.config.knowledge import ENGINES_ELSEWHERE
from llmops.config.validate import validate
from llmops.engines.engine import ENGINES


@pytest.fixture(scope="module")
def so_python():
    return validate(["+experiment=so_python"]).config


def told(config, **engine):
    changed = copy.deepcopy(config)
    changed["engine"] |= engine
    return {mistake.path for mistake in rules.mistakes(changed)}


def test_here_everything_of_this_machine_may_be_used(so_python):
    assert told(so_python) == set()


@pytest.mark.parametrize("kind", ENGINES_ELSEWHERE)
def test_a_folder_and_a_registry_in_files_are_refused_elsewhere(so_python, kind):
    found = told(so_python, kind=kind)
    assert {("store", "kind"), ("deploy", "registry", "kind")} <= found


def test_tables_and_files_of_this_machine_are_refused_elsewhere(so_python):
    own = copy.deepcopy(so_python)
    own["warehouse"]["sample"] = False
    assert ("warehouse", "kind") in told(own, kind="kubeflow")
    own["pipeline"]["steps"]["ingest"]["use"] = "read_files"
    assert ("pipeline", "steps") in told(own, kind="kubeflow")


def test_vertex_needs_a_project_and_a_region(so_python):
    assert {("env", "project"), ("env", "region")} <= told(so_python, kind="vertex")
    assert not {("env", "project")} & told(so_python, kind="kubeflow")


def test_the_table_of_engines_is_the_real_one():
    assert {*ENGINES_ELSEWHERE, "local"} == set(ENGINES)
